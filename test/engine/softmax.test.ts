/** Softmax on plain numbers, against TensorFlow.js' and at the ends of what float32 holds. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, test } from 'vitest';
import { softmaxRows } from '../../src/engine/softmax.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';

beforeAll(async () => {
  await loadEngine({ engine: 'cpu' });
});

test('gives what tf.softmax gives, row by row', () => {
  const random = rng('softmax');
  const logits = Float32Array.from({ length: 5 * 7 }, () => 40 * (random.uniform() - 0.5));
  const expected = tf.tidy(() => tf.softmax(tf.tensor2d(logits, [5, 7])).dataSync());
  const received = softmaxRows(logits, 7);
  expect(received).toHaveLength(35);
  for (const [i, value] of received.entries()) expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-6);
});

test('is exact', () => {
  expect([...softmaxRows([0, Math.log(3)], 2)]).toEqual([expect.closeTo(0.25, 14), expect.closeTo(0.75, 14)]);
  expect([...softmaxRows(Float32Array.of(2), 1)]).toEqual([1]);
});

test('neither overflows nor leaves the row of its own', () => {
  const received = softmaxRows([3e38, 0, -3e38, 1000, 1001, 1000], 3);
  expect([...received.subarray(0, 3)]).toEqual([1, 0, 0]);
  expect(received[4]).toBeCloseTo(Math.E / (Math.E + 2), 12);
  expect(received[3]! + received[4]! + received[5]!).toBeCloseTo(1, 12);
});

test('what is not a number stays visible', () => {
  expect([...softmaxRows([Number.NaN, 1, 2, 2], 2)]).toEqual([Number.NaN, Number.NaN, 0.5, 0.5]);
});
