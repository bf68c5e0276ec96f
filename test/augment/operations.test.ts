/** What is done to pictures, against torchvision and Pillow, with what is random given. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { augmentInto, pictureRng, randomBox } from '../../src/augment/augment.js';
import { brightness, contrast, hue, saturation } from '../../src/augment/colour.js';
import { erase } from '../../src/augment/erase.js';
import { upsideDown } from '../../src/augment/flip.js';
import type { Box, ImageSize, Picture } from '../../src/augment/image.js';
import { type BytePicture, brightened, coloured, contrasted } from '../../src/augment/pillow-bytes.js';
import { normaliseInto, parts, plainView, preprocessInto, resizeAndCrop } from '../../src/augment/pipeline.js';
import {
  fits,
  fittedBy,
  type Preprocessing,
  presets,
  torchPreprocessing,
  withChannels,
} from '../../src/augment/preprocessing.js';
import { MOST_MAGNITUDE, operations, randAugment } from '../../src/augment/rand-augment.js';
import { type RandAugmentRecipe, recipes, standardCrop } from '../../src/augment/recipe.js';
import { rng } from '../../src/rng.js';
import { decodeFloats, fixturesFolder, generateTensor } from '../support/golden.js';

interface Given extends ImageSize {
  readonly channels: 1 | 3 | 4;
  readonly low?: number;
  readonly high?: number;
}

interface Fixture {
  readonly operations: readonly (Given & Named & { magnitude: number; fill: readonly number[]; expected: string })[];
  readonly magnitudes: readonly (ImageSize & Named & { level: number; value: number; signed: boolean })[];
  readonly pads: readonly (Given & { size: ImageSize; fill: readonly number[]; expected: string })[];
  readonly hues: readonly { factor: number; expected: string }[];
  readonly crops: readonly (ImageSize & { size: number; crops: readonly string[] })[];
}

interface Named {
  readonly name: string;
}

const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'augment.json'), 'utf8')) as Fixture;

/** The same as `picture` of tools/golden/augment.py. */
function picture({ height, width, channels, low = 0, high = 255 }: Given): BytePicture {
  const values = generateTensor('picture', [height, width, channels], 127.5, 127.5);
  const data = Uint8Array.from(values, (value) => {
    const byte = Math.trunc(Math.min(Math.max(value, 0), 255));
    return low + Math.floor((byte * (high - low)) / 255);
  });
  return { data, width, height };
}

const decodeBytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));

describe('the operations of RandAugment', () => {
  test.each(fixture.operations)('$name $magnitude of $channels channels, $low to $high', (given) => {
    const image = picture(given);
    const before = image.data.slice();
    const { data } = operations[given.name]!.apply(image, given.magnitude, given.fill);
    expect([...data]).toEqual([...decodeBytes(given.expected)]);
    expect(image.data).toEqual(before);
  });

  test('are torchvision’s, in its order', () => {
    expect(Object.keys(operations)).toEqual(fixture.magnitudes.slice(0, 14).map(({ name }) => name));
  });

  test.each(fixture.magnitudes)('$name at $level is $value', ({ name, level, value, signed, height, width }) => {
    const operation = operations[name]!;
    expect(operation.signed).toBe(signed);
    expect(operation.magnitude(level / MOST_MAGNITUDE, { height, width })).toBeCloseTo(value, 4);
  });
});

/** A record that pads with a colour. */
function padding(channels: 1 | 3 | 4, fill: readonly number[]): Preprocessing {
  return { ...fittedBy(withChannels(torchPreprocessing, channels), 'pad'), mean: fill.map((value) => value / 255) };
}

describe('padding', () => {
  test.each(fixture.pads)('$height x $width, $channels channels', ({ size, fill, expected, ...given }) => {
    const { data } = resizeAndCrop(picture(given), padding(given.channels, fill), size);
    expect([...data]).toEqual([...decodeBytes(expected)]);
  });

  test('keeps one pixel of a side that would be none', () => {
    const line: Picture = { data: new Uint8Array(300).fill(200), width: 300, height: 1 };
    const { data } = resizeAndCrop(line, padding(1, [7]), { height: 3, width: 10 });
    expect([...data]).toEqual([...Array(10).fill(7), ...Array(10).fill(200), ...Array(10).fill(7)]);
  });
});

describe('the five parts of a picture, and their mirror images', () => {
  test.each(fixture.crops)('of $height x $width', ({ height, width, size, crops }) => {
    const image = picture({ height, width, channels: 3 });
    const [plain, mirrored] = [false, true].map((flip) =>
      parts.map((part) => {
        const out = new Float32Array(size * size * 3);
        preprocessInto(image, bytesOnly, { height: size, width: size }, out, 0, { flip, part });
        return [...out];
      }),
    );
    const expected = crops.map((crop) => [...decodeBytes(crop)]);
    expect(plain).toEqual(expected.slice(0, 5));
    // torchvision mirrors first, so that its left is our right.
    const [topLeft, topRight, bottomLeft, bottomRight, centre] = expected.slice(5);
    expect(mirrored).toEqual([topRight, topLeft, bottomRight, bottomLeft, centre]);
  });

  test('are cut out of what any record shows a little larger', () => {
    const [large, size] = [
      { height: 32, width: 24 },
      { height: 28, width: 21 },
    ];
    const places = {
      'top left': [0, 0],
      'top right': [3, 0],
      'bottom left': [0, 4],
      'bottom right': [3, 4],
      centre: [2, 2],
    };
    for (const preset of Object.values(presets)) {
      for (const fit of fits) {
        for (const shape of [
          { height: 70, width: 33 },
          { height: 20, width: 90 },
        ]) {
          const record = fittedBy(preset, fit);
          // Records that crop have a short side of their own: that of the larger picture, or longer.
          const longer = record.resize.rule === 'short_side' && record.resize.ratio > 256 / 224;
          const rule =
            record.resize.rule === 'short_side' && !longer ? { rule: 'short_side', ratio: 1 } : record.resize;
          if (longer) continue;
          const image = picture({ ...shape, channels: 3 });
          const whole = resizeAndCrop(image, { ...record, resize: rule as Preprocessing['resize'] }, large);
          for (const part of parts) {
            const out = new Float32Array(size.height * size.width * 3);
            preprocessInto(image, record, size, out, 0, { flip: false, part });
            const [x, y] = places[part];
            const cut = cutOut(whole, { x: x!, y: y!, ...size });
            const wanted = new Float32Array(out.length);
            normaliseInto(cut, record, wanted, plainView);
            expect(out, `${part} ${fit}`).toEqual(wanted);
          }
        }
      }
    }
  });
});

function cutOut({ data, width }: Picture, box: Box): Picture {
  const rows = Array.from({ length: box.height }, (_, y) => {
    const from = ((box.y + y) * width + box.x) * 3;
    return [...data.subarray(from, from + box.width * 3)];
  });
  const values = rows.flat();
  const kept = data instanceof Uint8Array ? Uint8Array.from(values) : Float32Array.from(values);
  return { data: kept, width: box.width, height: box.height };
}

/** torchvision's crop, with pixels left as they are. */
const bytesOnly: Preprocessing = { ...torchPreprocessing, scale: 1, mean: [0, 0, 0], std: [1, 1, 1] };

describe('jitter', () => {
  test.each([1, 3, 4] as const)(
    'of %i channels is, but for rounding, what Pillow gives for the same factor',
    (channels) => {
      const image = picture({ height: 11, width: 14, channels, low: 20, high: 235 });
      for (const [exact, inPillow] of [
        [brightness, brightened],
        [contrast, contrasted],
        [saturation, coloured],
      ] as const) {
        for (const factor of [0, 0.6, 1, 1.4]) {
          const [own, theirs] = [exact(image, factor).data, inPillow(image, factor).data];
          for (const [i, value] of own.entries()) expect(Math.abs(value - theirs[i]!)).toBeLessThan(1.5);
        }
      }
    },
  );
});

describe('a random crop of a grid', () => {
  // Every pixel says where it is: its column in the first channel, its row in the second.
  const data = Uint8Array.from(
    { length: 120 * 90 * 3 },
    (_, i) => [Math.floor(i / 3) % 120, Math.floor(i / 360), 0][i % 3]!,
  );
  const size = { height: 30, width: 40 };
  const linear: Preprocessing = { ...presets.unit, kernel: 'tf_bilinear', scale: 1 };

  test('is the box that was drawn, from edge to edge, and mirrored where that was drawn', () => {
    let mirrored = 0;
    for (let epoch = 0; epoch < 40; epoch++) {
      const generator = pictureRng(1, epoch, 'grid');
      const out = new Float32Array(size.height * size.width * 3);
      const options = { preprocessing: linear, size, recipe: recipes.standard, generator };
      augmentInto({ data, width: 120, height: 90 }, options, out, 0);
      const box = randomBox({ width: 120, height: 90 }, pictureRng(1, epoch, 'grid').split('crop'), standardCrop);
      const at = (x: number, y: number) => [...out.subarray((y * 40 + x) * 3, (y * 40 + x) * 3 + 2)];
      const flip = at(0, 0)[0]! > at(39, 0)[0]!;
      if (flip) mirrored++;
      // Centres of the outer pixels: half a pixel of the result inside the box.
      const [inX, inY] = [box.width / 80 - 0.5, box.height / 60 - 0.5];
      const [left, right] = [box.x + Math.max(inX, 0), box.x + box.width - 1 - Math.max(inX, 0)];
      const [top, bottom] = [box.y + Math.max(inY, 0), box.y + box.height - 1 - Math.max(inY, 0)];
      const [first, last] = [at(flip ? 39 : 0, 0), at(flip ? 0 : 39, 29)];
      for (const [got, wanted] of [
        [first[0], left],
        [first[1], top],
        [last[0], right],
        [last[1], bottom],
      ])
        expect(Math.abs(got! - wanted!)).toBeLessThan(1e-3);
    }
    expect(mirrored).toBeGreaterThan(7);
    expect(mirrored).toBeLessThan(33);
  });
});

describe('hue', () => {
  const image = picture({ height: 11, width: 14, channels: 3 });

  test.each(fixture.hues)('turned by $factor', ({ factor, expected }) => {
    const wanted = decodeFloats(expected);
    for (const [i, value] of hue(image, factor).data.entries()) expect(value).toBeCloseTo(wanted[i]!, 3);
  });

  test('of grey there is none, and alpha is no colour', () => {
    const grey = picture({ height: 4, width: 5, channels: 1 });
    expect([...hue(grey, 0.3).data]).toEqual([...grey.data]);
    const rgba = picture({ height: 4, width: 5, channels: 4 });
    const turned = hue(rgba, 0.3).data;
    for (let i = 3; i < turned.length; i += 4) expect(turned[i]).toBe(rgba.data[i]);
    const pure: Picture = { data: Uint8Array.of(255, 0, 0), width: 1, height: 1 };
    expect([...hue(pure, 1 / 3).data]).toEqual([0, 255, 0]);
    expect([...hue(pure, -1 / 3).data].map(Math.round)).toEqual([0, 0, 255]);
  });
});

describe('RandAugment', () => {
  const image = picture({ height: 20, width: 24, channels: 3 });
  const fill = [124, 116, 104];
  const changed = (seed: number, recipe: RandAugmentRecipe) => randAugment(image, rng(seed), recipe, fill).data;

  test('does so many operations after one another, each drawn from all', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 400; seed++) {
      const generator = rng(seed);
      const name = Object.keys(operations)[generator.integer(14)]!;
      const { magnitude, signed, apply } = operations[name]!;
      const size = magnitude(9 / 30, image);
      const value = signed && generator.integer(2) === 1 ? -size : size;
      seen.add(`${name} ${value < 0}`);
      const once = apply(image, value, fill);
      expect(changed(seed, { operations: 1, magnitude: 9 })).toEqual(once.data);
      const rest = randAugment(once, generator, { operations: 1, magnitude: 9 }, fill);
      expect(changed(seed, { operations: 2, magnitude: 9 })).toEqual(rest.data);
    }
    // Nine operations in both directions, five in one.
    expect(seen.size).toBe(9 * 2 + 5);
  });

  test('of magnitude 0 moves nothing and keeps the light', () => {
    const still = ['Identity', 'Rotate', 'TranslateX', 'TranslateY', 'ShearX', 'ShearY', 'Posterize'];
    for (const name of [...still, 'Brightness', 'Color', 'Contrast', 'Sharpness']) {
      const { magnitude, apply } = operations[name]!;
      expect(apply(image, magnitude(0, image), fill).data, name).toEqual(image.data);
    }
  });
});

describe('erasing', () => {
  const size = { height: 60, width: 40 };
  const erased = (seed: number, fill: 'zero' | 'noise', probability = 1) => {
    const values = new Float32Array(60 * 40 * 3).fill(9);
    erase(values, size, torchPreprocessing, rng(seed), { probability, fill });
    return values;
  };
  /** The rectangle of what is not 9, and whether it is all of it. */
  function rectangle(values: Float32Array) {
    const gone = [...values].flatMap((value, i) => (value === 9 ? [] : [Math.floor(i / 3)]));
    const [rows, columns] = [gone.map((p) => Math.floor(p / 40)), gone.map((p) => p % 40)];
    const height = Math.max(...rows) - Math.min(...rows) + 1;
    const width = Math.max(...columns) - Math.min(...columns) + 1;
    return { height, width, whole: gone.length === height * width * 3 };
  }

  test('takes one rectangle of 2 to 33 % of the area and a shape of 0.3 to 3.3, and leaves the rest', () => {
    let sum = 0;
    for (let seed = 0; seed < 200; seed++) {
      const values = erased(seed, 'zero');
      expect(new Set(values)).toEqual(new Set([0, 9]));
      const { height, width, whole } = rectangle(values);
      expect(whole).toBe(true);
      expect(height).toBeLessThan(60);
      expect(width).toBeLessThan(40);
      const area = (height * width) / 2400;
      expect(area).toBeGreaterThan(0.018); // whole pixels
      expect(area).toBeLessThan(0.35);
      expect(height / width).toBeGreaterThan(0.25);
      expect(height / width).toBeLessThan(4);
      sum += area;
    }
    expect(sum / 200).toBeGreaterThan(0.13); // 0.175 uniform, less for what did not fit
    expect(sum / 200).toBeLessThan(0.2);
  });

  test('is as likely as told', () => {
    const count = Array.from({ length: 400 }, (_, seed) => erased(seed, 'zero', 0.25)).filter((v) =>
      v.includes(0),
    ).length;
    expect(count).toBeGreaterThan(65); // 100 expected, standard deviation 8.7
    expect(count).toBeLessThan(135);
  });

  test('noise is uniform over the bytes, in the units of the network', () => {
    const { mean, std } = torchPreprocessing;
    const values = erased(4, 'noise');
    const bytes = [...values].flatMap((value, i) => (value === 9 ? [] : [(value * std[i % 3]! + mean[i % 3]!) * 255]));
    expect(Math.min(...bytes)).toBeGreaterThanOrEqual(-1e-3);
    expect(Math.max(...bytes)).toBeLessThanOrEqual(255.001);
    expect(bytes.reduce((a, b) => a + b, 0) / bytes.length).toBeCloseTo(127.5, -1.3);
    expect(new Set(bytes).size).toBeGreaterThan(bytes.length * 0.9);
  });
});

test('upside down is the last row first', () => {
  const grid: Picture = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), width: 2, height: 3 };
  expect([...upsideDown(grid).data]).toEqual([5, 6, 3, 4, 1, 2]);
});
