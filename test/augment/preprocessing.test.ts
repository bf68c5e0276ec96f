import { describe, expect, test } from 'vitest';
import {
  describePreprocessing,
  type Preprocessing,
  preprocessingSchema,
  presets,
  torchPreprocessing,
} from '../../src/augment/preprocessing.js';

describe('the record in a file', () => {
  test.each(Object.entries(presets))('%s comes back equal', (_, preset) => {
    expect(preprocessingSchema.parse(JSON.parse(JSON.stringify(preset)))).toEqual(preset);
  });

  test.each<[string, Record<string, unknown>]>([
    ['an unknown kernel', { kernel: 'lanczos' }],
    ['an unknown field', { gamma: 2.2 }],
    ['a mean for one channel only', { mean: [0.5] }],
    ['a deviation of zero', { std: [1, 0, 1] }],
    ['a scale of zero', { scale: 0 }],
    ['a resize smaller than the crop', { resize: { rule: 'short_side', ratio: 0.5 } }],
    ['a fraction above one', { resize: { rule: 'central_fraction', fraction: 1.5 }, crop: 'none' }],
    ['a crop after stretching', { resize: { rule: 'stretch' }, crop: 'center' }],
    ['no crop after the short side', { crop: 'none' }],
    ['a number that is none', { mean: [0, Number.NaN, 0] }],
  ])('%s is refused', (_, change) => {
    expect(preprocessingSchema.safeParse({ ...torchPreprocessing, ...change }).success).toBe(false);
  });
});

describe('in words', () => {
  test.each<[keyof typeof presets, string]>([
    [
      'torch',
      "short side to 256 with Pillow's antialiased bilinear filter, centre crop 224x224, RGB, " +
        '(x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225].',
    ],
    [
      'caffe',
      "stretch to 224x224 with TensorFlow's bilinear sampling with half-pixel centres, BGR, x - [103.939, 116.779, 123.68].",
    ],
    ['tf', "stretch to 224x224 with TensorFlow's bilinear sampling with half-pixel centres, RGB, x / 127.5 - 1."],
    [
      'slim_vgg',
      "short side to 256 with TensorFlow 1's bilinear sampling without half-pixel centres, centre crop 224x224, RGB, " +
        'x - [123.68, 116.78, 103.94].',
    ],
    [
      'slim_inception',
      "central 87.5 % stretched to 224x224 with TensorFlow 1's bilinear sampling without half-pixel centres, RGB, x / 127.5 - 1.",
    ],
  ])('%s', (name, words) => {
    expect(describePreprocessing(presets[name], { height: 224, width: 224 })).toBe(words);
  });

  test('follows the size', () => {
    const bicubic: Preprocessing = { ...torchPreprocessing, kernel: 'pil_bicubic' };
    expect(describePreprocessing(bicubic, { height: 384, width: 384 })).toMatch(
      /^short side to 439 with Pillow's antialiased bicubic filter, centre crop 384x384/,
    );
  });
});
