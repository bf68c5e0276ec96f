/** The loops over RGB pictures as the addon has them; undefined or false where it is not there, or not for such data. */

import { type Memory, picturesAddon } from '../addon.js';
import type { Source } from './resample-axis.js';
import type { PillowAxis } from './resample-pillow.js';
import type { TensorflowAxis } from './resample-tensorflow.js';

/**
 * Both passes of Pillow's resize: `[rows, columns, 3]`.
 * @param fixed weights of an axis in fixed point
 * @param memory where the result goes
 */
export function compiledPillow(
  { data, channels, stride, box }: Source,
  columns: PillowAxis,
  rows: PillowAxis,
  fixed: (weights: Float64Array) => Int32Array,
  memory: Memory,
): Uint8Array | undefined {
  const addon = picturesAddon();
  if (!addon || channels !== 3 || !(data instanceof Uint8Array)) return undefined;
  const [width, height] = [columns.starts.length, rows.starts.length];
  const first = rows.starts[0]!;
  const read = rows.starts[height - 1]! + rows.counts[height - 1]! - first;
  const origin = (box.y + first) * stride + box.x * 3;
  const out = memory(height * width * 3);
  addon.pillow(
    data,
    Int32Array.of(origin, stride, box.width, first, read, columns.taps, rows.taps),
    columns.starts,
    columns.counts,
    fixed(columns.weights),
    rows.starts,
    rows.counts,
    fixed(rows.weights),
    out,
  );
  return out;
}

/**
 * TensorFlow's bilinear sampling: `[rows, columns, 3]`.
 * @param memory where the result goes
 */
export function compiledLerp(
  { data, channels, stride, box }: Source,
  columns: TensorflowAxis,
  rows: TensorflowAxis,
  memory: Memory,
): Float32Array | undefined {
  const addon = picturesAddon();
  if (!addon || channels !== 3 || !(data instanceof Uint8Array)) return undefined;
  const length = rows.lerp.length * columns.lerp.length * 3;
  const { buffer, byteOffset } = memory(length * Float32Array.BYTES_PER_ELEMENT);
  const out = new Float32Array(buffer, byteOffset, length);
  const geometry = Int32Array.of(box.y * stride + box.x * 3, stride, box.width);
  const { lower, upper, lerp } = columns;
  addon.lerp(data, geometry, lower, upper, lerp, rows.lower, rows.upper, rows.lerp, out);
  return out;
}

/** How the three channels of a picture become numbers, each in the order of the output. */
export interface Standard {
  /** The channel in the picture. */
  readonly sources: readonly number[];
  readonly scale: number;
  readonly shifts: readonly number[];
  readonly spreads: readonly number[];
  /** Rows are written from their end. */
  readonly flip: boolean;
}

/**
 * Writes `(value * scale - shift) / spread` into `out`, `[height, width, 3]`.
 * @param tables of the 256 values that a byte has, one a channel, one after the other
 * @returns whether it did
 */
export function compiledStandard(
  data: Uint8Array | Float32Array,
  width: number,
  { sources, scale, shifts, spreads, flip }: Standard,
  tables: () => Float32Array,
  out: Float32Array,
): boolean {
  const addon = picturesAddon();
  if (!addon || sources.length !== 3) return false;
  const way = Int32Array.of(width, data.length / (3 * width), ...sources, flip ? 1 : 0);
  if (data instanceof Uint8Array) addon.lookUp(data, way, tables(), out);
  else addon.standardise(data, way, Float64Array.of(scale, ...shifts, ...spreads), out);
  return true;
}
