/** Pools over places. */
import type { Node } from '../engine/graph.js';
import type { OperationOf, Pair } from '../engine/operations.js';
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

/** Lowest finite float32: what a padded cell of a max pool holds, so that padding never wins. */
const LOWEST = -3.4028234663852886e38;

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

/**
 * What share of each of `size` windows a row has: floor(i L / size) up to ceil((i + 1) L / size), evenly.
 * @see torch/aten/src/ATen/native/AdaptivePooling.h, start_index and end_index
 */
function shares(length: number, size: number): number[][] {
  return Array.from({ length: size }, (_, i) => {
    const [start, end] = [Math.floor((i * length) / size), Math.ceil(((i + 1) * length) / size)];
    return Array.from({ length }, (_, at) => (at >= start && at < end ? 1 / (end - start) : 0));
  });
}
