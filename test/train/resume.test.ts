/** A run that was stopped and resumed ends as one that was not, to the bit; what cannot be resumed says why. */
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { FinetuneOptions } from '../../src/train/options.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  expectEqual,
  historyOf,
  numbersOf,
  pictureFolder,
  startingWeights,
  temporary,
  traces,
  tracesOf,
  train,
  writePicture,
} from './support/training.js';

let data: string;
let weights: string;
beforeAll(async () => {
  // 7 a class: 21 pictures in 6 batches of 4, the last of one picture.
  data = await pictureFolder('pictures', 7, 2);
  weights = await startingWeights('mobilenet_v1_0.25', 'keras');
});

describe('stopped and resumed', () => {
  const settings = {
    epochs: 4,
    augment: 'flip',
    optimizer: 'adam',
    schedule: 'cosine',
    warmupEpochs: 1,
    head: 'mlp:8',
    headDropout: 0.5,
  } as const;

  /** Stops a run after that many steps, in the middle of an epoch of 6. */
  async function stopAfter(steps: number, changes: Partial<FinetuneOptions>) {
    const controller = new AbortController();
    let done = 0;
    const result = await train(
      { data, weights, ...settings, ...changes, signal: controller.signal },
      { step: () => void (++done === steps && controller.abort()) },
    );
    expect(done).toBe(steps);
    return result;
  }

  test.each([
    { freeze: 'backbone', cache: 'auto', steps: 9 },
    { freeze: 'backbone', cache: 'off', steps: 16 },
    { freeze: 'last:2', cache: 'auto', steps: 9 },
    { freeze: 'none', cache: 'auto', steps: 9 },
    { freeze: 'last:4', cache: 'auto', steps: 9, recompute: true },
  ] as const)('--freeze $freeze, cache $cache, after $steps steps', async ({ steps, ...how }) => {
    const whole = await tracesOf({ data, weights, ...settings, ...how });
    const stopped = await stopAfter(steps, how);
    expect(stopped.stopped).toBe(true);
    const epochs = Math.floor(steps / 6);
    expect(stopped.metrics.epochs).toBe(epochs);
    expect(numbersOf(historyOf(stopped.runFolder))).toEqual(whole.history.slice(0, epochs));

    // Nothing but the folder is needed to go on: everything else is what the run was begun with.
    const started: number[] = [];
    const resumed = await train(
      { data: temporary('not here'), resume: stopped.runFolder, epochs: 1, batchSize: 1 },
      { epochStart: ({ epoch }) => void started.push(epoch) },
    );
    expect(resumed).toMatchObject({ runFolder: stopped.runFolder, stopped: false });
    expect(started).toEqual(Array.from({ length: 4 - epochs }, (_, i) => epochs + 1 + i));
    expectEqual(await traces(stopped.runFolder), whole);
  });

  test('stopped twice, and the second time between two epochs', async () => {
    const whole = await tracesOf({ data, weights, ...settings, freeze: 'backbone' });
    const { runFolder } = await stopAfter(8, { freeze: 'backbone' });
    const controller = new AbortController();
    const again = await train(
      { data, resume: runFolder, signal: controller.signal },
      { epoch: (row) => void (row.epoch === 3 && controller.abort()) },
    );
    expect(again.stopped).toBe(true);
    expect(historyOf(runFolder)).toHaveLength(3);
    await train({ data, resume: runFolder });
    expectEqual(await traces(runFolder), whole);
  });

  test('a state too large to be held is written at the end of every epoch, and the run goes on from it', async () => {
    const few = await pictureFolder('few', 1, 1);
    // 11.7 million parameters with a momentum for each: 94 MB.
    const network = { backbone: 'resnet18', source: 'torch', freeze: 'none', inputSize: 32 } as const;
    const large = { data: few, ...network, optimizer: 'sgd', batchSize: 3 } as const;
    const whole = await tracesOf(large);
    const controller = new AbortController();
    const written: number[] = [];
    const out = temporary('large');
    const { stopped } = await train(
      { ...large, out, signal: controller.signal },
      {
        epochStart: ({ epoch }) => {
          if (epoch > 1) written.push(JSON.parse(readFileSync(join(out, 'last', 'checkpoint.json'), 'utf8')).epoch);
        },
        step: ({ epoch }) => void (epoch === 3 && controller.abort()),
      },
    );
    expect({ stopped, written }).toEqual({ stopped: true, written: [1, 2] });
    await train({ data: few, resume: out });
    expectEqual(await traces(out), whole);
  });

  test('a finished run that is resumed is left as it is', async () => {
    const { runFolder } = await train({ data, weights, ...settings, epochs: 2 });
    const before = await traces(runFolder);
    const again = await train({ data, resume: runFolder });
    expect(again.stopped).toBe(false);
    expect(again.metrics.epochs).toBe(2);
    expectEqual(await traces(runFolder), before);
  });

  test('a run that finds a history longer than its checkpoint, as after a power cut, goes on from the checkpoint', async () => {
    const whole = await tracesOf({ data, weights, ...settings, freeze: 'backbone' });
    const { runFolder } = await stopAfter(15, { freeze: 'backbone' });
    const file = join(runFolder, 'history.csv');
    const rows = readFileSync(file, 'utf8').trimEnd().split('\n');
    writeFileSync(file, `${[...rows, rows.at(-1)!.replace(/^2,/, '3,')].join('\n')}\n`);
    await train({ data, resume: runFolder });
    expectEqual(await traces(runFolder), whole);
  });
});

describe('a run that was killed', () => {
  const settings = { epochs: 3, augment: 'flip', optimizer: 'adam', freeze: 'last:2' } as const;
  let whole: Awaited<ReturnType<typeof traces>>;
  let run: string;
  beforeAll(async () => {
    run = (await train({ data, weights, ...settings })).runFolder;
    whole = await traces(run);
  });
  let copies = 0;
  /** The run as it stood at a moment. */
  function at(change: (folder: string) => void): string {
    const folder = temporary(`killed-${copies++}`);
    cpSync(run, folder, { recursive: true });
    change(folder);
    return folder;
  }
  const remove = (folder: string, ...names: string[]): void => {
    for (const name of names) rmSync(join(folder, name), { recursive: true });
  };
  async function resumed(folder: string) {
    const said: string[] = [];
    const result = await train({ data, resume: folder }, { info: (line) => void said.push(line) });
    return { ...result, said: said.join('\n') };
  }
  const unfinished = '.last.0a1b2c3d-4711-0123456789ab.tmp';

  test.each([
    ['its first epoch', ['best', 'last', 'history.csv']],
    ['its first best model', ['last', 'history.csv']],
    ['its first history', ['last']],
    ['the names of its classes', ['best', 'last', 'history.csv', 'class_indices.json']],
  ])('before its first checkpoint, after %s: it begins again', async (_, missing) => {
    const folder = at((path) => {
      remove(path, 'metrics.json', 'curves.png', ...missing);
      mkdirSync(join(path, unfinished));
      writeFileSync(join(path, unfinished, 'model.json'), '{');
    });
    const { said, stopped } = await resumed(folder);
    expect(said).toContain('before its first checkpoint');
    expect(stopped).toBe(false);
    expectEqual(await traces(folder), whole);
    expect(readdirSync(folder).sort()).toEqual(readdirSync(run).sort());
    expect(readFileSync(join(folder, 'args.json'), 'utf8')).toBe(readFileSync(join(run, 'args.json'), 'utf8'));
  });

  test('between the two renames that replace a model', async () => {
    const folder = at((path) => {
      remove(path, 'metrics.json');
      for (const model of ['best', 'last']) {
        const aside = join(path, `.${model}.0a1b2c3d-4711-0123456789ab`);
        cpSync(join(path, model), `${aside}.old`, { recursive: true });
        renameSync(join(path, model), `${aside}.tmp`);
      }
    });
    const { said } = await resumed(folder);
    expect(said).toContain('all epochs are done');
    expectEqual(await traces(folder), whole);
    expect(readdirSync(folder).sort()).toEqual(readdirSync(run).sort());
  });

  test('after its last checkpoint: what is missing at the end is written, and nothing is computed', async () => {
    const folder = at((path) => remove(path, 'metrics.json', 'curves.png'));
    const metricsOf = (path: string): unknown => JSON.parse(readFileSync(join(path, 'metrics.json'), 'utf8'));
    const { said } = await resumed(folder);
    expect(said).toContain('all epochs are done');
    expect(said).not.toContain('computing');
    expect(metricsOf(folder)).toEqual(metricsOf(run));
    expect(readdirSync(folder).sort()).toEqual(readdirSync(run).sort());
    expectEqual(await traces(folder), whole);
  });

  test('while it replaced another run: the new one is there whole', async () => {
    const parent = temporary('replaced');
    const folder = join(parent, 'run');
    mkdirSync(parent);
    cpSync(run, join(parent, '.run.0a1b2c3d-4711-0123456789ab.old'), { recursive: true });
    const fresh = join(parent, '.run.0a1b2c3d-4711-0123456789ab.tmp');
    mkdirSync(fresh);
    cpSync(join(run, 'args.json'), join(fresh, 'args.json'));
    await resumed(folder);
    expectEqual(await traces(folder), whole);
    expect(readdirSync(parent)).toEqual(['run']);
  });

  test('where it could only begin: the folder is free again', async () => {
    const folder = temporary('barely');
    mkdirSync(folder);
    writeFileSync(join(folder, '.args.json.0a1b2c3d-4711-0123456789ab.tmp'), '{');
    const failed = await expectFailure(() => train({ data, resume: folder }), 'RUN_NOT_FOUND', /args\.json/);
    expect(failed.hint).toContain('started again');
    await train({ data, weights, ...settings, out: folder });
    expectEqual(await traces(folder), whole);
  });

  test('what changed since it began is told', async () => {
    const folder = at((path) => {
      remove(path, 'metrics.json', 'last');
      const file = join(path, 'args.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace('"lr": 0.0001', '"lr": 0.5'));
    });
    await expectFailure(() => resumed(folder), 'RESUME_CHANGED', /lr: 0\.5 then, 0\.0001 now/);
  });

  test('a checkpoint of a version that kept less is taken', async () => {
    const folder = at((path) => {
      const file = join(path, 'last', 'checkpoint.json');
      const { epoch, optimizerSteps, bestEpoch, bestLoss } = JSON.parse(readFileSync(file, 'utf8'));
      writeFileSync(file, JSON.stringify({ epoch, optimizerSteps, bestEpoch, bestLoss }));
      const args = JSON.parse(readFileSync(join(path, 'args.json'), 'utf8'));
      delete args.computing;
      for (const key of ['deterministic', 'tensorboard']) delete args.settings[key];
      writeFileSync(join(path, 'args.json'), JSON.stringify(args));
    });
    expect((await resumed(folder)).metrics.epochs).toBe(3);
  });

  test('damaged pictures that were left out are still counted', async () => {
    const damaged = await pictureFolder('damaged', 3, 1);
    writeFileSync(join(damaged, 'train', 'sky', 'bad.png'), 'no picture');
    const first = await train({ data: damaged, weights, skipBadImages: true, freeze: 'none', epochs: 1 });
    expect(first.metrics.badPictures).toBe(1);
    const warnings: string[] = [];
    const again = await train({ data, resume: first.runFolder }, { warn: (line) => void warnings.push(line) });
    expect(again.metrics).toEqual(first.metrics);
    expect(warnings.join()).toContain('bad.png');
  });
});

describe('going on with something else than it began with', () => {
  /** A run of which one of two epochs is done, on other threads. */
  async function elsewhere(deterministic: boolean): Promise<string> {
    const controller = new AbortController();
    const { runFolder } = await train(
      { data, weights, epochs: 2, deterministic, signal: controller.signal },
      { epoch: () => controller.abort() },
    );
    const file = join(runFolder, 'args.json');
    const args = JSON.parse(readFileSync(file, 'utf8'));
    expect(args.computing).toMatchObject({ device: 'cpu', threads: expect.any(Number), processor: expect.any(String) });
    writeFileSync(file, JSON.stringify({ ...args, computing: { ...args.computing, threads: 77 } }));
    return runFolder;
  }

  test('is told, as the last digits depend on it', async () => {
    const warnings: string[] = [];
    const { stopped } = await train(
      { data, resume: await elsewhere(false) },
      { warn: (line) => void warnings.push(line) },
    );
    expect(stopped).toBe(false);
    expect(warnings.join('\n')).toMatch(/threads: 77 then, \d+ now/);
  });

  test('is refused with --deterministic', async () => {
    const folder = await elsewhere(true);
    // The library of this process is loaded, and cannot have other threads.
    await expectFailure(() => train({ data, resume: folder }), 'ENGINE_THREADS_FIXED', /77/);
    const engine = { engine: 'tensorflow', threads: (await loadEngine()).threads! } as const;
    const failed = await expectFailure(
      () => train({ data, resume: folder, engine }),
      'RESUME_COMPUTING',
      /threads: 77/,
    );
    expect(failed.hint).toContain('--threads 77');
  });
});

describe('what cannot be resumed', () => {
  let run: string;
  beforeAll(async () => {
    run = (await train({ data, weights, epochs: 1 })).runFolder;
  });
  let copies = 0;
  function changed(change: (folder: string) => void): string {
    const folder = temporary(`changed-${copies++}`);
    cpSync(run, folder, { recursive: true });
    change(folder);
    return folder;
  }
  const resuming = (folder: string) => () => train({ data, resume: folder });

  test('a folder that holds no run', async () => {
    await expectFailure(resuming(temporary('nowhere')), 'RUN_NOT_FOUND', /args\.json/);
    await expectFailure(resuming(changed((folder) => rmSync(join(folder, 'args.json')))), 'RUN_NOT_FOUND');
  });

  test('a run whose last checkpoint was removed: it is not trained again unasked', async () => {
    const folder = changed((path) => rmSync(join(path, 'last'), { recursive: true }));
    const error = await expectFailure(resuming(folder), 'RUN_NOTHING_TO_RESUME', /last checkpoint is not there/);
    expect(error.hint).toContain('--overwrite');
  });

  test('damaged files are named', async () => {
    const write = (file: string, text: string) => changed((folder) => writeFileSync(join(folder, file), text));
    await expectFailure(resuming(write('args.json', '{')), 'JSON_INVALID', /args\.json/);
    await expectFailure(resuming(write('args.json', '{"settings": {}}')), 'RUN_INVALID', /args\.json/);
    await expectFailure(resuming(write('last/checkpoint.json', '{"epoch": -1}')), 'RUN_INVALID', /checkpoint\.json/);
    await expectFailure(resuming(write('history.csv', 'epoch,loss\n1,2\n')), 'HISTORY_INVALID', /train_loss/);
    await expectFailure(resuming(write('history.csv', '')), 'HISTORY_INVALID', /0 epochs/);
    await expectFailure(resuming(write('last/weights.safetensors', 'x')), 'FILE_TRUNCATED', /weights\.safetensors/);
    await expectFailure(resuming(write('last/optimizer.safetensors', 'x')), 'FILE_TRUNCATED', /optimizer/);
  });

  test('data that are not those the run began with', async () => {
    const other = await pictureFolder('other', 7, 2);
    const first = await train({ data: other, weights, epochs: 1 });
    const extra = join(other, 'train', 'sky', 'extra.png');
    await writePicture(extra, 2, 'extra');
    const more = await expectFailure(resuming(first.runFolder), 'RESUME_DATA_CHANGED', /21 for training/);
    expect(more.message).toContain('22 and 6 now');
    rmSync(extra);
    rmSync(join(other, 'val', 'moss', 'val-0.png'));
    await writePicture(join(other, 'val', 'moss', 'renamed.png'), 1, 'val 1 0');
    await expectFailure(resuming(first.runFolder), 'RESUME_DATA_CHANGED', /other names/);
  });
});

test('the checkpoint is written last: a run killed in between goes on from the one before', async () => {
  const { runFolder } = await train({ data, weights, epochs: 2 });
  const writtenAt = (...path: string[]) => statSync(join(runFolder, ...path), { bigint: true }).mtimeNs;
  expect(writtenAt('best', 'weights.safetensors') <= writtenAt('last', 'checkpoint.json')).toBe(true);
  expect(writtenAt('history.csv') <= writtenAt('last', 'checkpoint.json')).toBe(true);
});
