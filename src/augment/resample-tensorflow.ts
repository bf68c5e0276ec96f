/**
 * TensorFlow's bilinear sampling on the CPU, in float32 step by step: two neighbours on each axis, whatever the scale,
 * so shrinking skips pixels.
 *
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/image/resize_bilinear_op.cc
 *   (compute_interpolation_weights, compute_lerp)
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/image_resizer_state.h
 *   (LegacyScaler, HalfPixelScaler)
 */

import type { Axis, Source } from './resample-axis.js';

/** For each wanted output pixel: its two neighbours and how far it lies from the lower one, 0..1. */
export interface TensorflowAxis {
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  readonly lerp: Float32Array;
}

/** The neighbours of one axis: at `(x + 0.5) * scale - 0.5` for TF2, at `x * scale` for TF1. */
export function tensorflowAxis(
  kernel: 'tf_bilinear' | 'tf1_bilinear',
  { inSize, outSize, start, count }: Axis,
): TensorflowAxis {
  const { fround } = Math;
  const scale = fround(inSize / outSize);
  const lower = new Int32Array(count);
  const upper = new Int32Array(count);
  const lerp = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const x = start + i;
    const at = kernel === 'tf_bilinear' ? fround(fround(fround(x + 0.5) * scale) - 0.5) : fround(x * scale);
    const floor = Math.floor(at);
    lower[i] = Math.max(floor, 0);
    upper[i] = Math.min(Math.ceil(at), inSize - 1);
    lerp[i] = at - floor;
  }
  return { lower, upper, lerp };
}

/** Interpolates along the row, then between the two rows: `[rows, columns, 3]`. */
export function lerpPlane({ data, stride, box }: Source, columns: TensorflowAxis, rows: TensorflowAxis): Float32Array {
  return data instanceof Uint8Array
    ? lerpBytes(data, stride, box.y * stride + box.x * 3, columns, rows)
    : lerpFloats(data, stride, box.y * stride + box.x * 3, columns, rows);
}

// The same loop twice: one that sees both kinds of array would run several times slower.

function lerpBytes(
  data: Uint8Array,
  stride: number,
  origin: number,
  columns: TensorflowAxis,
  rows: TensorflowAxis,
): Float32Array {
  const { fround } = Math;
  const width = columns.lerp.length;
  const height = rows.lerp.length;
  const out = new Float32Array(height * width * 3);
  let o = 0;
  for (let y = 0; y < height; y++) {
    const top = origin + rows.lower[y]! * stride;
    const bottom = origin + rows.upper[y]! * stride;
    const v = rows.lerp[y]!;
    for (let x = 0; x < width; x++) {
      const left = columns.lower[x]! * 3;
      const right = columns.upper[x]! * 3;
      const u = columns.lerp[x]!;
      for (let c = 0; c < 3; c++) {
        const topLeft = data[top + left + c]!;
        const bottomLeft = data[bottom + left + c]!;
        const above = fround(topLeft + fround(fround(data[top + right + c]! - topLeft) * u));
        const below = fround(bottomLeft + fround(fround(data[bottom + right + c]! - bottomLeft) * u));
        out[o++] = above + fround(fround(below - above) * v);
      }
    }
  }
  return out;
}

function lerpFloats(
  data: Float32Array,
  stride: number,
  origin: number,
  columns: TensorflowAxis,
  rows: TensorflowAxis,
): Float32Array {
  const { fround } = Math;
  const width = columns.lerp.length;
  const height = rows.lerp.length;
  const out = new Float32Array(height * width * 3);
  let o = 0;
  for (let y = 0; y < height; y++) {
    const top = origin + rows.lower[y]! * stride;
    const bottom = origin + rows.upper[y]! * stride;
    const v = rows.lerp[y]!;
    for (let x = 0; x < width; x++) {
      const left = columns.lower[x]! * 3;
      const right = columns.upper[x]! * 3;
      const u = columns.lerp[x]!;
      for (let c = 0; c < 3; c++) {
        const topLeft = data[top + left + c]!;
        const bottomLeft = data[bottom + left + c]!;
        const above = fround(topLeft + fround(fround(data[top + right + c]! - topLeft) * u));
        const below = fround(bottomLeft + fround(fround(data[bottom + right + c]! - bottomLeft) * u));
        out[o++] = above + fround(fround(below - above) * v);
      }
    }
  }
  return out;
}
