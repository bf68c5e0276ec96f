/** Without the native engine: heads and transformers are trained as well, convolutions are refused in time. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { evaluate } from '../../src/train/evaluate.js';
import { predict } from '../../src/train/predict.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure } from '../weights/support/temporary.js';
import { expectEqual, historyOf, pictureFolder, temporary, traces, train } from './support/training.js';

const wasm = { engine: { engine: 'wasm' } } as const;
const native = { engine: { engine: 'tensorflow' } } as const;

let data: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 5, 4);
});

describe('a head on a frozen backbone', () => {
  test.each([
    {
      title: 'linear, Adam',
      backbone: 'mobilenet_v1_0.25',
      head: 'linear',
      headDropout: 0,
      optimizer: 'adam',
      lr: 0.1,
    },
    {
      title: 'mlp with dropout, AdamW',
      backbone: 'mobilenet_v2_0.35',
      head: 'mlp:16',
      headDropout: 0.3,
      optimizer: 'adamw',
      lr: 0.01,
    },
    {
      title: 'linear, SGD',
      backbone: 'mobilenet_v1_0.25',
      head: 'linear',
      headDropout: 0.2,
      optimizer: 'sgd',
      lr: 0.5,
    },
  ] as const)('$title: as on the native engine', async ({ title: _, ...settings }) => {
    const shared = { data, source: 'slim', epochs: 6, augment: 'flip', labelSmoothing: 0.1, ...settings } as const;
    const messages: string[] = [];
    const there = await train({ ...shared, ...wasm }, { info: (line) => void messages.push(line) });
    expect(tf.getBackend()).toBe('wasm');
    expect(messages[0]).toMatch(/WebAssembly .*trains heads, and no convolutions/);
    const here = await train({ ...shared, ...native });
    expect(tf.getBackend()).toBe('tensorflow');
    const [a, b] = [historyOf(there.runFolder), historyOf(here.runFolder)];
    expect(a).toHaveLength(6);
    for (const [i, row] of a.entries()) {
      expect(Math.abs(row.trainLoss / b[i]!.trainLoss - 1)).toBeLessThan(0.01);
      expect(Math.abs(row.valLoss / b[i]!.valLoss - 1)).toBeLessThan(0.01);
      // One of 12 pictures may lie on the fence.
      expect(Math.abs(row.valAccuracy - b[i]!.valAccuracy)).toBeLessThan(1.5 / 12);
      expect(row.lr).toBe(b[i]!.lr);
    }
  });

  test('the same run twice is the same to the bit', async () => {
    const settings = { data, ...wasm, epochs: 2, head: 'mlp:4', headDropout: 0.5 };
    const runs = [await train(settings), await train(settings)];
    expectEqual(await traces(runs[0]!.runFolder), await traces(runs[1]!.runFolder));
  });

  test('leaves no tensor behind, step by step', async () => {
    await loadEngine(wasm.engine);
    const before = tf.memory().numTensors;
    const inStep = new Set<number>();
    await train(
      { data, ...wasm, epochs: 4, batchSize: 2, head: 'mlp:4', headDropout: 0.5 },
      {
        step: () => void inStep.add(tf.memory().numTensors),
      },
    );
    expect(inStep.size).toBe(1);
    expect(tf.memory().numTensors).toBe(before);
  });
});

test('a model trained on one engine evaluates and predicts the same on the other', async () => {
  const { runFolder } = await train({ data, ...native, lr: 0.1, epochs: 6 });
  const model = await openModelFolder(runFolder);
  const results = [];
  for (const options of [native, wasm]) {
    const engine = await loadEngine(options.engine);
    const { loss, top1, confusion } = await evaluate(model, engine, { data });
    const probabilities: number[] = [];
    const path = join(data, 'val', 'moss', 'val-0.png');
    for await (const prediction of predict(model, [path], engine, { top: 3 })) {
      if ('guesses' in prediction) probabilities.push(...prediction.guesses.map((guess) => guess.probability));
    }
    results.push({ loss, top1, confusion, probabilities });
  }
  await model.close();
  const [here, there] = results;
  expect(there!.top1).toBe(here!.top1);
  expect(there!.confusion).toEqual(here!.confusion);
  expect(there!.loss).toBeCloseTo(here!.loss, 4);
  expect(here!.probabilities).toHaveLength(3);
  expect(there!.probabilities).toEqual(here!.probabilities.map((value) => expect.closeTo(value, 4)));
});

describe('a vision transformer behind its patches', () => {
  test.each([
    { title: 'its last block', freeze: 'last:1' },
    { title: 'adapters of its last blocks', freeze: 'last:2', lora: '2' },
  ] as const)('$title: as on the native engine', async ({ title: _, ...how }) => {
    const vit = { data, backbone: 'vit_ti16', source: 'torch', inputSize: 32, epochs: 1, lr: 1e-3, ...how } as const;
    const [a, b] = [await train({ ...vit, ...wasm }), await train({ ...vit, ...native })];
    historyOf(a.runFolder).forEach((row, i) => {
      expect(Math.abs(row.trainLoss / historyOf(b.runFolder)[i]!.trainLoss - 1)).toBeLessThan(1e-3);
    });
  });

  test('with its patches is refused', async () => {
    const vit = { data, ...wasm, backbone: 'vit_ti16', source: 'torch', inputSize: 32 } as const;
    await expectFailure(() => train({ ...vit, freeze: 'none' }), 'ENGINE_CANNOT_TRAIN', /trains patch_embedding/);
  });
});

describe('more than a head', () => {
  test.each(['none', 'last:1', 'until:block7'])('--freeze %s is refused before anything is written', async (freeze) => {
    const out = temporary(`refused-${freeze.replace(':', '-')}`);
    const error = await expectFailure(() => train({ data, ...wasm, freeze, out }), 'ENGINE_CANNOT_TRAIN', /wasm/);
    expect(error.message).toContain(`--freeze ${freeze}`);
    expect(error.hint).toContain('tl setup');
    expect(error.hint).toContain('--freeze backbone');
    expect(existsSync(out)).toBe(false);
  });

  test('cutting at pre_logits by name is a head too', async () => {
    const { metrics } = await train({ data, ...wasm, freeze: 'until:pre_logits', epochs: 1 });
    expect(metrics.epochs).toBe(1);
  });

  test('a run of the native engine that trains more is not resumed on wasm, and stays as it is', async () => {
    const { runFolder } = await train({ data, ...native, freeze: 'last:1', epochs: 1 });
    const before = await traces(runFolder);
    await expectFailure(() => train({ data, ...wasm, resume: runFolder }), 'ENGINE_CANNOT_TRAIN');
    expectEqual(await traces(runFolder), before);
  });
});
