/** Every layer that a network can have, exported and run by stock TensorFlow.js. */
import { describe, expect, test } from 'vitest';
import type { Node, Scope } from '../../src/engine/graph.js';
import {
  activation,
  adaptiveAveragePool,
  add,
  around,
  attention,
  averagePool,
  batchNorm,
  classToken,
  concat,
  conv2d,
  dense,
  depthwiseConv2d,
  dropout,
  dropPath,
  flatten,
  globalAveragePool,
  groupNorm,
  layerNorm,
  layerScale,
  maxPool,
  positionEmbedding,
  reshape,
  scaleChannels,
  takeToken,
} from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { temporary } from '../weights/support/temporary.js';
import { smallModel } from './models.js';
import { picturesFor, relativeDifference, sourceLogits, stockLogits } from './stock.js';

let exports = 0;
const fresh = (): string => temporary(String(++exports));

const norm = (s: Scope, x: Node): Node => batchNorm(s, x, { epsilon: 1e-3, momentum: 0.99 });
const uneven = { top: 0, bottom: 1, left: 2, right: 1 };

const names = ['sigmoid', 'hard_sigmoid', 'swish', 'hard_swish', 'gelu', 'gelu_tanh', 'tanh'] as const;
const activations = Object.fromEntries(
  names.map((name) => [
    name,
    (s: Scope, x: Node): Node => activation(s, conv2d(s.at('c'), x, 6, 3, { bias: true }), name),
  ]),
);

/** Four patches of any picture and a class token: `[5, 8]`. */
function transformer(s: Scope, x: Node): Node {
  const patches = adaptiveAveragePool(s, conv2d(s.at('patches'), x, 8, 3), [2, 2]);
  let y = classToken(s.at('class'), reshape(s.at('tokens'), patches, [4, 8]));
  y = positionEmbedding(
    s.at('places'),
    y,
    { grid: [2, 2], resampling: 'bicubic_antialias' },
    { kind: 'normal', deviation: 0.02 },
  );
  const normed = layerNorm(s.at('norm'), y, { epsilon: 1e-6 });
  const [q, k, v] = ['q', 'k', 'v'].map((each) => dense(s.at(each), normed, 8)) as [Node, Node, Node];
  return add(s.at('sum'), y, dense(s.at('out'), attention(s, q, k, v, 2), 8));
}

const layers: Record<string, (s: Scope, x: Node) => Node> = {
  'convolution, same': (s, x) => conv2d(s.at('c'), x, 6, 3),
  'convolution, same, stride 2': (s, x) => conv2d(s.at('c'), x, 6, 3, { stride: 2 }),
  'convolution, valid, bias': (s, x) => conv2d(s.at('c'), x, 6, 5, { padding: 'valid', bias: true }),
  'convolution, explicit padding, stride 2': (s, x) => conv2d(s.at('c'), x, 6, 7, { stride: 2, padding: around(3) }),
  'convolution, uneven padding': (s, x) => conv2d(s.at('c'), x, 6, 3, { padding: uneven, bias: true }),
  'convolution, 1x1, stride 2': (s, x) => conv2d(s.at('c'), x, 6, 1, { stride: 2, padding: around(0) }),
  'convolution, norm, relu6': (s, x) => activation(s.at('a'), norm(s.at('n'), conv2d(s.at('c'), x, 6, 3)), 'relu6'),
  'convolution, groups': (s, x) =>
    activation(
      s.at('a'),
      norm(
        s.at('n'),
        conv2d(s.at('g'), conv2d(s.at('c'), x, 8, 1), 12, 3, { groups: 4, stride: 2, padding: around(1) }),
      ),
      'relu',
    ),
  'depthwise, same': (s, x) => depthwiseConv2d(s.at('d'), x, 3),
  'depthwise, uneven padding, stride 2, norm, relu6': (s, x) =>
    activation(
      s.at('a'),
      norm(
        s.at('n'),
        depthwiseConv2d(s.at('d'), x, 3, { stride: 2, padding: { top: 0, bottom: 1, left: 0, right: 1 } }),
      ),
      'relu6',
    ),
  'depthwise, bias': (s, x) => depthwiseConv2d(s.at('d'), x, 5, { bias: true, padding: 'valid' }),
  'a norm by itself': (s, x) => norm(s.at('n'), activation(s.at('a'), x, 'relu')),
  'a norm by itself, without gamma': (s, x) =>
    batchNorm(s.at('n'), activation(s.at('a'), x, 'relu'), { epsilon: 1e-3, momentum: 0.99, scale: false }),
  'max pool, same': (s, x) => maxPool(s.at('p'), x, 3, { stride: 2, padding: 'same' }),
  'max pool, valid': (s, x) => maxPool(s.at('p'), x, 2, { stride: 2, padding: 'valid' }),
  'max pool of negative values, explicit padding': (s, x) =>
    maxPool(s.at('p'), conv2d(s.at('c'), x, 4, 1, { bias: true }), 3, { stride: 2, padding: around(1) }),
  'max pool, 1x1, stride 2': (s, x) => maxPool(s.at('p'), x, 1, { stride: 2, padding: 'valid' }),
  'sum of two paths, dropout': (s, x) => {
    const y = conv2d(s.at('c'), x, 6, 3);
    return dropout(
      s.at('e'),
      activation(s.at('a'), add(s.at('b'), y, norm(s.at('n'), conv2d(s.at('d'), y, 6, 3))), 'relu'),
      0.5,
    );
  },
  ...activations,
  'convolution, groups, bias, sigmoid': (s, x) =>
    activation(s.at('a'), conv2d(s.at('c'), x, 9, 3, { groups: 3, bias: true }), 'sigmoid'),
  'convolution, bias, sigmoid': (s, x) => activation(s.at('a'), conv2d(s.at('c'), x, 4, 3, { bias: true }), 'sigmoid'),
  'standardised convolution, group norm': (s, x) => {
    const standardization = { epsilon: 1e-2, addedTo: 'deviation' } as const;
    const y = conv2d(s.at('c'), x, 12, 3, { stride: 2, standardization });
    return groupNorm(s.at('n'), y, { groups: 4, epsilon: 1e-2 });
  },
  'standardised convolution, variance rule, batch norm': (s, x) =>
    norm(s.at('n'), conv2d(s.at('c'), x, 6, 3, { standardization: { epsilon: 1e-2, addedTo: 'variance' } })),
  'layer norm of places': (s, x) => layerNorm(s.at('n'), conv2d(s.at('c'), x, 7, 3), { epsilon: 1e-2 }),
  'squeeze and excitation': (s, x) => {
    const y = conv2d(s.at('c'), x, 6, 3);
    const gate = dense(s.at('u'), activation(s.at('d'), dense(s.at('d'), globalAveragePool(s, y), 3), 'relu'), 6);
    return scaleChannels(s, y, activation(s.at('g'), gate, 'hard_sigmoid'));
  },
  'dense on places, layer scale, drop path': (s, x) => {
    const y = activation(s.at('a'), dense(s.at('d'), conv2d(s.at('c'), x, 6, 3), 12), 'gelu');
    const branch = dropPath(s, layerScale(s.at('l'), dense(s.at('e'), y, 6, { bias: false }), 0.1), 0.2);
    return add(s, branch, conv2d(s.at('f'), x, 6, 1));
  },
  'layer scale by itself': (s, x) => layerScale(s.at('l'), activation(s.at('a'), x, 'relu'), 0.1),
  'branches, joined': (s, x) => {
    const parts = [
      conv2d(s.at('a'), x, 3, 1),
      conv2d(s.at('b'), x, 5, 3),
      maxPool(s, x, 3, { stride: 1, padding: 'same' }),
    ];
    return concat(s, parts);
  },
  'average pool, same': (s, x) => averagePool(s, x, 3, { stride: 2, padding: 'same' }),
  'average pool, valid': (s, x) => averagePool(s, x, [2, 3], { stride: 2, padding: 'valid' }),
  'adaptive average pool, flattened': (s, x) => {
    const grid = adaptiveAveragePool(s, conv2d(s.at('c'), x, 4, 1), [7, 5]);
    return reshape(s.at('r'), dense(s.at('d'), flatten(s, grid, [7, 5]), 6), [1, 1, 6]);
  },
  'a transformer block, mean of tokens': (s, x) => reshape(s, transformer(s, x), [1, 5, 8]),
  'a transformer block, class token': (s, x) => reshape(s, takeToken(s, transformer(s, x), 0), [1, 1, 8]),
  'last token': (s, x) => reshape(s, takeToken(s, transformer(s, x), 4), [1, 1, 8]),
  'one convolution, two consumers': (s, x) => {
    const y = conv2d(s.at('c'), x, 3, 3, { bias: true });
    return add(s.at('b'), y, activation(s.at('a'), y, 'relu'));
  },
};

describe.each(Object.entries(layers))('%s', (_, define) => {
  test.each([[[16, 16]], [[13, 17]]] as const)('computes the same at %o', async (size) => {
    const model = smallModel(size, define);
    const report = await exportModel(model, { format: 'tfjs', out: fresh() }, await loadEngine());
    expect(report.check).toMatchObject({ agreement: 1, pictures: 4, runtime: expect.stringMatching(/wasm$/) });
    expect(report.check.maxDifference).toBeLessThan(1e-5);
    const pictures = picturesFor(model, 3);
    const expected = await sourceLogits(model, pictures);
    for (const backend of ['wasm', 'cpu'] as const) {
      const logits = await stockLogits(report.out, pictures, backend);
      expect(relativeDifference(logits, expected), backend).toBeLessThan(1e-5);
    }
  });
});
