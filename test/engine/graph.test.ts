import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { buildGraph, cutAt, cuts, extendGraph, type Graph, nodesBetween, tapOf } from '../../src/engine/graph.js';
import { activation, add, around, batchNorm, conv2d, dense, globalAveragePool } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { UsageError } from '../../src/errors.js';
import { withHead } from '../../src/heads/heads.js';

const everything = backbones.flatMap((backbone) => backbone.published.map((published) => ({ backbone, published })));

/** stem -> block1 (residual) -> block2 -> pool -> logits, and a tap inside the residual branch. */
function residual(): Graph {
  return buildGraph([8, 8, 3], (s, x) => {
    const stem = s.at('stem').tap(conv2d(s.at('stem.conv'), x, 4, 3));
    const branch = s.at('block1.branch');
    const inner = branch.tap(
      activation(branch, batchNorm(branch.at('norm'), conv2d(branch.at('conv'), stem, 4, 3), bn), 'relu'),
    );
    const first = s.at('block1').endBlock(add(s.at('block1'), inner, stem));
    const second = s.at('block2').endBlock(conv2d(s.at('block2.conv'), first, 6, 3, { stride: 2, padding: around(1) }));
    const pooled = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), second));
    return s.at('logits').tap(dense(s.at('head.logits'), pooled, 3));
  });
}
const bn = { epsilon: 1e-3, momentum: 0.9 };

function codeOf(run: () => unknown): { code: string; message: string; hint: string | undefined } {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    const { code, message, hint } = error as UsageError;
    return { code, message, hint };
  }
  throw new Error('nothing was thrown');
}

describe('building', () => {
  beforeAll(async () => {
    await loadEngine();
  });

  test('every published network is built without a tensor, in milliseconds', () => {
    const before = tf.memory();
    for (const { backbone, published } of everything) {
      const began = performance.now();
      const size = { height: backbone.inputSize, width: backbone.inputSize };
      const graph = withHead(buildBackbone(published, { size }), { hidden: [1024], dropout: 0.5 }, 10);
      cuts(graph, 'logits');
      const ms = performance.now() - began;
      console.info(`${backbone.name} ${published.source}: ${graph.nodes.length} nodes in ${ms.toFixed(1)} ms`);
      expect(ms).toBeLessThan(500);
    }
    expect(tf.memory().numTensors).toBe(before.numTensors);
    expect(tf.memory().numBytes).toBe(before.numBytes);
  });
});

describe.each(everything)('$backbone.name $published.source', ({ backbone, published }) => {
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  const graph = buildBackbone(published, { size, classes: published.classes });

  test('paths of nodes and of parameters are unique, and inputs come first', () => {
    expect(new Set(graph.nodes.map((node) => node.path)).size).toBe(graph.nodes.length);
    expect(new Set(graph.parameters.map((parameter) => parameter.path)).size).toBe(graph.parameters.length);
    graph.nodes.forEach((node, position) => {
      expect(node.id).toBe(position);
      for (const input of node.inputs) expect(graph.nodes[input.id]).toBe(input);
      for (const input of node.inputs) expect(input.id).toBeLessThan(node.id);
      for (const parameter of node.parameters) expect(parameter.path.startsWith(`${node.path}.`)).toBe(true);
    });
  });

  test('it ends in pre_logits and logits, all its blocks are taps where it can be cut', () => {
    expect(tapOf(graph, 'pre_logits').shape).toHaveLength(1);
    expect(tapOf(graph, 'logits').shape).toEqual([published.classes]);
    expect(graph.blocks.length).toBeGreaterThanOrEqual(2);
    const possible = cuts(graph, 'logits');
    expect(possible).toEqual(expect.arrayContaining([...graph.blocks]));
    expect(possible.at(-1)).toBe('pre_logits');
    const ids = possible.map((tap) => tapOf(graph, tap).id);
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
  });

  test('nothing is left over: every node is needed for the logits', () => {
    expect(nodesBetween(graph, new Set(), [tapOf(graph, 'logits')])).toEqual(graph.nodes);
    expect(backbone.name).toBe(findBackbone(backbone.name).name);
    expect(findPublished(backbone, published.source)).toBe(published);
  });
});

describe('cuts', () => {
  test('a tap around which there is a way is none', () => {
    expect([...residual().taps.keys()]).toEqual(['stem', 'block1.branch', 'block1', 'block2', 'pre_logits', 'logits']);
    expect(cuts(residual(), 'logits')).toEqual(['stem', 'block1', 'block2', 'pre_logits']);
    expect(cuts(residual(), 'block2')).toEqual(['stem', 'block1']);
    expect(cuts(residual(), 'nowhere')).toEqual([]);
  });

  test('a cut divides the nodes: each is on one side, parameters too', () => {
    const graph = residual();
    for (const tap of cuts(graph, 'logits')) {
      const cut = cutAt(graph, tap, 'logits');
      expect(cut.node).toBe(tapOf(graph, tap));
      expect(cut.before.at(-1)).toBe(cut.node);
      expect([...cut.before, ...cut.after]).toEqual(graph.nodes);
      expect([...cut.before, ...cut.after].flatMap((node) => node.parameters)).toEqual(graph.parameters);
    }
  });

  test('NOT_A_CUT names those that are', () => {
    const fault = codeOf(() => cutAt(residual(), 'block1.branch', 'logits'));
    expect(fault.code).toBe('NOT_A_CUT');
    expect(fault.message).toContain('"block1.branch"');
    expect(fault.hint).toContain('stem, block1, block2, pre_logits');
  });

  test('UNKNOWN_TAP names all taps', () => {
    for (const run of [() => cutAt(residual(), 'block3', 'logits'), () => tapOf(residual(), 'block3')]) {
      const fault = codeOf(run);
      expect(fault.code).toBe('UNKNOWN_TAP');
      expect(fault.message).toContain('"block3"');
      expect(fault.hint).toContain('block1.branch');
    }
    expect(codeOf(() => cutAt(residual(), 'stem', 'nowhere')).code).toBe('UNKNOWN_TAP');
  });

  test('what lies between known values and outputs is all that is run', () => {
    const graph = residual();
    const stem = tapOf(graph, 'stem');
    const between = nodesBetween(graph, new Set([stem]), [tapOf(graph, 'block1')]);
    expect(between.map((node) => node.path)).toEqual([
      'block1.branch.conv',
      'block1.branch.norm',
      'block1.branch.relu',
      'block1.add',
    ]);
    expect(nodesBetween(graph, new Set([stem]), [stem])).toEqual([]);
  });
});

describe('scopes', () => {
  test('two nodes of one path are a mistake of the builder', () => {
    expect(() => buildGraph([4, 4, 3], (s, x) => conv2d(s.at('a'), conv2d(s.at('a'), x, 3, 1), 3, 1))).toThrow(
      'two nodes of one network are called a',
    );
    const graph = residual();
    expect(() => extendGraph(graph, (s) => dense(s.at('head.logits'), tapOf(graph, 'pre_logits'), 2))).toThrow(
      'head.logits',
    );
  });

  test('extending leaves the network as it was', () => {
    const graph = residual();
    const [nodes, taps] = [graph.nodes.length, graph.taps.size];
    const longer = extendGraph(graph, (s) => {
      s.at('extra').endBlock(dense(s.at('extra.dense'), tapOf(graph, 'logits'), 2));
    });
    expect([graph.nodes.length, graph.taps.size, graph.blocks.length]).toEqual([nodes, taps, 2]);
    expect([longer.nodes.length, longer.taps.size, longer.blocks]).toEqual([
      nodes + 1,
      taps + 1,
      ['block1', 'block2', 'extra'],
    ]);
    expect(longer.nodes.slice(0, nodes)).toEqual(graph.nodes);
  });

  test('a picture too small for a window is a clear error', () => {
    const fault = codeOf(() =>
      buildGraph([4, 4, 3], (s, x) => conv2d(s.at('stem.conv'), x, 8, 7, { padding: 'valid' })),
    );
    expect(fault.code).toBe('INPUT_TOO_SMALL');
    expect(fault.message).toContain('stem.conv gets a picture of 4x4');
  });

  test('shapes that do not fit cannot be added', () => {
    expect(() => buildGraph([4, 4, 3], (s, x) => add(s.at('sum'), x, conv2d(s.at('conv'), x, 8, 1)))).toThrow(
      'sum: cannot add [4,4,3] and [4,4,8]',
    );
  });
});
