import { describe, expect, test } from 'vitest';
import {
  caffePreprocessing,
  channelsFor,
  describePreprocessing,
  fits,
  fittedBy,
  meanColour,
  type Preprocessing,
  preprocessingSchema,
  presets,
  torchPreprocessing,
  withChannels,
} from '../../src/augment/preprocessing.js';

describe('the record in a file', () => {
  test.each(Object.entries(presets))('%s comes back equal', (_, preset) => {
    expect(preprocessingSchema.parse(JSON.parse(JSON.stringify(preset)))).toEqual(preset);
  });

  test.each(Object.entries(presets))('%s comes back equal however pictures are fitted', (_, preset) => {
    for (const fit of fits) {
      const fitted = fittedBy(preset, fit);
      expect(preprocessingSchema.parse(JSON.parse(JSON.stringify(fitted)))).toEqual(fitted);
      const { resize, crop, ...others } = fitted;
      expect({ ...preset, resize, crop }).toEqual({ resize, crop, ...others });
    }
  });

  test.each<[string, Record<string, unknown>]>([
    ['an unknown kernel', { kernel: 'lanczos' }],
    ['an unknown field', { gamma: 2.2 }],
    ['a mean for one channel only', { mean: [0.5] }],
    ['a mean and deviation for two channels', { mean: [0, 0], std: [1, 1] }],
    ['a deviation of zero', { std: [1, 0, 1] }],
    ['a scale of zero', { scale: 0 }],
    ['a resize smaller than the crop', { resize: { rule: 'short_side', ratio: 0.5 } }],
    ['a fraction above one', { resize: { rule: 'central_fraction', fraction: 1.5 }, crop: 'none' }],
    ['a crop after stretching', { resize: { rule: 'stretch' }, crop: 'center' }],
    ['no crop after the short side', { crop: 'none' }],
    ['a crop after padding', { resize: { rule: 'pad' } }],
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
    [
      'keras_torch',
      "stretch to 224x224 with TensorFlow's bilinear sampling with half-pixel centres, RGB, " +
        '(x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225].',
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

  test('names the height first', () => {
    expect(describePreprocessing(presets.tf, { height: 64, width: 96 })).toMatch(/^stretch to 64x96 /);
  });

  test('follows the size', () => {
    const bicubic: Preprocessing = { ...torchPreprocessing, kernel: 'pil_bicubic' };
    expect(describePreprocessing(bicubic, { height: 384, width: 384 })).toMatch(
      /^short side to 439 with Pillow's antialiased bicubic filter, centre crop 384x384/,
    );
  });
});

describe('how pictures of another shape are fitted', () => {
  test('crop is as published where that crops, else the short side and the middle', () => {
    expect(fittedBy(presets.torch, 'crop')).toEqual(presets.torch);
    expect(fittedBy(presets.slim_vgg, 'crop')).toEqual(presets.slim_vgg);
    for (const name of ['caffe', 'slim_inception', 'tfjs'] as const) {
      expect(fittedBy(presets[name], 'crop')).toMatchObject({
        resize: { rule: 'short_side', ratio: 1 },
        crop: 'center',
      });
    }
  });

  test('stretch and pad show all of it', () => {
    for (const preset of Object.values(presets)) {
      expect(fittedBy(preset, 'stretch')).toMatchObject({ resize: { rule: 'stretch' }, crop: 'none' });
      expect(fittedBy(preset, 'pad')).toMatchObject({ resize: { rule: 'pad' }, crop: 'none' });
    }
    expect(describePreprocessing(fittedBy(presets.torch, 'pad'), { height: 64, width: 96 })).toMatch(
      /^fit into 64x96 with Pillow's antialiased bilinear filter, \[124, 116, 104\] around it, RGB, /,
    );
  });

  test('the colour around it is the mean, in the order of pictures', () => {
    expect(meanColour(presets.torch)).toEqual([124, 116, 104]);
    expect(meanColour(presets.caffe)).toEqual([124, 117, 104]);
    expect(meanColour(presets.tf)).toEqual([128, 128, 128]);
    expect(meanColour(presets.unit)).toEqual([0, 0, 0]);
    expect(meanColour(withChannels(presets.torch, 1))).toEqual([114]);
    expect(meanColour(withChannels(presets.caffe, 4))).toEqual([124, 117, 104, 104]);
  });
});

describe('for another number of channels', () => {
  test('grey takes the averages, and has no order', () => {
    const grey = withChannels(caffePreprocessing, 1);
    expect(grey.mean).toHaveLength(1);
    expect(grey.mean[0]).toBeCloseTo((103.939 + 116.779 + 123.68) / 3, 10);
    expect(grey).toMatchObject({ std: [1], channelOrder: 'rgb', kernel: 'tf_bilinear' });
    expect(withChannels(torchPreprocessing, 1).std[0]).toBeCloseTo(0.226, 10);
  });

  test('alpha takes the values of the first channel, and comes last', () => {
    const four = withChannels(caffePreprocessing, 4);
    expect(four).toEqual({ ...caffePreprocessing, mean: [103.939, 116.779, 123.68, 103.939], std: [1, 1, 1, 1] });
  });

  test('grey becomes colour by repetition, and what fits stays', () => {
    const grey = { ...torchPreprocessing, mean: [0.5], std: [0.25] };
    expect(withChannels(grey, 3)).toMatchObject({ mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] });
    expect(withChannels(torchPreprocessing, 3)).toBe(torchPreprocessing);
  });

  test.each([1, 3, 4] as const)('%i: a record that comes back equal from a file', (channels) => {
    const record = withChannels(torchPreprocessing, channels);
    expect(channelsFor(record)).toBe(channels);
    expect(preprocessingSchema.parse(JSON.parse(JSON.stringify(record)))).toEqual(record);
  });

  test('in words', () => {
    const size = { height: 28, width: 28 };
    expect(describePreprocessing(withChannels(caffePreprocessing, 1), size)).toMatch(/, grey, x - \[114\.7993\]\.$/);
    expect(describePreprocessing(withChannels(caffePreprocessing, 4), size)).toMatch(/, BGRA, x - \[103\.939, .*\]\.$/);
  });
});
