/** Operations on tokens `[N, T, D]`, for any number of pictures. */
import type { Node } from '../../engine/graph.js';
import type { OperationOf } from '../../engine/operations.js';
import {
  channelwise,
  elementwise,
  emitFor,
  FLOAT,
  flag,
  INT,
  type Lowering,
  pad,
  reshape,
  scalar,
  slashed,
  structure,
} from './lowering.js';

/** In every head: softmax(q k^T / sqrt(D / heads)) v. */
export function attention(
  l: Lowering,
  node: Node,
  inputs: readonly string[],
  { heads }: OperationOf<'attention'>,
): string {
  const [tokens, depth] = node.shape as readonly [number, number];
  const size = depth / heads;
  const order = structure(l, `${slashed(node.path)}/permutation`, [4], [0, 2, 1, 3]);
  const swap = (x: string): string => emitFor(l, node, 'Transpose', [x, order], { T: FLOAT, Tperm: INT });
  const multiply = (a: string, b: string, transposed: boolean): string =>
    emitFor(l, node, 'BatchMatMulV2', [a, b], { T: FLOAT, adj_x: flag(false), adj_y: flag(transposed) });
  const [query, key, value] = inputs.map((x) => swap(reshape(l, node, x, [tokens, heads, size]))) as [
    string,
    string,
    string,
  ]; // [N, heads, T, D / heads]
  const scaled = elementwise(l, node, 'Mul', query, scalar(l, 1 / Math.sqrt(size)));
  const weights = elementwise(l, node, 'Softmax', multiply(scaled, key, true)); // [N, heads, T, T]
  return reshape(l, node, swap(multiply(weights, value, false)), [tokens, depth]);
}

/** The tokens move down one row, and the token is added to the zeros above them: so the batch needs no number. */
export function classToken(l: Lowering, node: Node, x: string): string {
  const [tokens, depth] = node.shape as readonly [number, number];
  const moved = pad(l, node, x, [
    [0, 0],
    [1, 0],
    [0, 0],
  ]);
  const token = pad(l, node, channelwise(l, node, 'token', [1, depth]), [
    [0, tokens - 1],
    [0, 0],
  ]);
  return elementwise(l, node, 'AddV2', moved, token);
}

export function takeToken(l: Lowering, node: Node, x: string, { index }: OperationOf<'take_token'>): string {
  const path = slashed(node.path);
  const begin = structure(l, `${path}/begin`, [3], [0, index, 0]);
  const size = structure(l, `${path}/size`, [3], [-1, 1, -1]); // -1: all there are
  return reshape(l, node, emitFor(l, node, 'Slice', [x, begin, size], { T: FLOAT, Index: INT }), node.shape);
}
