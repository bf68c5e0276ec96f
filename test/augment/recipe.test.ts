/** The record of what is random: presets are recipes, and give what they always gave. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { augmentInto, pictureRng, randomBox } from '../../src/augment/augment.js';
import { channelCounts } from '../../src/augment/image.js';
import {
  channelsFor,
  fittedBy,
  type Preprocessing,
  torchPreprocessing as preprocessing,
  presets,
  withChannels,
} from '../../src/augment/preprocessing.js';
import { type AugmentRecipe, augmentations, recipeName, recipeOf, recipes, variety } from '../../src/augment/recipe.js';
import { rng } from '../../src/rng.js';
import { rowId } from '../../src/train/features/key.js';

/** Of five epochs of one picture, by version 0.5: runs of old must go on with the same pictures. */
const BITS = {
  none: '935d7c746229b699',
  flip: '681aa713640b369a',
  standard: 'e78cbcd271850bb7',
  strong: '217d73ff46ab3b4a',
};

describe('the presets', () => {
  test.each(augmentations)('%s gives the bits that it gave before there were recipes', (name) => {
    const size = { height: 32, width: 40 };
    const generator = rng(5);
    const data = Uint8Array.from({ length: 61 * 47 * 3 }, () => generator.integer(256));
    const hash = createHash('sha256');
    for (let epoch = 0; epoch < 5; epoch++) {
      const out = new Float32Array(size.height * size.width * 3);
      const options = { preprocessing, size, recipe: recipes[name], generator: pictureRng(3, epoch, 'x/y.jpg') };
      augmentInto({ data, width: 61, height: 47 }, options, out, 0);
      hash.update(new Uint8Array(out.buffer));
    }
    expect(hash.digest('hex').slice(0, 16)).toBe(BITS[name]);
  });

  test.each(augmentations)('%s is found by its name, and kept rows are still called by it', (name) => {
    expect(recipeOf(name)).toBe(recipes[name]);
    expect(recipeName(structuredClone(recipes[name]))).toBe(name);
    const row = rowId('c', { kind: 'augmented', augment: recipes[name], seed: 3, epoch: 2 }, '/data/x/y.jpg');
    expect(row).toBe(createHash('sha256').update(`c ${name} 3 2 x/y.jpg`).digest('base64'));
  });
});

/** Everything at once. */
const everything: AugmentRecipe = {
  ...recipes.strong,
  randAugment: { operations: 2, magnitude: 12 },
  jitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
  verticalFlip: 0.5,
  erasing: { probability: 0.5, fill: 'noise' },
};

describe('a recipe of everything', () => {
  const shown = (recipe: AugmentRecipe, path: string, record: Preprocessing, epoch = 1): Float32Array => {
    const channels = channelsFor(record);
    const generator = rng('everything');
    const data = Uint8Array.from({ length: 50 * 40 * channels }, () => generator.integer(256));
    const out = new Float32Array(24 * 20 * channels);
    const options = { preprocessing: record, size: { height: 24, width: 20 }, recipe };
    augmentInto({ data, width: 50, height: 40 }, { ...options, generator: pictureRng(1, epoch, path) }, out, 0);
    return out;
  };
  const records = [preprocessing, presets.caffe, fittedBy(presets.tf, 'pad')].flatMap((record) =>
    channelCounts.map((channels) => withChannels(record, channels)),
  );

  test.each(records)('is one function of picture and generator, and stays in the range of pixels', (record) => {
    const { crop, ...uncropped } = everything;
    for (const recipe of [everything, uncropped]) {
      const first = shown(recipe, 'a/1.png', record);
      expect(shown(recipe, 'a/1.png', record)).toEqual(first);
      expect(shown(recipe, 'a/2.png', record)).not.toEqual(first);
      expect(shown(recipe, 'a/1.png', record, 2)).not.toEqual(first);
      const channels = channelsFor(record);
      for (const [i, value] of first.entries()) {
        const pixel = (value * record.std[i % channels]! + record.mean[i % channels]!) / record.scale;
        expect(pixel).toBeGreaterThan(-0.01);
        expect(pixel).toBeLessThan(255.01);
      }
    }
  });

  test('each part changes pictures by itself, and as often as it is told', () => {
    const plain = shown({}, 'x', preprocessing);
    const parts: AugmentRecipe[] = [
      { crop: { area: [0.2, 0.3], shape: [1, 1] } },
      { rotation: 20 },
      { jitter: { brightness: 0, contrast: 0, saturation: 0, hue: 0.5 } },
      { randAugment: { operations: 4, magnitude: 20 } },
      { verticalFlip: 1 },
      { horizontalFlip: 1 },
      { erasing: { probability: 1, fill: 'zero' } },
    ];
    for (const part of parts) expect(shown(part, 'x', preprocessing), JSON.stringify(part)).not.toEqual(plain);
    const rows = (values: Float32Array) => Array.from({ length: 24 }, (_, y) => values.subarray(y * 60, (y + 1) * 60));
    expect(rows(shown({ verticalFlip: 1 }, 'x', preprocessing)).reverse()).toEqual(rows(plain));
    const upside = Array.from({ length: 200 }, (_, epoch) => shown({ verticalFlip: 0.3 }, 'x', preprocessing, epoch));
    const turned = upside.filter((values) => values[0] !== plain[0]).length;
    expect(turned).toBeGreaterThan(34); // 60 expected, standard deviation 6.5
    expect(turned).toBeLessThan(86);
  });

  test('a crop lies within the areas that it is given', () => {
    const crop = { area: [0.2, 0.3], shape: [0.5, 2] } as const;
    for (let seed = 0; seed < 100; seed++) {
      const { width, height } = randomBox({ width: 200, height: 200 }, rng(seed), crop);
      expect((width * height) / 40_000).toBeGreaterThan(0.195);
      expect((width * height) / 40_000).toBeLessThan(0.305);
      expect(Math.abs(Math.log(width / height))).toBeLessThan(Math.log(2.05));
    }
  });
});

describe('the name of a recipe', () => {
  test('tells what is done, whatever order it is written in and whatever does nothing', () => {
    const turned = { ...recipes.standard, rotation: 10 };
    expect(recipeName(turned)).toContain('10');
    expect(recipeName({ rotation: 10, ...recipes.standard })).toBe(recipeName(turned));
    expect(recipeName({ rotation: 0 })).toBe('none');
    expect(recipeName({ rotation: 3 })).not.toBe(recipeName({ rotation: 4 }));
  });
});

test('what epochs show of a picture', () => {
  expect(augmentations.map((name) => variety(recipes[name]))).toEqual(['one', 'mirrored', 'endless', 'endless']);
  expect(variety({ horizontalFlip: 0, rotation: 0 })).toBe('one');
  expect(variety({ horizontalFlip: 0.3 })).toBe('mirrored');
  expect(variety({ rotation: 5 })).toBe('endless');
});
