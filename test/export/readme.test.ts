/** The code in an exported model's README does what it says: it is run here, and compared with our own preprocessing. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Picture } from '../../src/augment/image.js';
import { plainView, preprocessInto } from '../../src/augment/pipeline.js';
import { type Preprocessing, presets } from '../../src/augment/preprocessing.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { readmeOf } from '../../src/export/readme.js';
import { rng } from '../../src/rng.js';
import { recordOf } from './models.js';

const SIZE = { height: 40, width: 40 };

beforeAll(async () => {
  await loadEngine({ engine: 'wasm' });
});

/** Smooth in both directions, so that filters that average and those that do not see nearly the same. */
function picture(height: number, width: number): Picture {
  const random = rng('picture');
  const [a, b, c] = [random.uniform(), random.uniform(), random.uniform()];
  const data = new Uint8Array(height * width * 3);
  for (let i = 0; i < data.length; i++) {
    const [y, x, channel] = [Math.floor(i / 3 / width) / height, (Math.floor(i / 3) % width) / width, i % 3];
    data[i] = 128 + 100 * Math.sin(3 * (a + channel) * y + 4 * (b + c * channel) * x);
  }
  return { data, width, height };
}

function byReadme(preprocessing: Preprocessing, image: Picture): tf.Tensor {
  const readme = readmeOf({ ...recordOf('small', 'test', SIZE, 3), preprocessing });
  const code = /function preprocess[\s\S]*?\n}\n/.exec(readme)![0];
  const preprocess = new Function('tf', `${code}; return preprocess;`)(tf) as (pixels: object) => tf.Tensor;
  const rgba = new Uint8Array(image.width * image.height * 4).fill(255);
  for (let i = 0; i < image.width * image.height; i++) rgba.set(image.data.subarray(3 * i, 3 * i + 3), 4 * i);
  return preprocess({ data: rgba, width: image.width, height: image.height });
}

describe.each(Object.entries(presets))('preset %s', (_, preprocessing) => {
  test.each([
    [90, 61],
    [50, 120],
    [30, 33],
  ])('a picture of %i by %i', (height, width) => {
    const image = picture(height, width);
    const expected = new Float32Array(SIZE.height * SIZE.width * 3);
    preprocessInto(image, preprocessing, SIZE, expected, 0, plainView);
    const x = byReadme(preprocessing, image);
    expect(x.shape).toEqual([1, SIZE.height, SIZE.width, 3]);
    const received = x.dataSync();
    // One grey value of 255, in the network's units: Pillow rounds to bytes and averages, TensorFlow does neither.
    const grey = preprocessing.scale / Math.min(...preprocessing.std);
    const allowed = preprocessing.kernel.startsWith('tf') ? 0.01 * grey : 6 * grey;
    const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - received[i]!)), 0);
    expect(worst).toBeLessThan(allowed);
  });
});
