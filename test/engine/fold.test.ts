import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { foldBatchNorm } from '../../src/engine/fold.js';
import { buildGraph, type Graph } from '../../src/engine/graph.js';
import { activation, add, batchNorm, conv2d, depthwiseConv2d, globalAveragePool } from '../../src/engine/layers.js';
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
  const folded = foldBatchNorm(graph).graph;

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
    const { graph: folded } = foldBatchNorm(graph);
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
    const { graph: folded } = foldBatchNorm(graph);
    expect(folded.taps.get('normed')!.path).toBe('conv');
    const taps = ['normed', 'end'];
    const [plain, fast] = [await valuesOf(graph, taps, false), await valuesOf(graph, taps, true)];
    for (const tap of taps) expect(worst(fast.get(tap)!, plain.get(tap)!), tap).toBeLessThan(1e-5);
  });
});

test('the folded numbers are the formula, in double precision', async () => {
  const graph = buildGraph([4, 4, 2], (s, x) =>
    batchNorm(s.at('norm'), conv2d(s.at('conv'), x, 3, 1, { bias: true }), bn),
  );
  const read = readerOf(graph);
  const folded = foldBatchNorm(graph).read(read);
  const [kernel, bias, gamma, beta, mean, variance] = await Promise.all(
    ['conv.kernel', 'conv.bias', 'norm.gamma', 'norm.beta', 'norm.mean', 'norm.variance'].map(read),
  );
  const scale = Array.from(gamma!, (g, c) => g / Math.sqrt(variance![c]! + bn.epsilon));
  expect([...(await folded('conv.kernel'))]).toEqual(Array.from(kernel!, (k, i) => Math.fround(k * scale[i % 3]!)));
  expect([...(await folded('conv.bias'))]).toEqual(
    Array.from(bias!, (b, c) => Math.fround(beta![c]! + (b - mean![c]!) * scale[c]!)),
  );
});
