/** A run folder and its files, what a run refuses, and what it does with bad pictures and a rate that is too high. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { finetune } from '../../src/train/finetune.js';
import type { HistoryRow } from '../../src/train/options.js';
import { nextRunFolder } from '../../src/train/run-folder.js';
import { defaultLr } from '../../src/train/settings/complete.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  classNames,
  historyOf,
  options,
  pictureFolder,
  silent,
  startingWeights,
  temporary,
  train,
  weightsOf,
} from './support/training.js';

let data: string;
let weights: string;
beforeAll(async () => {
  await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 5, 3);
  weights = await startingWeights('mobilenet_v1_0.25', 'keras');
});

const json = (...path: string[]): unknown => JSON.parse(readFileSync(join(...path), 'utf8'));

describe('a run folder', () => {
  const messages: string[] = [];
  const steps: string[] = [];
  let out: string;
  let metrics: Awaited<ReturnType<typeof finetune>>['metrics'];
  beforeAll(async () => {
    out = temporary('deep', 'below', 'run');
    const reporter = {
      info: (line: string) => void messages.push(line),
      step: (info: { epoch: number; step: number; steps: number }) =>
        void steps.push(`${info.epoch}: ${info.step}/${info.steps}`),
    };
    const result = await train({ data, weights, out, labelSmoothing: 0.1, seed: 3 }, reporter);
    expect(result).toMatchObject({ runFolder: out, stopped: false });
    metrics = result.metrics;
  });

  test('holds every file of the contract, and nothing else', async () => {
    expect(readdirSync(out).sort()).toEqual(
      [
        ...['args.json', 'best', 'class_indices.json', 'confusion_matrix.png', 'curves.png', 'history.csv', 'last'],
        ...['metrics.json', 'report.html', 'top_losses.png', 'train_batch.png', 'val_predictions.png'],
      ].sort(),
    );
    expect(readdirSync(join(out, 'best')).sort()).toEqual(['README.md', 'model.json', 'weights.safetensors']);
    expect(readdirSync(join(out, 'last')).sort()).toEqual([
      'README.md',
      'checkpoint.json',
      'model.json',
      'optimizer.safetensors',
      'outcomes.csv',
      'weights.safetensors',
    ]);
    expect(await sharp(join(out, 'curves.png')).metadata()).toMatchObject({ format: 'png', width: 1200, height: 500 });
  });

  test('args.json has every setting, what it was resolved to, the seed and the versions', () => {
    const { settings, resolved, versions } = json(out, 'args.json') as Record<string, Record<string, unknown>>;
    expect(settings).toMatchObject({
      backbone: 'mobilenet_v1_0.25',
      seed: 3,
      epochs: 3,
      batchSize: 4,
      labelSmoothing: 0.1,
    });
    expect(resolved).toMatchObject({
      source: 'keras',
      cut: 'pre_logits',
      lr: defaultLr('adam', 'head'),
      weightsOrigin: weights,
      classes: classNames,
      trainPictures: 15,
      valPictures: 9,
      inputSize: { height: 64, width: 64 },
    });
    expect(resolved!.dataFingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(versions).toMatchObject({ node: process.version, engine: expect.stringMatching(/^tensorflow \d/) });
  });

  test('class_indices.json is in the order of the logits', () => {
    expect(json(out, 'class_indices.json')).toEqual({ 0: 'brick', 1: 'moss', 2: 'sky' });
  });

  test('history.csv has a row an epoch in full precision, metrics.json the best one', () => {
    const [header] = readFileSync(join(out, 'history.csv'), 'utf8').split('\n');
    expect(header).toBe('epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second,best');
    const history = historyOf(out);
    expect(history.map((row) => row.epoch)).toEqual([1, 2, 3]);
    let lowest = Number.POSITIVE_INFINITY;
    for (const row of history) {
      expect(row.best).toBe(row.valLoss < lowest);
      lowest = Math.min(lowest, row.valLoss);
      for (const value of Object.values(row)) expect(Number.isFinite(Number(value))).toBe(true);
      expect([row.trainAccuracy * 15, row.valAccuracy * 9].every((n) => Math.abs(n - Math.round(n)) < 1e-9)).toBe(true);
    }
    const best = history.findLast((row) => row.best)!;
    expect(best.valLoss).toBe(lowest);
    expect(json(out, 'metrics.json')).toEqual(metrics);
    expect(metrics).toMatchObject({
      bestEpoch: best.epoch,
      epochs: 3,
      valLoss: best.valLoss,
      valAccuracy: best.valAccuracy,
      trainLoss: best.trainLoss,
      trainPictures: 15,
      valPictures: 9,
      badPictures: 0,
      classes: 3,
      trainableParameters: 256 * 3 + 3,
    });
    // 218,544 is MobileNet v1 0.25 without its classifier: Keras' count with include_top=False.
    expect(metrics.parameters).toBe(218_544 + 256 * 3 + 3);
  });

  test('best/ and last/ are models with the preprocessing of the source', async () => {
    for (const folder of ['best', 'last']) {
      const model = await openModelFolder(join(out, folder));
      expect(model.record).toMatchObject({
        backbone: 'mobilenet_v1_0.25',
        source: 'keras',
        classes: classNames,
        preprocessing: findPublished(findBackbone('mobilenet_v1_0.25'), 'keras').preprocessing,
        weights: { origin: weights },
        data: { seed: 3, valSplit: 0.2 },
      });
      await model.close();
    }
    const run = await openModelFolder(out);
    expect(run.folder).toBe(join(out, 'best'));
    await run.close();
  });

  test('the reporter hears of the engine, the freezing, and every step', () => {
    expect(messages[0]).toMatch(/^TensorFlow \d/);
    expect(messages.join('\n')).toContain('frozen up to and with pre_logits\n');
    expect(messages.join('\n')).toMatch(/^all +771 +219,315$/m);
    expect(steps).toEqual([1, 2, 3].flatMap((epoch) => [1, 2, 3, 4].map((step) => `${epoch}: ${step}/4`)));
  });
});

describe('what is there already', () => {
  test('a run is not written over unless that is asked for', async () => {
    const { runFolder } = await train({ data, weights, epochs: 1 });
    const before = await weightsOf(join(runFolder, 'last'));
    writeFileSync(join(runFolder, 'leftover.txt'), 'old');
    const error = await expectFailure(
      () => train({ data, weights, out: runFolder }),
      'RUN_EXISTS',
      /holds a run already/,
    );
    for (const way of ['--resume', '--overwrite', '--out']) expect(error.hint).toContain(way);
    expect(await weightsOf(join(runFolder, 'last'))).toEqual(before);

    await train({ data, weights, epochs: 1, seed: 9, out: runFolder, overwrite: true });
    expect(await weightsOf(join(runFolder, 'last'))).not.toEqual(before);
    expect(existsSync(join(runFolder, 'leftover.txt'))).toBe(false);
  });

  test('a folder with other files is refused, whatever is asked for; an empty one is taken', async () => {
    const other = temporary('other-files');
    mkdirSync(other);
    writeFileSync(join(other, 'thesis.txt'), 'years of work');
    for (const overwrite of [false, true]) {
      await expectFailure(
        () => train({ data, weights, out: other, overwrite }),
        'RUN_EXISTS',
        /not empty, and holds no run/,
      );
    }
    expect(readdirSync(other)).toEqual(['thesis.txt']);
    await expectFailure(() => train({ data, weights, out: join(other, 'thesis.txt') }), 'RUN_EXISTS', /is a file/);

    const empty = temporary('empty-out');
    mkdirSync(empty);
    expect((await train({ data, weights, epochs: 1, out: empty })).runFolder).toBe(empty);
  });

  test('a fault that is found at the start leaves an old run alone', async () => {
    const { runFolder } = await train({ data, weights, epochs: 1 });
    const again = { out: runFolder, overwrite: true };
    await expectFailure(() => train({ data: temporary('nowhere'), weights, ...again }), 'DATA_NOT_FOUND');
    await expectFailure(() => train({ data, weights: temporary('nowhere.h5'), ...again }), 'WEIGHTS_NOT_FOUND');
    await expectFailure(() => train({ data, weights, freeze: 'until:nowhere', ...again }), 'UNKNOWN_TAP');
    await expectFailure(() => train({ data, weights, backbone: 'resnet5', ...again }), 'UNKNOWN_BACKBONE');
    await expectFailure(() => train({ data, weights, epochs: 0, ...again }), 'BAD_OPTION', /epochs/);
    expect(historyOf(runFolder)).toHaveLength(1);
  });

  test('run folders are numbered, the next after the highest', () => {
    const parent = temporary('runs');
    expect(nextRunFolder(parent)).toBe(join(parent, 'finetune-1'));
    for (const name of ['finetune-2', 'finetune-10', 'finetune-x', 'other-99']) {
      mkdirSync(join(parent, name), { recursive: true });
    }
    expect(nextRunFolder(parent)).toBe(join(parent, 'finetune-11'));
  });

  test('every wrong setting is named at once', async () => {
    const wrong = {
      epochs: 1.5,
      batchSize: 0,
      lr: -1,
      momentum: 1,
      labelSmoothing: -0.1,
      warmupEpochs: 7,
      seed: Number.NaN,
    };
    const error = await expectFailure(() => train({ data, weights, ...wrong }), 'BAD_OPTION');
    for (const flag of ['epochs', 'batch-size', 'lr', 'momentum', 'label-smoothing', 'warmup', 'seed']) {
      expect(error.message).toContain(`--${flag}: expected`);
    }
  });
});

describe('bad pictures', () => {
  let damaged: string;
  const bad = () => [join(damaged, 'train', 'moss', 'train-1.png'), join(damaged, 'val', 'sky', 'val-0.png')];
  beforeAll(() => {
    damaged = temporary('damaged');
    cpSync(data, damaged, { recursive: true });
    truncateSync(bad()[0]!, 700);
    writeFileSync(bad()[1]!, 'no picture');
  });

  test.each(['auto', 'off'] as const)('stop the run and are named (cache %s)', async (cache) => {
    const out = temporary(`stopped-by-picture-${cache}`);
    const error = await expectFailure(() => train({ data: damaged, weights, out, cache }), 'BAD_IMAGE');
    expect(error.message).toContain(bad()[0]);
    expect(existsSync(join(out, 'best'))).toBe(false);
  });

  test('are skipped and counted where that is asked for, kept features or not alike', async () => {
    const histories = [];
    for (const cache of ['auto', 'off'] as const) {
      const warnings: string[] = [];
      const { runFolder, metrics } = await train(
        { data: damaged, weights, cache, augment: 'flip', skipBadImages: true },
        { warn: (line) => void warnings.push(line) },
      );
      expect(metrics.badPictures).toBe(2);
      expect(warnings.join('\n')).toContain('2 bad pictures were left out');
      for (const path of bad()) expect(warnings.join('\n')).toContain(path);
      const history = historyOf(runFolder);
      // Of 14 and 8 pictures, not of 15 and 9.
      for (const { trainAccuracy, valAccuracy } of history) {
        expect(Math.abs(trainAccuracy * 14 - Math.round(trainAccuracy * 14))).toBeLessThan(1e-9);
        expect(Math.abs(valAccuracy * 8 - Math.round(valAccuracy * 8))).toBeLessThan(1e-9);
      }
      histories.push(history.map(({ trainLoss, valLoss }) => ({ trainLoss, valLoss })));
    }
    expect(histories[0]).toEqual(histories[1]);
  });
});

describe('a rate that is too high', () => {
  test('ends the run, and the finished epochs are kept', async () => {
    const out = temporary('diverging');
    const rows: HistoryRow[] = [];
    const tensors = tf.memory().numTensors;
    // A linear head's losses grow with the rate: some epochs are finite, then a sum passes the largest float32.
    const wild = { data, weights, out, optimizer: 'sgd', schedule: 'constant', lr: 4e35, epochs: 30 } as const;
    const error = await expectFailure(
      () => train(wild, { epoch: (row) => void rows.push(row) }),
      'TRAINING_DIVERGED',
      /loss became \w+ in epoch \d+.*learning rate of 4e\+35/,
    );
    expect(error.hint).toContain('--lr');
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.length).toBeLessThan(30);
    expect(historyOf(out)).toEqual(rows);
    for (const folder of ['best', 'last']) {
      const model = await openModelFolder(join(out, folder));
      expect((await model.read('head.logits.kernel')).every(Number.isFinite)).toBe(true);
      await model.close();
    }
    expect(tf.memory().numTensors).toBe(tensors);
  });

  // One step an epoch: its loss is that of the start, whatever the step does.
  const oneStep = { freeze: 'none', lr: 1e39, optimizer: 'sgd', epochs: 1, schedule: 'constant' } as const;

  test('is seen in the validation loss of an only epoch', async () => {
    const single = await pictureFolder('single', 1, 1);
    await expectFailure(
      () => train({ data: single, weights, ...oneStep }),
      'TRAINING_DIVERGED',
      /validation loss.*epoch 1/,
    );
  });

  test('is seen without validation pictures too', async () => {
    const single = join(await pictureFolder('flat', 1, 0), 'train');
    const run = () => train({ data: single, weights, ...oneStep, valSplit: 0 });
    await expectFailure(run, 'TRAINING_DIVERGED', /holds no numbers any more after epoch 1/);
  });
});

describe('without validation pictures', () => {
  test('the last epoch is the best, and a warning says so', async () => {
    const flat = temporary('no-val');
    cpSync(join(data, 'train'), flat, { recursive: true });
    const warnings: string[] = [];
    const { runFolder, metrics } = await train(
      { data: flat, weights, valSplit: 0, epochs: 2 },
      { warn: (line) => void warnings.push(line) },
    );
    expect(warnings.join('\n')).toContain('no validation pictures');
    expect(metrics).toMatchObject({ bestEpoch: 2, valLoss: null, valAccuracy: null, valPictures: 0 });
    expect(await weightsOf(join(runFolder, 'best'))).toEqual(await weightsOf(join(runFolder, 'last')));
    const again = await train({ data: flat, resume: runFolder });
    expect(again.metrics).toMatchObject({ bestEpoch: 2, valLoss: null });
  });
});

describe('learning', () => {
  test('a head on a frozen backbone learns these pictures', async () => {
    const settings = { backbone: 'mobilenet_v2_0.35', augment: 'flip', lr: 0.3, epochs: 25 } as const;
    const { runFolder } = await train({ data, ...settings });
    const end = historyOf(runFolder).at(-1)!;
    expect(end.trainAccuracy).toBeGreaterThan(0.8);
    expect(end.valAccuracy).toBeGreaterThan(0.6);
  });

  test('the loss falls when everything is trained', async () => {
    // All pictures in a step: batch norms over a few of them make a gamble of the loss, which falls or not by the last bits.
    const settings = { freeze: 'none', optimizer: 'adam', lr: 1e-3, batchSize: 15, epochs: 8 } as const;
    const { runFolder } = await train({ data, ...settings });
    const losses = historyOf(runFolder).map((row) => row.trainLoss);
    expect(losses.at(-1)).toBeLessThan(0.3 * losses[0]!);
  });

  test('a run of 50 steps leaves no tensor behind', async () => {
    const before = tf.memory();
    const inStep: number[] = [];
    await finetune(
      options({
        data,
        weights,
        out: temporary('tensors'),
        batchSize: 2,
        epochs: 7,
        head: 'mlp:4',
        headDropout: 0.5,
        freeze: 'last:1',
      }),
      { ...silent, step: () => void inStep.push(tf.memory().numTensors) },
    );
    expect(inStep).toHaveLength(56);
    expect(new Set(inStep).size).toBe(1);
    expect(tf.memory().numTensors).toBe(before.numTensors);
    expect(tf.memory().numBytes).toBe(before.numBytes);
  });

  test('weights are never silently random: without any in the store a run does not start', async () => {
    const home = process.env.TL_HOME;
    process.env.TL_HOME = temporary('no-store');
    try {
      const out = temporary('never');
      const error = await expectFailure(() => train({ data, weights: 'auto', out }), 'WEIGHTS_NOT_FOUND');
      expect(error.hint).toMatch(/tl import|tl pull/);
      expect(existsSync(out)).toBe(false);
    } finally {
      if (home === undefined) delete process.env.TL_HOME;
      else process.env.TL_HOME = home;
    }
  });
});

test('stopped before the first epoch is done, a run says that there is nothing', async () => {
  const controller = new AbortController();
  controller.abort();
  const out = temporary('stopped-at-once');
  const error = await expectFailure(
    () => train({ data, weights, out, signal: controller.signal }),
    'STOPPED',
    /first epoch/,
  );
  expect(error.hint).toContain('--resume');
  rmSync(out, { recursive: true });
});
