/** Ranges, rounding and what is done against it, on numbers whose right answer is known. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { buildGraph, type Graph } from '../../src/engine/graph.js';
import {
  activation,
  add,
  batchNorm,
  concat,
  conv2d,
  dense,
  depthwiseConv2d,
  flatten,
  globalAveragePool,
  groupNorm,
  layerNorm,
  layerScale,
  scaleChannels,
} from '../../src/engine/layers.js';
import { fuseOperations } from '../../src/export/lowering/fuse.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { channelMoments, inputChannel } from '../../src/export/quantize/moments.js';
import { affine, planConstants, type WeightEntry } from '../../src/export/quantize/quantize.js';
import { rng } from '../../src/rng.js';
import { randomParameters } from './models.js';

describe('256 levels', () => {
  const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), { minLength: 1 });

  test('every value comes back to within half a level, and zero exactly', () => {
    fc.assert(
      fc.property(values, (numbers) => {
        const input = Float32Array.from([...numbers, 0]);
        const { stored, restored, record } = affine(input);
        if (record.dtype !== 'uint8') throw new Error('not 8 bits');
        expect(restored.at(-1)).toBe(0);
        input.forEach((value, i) => {
          expect(Math.abs(restored[i]! - value)).toBeLessThanOrEqual(record.scale * 0.5 * (1 + 1e-5));
          expect(Math.fround(stored[i]! * record.scale + record.min)).toBe(restored[i]); // tfjs-core's decodeWeights
        });
      }),
    );
  });

  test('ranges on one side of zero, of one value, and of none', () => {
    for (const input of [[1, 2, 3], [-5, -4], [7], [0, 0], [-1e-30, 1e-30]]) {
      const { restored } = affine(Float32Array.from(input));
      const widest = Math.max(...input.map(Math.abs));
      for (const [i, value] of input.entries())
        expect(Math.abs(restored[i]! - value)).toBeLessThanOrEqual(widest / 250);
    }
  });
});

/** Two convolutions, the first normalised, with channels of very different ranges. */
function network(): Graph {
  return buildGraph([12, 12, 3], (s, x) => {
    const rule = { epsilon: 1e-3, momentum: 0.99 };
    const first = activation(s.at('a'), batchNorm(s.at('n'), conv2d(s.at('a.c'), x, 16, 3), rule), 'relu6');
    const deep = depthwiseConv2d(s.at('d'), first, 3);
    const second = activation(s.at('b'), batchNorm(s.at('m'), deep, rule), 'relu');
    const third = batchNorm(s.at('o'), conv2d(s.at('e'), second, 16, 1), rule);
    const sum = add(s.at('s'), third, second);
    const hidden = activation(s.at('f'), dense(s.at('f'), globalAveragePool(s.at('p'), sum), 40), 'relu');
    return s.at('logits').tap(dense(s.at('g'), hidden, 5));
  });
}

async function encode(graph: Graph, quantization: 'none' | 'float16' | 'uint8', corrected: boolean) {
  const read = randomParameters(graph);
  const moments = corrected ? await channelMoments(graph, read) : new Map();
  const plan = await planConstants(fuseOperations(lowerGraph(graph, read)), quantization, moments);
  const entries = new Map<string, { entry: WeightEntry; bytes: Uint8Array }>();
  for (const each of plan) {
    const encoded = await each.encode();
    expect(encoded.bytes.length).toBe(each.bytes);
    entries.set(encoded.entry.name, encoded);
  }
  return entries;
}

describe('what is stored how', () => {
  const dtypes = async (quantization: 'none' | 'float16' | 'uint8') =>
    Object.fromEntries(
      [...(await encode(network(), quantization, true))].map(([name, { entry }]) => [
        name,
        entry.quantization?.dtype ?? entry.dtype,
      ]),
    );

  test('float32 keeps every bit', async () => {
    expect(new Set(Object.values(await dtypes('none')))).toEqual(new Set(['float32', 'int32']));
  });

  test('float16 halves kernels and leaves biases', async () => {
    expect(await dtypes('float16')).toMatchObject({
      'f/kernel': 'float16',
      'f/bias': 'float32',
      'p/average/axes': 'int32',
    });
  });

  test('uint8 leaves what steers an operation', async () => {
    const stored = await dtypes('uint8');
    expect(stored).toMatchObject({
      'f/kernel': 'uint8',
      'a/c/kernel': 'uint8',
      'f/bias': 'float16',
      'p/average/axes': 'int32',
    });
  });
});

describe('moments', () => {
  /** Mean and variance of `samples` outcomes of a rule on standard normal numbers. */
  function sampled(rule: (z: number) => number): [number, number] {
    const random = rng(5);
    const outcomes = Float64Array.from({ length: 200_000 }, () => rule(random.normal()));
    const mean = outcomes.reduce((a, b) => a + b) / outcomes.length;
    return [mean, outcomes.reduce((a, b) => a + (b - mean) ** 2, 0) / outcomes.length];
  }

  test.each([
    ['relu', 0.4, 1.5, Infinity],
    ['relu6', 0.4, 1.5, 6],
    ['relu6', 5, 4, 6],
    ['relu6', -8, 0.5, 6],
    ['relu', 3, 0, Infinity],
  ] as const)('of %s after a norm with beta %f and gamma %f', async (name, beta, gamma, upper) => {
    const graph = buildGraph([4, 4, 1], (s, x) =>
      activation(s.at('a'), batchNorm(s.at('n'), x, { epsilon: 1e-3, momentum: 0.9 }), name),
    );
    const values: Record<string, number> = { 'n.beta': beta, 'n.gamma': gamma };
    const moments = await channelMoments(graph, async (path) => Float32Array.of(values[path]!));
    const { mean, variance } = moments.get(`a.${name}`)!;
    const [expectedMean, expectedVariance] = sampled((z) => Math.min(upper, Math.max(0, beta + gamma * z)));
    expect(mean[0]).toBeCloseTo(expectedMean, 1);
    expect(Math.abs(mean[0]! - expectedMean)).toBeLessThan(0.005 * gamma + 1e-6);
    expect(Math.abs(variance[0]! - expectedVariance)).toBeLessThan(0.02 * expectedVariance + 1e-6);
  });

  const gelu = (x: number): number => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  const hardSigmoid = (x: number): number => Math.min(6, Math.max(0, x + 3)) / 6;
  test.each([
    ['sigmoid', sigmoid],
    ['hard_sigmoid', hardSigmoid],
    ['swish', (x: number) => x * sigmoid(x)],
    ['hard_swish', (x: number) => x * hardSigmoid(x)],
    ['gelu', gelu], // the two forms differ by 0.0005 at most
    ['gelu_tanh', gelu],
    ['tanh', Math.tanh],
  ] as const)('of %s after a norm', async (name, value) => {
    const graph = buildGraph([4, 4, 1], (s, x) =>
      activation(s.at('a'), batchNorm(s.at('n'), x, { epsilon: 1e-3, momentum: 0.9 }), name),
    );
    for (const [beta, gamma] of [
      [0.4, 1.5],
      [-2.5, 0.5],
      [3, 2],
    ] as const) {
      const values: Record<string, number> = { 'n.beta': beta, 'n.gamma': gamma };
      const moments = await channelMoments(graph, async (path) => Float32Array.of(values[path]!));
      const { mean, variance } = moments.get(`a.${name}`)!;
      const [expectedMean, expectedVariance] = sampled((z) => value(beta + gamma * z));
      expect(Math.abs(mean[0]! - expectedMean)).toBeLessThan(0.005 * gamma);
      expect(Math.abs(variance[0]! - expectedVariance)).toBeLessThan(0.02 * expectedVariance + 1e-4);
    }
  });

  test('of gates, scales, joins and flattened pictures', async () => {
    const rule = { epsilon: 1e-3, momentum: 0.9 };
    const graph = buildGraph([2, 2, 3], (s, x) => {
      const a = batchNorm(s.at('a'), conv2d(s.at('a.c'), x, 2, 1), rule);
      const b = batchNorm(s.at('b'), conv2d(s.at('b.c'), x, 2, 1), rule);
      const gated = scaleChannels(s.at('g'), a, globalAveragePool(s.at('p'), b));
      return flatten(s.at('f'), concat(s.at('j'), [layerScale(s.at('l'), a, 1), gated]), [2, 2]);
    });
    const values: Record<string, number[]> = {
      'a.beta': [1, 2],
      'a.gamma': [0.5, 0.1],
      'b.beta': [3, -1],
      'b.gamma': [0.2, 2],
      'l.gamma': [10, 100],
    };
    const moments = await channelMoments(graph, async (path) => Float32Array.from(values[path]!));
    // Var xy = (Var x + x^2) (Var y + y^2) - x^2 y^2
    const variance = [(0.25 + 1) * (0.04 + 9) - 9, (0.01 + 4) * (4 + 1) - 4];
    const joined = { mean: [10, 200, 3, -2], variance: [25, 100, ...variance] };
    const { mean: means, variance: variances } = moments.get('f.reshape')!;
    for (let i = 0; i < 16; i++) {
      expect(means[i]).toBeCloseTo(joined.mean[i % 4]!, 5);
      expect(variances[i]).toBeCloseTo(joined.variance[i % 4]!, 4);
    }
  });

  test('of what is normalised picture by picture nothing is known', async () => {
    const graph = buildGraph([2, 2, 4], (s, x) => {
      const y = groupNorm(s.at('g'), batchNorm(s.at('n'), x, { epsilon: 1e-3, momentum: 0.9 }), {
        groups: 2,
        epsilon: 1e-3,
      });
      return dense(s.at('d'), layerNorm(s.at('l'), y, { epsilon: 1e-3 }), 3);
    });
    const moments = await channelMoments(graph, randomParameters(graph));
    expect([...moments.keys()]).toEqual(['n']);
  });

  test('of sums and of weighted sums', async () => {
    const graph = network();
    const read = randomParameters(graph);
    const moments = await channelMoments(graph, read);
    const [sum, second] = [moments.get('s.add')!, moments.get('b.relu')!];
    const [beta, gamma] = [await read('o.beta'), await read('o.gamma')];
    for (let i = 0; i < 16; i++) {
      expect(sum.mean[i]).toBeCloseTo(beta[i]! + second.mean[i]!, 6);
      expect(sum.variance[i]).toBeCloseTo(gamma[i]! ** 2 + second.variance[i]!, 6);
    }
    const [kernel, bias] = [await read('f.kernel'), await read('f.bias')];
    const logit = moments.get('f')!;
    const expected = bias[3]! + sum.mean.reduce((total, mean, i) => total + mean * kernel[i * 40 + 3]!, 0);
    expect(logit.mean[3]).toBeCloseTo(expected, 6);
  });

  test('a kernel knows its input channels, depthwise or not', () => {
    const dense = inputChannel([2, 2, 3, 4]);
    expect([0, 3, 4, 11, 12].map(dense)).toEqual([0, 0, 1, 2, 0]);
    const depthwise = inputChannel([2, 1, 3, 2]);
    expect([0, 1, 2, 5, 6, 11].map(depthwise)).toEqual([0, 0, 1, 2, 0, 2]);
  });
});

test('what rounding takes from a channel on the mean goes into its bias', async () => {
  const graph = network();
  const read = randomParameters(graph);
  const moments = await channelMoments(graph, read);
  const plain = await encode(graph, 'uint8', false);
  const corrected = await encode(graph, 'uint8', true);
  const { entry, bytes } = corrected.get('f/kernel')!;
  const range = entry.quantization as { min: number; scale: number };
  const kernel = await read('f.kernel');
  const mean = moments.get('p.average')!.mean;
  const half = (bytes16: Uint8Array): Float32Array => {
    const words = new Uint16Array(bytes16.buffer, bytes16.byteOffset, bytes16.length / 2);
    return Float32Array.from(words, (w) => {
      const [exponent, fraction] = [(w >> 10) & 31, w & 1023];
      return (
        (w & 0x8000 ? -1 : 1) * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
      );
    });
  };
  const [before, after] = [half(plain.get('f/bias')!.bytes), half(corrected.get('f/bias')!.bytes)];
  for (let channel = 0; channel < 40; channel++) {
    let lost = 0;
    mean.forEach((m, i) => {
      const at = i * 40 + channel;
      lost += m * (kernel[at]! - (bytes[at]! * range.scale + range.min));
    });
    expect(after[channel]! - before[channel]!).toBeCloseTo(lost, 2);
    expect(Math.abs(after[channel]! - before[channel]! - lost)).toBeLessThan(2e-3);
  }
});
