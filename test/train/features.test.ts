/** The frozen part's output that is kept: what finds it again, what does not, and what happens to damaged files. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { featuresFolder, makeSpace } from '../../src/train/features/space.js';
import type { FinetuneOptions } from '../../src/train/options.js';
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  expectEqual,
  historyOf,
  pictureFolder,
  startingWeights,
  temporary,
  traces,
  train,
  writePicture,
} from './support/training.js';

let data: string;
let weights: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 7, 2); // 21 and 6
  weights = await startingWeights('mobilenet_v1_0.25', 'keras');
});
beforeEach(() => rmSync(featuresFolder(), { recursive: true, force: true }));

/** Bytes of the kernels before the head: what the frozen part takes at the least. */
const frozenBytes = (): number =>
  buildBackbone(findPublished(findBackbone('mobilenet_v1_0.25'), 'keras'), { size: { height: 64, width: 64 } })
    .parameters.filter(({ path }) => path.endsWith('.kernel'))
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, Float32Array.BYTES_PER_ELEMENT), 0);

/** A run, what it left behind, and how many pictures went through the frozen part. */
async function ran(changes: Partial<FinetuneOptions> = {}, stopAt = Number.POSITIVE_INFINITY) {
  const [messages, warnings]: [string[], string[]] = [[], []];
  let computed = 0;
  const controller = new AbortController();
  const result = await train(
    { data, weights, augment: 'flip', signal: controller.signal, ...changes },
    {
      info: (line) => void messages.push(line),
      warn: (line) => void warnings.push(line),
      featureProgress: ({ done }) => {
        computed = done;
        if (done >= stopAt) controller.abort();
      },
    },
  ).catch((error: unknown) => error as Error);
  const all = { computed, said: messages.join('\n'), warned: warnings.join('\n') };
  if (result instanceof Error) return { ...all, failure: result, traces: undefined };
  return { ...all, failure: undefined, traces: await traces(result.runFolder), folder: result.runFolder };
}

/** The files of rows, hidden ones too. */
const files = (): string[] =>
  existsSync(featuresFolder())
    ? readdirSync(featuresFolder(), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
    : [];

describe('a later run', () => {
  test('starts from what an earlier one kept, and ends with the same bits', async () => {
    const first = await ran();
    expect(first.computed).toBe(27);
    const before = files().map((file) => readFileSync(file, 'hex'));
    const second = await ran({ head: 'linear', headDropout: 0 });
    expect(second.computed).toBe(0);
    expect(second.said).toContain(`is there from an earlier run: ${featuresFolder()}`);
    expectEqual(second.traces!, first.traces!);
    expect(files().map((file) => readFileSync(file, 'hex'))).toEqual(before);
  });

  test('may differ in all that is behind the cut, and in the pictures’ places and labels', async () => {
    await ran();
    const moved = temporary('moved');
    cpSync(data, moved, { recursive: true });
    const other = { batchSize: 5, lr: 0.01, seed: 4, optimizer: 'sgd', head: 'mlp:8', headDropout: 0.5 } as const;
    expect((await ran({ ...other, data: moved })).computed).toBe(0);
  });

  test('computes what is new alone: a mirroring, ten more pictures, a picture that was changed', async () => {
    await ran({ augment: 'none' });
    expect((await ran({ augment: 'flip' })).computed).toBe(21);
    const grown = temporary('grown');
    cpSync(data, grown, { recursive: true });
    for (let i = 0; i < 10; i++) await writePicture(join(grown, 'train', 'sky', `new-${i}.png`), 2, `new ${i}`);
    expect((await ran({ data: grown })).computed).toBe(10);
    await writePicture(join(grown, 'val', 'moss', 'val-0.png'), 1, 'changed');
    expect((await ran({ data: grown })).computed).toBe(1);
    const whole = await ran({ data: grown });
    expectEqual(whole.traces!, (await ran({ data: grown, cache: 'off' })).traces!);
  });

  test.each<[string, Partial<FinetuneOptions>]>([
    ['another cut', { freeze: 'last:2' }],
    ['another size', { inputSize: 48 }],
    ['other numbers of float16', { cachePrecision: 'float16' }],
    ['another engine', { engine: { engine: 'cpu' }, inputSize: 33 }],
  ])('does not take it for %s', async (_, changes) => {
    if (changes.inputSize === 33) await ran({ inputSize: 33, epochs: 1 });
    else await ran();
    expect((await ran({ ...changes, epochs: 1 })).computed).toBe(27);
  });

  test('does not take it for other weights, even where one number differs', async () => {
    await ran();
    const source = await openSafetensors(weights);
    const changed = temporary('changed.safetensors');
    const entries = source.tensors.map(({ name, shape }) => ({
      name,
      shape,
      read: async () => {
        const numbers = await source.read(name);
        if (name === source.tensors[0]!.name) numbers[0]! += 1e-3;
        return numbers;
      },
    }));
    await writeSafetensors(changed, entries, { format: 'tl', backbone: 'mobilenet_v1_0.25', source: 'keras' });
    await source.close();
    expect((await ran({ weights: changed })).computed).toBe(27);
  });

  test('goes on where the computing was stopped', async () => {
    // At 224x224 pictures come 16 at a time.
    const stopped = await ran({ inputSize: 224, epochs: 1 }, 16);
    expect(stopped.failure).toMatchObject({ code: 'STOPPED' });
    const resumed = await ran({ inputSize: 224, epochs: 1 });
    expect(resumed.computed).toBe(11);
    expectEqual(resumed.traces!, (await ran({ inputSize: 224, epochs: 1, cache: 'off', batchSize: 4 })).traces!);
  });
});

describe('the frozen part', () => {
  const inMemory = () => tf.memory().numBytes;
  /** Bytes of tensors, beyond those of before, while rows are computed, when their place is told, and in training steps. */
  const measured = async (changes: Partial<FinetuneOptions> = {}) => {
    const before = inMemory();
    const found: Record<'computing' | 'told' | 'training', number[]> = { computing: [], told: [], training: [] };
    const note = (when: keyof typeof found) => void found[when].push(inMemory() - before);
    const { runFolder } = await train(
      { data, weights, augment: 'flip', ...changes },
      {
        featureProgress: () => note('computing'),
        info: (line) => line.includes("the frozen part's output") && note('told'),
        step: () => note('training'),
      },
    );
    expect(inMemory()).toBe(before);
    return { found, traces: await traces(runFolder) };
  };

  test.each(['disk', 'memory'] as const)('is gone when its output is kept: %s', async (cache) => {
    const { found } = await measured({ cache });
    expect(Math.min(...found.computing)).toBeGreaterThan(frozenBytes());
    expect(Math.max(...found.training)).toBeLessThan(frozenBytes() / 10);
  });

  test('is not loaded where everything is kept, but for one picture more', async () => {
    const cold = await measured();
    const { found, traces: warm } = await measured();
    expect(found.computing).toEqual([]);
    expect(Math.max(...found.told, ...found.training)).toBeLessThan(frozenBytes() / 10);
    expectEqual(warm, cold.traces);
    const grown = temporary('one more');
    cpSync(data, grown, { recursive: true });
    await writePicture(join(grown, 'val', 'moss', 'one-more.png'), 1, 'one more');
    const one = await measured({ data: grown });
    expect(one.found.told).toHaveLength(1);
    expect(Math.min(...one.found.told, ...one.found.computing)).toBeGreaterThan(frozenBytes());
    expect(Math.max(...one.found.training)).toBeLessThan(frozenBytes() / 10);
  });

  test.each([{ cache: 'off' }, { augment: 'standard' }] as const)(
    'stays where nothing is kept: %j',
    async (changes) => {
      const { found } = await measured(changes);
      expect(found.computing).toEqual([]);
      expect(Math.min(...found.training)).toBeGreaterThan(frozenBytes());
    },
  );
});

describe('places', () => {
  test('memory leaves no file, and gives the same', async () => {
    const inMemory = await ran({ cache: 'memory' });
    expect(inMemory.said).toContain('in memory');
    expect(files()).toEqual([]);
    expectEqual(inMemory.traces!, (await ran({ cache: 'disk' })).traces!);
    expect(files()).toHaveLength(1);
  });

  test('a folder that cannot be written: auto says so and takes memory, disk is an error', async () => {
    writeFileSync(featuresFolder(), 'no folder');
    const auto = await ran({ epochs: 1 });
    expect(auto.warned).toContain('cannot be kept there');
    expect(auto.said).toContain('in memory');
    expect((await ran({ epochs: 1, cache: 'disk' })).failure).toBeDefined();
  });

  test('what cannot be kept is told where it was asked for', async () => {
    expect((await ran({ epochs: 1, cache: 'disk', freeze: 'none' })).warned).toContain('nothing is frozen');
    expect((await ran({ epochs: 1, cache: 'disk', augment: 'standard' })).warned).toContain('--cache-views N');
    expect((await ran({ epochs: 1, augment: 'standard' })).warned).toBe('');
    expect(files()).toEqual([]);
  });
});

describe('a damaged file', () => {
  const damages: [string, (file: string) => void][] = [
    ['a bit of a row', (file) => change(file, 100)],
    ['a bit of the list', (file) => change(file, statSync(file).size - 20)],
    ['the header', (file) => change(file, 3)],
    ['the end', (file) => truncateSync(file, statSync(file).size - 1)],
    ['everything', (file) => writeFileSync(file, 'x')],
    ['nothing is left', (file) => truncateSync(file, 0)],
  ];
  function change(file: string, position: number): void {
    const bytes = readFileSync(file);
    bytes[position]! ^= 4;
    writeFileSync(file, bytes);
  }
  let whole: Awaited<ReturnType<typeof ran>>;
  let kept: string;
  beforeAll(async () => {
    whole = await ran({ epochs: 1 });
    kept = temporary('kept');
    cpSync(featuresFolder(), kept, { recursive: true });
  });

  test.each(damages)('is named and removed, and its rows are computed again: %s', async (_, damage) => {
    cpSync(kept, featuresFolder(), { recursive: true });
    const [file] = files();
    damage(file!);
    const again = await ran({ epochs: 1 });
    expect(again.warned).toContain(file);
    expect(again.warned).toContain('computed again');
    expect(again.computed).toBe(27);
    expect(files()).toHaveLength(1);
    expect(files()).not.toContain(file);
    expectEqual(again.traces!, whole.traces!);
    expect((await ran({ epochs: 1 })).computed).toBe(0);
  });

  test('one that was never finished is not looked at', async () => {
    cpSync(kept, featuresFolder(), { recursive: true });
    const [file] = files();
    const unfinished = file!.replace(/[^/]+$/, (name) => `.${name}.1-2.tmp`);
    cpSync(file!, unfinished);
    rmSync(file!);
    expect((await ran({ epochs: 1 })).computed).toBe(27);
    expect(existsSync(unfinished)).toBe(true); // another run may be writing it
  });
});

describe('float16', () => {
  test('takes half the room, and the losses stay close', async () => {
    const whole = await ran({ epochs: 2 });
    const bytes = statSync(files()[0]!).size;
    const half = await ran({ epochs: 2, cachePrecision: 'float16' });
    expect(Math.min(...files().map((file) => statSync(file).size))).toBeLessThan(0.6 * bytes);
    for (const [i, { trainLoss, valLoss }] of whole.traces!.history.entries()) {
      const other = half.traces!.history[i]!;
      expect(Math.abs(other.trainLoss / trainLoss - 1)).toBeLessThan(2e-3);
      expect(Math.abs(other.valLoss / valLoss - 1)).toBeLessThan(2e-3);
    }
    expect(half.traces!.history).not.toEqual(whole.traces!.history);
  });
});

describe('random views', () => {
  const settings = { augment: 'strong', epochs: 4 } as const;

  test('as many as epochs give what nothing kept gives', async () => {
    const kept = await ran({ ...settings, cacheViews: 4 });
    expect(kept.computed).toBe(4 * 21 + 6);
    expectEqual(kept.traces!, (await ran({ ...settings, cache: 'off' })).traces!);
  });

  test('fewer come in turn, from earlier runs too, and a stopped run goes on exactly', async () => {
    const whole = await ran({ ...settings, cacheViews: 2 });
    expect(whole.computed).toBe(2 * 21 + 6);
    expect((await ran({ ...settings, cacheViews: 3 })).computed).toBe(21);
    const controller = new AbortController();
    const { runFolder, stopped } = await train(
      { data, weights, ...settings, cacheViews: 2, signal: controller.signal },
      { step: ({ epoch, step }) => void (epoch === 3 && step === 2 && controller.abort()) },
    );
    expect(stopped).toBe(true);
    expect(historyOf(runFolder)).toHaveLength(2);
    await train({ data, resume: runFolder });
    expectEqual(await traces(runFolder), whole.traces!);
    expect((await ran({ ...settings, cacheViews: 2, seed: 1 })).computed).toBe(42);
  });

  test('are for augmentations that have them', async () => {
    await expectFailure(() => train({ data, weights, cacheViews: 2, augment: 'flip' }), 'BAD_OPTION', /cache-views/);
    await expectFailure(() => train({ data, weights, cacheViews: 0, augment: 'strong' }), 'BAD_OPTION', /cache-views/);
  });
});

describe('space', () => {
  /** A file without numbers. */
  function rows(name: string, bytes: number, usedSecondsAgo: number): string {
    const file = join(featuresFolder(), name);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, '');
    truncateSync(file, bytes);
    const time = Date.now() / 1000 - usedSecondsAgo;
    utimesSync(file, time, time);
    return file;
  }
  const own = () => join(featuresFolder(), 'own');

  test('what has not been used for the longest time goes first, and no more than is needed', async () => {
    const [oldest, older, newest] = [
      rows('a/1.rows', 20e6, 300),
      rows('b/2.rows', 20e6, 200),
      rows('c/3.rows', 5e6, 1),
    ];
    const mine = rows('own/4.rows', 1e5, 400);
    expect(await makeSpace({ bytes: 7e6, folder: own(), insists: false, most: 50e6 })).toBe(true);
    expect([oldest, older, newest, mine].map((file) => existsSync(file))).toEqual([false, true, true, true]);
  });

  test('where there is none, nothing is removed', async () => {
    const file = rows('a/1.rows', 1e6, 300);
    expect(await makeSpace({ bytes: 51e9, folder: own(), insists: false })).toBe(false);
    expect(await makeSpace({ bytes: 1e18, folder: own(), insists: true })).toBe(false);
    expect(existsSync(file)).toBe(true);
  });

  test('what a killed run left unfinished is removed after a week', async () => {
    const [old, young] = [rows('a/.1.rows.1-a.tmp', 10, 8 * 24 * 3600), rows('a/.2.rows.1-b.tmp', 10, 3600)];
    await makeSpace({ bytes: 1, folder: own(), insists: false });
    expect([existsSync(old), existsSync(young)]).toEqual([false, true]);
  });
});
