/** Multiply-accumulates, parameters and receptive fields of gates, pools, joins and tokens, counted by hand. */
import { expect, test } from 'vitest';
import { analyse } from '../../src/engine/analysis.js';
import { buildGraph, type Node } from '../../src/engine/graph.js';
import {
  adaptiveAveragePool,
  attention,
  averagePool,
  classToken,
  concat,
  conv2d,
  dense,
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

test('squeeze and excitation, pools, joins and tokens by hand', () => {
  const graph = buildGraph([12, 10, 4], (s, x) => {
    const a = conv2d(s.at('a'), x, 8, 3, { stride: 2 }); // [6, 5, 8]
    const gate = dense(s.at('gate'), globalAveragePool(s.at('squeeze'), a), 8);
    const gated = layerScale(s.at('gamma'), scaleChannels(s, a, gate), 1);
    const b = averagePool(s.at('b'), groupNorm(s.at('norm'), gated, { groups: 4, epsilon: 1e-6 }), [3, 1], {
      stride: [2, 1],
      padding: 'same',
    }); // [3, 5, 8]
    const c = maxPool(s.at('c'), b, 3, { stride: 1, padding: 'same' });
    const joined = concat(s.at('d'), [b, c]); // [3, 5, 16]
    const tokens = classToken(s.at('class'), reshape(s.at('tokens'), joined, [15, 16]));
    const places = { grid: [3, 5], resampling: 'linear_corners' } as const;
    const y = layerNorm(s.at('ln'), positionEmbedding(s.at('places'), tokens, places, { kind: 'zeros' }), {
      epsilon: 1e-6,
    });
    const [q, k, v] = ['q', 'k', 'v'].map((each) => dense(s.at(each), y, 16)) as [Node, Node, Node];
    adaptiveAveragePool(s.at('grid'), joined, [2, 2]);
    return takeToken(s, attention(s, q, k, v, 4), 0);
  });
  const { rows, totals } = analyse(graph);
  const row = new Map(rows.map((each) => [each.node.path, each]));
  const field = (path: string) => [row.get(path)!.receptiveField, row.get(path)!.jump];
  expect(field('a')).toEqual([
    [3, 3],
    [2, 2],
  ]);
  expect(field('squeeze.average')).toEqual([
    [3 + 5 * 2, 3 + 4 * 2],
    [12, 10],
  ]);
  expect(field('gamma')).toEqual([
    [13, 11],
    [2, 2],
  ]); // through its gate a value sees the whole picture, and stays in its place
  expect(field('attention')[0]).toEqual(field('q')[0]!.map((seen, axis) => Math.max(seen, [12, 10][axis]!)));
  expect(field('d.concat')).toEqual(field('c.max_pool'));
  expect(field('tokens.reshape')).toEqual(field('d.concat'));
  const macs = (path: string) => row.get(path)!.macs;
  expect(macs('a')).toBe(3 * 3 * 4 * 8 * (6 * 5));
  expect(macs('gate')).toBe(8 * 8);
  expect(macs('q')).toBe(16 * 16 * 16); // each of 16 tokens
  expect(macs('attention')).toBe(2 * 16 * 16 * 16); // q k^T, and weights times v
  expect(totals.macs).toBe(macs('a') + macs('gate') + 3 * macs('q') + macs('attention'));
  const trainable = (path: string) => row.get(path)!.trainable;
  expect([trainable('gamma'), trainable('norm'), trainable('class'), trainable('places'), trainable('ln')]).toEqual([
    8,
    16,
    16,
    16 * 16,
    32,
  ]);
  expect(totals.statistics).toBe(0);
});
