import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { foldGraph } from '../../src/engine/fold.js';
import { buildGraph, type Graph } from '../../src/engine/graph.js';
import {
  activation,
  add,
  batchNorm,
  conv2d,
  dense,
  depthwiseConv2d,
  globalAveragePool,
  groupNorm,
  layerScale,
} from '../../src/engine/layers.js';
import { loadNetwork, type ReadParameter } from '../../src/engine/network.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { pixels, readerOf, worst } from './support/parameters.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine();
});

const bn = { epsilon: 1e-3, momentum: 0.9 };
const kinds = (graph: Graph) => graph.nodes.map((node) => node.operation.kind);

/** The values of taps, folded or not. */
async function valuesOf(
  graph: Graph,
  taps: readonly string[],
  fold: boolean,
  read = readerOf(graph),
): Promise<Map<string, Float32Array>> {
  const network = await loadNetwork(graph, read, engine, { outputs: taps, fold });
  const x = tf.tensor(pixels([2, ...graph.input.shape]), [2, ...graph.input.shape]);
  const outputs = network.run(x, taps);
  const values = new Map([...outputs].map(([tap, value]) => [tap, value.dataSync() as Float32Array]));
  tf.dispose([x, ...outputs.values()]);
  network.dispose();
  return values;
}

/** Draws the numbers of ResNet-50 once. */
function remembering(read: ReadParameter): ReadParameter {
  const known = new Map<string, Promise<Float32Array>>();
  return (path) => {
    const numbers = known.get(path) ?? read(path);
    known.set(path, numbers);
    return numbers;
  };
}

const networks = [
  ['mobilenet_v1_0.25', 'keras'],
  ['mobilenet_v2_0.35', 'slim'],
  ['resnet50', 'keras'],
] as const;

describe.each(networks)('%s %s', (name, source) => {
  const graph = buildBackbone(findPublished(findBackbone(name), source), { size: { height: 64, width: 64 } });
  const folded = foldGraph(graph).graph;

  // Single cells of inner taps carry the rounding of every layer before them; averages do not.
  test('is the same function within 1e-5, and within 3e-5 at every tap', async () => {
    const taps = [...graph.taps.keys()];
    const before = tf.memory().numTensors;
    const read = remembering(readerOf(graph));
    const plain = await valuesOf(graph, taps, false, read);
    const fast = await valuesOf(graph, taps, true, read);
    for (const tap of taps) {
      const bound = tap === 'pre_logits' ? 1e-5 : 3e-5;
      expect(worst(fast.get(tap)!, plain.get(tap)!), tap).toBeLessThan(bound);
    }
    expect(tf.memory().numTensors).toBe(before);
  });

  test('has no batch norm left, and a bias for each', () => {
    expect(kinds(folded)).not.toContain('batch_norm');
    const norms = graph.nodes.filter((node) => node.operation.kind === 'batch_norm');
    expect(folded.nodes).toHaveLength(graph.nodes.length - norms.length);
    expect(folded.parameters.filter((parameter) => parameter.role.startsWith('norm.'))).toEqual([]);
    expect(folded.parameters.filter((parameter) => parameter.role === 'bias').length).toBeGreaterThanOrEqual(
      norms.length,
    );
  });

  test('keeps its taps, blocks and shapes, and is a sound graph; the original is left alone', () => {
    expect([...folded.taps.keys()]).toEqual([...graph.taps.keys()]);
    for (const [tap, node] of folded.taps) expect(node.shape, tap).toEqual(graph.taps.get(tap)!.shape);
    expect(folded.blocks).toEqual(graph.blocks);
    folded.nodes.forEach((node, position) => {
      expect(node.id).toBe(position);
      for (const input of node.inputs) expect(folded.nodes[input.id]).toBe(input);
    });
    for (const node of folded.taps.values()) expect(folded.nodes[node.id]).toBe(node);
    expect(new Set(folded.parameters.map(({ path }) => path)).size).toBe(folded.parameters.length);
    expect(kinds(graph)).toContain('batch_norm');
  });
});

describe('what cannot be folded stays', () => {
  test('a norm whose convolution is a tap, or has other consumers, or is none', async () => {
    const graph = buildGraph([6, 6, 3], (s, x) => {
      const tapped = s.at('tapped').tap(conv2d(s.at('a.conv'), x, 4, 3));
      const first = batchNorm(s.at('a.norm'), tapped, bn);
      const shared = conv2d(s.at('b.conv'), first, 4, 3);
      const second = add(s.at('b'), batchNorm(s.at('b.norm'), shared, bn), shared);
      const third = batchNorm(s.at('c.norm'), second, bn); // after an addition
      const fourth = batchNorm(s.at('d.norm'), depthwiseConv2d(s.at('d.conv'), third, 3, { bias: true }), bn);
      return s.at('end').tap(globalAveragePool(s.at('pool'), activation(s.at('e'), fourth, 'relu')));
    });
    const { graph: folded } = foldGraph(graph);
    const left = folded.nodes.filter((node) => node.operation.kind === 'batch_norm').map((node) => node.path);
    expect(left).toEqual(['a.norm', 'b.norm', 'c.norm']);
    const [plain, fast] = [
      await valuesOf(graph, ['tapped', 'end'], false),
      await valuesOf(graph, ['tapped', 'end'], true),
    ];
    expect(worst(fast.get('tapped')!, plain.get('tapped')!)).toBe(0);
    expect(worst(fast.get('end')!, plain.get('end')!)).toBeLessThan(1e-5);
  });

  test('a tap on the norm itself becomes one on the convolution', async () => {
    const graph = buildGraph([6, 6, 3], (s, x) => {
      const normed = s.at('normed').tap(batchNorm(s.at('norm'), conv2d(s.at('conv'), x, 4, 3, { bias: true }), bn));
      return s.at('end').tap(activation(s.at('end'), normed, 'relu6'));
    });
    const { graph: folded } = foldGraph(graph);
    expect(folded.taps.get('normed')!.path).toBe('conv');
    const taps = ['normed', 'end'];
    const [plain, fast] = [await valuesOf(graph, taps, false), await valuesOf(graph, taps, true)];
    for (const tap of taps) expect(worst(fast.get(tap)!, plain.get(tap)!), tap).toBeLessThan(1e-5);
  });
});

test('a norm without a gamma scales by its deviation alone', async () => {
  const graph = buildGraph([6, 5, 3], (s, x) =>
    s.at('end').tap(batchNorm(s.at('norm'), conv2d(s.at('conv'), x, 4, 3), { ...bn, scale: false })),
  );
  expect(kinds(foldGraph(graph).graph)).toEqual(['input', 'conv2d']);
  const [before, after] = [await valuesOf(graph, ['end'], false), await valuesOf(graph, ['end'], true)];
  expect(worst(after.get('end')!, before.get('end')!)).toBeLessThan(1e-5);
});

test('the folded numbers are the formula, in double precision', async () => {
  const graph = buildGraph([4, 4, 2], (s, x) =>
    batchNorm(s.at('norm'), conv2d(s.at('conv'), x, 3, 1, { bias: true }), bn),
  );
  const read = readerOf(graph);
  const folded = foldGraph(graph).read(read);
  const [kernel, bias, gamma, beta, mean, variance] = await Promise.all(
    ['conv.kernel', 'conv.bias', 'norm.gamma', 'norm.beta', 'norm.mean', 'norm.variance'].map(read),
  );
  const scale = Array.from(gamma!, (g, c) => g / Math.sqrt(variance![c]! + bn.epsilon));
  expect([...(await folded('conv.kernel'))]).toEqual(Array.from(kernel!, (k, i) => Math.fround(k * scale[i % 3]!)));
  expect([...(await folded('conv.bias'))]).toEqual(
    Array.from(bias!, (b, c) => Math.fround(beta![c]! + (b - mean![c]!) * scale[c]!)),
  );
});

describe('standardised kernels', () => {
  test.each([
    ['deviation', (variance: number) => Math.sqrt(variance) + 1e-3],
    ['variance', (variance: number) => Math.sqrt(variance + 1e-3)],
  ] as const)('are kept so, epsilon added to the %s', async (addedTo, deviationOf) => {
    const standardization = { epsilon: 1e-3, addedTo };
    const graph = buildGraph([5, 7, 4], (s, x) => {
      const y = conv2d(s.at('conv'), x, 6, 3, { groups: 2, bias: true, standardization });
      return s.at('end').tap(groupNorm(s.at('norm'), y, { groups: 3, epsilon: 1e-6 }));
    });
    const { graph: folded, read } = foldGraph(graph);
    expect(kinds(folded)).toEqual(['input', 'conv2d', 'group_norm']);
    expect(folded.nodes[1]!.operation).not.toHaveProperty('standardization');
    const [kernel, plain] = [await read(readerOf(graph))('conv.kernel'), await readerOf(graph)('conv.kernel')];
    for (let channel = 0; channel < 6; channel++) {
      const column = plain.filter((_, i) => i % 6 === channel);
      const mean = column.reduce((a, b) => a + b) / column.length;
      const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / column.length;
      const expected = Array.from(column, (value) => expect.closeTo((value - mean) / deviationOf(variance), 5));
      expect([...kernel.filter((_, i) => i % 6 === channel)]).toEqual(expected);
    }
    expect(await read(readerOf(graph))('conv.bias')).toEqual(await readerOf(graph)('conv.bias'));
    const [before, after] = [await valuesOf(graph, ['end'], false), await valuesOf(graph, ['end'], true)];
    expect(worst(after.get('end')!, before.get('end')!)).toBeLessThan(1e-5);
  });

  test('under a batch norm too', async () => {
    const standardization = { epsilon: 1e-5, addedTo: 'deviation' } as const;
    const graph = buildGraph([6, 6, 3], (s, x) =>
      s.at('end').tap(batchNorm(s.at('norm'), conv2d(s.at('conv'), x, 4, 3, { standardization }), bn)),
    );
    expect(kinds(foldGraph(graph).graph)).toEqual(['input', 'conv2d']);
    const [before, after] = [await valuesOf(graph, ['end'], false), await valuesOf(graph, ['end'], true)];
    expect(worst(after.get('end')!, before.get('end')!)).toBeLessThan(1e-5);
  });
});

test('a layer scale becomes part of the dense layer or convolution before it, with its bias or without', async () => {
  const graph = buildGraph([6, 5, 3], (s, x) => {
    const a = layerScale(s.at('a'), dense(s.at('a.dense'), x, 3), 0.3);
    const b = layerScale(s.at('b'), conv2d(s.at('b.conv'), add(s.at('b'), a, x), 3, 3), 0.3);
    const c = layerScale(s.at('c'), activation(s.at('c'), b, 'relu'), 0.3); // follows no kernel
    return s.at('end').tap(c);
  });
  const { graph: folded } = foldGraph(graph);
  expect(kinds(folded)).toEqual(['input', 'dense', 'add', 'conv2d', 'activation', 'layer_scale']);
  expect(folded.parameters.map(({ path }) => path)).toEqual([
    'a.dense.kernel',
    'a.dense.bias',
    'b.conv.kernel',
    'c.gamma',
  ]);
  const [before, after] = [await valuesOf(graph, ['end'], false), await valuesOf(graph, ['end'], true)];
  expect(worst(after.get('end')!, before.get('end')!)).toBeLessThan(1e-5);
});

test('a norm before a convolution stays, and one on a dense layer goes', async () => {
  const graph = buildGraph([6, 5, 3], (s, x) => {
    const normed = activation(s.at('a'), batchNorm(s.at('a.norm'), x, bn), 'relu');
    const y = conv2d(s.at('a.conv'), normed, 4, 3);
    const z = batchNorm(s.at('b.norm'), dense(s.at('b.dense'), y, 5, { bias: false }), bn);
    return s.at('end').tap(z);
  });
  const { graph: folded } = foldGraph(graph);
  expect(kinds(folded)).toEqual(['input', 'batch_norm', 'activation', 'conv2d', 'dense']);
  const [before, after] = [await valuesOf(graph, ['end'], false), await valuesOf(graph, ['end'], true)];
  expect(worst(after.get('end')!, before.get('end')!)).toBeLessThan(1e-5);
});
