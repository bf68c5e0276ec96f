/**
 * The loops over RGB pictures as the addon has them, and all of them at once behind its JPEG decoder; undefined or false
 * where it is not there, or not for such data.
 */

import { type LerpResize, type Memory, type PillowResize, picturesAddon } from '../addon.js';
import type { Box, ImageSize } from './image.js';
import type { Source } from './resample-axis.js';
import type { PillowAxis } from './resample-pillow.js';
import type { TensorflowAxis } from './resample-tensorflow.js';

/** Weights of an axis in fixed point. */
type ToFixed = (weights: Float64Array) => Int32Array;

/** How both sides of a picture are resized. */
export type Axes =
  | { readonly by: 'pillow'; readonly columns: PillowAxis; readonly rows: PillowAxis; readonly fixed: ToFixed }
  | { readonly by: 'tensorflow'; readonly columns: TensorflowAxis; readonly rows: TensorflowAxis };

/** The pixels that are read: a rectangle in rows of `stride` bytes. */
type Area = Pick<Source, 'stride' | 'box'>;

/**
 * Both passes of Pillow's resize: `[rows, columns, 3]`.
 * @param memory where the result goes
 */
export function compiledPillow(
  source: Source,
  columns: PillowAxis,
  rows: PillowAxis,
  fixed: ToFixed,
  memory: Memory,
): Uint8Array | undefined {
  const addon = picturesAddon();
  if (!addon || source.channels !== 3 || !(source.data instanceof Uint8Array)) return undefined;
  const out = memory(rows.starts.length * columns.starts.length * 3);
  addon.pillow(source.data, ...pillowResize(source, columns, rows, fixed), out);
  return out;
}

function pillowResize({ stride, box }: Area, columns: PillowAxis, rows: PillowAxis, fixed: ToFixed): PillowResize {
  const last = rows.starts.length - 1;
  const first = rows.starts[0]!;
  const read = rows.starts[last]! + rows.counts[last]! - first;
  const origin = (box.y + first) * stride + box.x * 3;
  return [
    Int32Array.of(origin, stride, box.width, first, read, columns.taps, rows.taps),
    columns.starts,
    columns.counts,
    fixed(columns.weights),
    rows.starts,
    rows.counts,
    fixed(rows.weights),
  ];
}

/**
 * TensorFlow's bilinear sampling: `[rows, columns, 3]`.
 * @param memory where the result goes
 */
export function compiledLerp(
  source: Source,
  columns: TensorflowAxis,
  rows: TensorflowAxis,
  memory: Memory,
): Float32Array | undefined {
  const addon = picturesAddon();
  if (!addon || source.channels !== 3 || !(source.data instanceof Uint8Array)) return undefined;
  const length = rows.lerp.length * columns.lerp.length * 3;
  const { buffer, byteOffset } = memory(length * Float32Array.BYTES_PER_ELEMENT);
  const out = new Float32Array(buffer, byteOffset, length);
  addon.lerp(source.data, ...lerpResize(source, columns, rows), out);
  return out;
}

function lerpResize({ stride, box }: Area, columns: TensorflowAxis, rows: TensorflowAxis): LerpResize {
  const geometry = Int32Array.of(box.y * stride + box.x * 3, stride, box.width);
  return [geometry, columns.lower, columns.upper, columns.lerp, rows.lower, rows.upper, rows.lerp];
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
  standard: Standard,
  tables: () => Float32Array,
  out: Float32Array,
): boolean {
  const addon = picturesAddon();
  if (!addon || standard.sources.length !== 3) return false;
  const way = wayOf({ width, height: data.length / (3 * width) }, standard);
  if (data instanceof Uint8Array) addon.lookUp(data, way, tables(), out);
  else addon.standardise(data, way, numbersOf(standard), out);
  return true;
}

const wayOf = ({ width, height }: ImageSize, { sources, flip }: Standard): Int32Array =>
  Int32Array.of(width, height, ...sources, flip ? 1 : 0);

const numbersOf = ({ scale, shifts, spreads }: Standard): Float64Array => Float64Array.of(scale, ...shifts, ...spreads);

/** An RGB JPEG as its header describes it. */
export interface StoredJpeg extends ImageSize {
  /** Unchanged until what is done with it is done. */
  readonly file: Uint8Array;
  /** EXIF's, 1 to 8. */
  readonly orientation: number;
}

/** What becomes of a decoded picture. */
export interface Finish {
  /** Of the upright picture. */
  readonly box: Box;
  /** Made for a picture and a box of these sizes. */
  readonly axes: Axes;
  readonly standard: Standard;
  /** As {@link compiledStandard} takes them. */
  readonly tables: () => Float32Array;
}

/**
 * Decodes, turns upright, resizes and normalises a JPEG on the process' thread pool: `[rows, columns, 3]`.
 * @param out nobody else's until the promise is settled
 * @returns whether it did; where not, `out` holds nothing of use
 */
export function compiledJpeg(
  { file, width, height, orientation }: StoredJpeg,
  { box, axes, standard, tables }: Finish,
  out: Float32Array,
): Promise<boolean> | undefined {
  const addon = picturesAddon();
  if (!addon || standard.sources.length !== 3 || out.length !== lengthOf(axes)) return undefined;
  const area: Area = { stride: 3 * uprightSize({ width, height }, orientation).width, box };
  const stored = Int32Array.of(width, height, orientation);
  if (axes.by === 'pillow') {
    const { columns, rows, fixed } = axes;
    const way = wayOf({ width: columns.starts.length, height: rows.starts.length }, standard);
    return addon.jpegByPillow(file, ...pillowResize(area, columns, rows, fixed), stored, way, tables(), out);
  }
  const { columns, rows } = axes;
  const way = wayOf({ width: columns.lerp.length, height: rows.lerp.length }, standard);
  return addon.jpegByLerp(file, ...lerpResize(area, columns, rows), stored, way, numbersOf(standard), out);
}

const lengthOf = ({ columns, rows }: Axes): number => 3 * countOf(columns) * countOf(rows);
const countOf = (axis: PillowAxis | TensorflowAxis): number => ('starts' in axis ? axis.starts : axis.lerp).length;

/** The size of a picture as it is to be shown: from orientation 5 on, its sides change places (EXIF 2.32, 4.6.4). */
export function uprightSize({ width, height }: ImageSize, orientation: number): ImageSize {
  return orientation < 5 ? { width, height } : { width: height, height: width };
}
