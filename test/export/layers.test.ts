/** Every layer that a network can have, exported and run by stock TensorFlow.js. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, Scope } from '../../src/engine/graph.js';
import {
  activation,
  add,
  around,
  batchNorm,
  conv2d,
  depthwiseConv2d,
  dropout,
  maxPool,
} from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportTfjs } from '../../src/export/tfjs.js';
import { smallModel } from './models.js';
import { picturesFor, relativeDifference, sourceLogits, stockLogits } from './stock.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tl-export-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let exports = 0;
const fresh = (): string => join(folder, String(++exports));

const norm = (s: Scope, x: Node): Node => batchNorm(s, x, { epsilon: 1e-3, momentum: 0.99 });
const uneven = { top: 0, bottom: 1, left: 2, right: 1 };

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
  'one convolution, two consumers': (s, x) => {
    const y = conv2d(s.at('c'), x, 3, 3, { bias: true });
    return add(s.at('b'), y, activation(s.at('a'), y, 'relu'));
  },
};

describe.each(Object.entries(layers))('%s', (_, define) => {
  test.each([[[16, 16]], [[13, 17]]] as const)('computes the same at %o', async (size) => {
    const model = smallModel(size, define);
    const report = await exportTfjs(model, { quantize: 'none', out: fresh(), overwrite: false }, await loadEngine());
    expect(report.check).toMatchObject({ agreement: 1, pictures: 4, backend: expect.stringMatching(/wasm$/) });
    expect(report.check.maxDifference).toBeLessThan(1e-5);
    const pictures = picturesFor(model, 3);
    const expected = await sourceLogits(model, pictures);
    for (const backend of ['wasm', 'cpu'] as const) {
      const logits = await stockLogits(report.out, pictures, backend);
      expect(relativeDifference(logits, expected), backend).toBeLessThan(1e-5);
    }
  });
});
