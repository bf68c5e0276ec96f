/** Ranges of a network's values against those of its own forward pass, and of a value that can be worked out by hand. */
import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { activation, concat, conv2d, depthwiseConv2d, maxPool } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { Pictures } from '../../src/export/format.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
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

    const extremes = (values: Float32Array) => ({ min: Math.min(...values), max: Math.max(...values) });
    expect(ranges.get('input')).toEqual(extremes(inputs.data));
    expect(ranges.get('logits')!.min).toBeCloseTo(extremes(logits).min, 4);
    expect(ranges.get('logits')!.max).toBeCloseTo(extremes(logits).max, 4);
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
