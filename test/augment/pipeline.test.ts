import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import type { Picture } from '../../src/augment/image.js';
import { centralBox, plainView, preprocessInto, resizeAndCrop, shortSideSize } from '../../src/augment/pipeline.js';
import {
  caffePreprocessing,
  type Preprocessing,
  presets,
  tfPreprocessing,
  torchPreprocessing,
} from '../../src/augment/preprocessing.js';

interface Reference {
  readonly size: number;
  readonly step: number;
  readonly cases: { preset: keyof typeof presets; by: string; width: number; height: number; values: number[] }[];
}

const reference = JSON.parse(readFileSync(new URL('./pipelines.json', import.meta.url), 'utf8')) as Reference;

/** The same pictures as pipelines.py. */
function picture(width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 3);
  let i = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[i++] = (x * 7 + y * 13 + c * 50 + ((x * y) % 31)) % 256;
    }
  }
  return { data, width, height };
}

function preprocess(image: Picture, p: Preprocessing, size: number, flip = false): Float32Array {
  const out = new Float32Array(size * size * 3);
  preprocessInto(image, p, { height: size, width: size }, out, 0, { flip });
  return out;
}

describe('against the published pipelines', () => {
  test.each(reference.cases)('$preset of $width x $height, by $by', ({ preset, width, height, values }) => {
    const all = preprocess(picture(width, height), presets[preset], reference.size);
    const got = values.map((_, i) => all[i * reference.step]!);
    expect(all.length).toBeGreaterThan((values.length - 1) * reference.step);
    const range = preset === 'caffe' || preset === 'slim_vgg' ? 255 : 2;
    const worst = Math.max(...got.map((value, i) => Math.abs(value - values[i]!)));
    expect(worst).toBeLessThan(1e-6 * range);
  });

  test('a wrong kernel, channel order or crop does not pass', () => {
    const { preset, width, height, values } = reference.cases.find((c) => c.preset === 'caffe')!;
    const right = presets[preset];
    const wrong: Preprocessing[] = [
      { ...right, kernel: 'tf1_bilinear' },
      { ...right, kernel: 'pil_bilinear' },
      { ...right, channelOrder: 'rgb' },
      { ...right, resize: { rule: 'short_side', ratio: 256 / 224 }, crop: 'center' },
    ];
    for (const p of wrong) {
      const all = preprocess(picture(width, height), p, reference.size);
      expect(Math.max(...values.map((value, i) => Math.abs(value - all[i * reference.step]!)))).toBeGreaterThan(1);
    }
  });
});

describe('sizes', () => {
  // Computed by torchvision.transforms.functional._compute_resized_output_size and slim's _smallest_size_at_least.
  test.each([
    { width: 500, height: 400, torch: [320, 256], slim: [320, 256] },
    { width: 400, height: 500, torch: [256, 320], slim: [256, 320] },
    { width: 640, height: 427, torch: [383, 256], slim: [384, 256] }, // 383.7: truncated, rounded
    { width: 173, height: 307, torch: [256, 454], slim: [256, 454] },
    { width: 256, height: 256, torch: [256, 256], slim: [256, 256] },
    { width: 1, height: 9, torch: [256, 2304], slim: [256, 2304] },
  ])('$width x $height to a short side of 256', ({ width, height, torch, slim }) => {
    const of = (rounding: 'torch' | 'slim') => shortSideSize({ width, height }, 256, rounding);
    expect(of('torch')).toEqual({ width: torch[0], height: torch[1] });
    expect(of('slim')).toEqual({ width: slim[0], height: slim[1] });
  });

  test('the central fraction leaves as much away at the end as at the start', () => {
    expect(centralBox({ width: 301, height: 200 }, 0.875)).toEqual({ x: 18, y: 12, width: 265, height: 176 });
    expect(centralBox({ width: 7, height: 1 }, 0.875)).toEqual({ x: 0, y: 0, width: 7, height: 1 });
    expect(centralBox({ width: 10, height: 10 }, 1)).toEqual({ x: 0, y: 0, width: 10, height: 10 });
  });

  it('always fills the size, for every preset and shape of picture', () => {
    const side = fc.integer({ min: 1, max: 60 });
    fc.assert(
      fc.property(side, side, side, side, fc.constantFrom(...Object.values(presets)), (w, h, width, height, preset) => {
        const image = { data: new Uint8Array(w * h * 3).fill(100), width: w, height: h };
        const out = resizeAndCrop(image, preset, { height, width });
        expect([out.width, out.height, out.data.length]).toEqual([width, height, width * height * 3]);
        expect(out.data.every((value) => Math.abs(value - 100) < 1e-3)).toBe(true);
      }),
    );
  });

  test('a very long picture costs no more than its crop', () => {
    const image = { data: new Uint8Array(1 * 20_000 * 3).fill(9), width: 1, height: 20_000 };
    expect(resizeAndCrop(image, torchPreprocessing, { height: 224, width: 224 }).data).toHaveLength(224 * 224 * 3);
  });
});

describe('values', () => {
  const pixel: Picture = { data: Uint8Array.of(10, 100, 250), width: 1, height: 1 };

  test('torch: scaled, minus mean, by deviation', () => {
    const expected = [(10 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (250 / 255 - 0.406) / 0.225];
    const got = preprocess(pixel, torchPreprocessing, 1);
    for (let c = 0; c < 3; c++) expect(got[c]).toBeCloseTo(expected[c]!, 5);
  });

  test('caffe: blue first, minus means', () => {
    const expected = [250 - 103.939, 100 - 116.779, 10 - 123.68];
    const got = preprocess(pixel, caffePreprocessing, 1);
    for (let c = 0; c < 3; c++) expect(got[c]).toBeCloseTo(expected[c]!, 4);
  });

  test('tf: -1 to 1', () => {
    const ends: Picture = { data: Uint8Array.of(0, 255, 128), width: 1, height: 1 };
    const [low, high] = preprocess(ends, tfPreprocessing, 1);
    expect(low).toBe(-1);
    expect(high).toBeCloseTo(1, 6);
  });

  test('only its own slot is written', () => {
    const out = new Float32Array(9).fill(7);
    preprocessInto(pixel, tfPreprocessing, { height: 1, width: 1 }, out, 3, plainView);
    expect([...out.subarray(0, 3), ...out.subarray(6)]).toEqual([7, 7, 7, 7, 7, 7]);
    expect(out[3]).toBeCloseTo(10 / 127.5 - 1, 6);
  });
});

describe('flip', () => {
  it('mirrors each row, keeps the channels, and is undone by itself', () => {
    const size = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(size, size, fc.constantFrom(...Object.values(presets)), (n, w, preset) => {
        const image = picture(w, w);
        const plain = preprocess(image, preset, n);
        const flipped = preprocess(image, preset, n, true);
        for (let y = 0; y < n; y++) {
          for (let x = 0; x < n; x++) {
            for (let c = 0; c < 3; c++) {
              const there = (y * n + (n - 1 - x)) * 3 + c;
              expect(flipped[(y * n + x) * 3 + c]).toBe(plain[there]);
            }
          }
        }
      }),
    );
  });
});
