/** The code in an exported model's README does what it says: it is run here, and compared with our own preprocessing. */
import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Channels, Picture } from '../../src/augment/image.js';
import { plainView, preprocessInto } from '../../src/augment/pipeline.js';
import { channelsFor, fittedBy, type Preprocessing, presets, withChannels } from '../../src/augment/preprocessing.js';
import { decodeImage } from '../../src/data/decode.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { tfjsUsage } from '../../src/export/tfjs/usage.js';
import { rng } from '../../src/rng.js';
import { exportedRecord, recordOf } from './models.js';

const SIZE = { height: 40, width: 40 };

beforeAll(async () => {
  await loadEngine({ engine: 'wasm' });
});

/** Smooth in both directions, so that filters that average and those that do not see nearly the same. */
function picture(height: number, width: number, channels: Channels): Picture {
  const random = rng('picture');
  const [a, b, c] = [random.uniform(), random.uniform(), random.uniform()];
  const data = new Uint8Array(height * width * channels);
  for (let i = 0; i < data.length; i++) {
    const place = Math.floor(i / channels);
    const [y, x, channel] = [Math.floor(place / width) / height, (place % width) / width, i % channels];
    data[i] = 128 + 100 * Math.sin(3 * (a + channel) * y + 4 * (b + c * channel) * x);
  }
  return { data, width, height };
}

function makeOpaque({ data }: Picture): void {
  for (let i = 3; i < data.length; i += 4) data[i] = 255;
}

function byReadme(preprocessing: Preprocessing, image: Picture): tf.Tensor {
  const channels = channelsFor(preprocessing);
  const readme = tfjsUsage(exportedRecord({ ...recordOf('small', 'test', SIZE, 3), channels, preprocessing }));
  const code = /function preprocess[\s\S]*?\n}\n/.exec(readme)![0];
  const preprocess = new Function('tf', `${code}; return preprocess;`)(tf) as (pixels: object) => tf.Tensor;
  const rgba = new Uint8Array(image.width * image.height * 4).fill(255);
  for (let i = 0; i < image.width * image.height; i++) {
    const pixel = image.data.subarray(channels * i, channels * (i + 1));
    rgba.set(channels === 1 ? [pixel[0]!, pixel[0]!, pixel[0]!] : pixel, 4 * i);
  }
  return preprocess({ data: rgba, width: image.width, height: image.height });
}

/** Every published pipeline, and pictures of other shapes fitted otherwise. */
const records = Object.entries(presets).flatMap(([name, preset]): [string, Preprocessing][] => [
  [name, preset],
  [`${name}, padded`, fittedBy(preset, 'pad')],
  ...(preset.crop === 'center' ? [] : [[`${name}, cropped`, fittedBy(preset, 'crop')] as [string, Preprocessing]]),
]);

const channelled = records.flatMap(([name, preset]) =>
  ([3, 1, 4] as const).map((channels) => ({ name, channels, preprocessing: withChannels(preset, channels) })),
);

describe.each(channelled)('preset $name, $channels channels', ({ channels, preprocessing }) => {
  test.each([
    [90, 61],
    [50, 120],
    [30, 33],
  ])('a picture of %i by %i', (height, width) => {
    const image = picture(height, width, channels);
    // Pillow weighs colours by alpha, which the README says it does not.
    if (channels === 4 && preprocessing.kernel.startsWith('pil')) makeOpaque(image);
    const expected = new Float32Array(SIZE.height * SIZE.width * channels);
    preprocessInto(image, preprocessing, SIZE, expected, 0, plainView);
    const x = byReadme(preprocessing, image);
    expect(x.shape).toEqual([1, SIZE.height, SIZE.width, channels]);
    const received = x.dataSync();
    // One grey value of 255, in the network's units: Pillow rounds to bytes and averages, TensorFlow does neither.
    const grey = preprocessing.scale / Math.min(...preprocessing.std);
    const allowed = preprocessing.kernel.startsWith('tf') ? 0.01 * grey : 6 * grey;
    const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - received[i]!)), 0);
    expect(worst).toBeLessThan(allowed);
  });
});

test('grey is what the decoder makes of colours', async () => {
  const image = picture(20, 30, 3);
  const file = sharp(image.data, { raw: { width: 30, height: 20, channels: 3 } }).png();
  const { data } = await decodeImage(await file.toBuffer(), 1);
  const plain = { ...withChannels(presets.unit, 1), scale: 1 };
  const [code] = /let x = [\s\S]*?65536\)\);/.exec(
    tfjsUsage(exportedRecord({ ...recordOf('small', 'test', SIZE, 3), channels: 1, preprocessing: plain })),
  )!;
  const rgba = new Uint8Array(20 * 30 * 4).map((_, i) =>
    i % 4 === 3 ? 255 : image.data[3 * Math.floor(i / 4) + (i % 4)]!,
  );
  const grey = new Function('tf', 'picture', `${code} return x;`)(tf, {
    data: rgba,
    width: 30,
    height: 20,
  }) as tf.Tensor;
  expect([...grey.dataSync()]).toEqual([...data]);
});
