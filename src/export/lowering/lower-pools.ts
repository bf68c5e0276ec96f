/** Pools over places. */
import type { Node } from '../../engine/graph.js';
import { adaptiveWindows, LOWEST, type OperationOf, type Pair } from '../../engine/operations.js';
import {
  type Attributes,
  emitFor,
  FLOAT,
  fixed,
  flag,
  INT,
  ints,
  type Lowering,
  NHWC,
  paddings,
  reshape,
  scalar,
  slashed,
} from './lowering.js';

export function maxPool(
  l: Lowering,
  node: Node,
  x: string,
  { size, strides, padding }: OperationOf<'max_pool'>,
): string {
  if (typeof padding === 'string') return emitFor(l, node, 'MaxPool', [x], windowOf(size, strides, padding));
  const attributes = windowOf(size, strides, 'valid');
  const { top, bottom, left, right } = padding;
  if (top + bottom + left + right === 0) return emitFor(l, node, 'MaxPool', [x], attributes);
  const inputs = [x, paddings(l, node, padding), scalar(l, LOWEST)];
  const padded = emitFor(l, node, 'PadV2', inputs, { T: FLOAT, Tpaddings: INT });
  return emitFor(l, node, 'MaxPool', [padded], attributes);
}

/** Padded cells do not count in TensorFlow's either. */
export function averagePool(
  l: Lowering,
  node: Node,
  x: string,
  { size, strides, padding }: OperationOf<'average_pool'>,
): string {
  return emitFor(l, node, 'AvgPool', [x], windowOf(size, strides, padding));
}

function windowOf(size: Pair, strides: Pair, padding: 'same' | 'valid'): Attributes {
  return {
    T: FLOAT,
    data_format: NHWC,
    ksize: ints(1, size[0], size[1], 1),
    strides: ints(1, strides[0], strides[1], 1),
    padding: { kind: 'string', value: padding === 'same' ? 'SAME' : 'VALID' },
  };
}

/** One matrix takes every place of the picture to every cell of the grid: `[cells, H W]` times `[N, H W, C]`. */
export function adaptiveAveragePool(
  l: Lowering,
  node: Node,
  x: string,
  { size }: OperationOf<'adaptive_average_pool'>,
): string {
  const [height, width, channels] = node.inputs[0]!.shape as readonly [number, number, number];
  const [rows, columns] = [shares(height, size[0]), shares(width, size[1])];
  const matrix = rows.flatMap((row) => columns.flatMap((column) => row.flatMap((r) => column.map((c) => r * c))));
  const shape = [size[0] * size[1], height * width];
  const name = `${slashed(node.path)}/shares`;
  const places = reshape(l, node, x, [height * width, channels]);
  const attributes = { T: FLOAT, adj_x: flag(false), adj_y: flag(false) };
  const inputs = [fixed(l, name, shape, Float32Array.from(matrix)), places];
  return reshape(l, node, emitFor(l, node, 'BatchMatMulV2', inputs, attributes), node.shape);
}

/** What share of each of `size` windows every one of `length` places has. */
function shares(length: number, size: number): number[][] {
  return adaptiveWindows(length, size).map(([start, end]) =>
    Array.from({ length }, (_, at) => (at >= start && at < end ? 1 / (end - start) : 0)),
  );
}
