/** Ranges of a network's values against those of its own forward pass, and of a value that can be worked out by hand. */
import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { activation, concat, conv2d, depthwiseConv2d, maxPool } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { Pictures } from '../../src/export/format.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { bestRange, count, emptyHistogram } from '../../src/export/quantize/histogram.js';
import { activationRanges } from '../../src/export/quantize/ranges.js';
import { picturesOf, smallModel } from './models.js';
import { picturesFor, sourceLogits } from './stock.js';

const model = smallModel([9, 7], (s, x) => {
  const grouped = activation(s.at('a'), conv2d(s.at('c'), x, 8, 3), 'relu6');
  const halves = conv2d(s.at('g'), grouped, 8, 3, { groups: 2, padding: { top: 1, bottom: 0, left: 1, right: 1 } });
  const deep = depthwiseConv2d(s.at('d'), halves, 3, { padding: { top: 1, bottom: 1, left: 0, right: 1 } });
  return concat(s.at('j'), [
    maxPool(s.at('m'), deep, 2, { stride: 1, padding: 'same' }),
    maxPool(s.at('n'), deep, 2, { stride: 1, padding: 'same' }),
  ]);
});
const inputs = picturesFor(model, 5);

function batches(...counts: number[]): Pictures {
  const size = 9 * 7 * 3;
  return async function* () {
    let start = 0;
    for (const count of counts) {
      yield { pixels: inputs.data.slice(start * size, (start + count) * size), count };
      start += count;
    }
  };
}

test.each(['tensorflow', 'wasm'] as const)(
  'every value, on the %s engine, however pictures are batched',
  async (engine) => {
    const network = lowerGraph(model.graph, model.read);
    const logits = await sourceLogits(model, inputs);
    const loaded = await loadEngine({ engine });
    const before = tf.memory().numTensors;
    const ranges = await activationRanges(network, picturesOf(inputs), loaded);
    expect(await activationRanges(network, batches(2, 1, 2), loaded)).toEqual(ranges);
    expect(tf.memory().numTensors).toBe(before);

    const [least, most] = [Math.min(...inputs.data), Math.max(...inputs.data)]; // evenly spread: nothing to cut off
    expect(ranges.get('input')!.min).toBeCloseTo(least, 6);
    expect(ranges.get('input')!.max).toBeCloseTo(most, 6);
    expect(ranges.get('input')!.noise).toBeCloseTo(1 / 255 ** 2, 6); // (step^2 / 12) / (width^2 / 12)
    expect(ranges.get('logits')!.max).toBeLessThanOrEqual(Math.max(...logits) + 1e-4);
    expect(ranges.get('logits')!.min).toBeGreaterThanOrEqual(Math.min(...logits) - 1e-4);
    const { min, max } = [...ranges].find(([name]) => name.endsWith('/Relu6'))![1];
    expect([min, max <= 6, max > 0]).toEqual([0, true, true]);
    for (const { name } of network.operations) expect(ranges.has(name), name).toBe(true);
    expect([...ranges.keys()].filter((name) => /\/Split:1$/.test(name))).toHaveLength(1);
  },
);

test('no pictures', async () => {
  const none: Pictures = async function* () {};
  const ranges = activationRanges(lowerGraph(model.graph, model.read), none, await loadEngine());
  await expect(ranges).rejects.toMatchObject({ code: 'BAD_CALIBRATION' });
});

test('a rare number far off does not make all others coarse', () => {
  const usual = Float32Array.from({ length: 100_000 }, (_, i) => Math.sin(i) ** 3);
  const histogram = emptyHistogram();
  count(histogram, Float32Array.of(2.6));
  count(histogram, usual);
  const { min, max, noise } = bestRange(histogram);
  expect([histogram.min, histogram.max]).toEqual([usual.reduce((a, b) => Math.min(a, b)), Math.fround(2.6)]);
  expect(max).toBeLessThan(2.3);
  expect(min).toBeLessThan(-0.5);
  expect(noise).toBeLessThan(1e-3);
  const other = emptyHistogram();
  count(other, usual.subarray(0, 10));
  count(other, Float32Array.of(2.6));
  count(other, usual.subarray(10));
  expect(other).toEqual(histogram);
});

test('zeros only', () => {
  const histogram = emptyHistogram();
  count(histogram, new Float32Array(5));
  expect(bestRange(histogram)).toEqual({ min: 0, max: 0, noise: 0 });
});
