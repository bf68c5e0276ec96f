/** A second network is shown what the first one is: the same crop, turn, colours and flip of the same decoded picture. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  caffePreprocessing,
  tfPreprocessing,
  torchPreprocessing,
  withChannels,
} from '../../src/augment/preprocessing.js';
import { type AugmentRecipe, augmentations, recipes } from '../../src/augment/recipe.js';
import { type Batch, batches, closeLoader, type LoaderOptions } from '../../src/data/loader.js';
import type { Sample } from '../../src/data/sample.js';
import { rng } from '../../src/rng.js';

let folder: string;
let samples: Sample[];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tl-second-'));
  samples = await Promise.all(
    Array.from({ length: 5 }, async (_, i): Promise<Sample> => {
      const path = join(folder, `${i}.png`);
      const generator = rng(i);
      const raw = { width: 40 + i, height: 30 + 5 * i, channels: 3 } as const;
      const pixels = Uint8Array.from({ length: raw.width * raw.height * 3 }, () => generator.integer(256));
      await sharp(pixels, { raw }).png().toFile(path);
      return { path, label: i % 2, split: 'train' };
    }),
  );
});
afterAll(async () => {
  await closeLoader();
  rmSync(folder, { recursive: true, force: true });
});

const own = { preprocessing: torchPreprocessing, size: { height: 24, width: 20 } };
const others = {
  larger: { preprocessing: caffePreprocessing, size: { height: 33, width: 28 } },
  grey: { preprocessing: withChannels(tfPreprocessing, 1), size: { height: 16, width: 16 } },
};

const everything: AugmentRecipe = {
  ...recipes.strong,
  randAugment: { operations: 2, magnitude: 12 },
  verticalFlip: 0.5,
  erasing: { probability: 0.7, fill: 'noise' },
};

async function all(options: Partial<LoaderOptions>): Promise<Batch[]> {
  const how = { ...own, batchSize: 3, augment: 'none', seed: 4, epoch: 2, skipBadImages: false } as const;
  const order = rng(1).shuffle(samples.map((_, i) => i));
  const out: Batch[] = [];
  for await (const batch of batches(samples, { ...how, order, ...options })) out.push(batch);
  return out;
}

for (const workers of [0, 1]) {
  test.each([...augmentations, everything])(`--augment %j on ${workers} threads`, async (augment) => {
    const alone = await all({ augment, workers });
    for (const second of Object.values(others)) {
      const both = await all({ augment, workers, second });
      const asOnly = await all({ augment, workers, ...second });
      expect(both.map(({ pixels }) => pixels)).toEqual(alone.map(({ pixels }) => pixels));
      expect(both.map((batch) => batch.second)).toEqual(asOnly.map(({ pixels }) => pixels));
      expect(both.map(({ indices }) => indices)).toEqual(asOnly.map(({ indices }) => indices));
    }
    expect(alone.map(({ second }) => second)).toEqual([undefined, undefined]);
  });
}

test('a bad picture is missing in both', async () => {
  const bad: Sample = { path: join(folder, 'nothing.png'), label: 0, split: 'train' };
  const found: string[] = [];
  const how = { ...own, batchSize: 9, augment: 'flip', seed: 4, epoch: 2, workers: 0, skipBadImages: true } as const;
  const second = others.larger;
  const options = { ...how, second, onBadImage: (path: string) => void found.push(path) };
  const got: Batch[] = [];
  for await (const each of batches([samples[0]!, bad, samples[1]!], options)) got.push(each);
  expect(found).toEqual([bad.path]);
  expect(got[0]!.indices).toEqual(Int32Array.of(0, 2));
  expect(got[0]!.second!.length).toBe(2 * 33 * 28 * 3);
});
