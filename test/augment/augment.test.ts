import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { augmentInto, flipView, pictureRng, randomBox } from '../../src/augment/augment.js';
import { brightness, colourJitter, contrast, saturation } from '../../src/augment/colour.js';
import type { Picture } from '../../src/augment/image.js';
import { preprocessInto } from '../../src/augment/pipeline.js';
import { caffePreprocessing, torchPreprocessing, withChannels } from '../../src/augment/preprocessing.js';
import { type Augmentation, augmentations, recipes, standardCrop } from '../../src/augment/recipe.js';
import { rotate } from '../../src/augment/rotate.js';
import { rng } from '../../src/rng.js';

const size = { height: 16, width: 16 };

function noise(width: number, height: number, seed = 1): Picture {
  const generator = rng(seed);
  return { data: Uint8Array.from({ length: width * height * 3 }, () => generator.integer(256)), width, height };
}

function augment(image: Picture, augmentation: Augmentation, path: string, epoch = 0, seed = 1): Float32Array {
  const out = new Float32Array(16 * 16 * 3);
  const generator = pictureRng(seed, epoch, path);
  augmentInto(image, { preprocessing: torchPreprocessing, size, recipe: recipes[augmentation], generator }, out, 0);
  return out;
}

function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(got.length).toBe(expected.length);
  for (let i = 0; i < got.length; i++) expect(got[i]).toBeCloseTo(expected[i]!, 3);
}

describe('every augmentation', () => {
  const image = noise(40, 30);

  test.each(augmentations)('%s: the same picture, epoch and seed give the same result', (augmentation) => {
    expect(augment(image, augmentation, 'a/1.jpg', 3)).toEqual(augment(image, augmentation, 'a/1.jpg', 3));
  });

  test.each(augmentations)('%s: leaves the picture itself alone', (augmentation) => {
    const copy = { ...image, data: image.data.slice() };
    augment(copy, augmentation, 'a/1.jpg');
    expect(copy).toEqual(image);
  });

  test.each(['standard', 'strong'] as const)('%s: differs by epoch, path and seed', (augmentation) => {
    const base = augment(image, augmentation, 'a/1.jpg', 0, 1);
    expect(augment(image, augmentation, 'a/1.jpg', 1, 1)).not.toEqual(base);
    expect(augment(image, augmentation, 'a/2.jpg', 0, 1)).not.toEqual(base);
    expect(augment(image, augmentation, 'a/1.jpg', 0, 2)).not.toEqual(base);
  });

  test.each(augmentations)('%s: values stay in the range that pixels can give', (augmentation) => {
    for (let epoch = 0; epoch < 20; epoch++) {
      const values = augment(image, augmentation, 'a/1.jpg', epoch);
      expect(Math.min(...values)).toBeGreaterThanOrEqual(-0.485 / 0.229 - 1e-3);
      expect(Math.max(...values)).toBeLessThanOrEqual((1 - 0.406) / 0.225 + 1e-3);
    }
  });

  test('float pictures, from TensorFlow kernels, go the same way', () => {
    const out = new Float32Array(16 * 16 * 3);
    const generator = pictureRng(1, 0, 'x');
    augmentInto(image, { preprocessing: caffePreprocessing, size, recipe: recipes.strong, generator }, out, 0);
    expect(Math.max(...out)).toBeLessThanOrEqual(255 - 103.939);
    expect(new Set(out).size).toBeGreaterThan(100);
  });
});

describe('flip', () => {
  const image = noise(40, 30);

  test('is exactly one of the two views, the one that flipView names', () => {
    let flips = 0;
    for (let i = 0; i < 400; i++) {
      const path = `class/${i}.jpg`;
      const view = flipView(7, 2, path, recipes.flip);
      if (view.flip) flips++;
      const expected = new Float32Array(16 * 16 * 3);
      preprocessInto(image, torchPreprocessing, size, expected, 0, view);
      expect(augment(image, 'flip', path, 2, 7)).toEqual(expected);
    }
    expect(flips).toBeGreaterThan(160); // 200 expected, standard deviation 10
    expect(flips).toBeLessThan(240);
  });

  const flipOf = (epoch: number, path: string) => flipView(1, epoch, path, recipes.flip);

  test('does not depend on where the data set lies, nor on how a name is composed', () => {
    for (let i = 0; i < 50; i++) {
      expect(flipOf(i, '/home/a/data/train/caf\u00e9/1.jpg')).toEqual(flipOf(i, 'train/cafe\u0301/1.jpg'));
      expect(flipOf(i, 'C:\\data\\dog\\1.jpg')).toEqual(flipOf(i, 'dog/1.jpg'));
    }
  });
});

describe('random crop', () => {
  it('lies inside the picture, with 35 to 100 % of its area and a shape of 3:4 to 4:3, or is the fallback', () => {
    const side = fc.integer({ min: 40, max: 400 });
    fc.assert(
      fc.property(side, side, fc.integer(), (width, height, seed) => {
        const box = randomBox({ width, height }, rng(seed), standardCrop);
        expect(box.x).toBeGreaterThanOrEqual(0);
        expect(box.y).toBeGreaterThanOrEqual(0);
        expect(box.x + box.width).toBeLessThanOrEqual(width);
        expect(box.y + box.height).toBeLessThanOrEqual(height);
        expect(box.width / box.height).toBeGreaterThan(0.7);
        expect(box.width / box.height).toBeLessThan(1.4);
        // A picture longer than 4:3 by far cannot hold such a crop with much of its area.
        if (Math.max(width / height, height / width) < 1.3) {
          expect((box.width * box.height) / (width * height)).toBeGreaterThan(0.32);
        }
      }),
    );
  });

  it('works for pictures of one pixel and of one row', () => {
    expect(randomBox({ width: 1, height: 1 }, rng(1), standardCrop)).toEqual({ x: 0, y: 0, width: 1, height: 1 });
    for (let seed = 0; seed < 20; seed++) {
      const box = randomBox({ width: 100, height: 1 }, rng(seed), standardCrop);
      expect(box.height).toBe(1);
      expect(box.width).toBeGreaterThanOrEqual(1);
    }
  });
});

const jitter = (by: number) => ({ brightness: by, contrast: by, saturation: by, hue: 0 });

describe('colour', () => {
  const image: Picture = { data: Uint8Array.of(200, 100, 0, 50, 50, 50), width: 2, height: 1 };

  test('factor 1 changes nothing', () => {
    for (const change of [brightness, contrast, saturation]) {
      expectClose(change(image, 1).data, image.data);
    }
  });

  test('factor 0 gives black, the mean grey, and each pixel its own grey', () => {
    const luma = 0.299 * 200 + 0.587 * 100;
    expect([...brightness(image, 0).data]).toEqual([0, 0, 0, 0, 0, 0]);
    expectClose(contrast(image, 0).data, Array(6).fill((luma + 50) / 2));
    expect([...saturation(image, 0).data].map(Math.round)).toEqual([...Array(3).fill(Math.round(luma)), 50, 50, 50]);
  });

  test('brightness is clipped at white', () => {
    expect([...brightness(image, 1.5).data]).toEqual([255, 150, 0, 75, 75, 75]);
  });

  test('jitter of strength 0 changes nothing, of 0.2 stays near', () => {
    const picture = noise(8, 8);
    const far = (a: Picture): number => Math.max(...[...a.data].map((value, i) => Math.abs(value - picture.data[i]!)));
    expect(far(colourJitter(picture, rng(1), jitter(0)))).toBeLessThan(1e-3);
    const jittered = far(colourJitter(picture, rng(1), jitter(0.2)));
    expect(jittered).toBeGreaterThan(1);
    expect(jittered).toBeLessThan(0.2 * 3 * 255);
  });
});

describe('rotation', () => {
  test('by 0 changes nothing', () => {
    const image = noise(7, 5);
    expectClose(rotate(image, 0).data, image.data);
  });

  test('by 90 of a square turns counter-clockwise', () => {
    const image = noise(6, 6);
    const turned = rotate(image, 90);
    for (let y = 0; y < 6; y++) {
      for (let x = 0; x < 6; x++) {
        // The top row of the result is the right column of the picture.
        expect(turned.data[(y * 6 + x) * 3]).toBeCloseTo(image.data[(x * 6 + (5 - y)) * 3]!, 2);
      }
    }
  });

  test('a constant picture stays constant up to its corners', () => {
    const image = { data: new Uint8Array(9 * 14 * 3).fill(120), width: 9, height: 14 };
    for (const degrees of [-15, 3.3, 15, 45]) {
      for (const value of rotate(image, degrees).data) expect(value).toBeCloseTo(120, 3);
    }
  });
});

describe('pictures of one and of four channels', () => {
  const grey: Picture = { data: Uint8Array.of(200, 50, 100, 10), width: 2, height: 2 };
  const rgba: Picture = { data: Uint8Array.of(200, 100, 0, 77, 50, 50, 50, 255), width: 2, height: 1 };

  test('grey has brightness and contrast, and no saturation', () => {
    expect([...brightness(grey, 0.5).data]).toEqual([100, 25, 50, 5]);
    expectClose(contrast(grey, 0).data, Array(4).fill(90));
    expectClose(saturation(grey, 0).data, grey.data);
  });

  test('the colours of RGBA change as those of RGB, and alpha stays', () => {
    const rgb: Picture = { data: Uint8Array.of(200, 100, 0, 50, 50, 50), width: 2, height: 1 };
    for (const change of [brightness, contrast, saturation]) {
      const [changed, alone] = [[...change(rgba, 0.7).data], [...change(rgb, 0.7).data]];
      expect([changed[3], changed[7]]).toEqual([77, 255]);
      expect([...changed.slice(0, 3), ...changed.slice(4, 7)]).toEqual(alone);
    }
  });

  test.each([1, 4] as const)('%i channels turn as each of them would alone', (channels) => {
    const [width, height] = [7, 5];
    const planes = Array.from({ length: channels }, (_, c) => {
      const generator = rng(c);
      return Uint8Array.from({ length: width * height }, () => generator.integer(256));
    });
    const data = Uint8Array.from(
      { length: width * height * channels },
      (_, i) => planes[i % channels]![Math.floor(i / channels)]!,
    );
    const turned = rotate({ data, width, height }, 12).data;
    for (const [c, plane] of planes.entries()) {
      const alone = rotate({ data: plane, width, height }, 12).data;
      expect([...turned].filter((_, i) => i % channels === c)).toEqual([...alone]);
    }
  });

  test.each(augmentations)('%s works for both, with alpha behind the colours', (augmentation) => {
    for (const channels of [1, 4] as const) {
      const preprocessing = withChannels(caffePreprocessing, channels);
      const data = new Uint8Array(40 * 30 * channels).map((_, i) => [10, 100, 200, 255][i % channels]!);
      const out = new Float32Array(16 * 16 * channels);
      const generator = pictureRng(1, 0, 'x');
      augmentInto(
        { data, width: 40, height: 30 },
        { preprocessing, size, recipe: recipes[augmentation], generator },
        out,
        0,
      );
      if (channels === 4) for (let i = 3; i < out.length; i += 4) expect(out[i]).toBeCloseTo(255 - 103.939, 2);
      if (channels === 4 && augmentation !== 'strong') {
        expectClose(out.subarray(0, 3), [200 - 103.939, 100 - 116.779, 10 - 123.68]);
      }
      expect(out.every((value) => value >= -123.68 && value <= 255 - 103.939 + 1e-3)).toBe(true);
    }
  });
});
