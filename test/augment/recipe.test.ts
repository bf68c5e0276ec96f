/** The record of what is random: presets are recipes, and give what they always gave. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { augmentInto, pictureRng } from '../../src/augment/augment.js';
import { torchPreprocessing as preprocessing } from '../../src/augment/preprocessing.js';
import { augmentations, recipeName, recipeOf, recipes, variety } from '../../src/augment/recipe.js';
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
