import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { flipView } from '../../src/augment/augment.js';
import { caffePreprocessing, torchPreprocessing } from '../../src/augment/preprocessing.js';
import { recipes } from '../../src/augment/recipe.js';
import type { Sample } from '../../src/data/dataset.js';
import { type DecodeTask, decodeBatch } from '../../src/data/decode-batch.js';
import {
  type Batch,
  batches,
  closeLoader,
  describeBadImages,
  type LoaderOptions,
  loadOne,
} from '../../src/data/loader.js';
import { DataError } from '../../src/errors.js';
import { rng } from '../../src/rng.js';

const size = { height: 24, width: 24 };
const slot = 24 * 24 * 3;
const base: LoaderOptions = {
  preprocessing: torchPreprocessing,
  size,
  batchSize: 4,
  augment: 'none',
  seed: 1,
  epoch: 0,
  workers: 1,
  skipBadImages: false,
};

let dir: string;
let samples: Sample[];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tl-loader-'));
  samples = await Promise.all(
    Array.from({ length: 14 }, async (_, i): Promise<Sample> => {
      const path = join(dir, `${i}.png`);
      const generator = rng(i);
      const raw = { width: 40 + i, height: 50 - i, channels: 3 } as const;
      const pixels = Uint8Array.from({ length: raw.width * raw.height * 3 }, () => generator.integer(256));
      await sharp(pixels, { raw }).png().toFile(path);
      return { path, label: i % 3, split: 'train' };
    }),
  );
});

afterAll(async () => {
  await closeLoader();
  rmSync(dir, { recursive: true, force: true });
});

async function all(of: readonly Sample[], options: Partial<LoaderOptions>): Promise<Batch[]> {
  const out: Batch[] = [];
  for await (const batch of batches(of, { ...base, ...options })) out.push(batch);
  return out;
}

/** Everything but the time, which differs between runs. */
function contents(of: readonly Batch[]) {
  return of.map(({ pixels, labels, indices, count }) => ({
    pixels,
    labels: [...labels],
    indices: [...indices],
    count,
  }));
}

/** The samples with bad files at these positions. */
function withBad(...positions: number[]): Sample[] {
  return samples.map((sample, i) => {
    if (!positions.includes(i)) return sample;
    const path = join(dir, `bad-${i}.jpg`);
    writeFileSync(path, 'not a picture');
    return { ...sample, path };
  });
}

describe('batches', () => {
  test('hold every sample once, in order, and the last may be smaller', async () => {
    const got = await all(samples, {});
    expect(got.map((batch) => batch.count)).toEqual([4, 4, 4, 2]);
    expect(got.flatMap((batch) => [...batch.indices])).toEqual(samples.map((_, i) => i));
    expect(got.flatMap((batch) => [...batch.labels])).toEqual(samples.map((sample) => sample.label));
    for (const batch of got) {
      expect(batch.pixels).toHaveLength(batch.count * slot);
      expect(batch.waitedMs).toBeGreaterThanOrEqual(0);
    }
  });

  test('hold the numbers that loadOne gives for each picture', async () => {
    const [first] = await all(samples, { preprocessing: caffePreprocessing });
    for (let i = 0; i < 4; i++) {
      const one = await loadOne(samples[i]!.path, caffePreprocessing, size);
      expect(first!.pixels.subarray(i * slot, (i + 1) * slot)).toEqual(one);
    }
  });

  test('of no samples are none', async () => {
    expect(await all([], {})).toEqual([]);
  });

  test('follow the order, and show a sample as often as it is there', async () => {
    const order = [...rng(5).shuffle(samples.map((_, i) => i)), 0, 0];
    const shuffled = await all(samples, { order });
    expect(shuffled.flatMap((batch) => [...batch.indices])).toEqual(order);
    expect(order).not.toEqual(samples.map((_, i) => i));
    const [plain] = await all(samples, { batchSize: 14 });
    const [mixed] = await all(samples, { batchSize: order.length, order });
    order.forEach((index, i) => {
      const from = plain!.pixels.subarray(index * slot, (index + 1) * slot);
      expect(mixed!.pixels.subarray(i * slot, (i + 1) * slot)).toEqual(from);
      expect(mixed!.labels[i]).toBe(samples[index]!.label);
    });
  });

  test.each(['none', 'flip', 'standard', 'strong'] as const)(
    '%s: are the same with no, one and two workers, and any prefetch',
    async (augment) => {
      const options = (): Partial<LoaderOptions> => ({
        augment,
        epoch: 2,
        order: rng(9).shuffle(samples.map((_, i) => i)),
      });
      const reference = contents(await all(samples, { ...options(), workers: 0 }));
      expect(contents(await all(samples, { ...options(), workers: 1 }))).toEqual(reference);
      expect(contents(await all(samples, { ...options(), workers: 2, prefetch: 3 }))).toEqual(reference);
      expect(contents(await all(samples, { ...options(), workers: 2, prefetch: 1 }))).toEqual(reference);
    },
  );

  test('two loops at once do not mix', async () => {
    const [one, two] = await Promise.all([all(samples, {}), all(samples, { preprocessing: caffePreprocessing })]);
    expect(contents(one!)).toEqual(contents(await all(samples, {})));
    expect(contents(two!)).toEqual(contents(await all(samples, { preprocessing: caffePreprocessing })));
  });

  test('a view shows every picture so, and flip chooses between the two', async () => {
    const show = async (options: Partial<LoaderOptions>) => (await all(samples, { batchSize: 14, ...options }))[0]!;
    const plain = await show({ view: { flip: false }, augment: 'strong' });
    const flipped = await show({ view: { flip: true } });
    const random = await show({ augment: 'flip', epoch: 4 });
    expect(plain.pixels).toEqual((await show({})).pixels);
    samples.forEach((sample, i) => {
      const source = flipView(1, 4, sample.path, recipes.flip).flip ? flipped : plain;
      const part = (batch: Batch) => batch.pixels.subarray(i * slot, (i + 1) * slot);
      expect(part(random)).toEqual(part(source));
    });
    expect(random.pixels).not.toEqual(plain.pixels);
    expect(random.pixels).not.toEqual(flipped.pixels);
  });

  test('no more is decoded ahead than asked for', async () => {
    let asked = 0;
    const watched = samples.map((sample) => ({
      ...sample,
      get path() {
        asked++;
        return sample.path;
      },
    }));
    const loop = batches(watched, { ...base, batchSize: 2, prefetch: 2 });
    await loop.next();
    expect(asked).toBe(6); // the one that was delivered, and two ahead
    await loop.next();
    expect(asked).toBe(8);
    await loop.return();
    expect(asked).toBe(8);
  });

  test('a loop that is left early ends, and the next one works', async () => {
    for await (const batch of batches(samples, { ...base, batchSize: 1, prefetch: 8, workers: 2 })) {
      expect(batch.count).toBe(1);
      break;
    }
    expect(await all(samples, { workers: 2 })).toHaveLength(4);
  });

  test('a task that nobody waits for stops', async () => {
    const cancelled = new Int32Array(new SharedArrayBuffer(4));
    const task: DecodeTask = {
      paths: samples.map((sample) => sample.path),
      preprocessing: torchPreprocessing,
      size,
      augment: {},
      seed: 1,
      epoch: 0,
      view: undefined,
      stopAtFault: false,
      cancelled,
    };
    expect((await decodeBatch(task)).kept).toHaveLength(14);
    Atomics.store(cancelled, 0, 1);
    expect((await decodeBatch(task)).kept.length).toBeLessThanOrEqual(1);
  });
});

describe('bad pictures', () => {
  test.each([0, 1, 2])('stop the loop with the path of the first in order, with %i workers', async (workers) => {
    const bad = withBad(6, 9);
    const seen: number[] = [];
    const loop = async (): Promise<void> => {
      for await (const batch of batches(bad, { ...base, workers })) seen.push(batch.count);
    };
    const thrown: unknown = await loop().catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(DataError);
    expect(thrown).toMatchObject({ code: 'BAD_IMAGE', hint: expect.stringContaining('--skip-bad-images') });
    expect((thrown as DataError).message).toContain(bad[6]!.path);
    expect(seen).toEqual([4]);
  });

  test('are left out and reported with their reason', async () => {
    const reported: { path: string; reason: string }[] = [];
    const bad = withBad(0, 5, 13);
    const got = await all(bad, { skipBadImages: true, onBadImage: (path, reason) => reported.push({ path, reason }) });
    expect(got.map((batch) => batch.count)).toEqual([3, 3, 4, 1]);
    expect(got.flatMap((batch) => [...batch.indices])).toEqual([1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]);
    expect(got[0]!.pixels).toHaveLength(3 * slot);
    expect(got[0]!.pixels.subarray(0, slot)).toEqual(await loadOne(bad[1]!.path, torchPreprocessing, size));
    expect(reported.map(({ path }) => path)).toEqual([bad[0]!.path, bad[5]!.path, bad[13]!.path]);
    expect(reported[0]!.reason).toBe('it is not a picture, or in an unknown format');
    expect(describeBadImages(reported)).toBe(
      `3 bad pictures were left out:\n${reported.map(({ path, reason }) => `  - ${path}: ${reason}`).join('\n')}`,
    );
  });

  test('a batch of nothing else is not delivered', async () => {
    const got = await all(withBad(4, 5, 6, 7), { skipBadImages: true });
    expect(got.map((batch) => [...batch.indices])).toEqual([
      [0, 1, 2, 3],
      [8, 9, 10, 11],
      [12, 13],
    ]);
  });

  test('nothing else at all is an error', async () => {
    const bad = withBad(0, 1).slice(0, 2);
    await expect(all(bad, { skipBadImages: true })).rejects.toMatchObject({
      code: 'BAD_IMAGE',
      message: expect.stringMatching(/none of 2 pictures could be read:\n {2}- .*bad-0\.jpg.*\n {2}- .*bad-1\.jpg/),
    });
  });

  test('are described only when there are any', () => {
    expect(describeBadImages([])).toBe('');
    expect(describeBadImages([{ path: 'a.jpg', reason: 'the file is empty' }])).toBe(
      '1 bad picture was left out:\n  - a.jpg: the file is empty',
    );
  });

  test('loadOne says which', async () => {
    await expect(loadOne(join(dir, 'no.jpg'), torchPreprocessing, size)).rejects.toMatchObject({ code: 'BAD_IMAGE' });
  });
});

describe('options', () => {
  test('that make no sense are all named', async () => {
    const wrong = { batchSize: 0, prefetch: 0.5, workers: -1, size: { height: 0, width: 24 } };
    await expect(all(samples, wrong)).rejects.toMatchObject({
      code: 'BAD_LOADER_OPTION',
      message: expect.stringMatching(/batchSize.*received 0\n.*prefetch.*0\.5\n.*height.*0\n.*workers.*-1/),
    });
  });
});

describe('a program', () => {
  const loader = fileURLToPath(new URL('../../dist/data/loader.js', import.meta.url));
  const script = (end: string): string => `
    import { batches, closeLoader } from ${JSON.stringify(loader)};
    const samples = ${JSON.stringify(samples)};
    for await (const batch of batches(samples, ${JSON.stringify({ ...base, workers: 2 })})) console.log(batch.count);
    ${end}`;

  test.each(['', 'await closeLoader();'])('ends by itself (%s)', async (end) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(end)], {
      timeout: 20_000,
    });
    expect(stdout.trim().split('\n')).toEqual(['4', '4', '4', '2']);
  });
});
