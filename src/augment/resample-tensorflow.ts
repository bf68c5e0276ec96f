/**
 * TensorFlow's bilinear sampling on the CPU, in float32 step by step: two neighbours on each axis, whatever the scale,
 * so shrinking skips pixels.
 *
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/image/resize_bilinear_op.cc
 *   (compute_interpolation_weights, compute_lerp)
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/image_resizer_state.h
 *   (LegacyScaler, HalfPixelScaler)
 */

import { type Memory, newMemory } from '../addon.js';
import { compiledLerp } from './compiled.js';
import type { Axis, Source } from './resample-axis.js';

/** For each wanted output pixel: its two neighbours and how far it lies from the lower one, 0..1. */
export type TensorflowKernel = 'tf_bilinear' | 'tf1_bilinear' | 'tf1_bilinear_corners';

export interface TensorflowAxis {
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  readonly lerp: Float32Array;
}

/**
 * The neighbours of one axis: at `(x + 0.5) * scale - 0.5` for TF2, at `x * scale` for TF1, where aligned corners scale
 * by the distance between the outer pixels' centres (CalculateResizeScale of image_resizer_state.h).
 */
export function tensorflowAxis(kernel: TensorflowKernel, { inSize, outSize, start, count }: Axis): TensorflowAxis {
  const { fround } = Math;
  const aligned = kernel === 'tf1_bilinear_corners' && outSize > 1;
  const scale = aligned ? fround((inSize - 1) / (outSize - 1)) : fround(inSize / outSize);
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

/**
 * Interpolates along the row, then between the two rows: `[rows, columns, channels]`.
 * @param memory may hold the result
 */
export function lerpPlane(
  source: Source,
  columns: TensorflowAxis,
  rows: TensorflowAxis,
  memory: Memory = newMemory,
): Float32Array {
  const { data } = source;
  const compiled = compiledLerp(source, columns, rows, memory);
  if (compiled) return compiled;
  if (data instanceof Uint8Array && source.channels === 3) return lerpRgb({ ...source, data }, columns, rows);
  return data instanceof Uint8Array
    ? lerpBytes({ ...source, data }, columns, rows)
    : lerpFloats({ ...source, data }, columns, rows);
}

/**
 * Almost every picture comes here. The difference of two bytes is exact, so it needs no rounding to float32, and the
 * channels are written out: together a quarter less time than the loop below.
 */
function lerpRgb(
  { data, stride, box }: Source & { data: Uint8Array },
  columns: TensorflowAxis,
  rows: TensorflowAxis,
): Float32Array {
  const { fround } = Math;
  const origin = box.y * stride + box.x * 3;
  const width = columns.lerp.length;
  const height = rows.lerp.length;
  const out = new Float32Array(height * width * 3);
  /** Between two pixels of a row, then between two rows; the store is the last rounding. */
  const between = (tl: number, tr: number, bl: number, br: number, u: number, v: number): number => {
    const above = fround(tl + fround((tr - tl) * u));
    const below = fround(bl + fround((br - bl) * u));
    return above + fround(fround(below - above) * v);
  };
  let o = 0;
  for (let y = 0; y < height; y++) {
    const top = origin + rows.lower[y]! * stride;
    const bottom = origin + rows.upper[y]! * stride;
    const v = rows.lerp[y]!;
    for (let x = 0; x < width; x++, o += 3) {
      const left = columns.lower[x]! * 3;
      const right = columns.upper[x]! * 3;
      const u = columns.lerp[x]!;
      const [tl, tr, bl, br] = [top + left, top + right, bottom + left, bottom + right];
      out[o] = between(data[tl]!, data[tr]!, data[bl]!, data[br]!, u, v);
      out[o + 1] = between(data[tl + 1]!, data[tr + 1]!, data[bl + 1]!, data[br + 1]!, u, v);
      out[o + 2] = between(data[tl + 2]!, data[tr + 2]!, data[bl + 2]!, data[br + 2]!, u, v);
    }
  }
  return out;
}

// The same loop twice: one that sees both kinds of array would run several times slower.

function lerpBytes(
  { data, channels, stride, box }: Source & { data: Uint8Array },
  columns: TensorflowAxis,
  rows: TensorflowAxis,
): Float32Array {
  const { fround } = Math;
  const origin = box.y * stride + box.x * channels;
  const width = columns.lerp.length;
  const height = rows.lerp.length;
  const out = new Float32Array(height * width * channels);
  let o = 0;
  for (let y = 0; y < height; y++) {
    const top = origin + rows.lower[y]! * stride;
    const bottom = origin + rows.upper[y]! * stride;
    const v = rows.lerp[y]!;
    for (let x = 0; x < width; x++) {
      const left = columns.lower[x]! * channels;
      const right = columns.upper[x]! * channels;
      const u = columns.lerp[x]!;
      for (let c = 0; c < channels; c++) {
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
  { data, channels, stride, box }: Source & { data: Float32Array },
  columns: TensorflowAxis,
  rows: TensorflowAxis,
): Float32Array {
  const { fround } = Math;
  const origin = box.y * stride + box.x * channels;
  const width = columns.lerp.length;
  const height = rows.lerp.length;
  const out = new Float32Array(height * width * channels);
  let o = 0;
  for (let y = 0; y < height; y++) {
    const top = origin + rows.lower[y]! * stride;
    const bottom = origin + rows.upper[y]! * stride;
    const v = rows.lerp[y]!;
    for (let x = 0; x < width; x++) {
      const left = columns.lower[x]! * channels;
      const right = columns.upper[x]! * channels;
      const u = columns.lerp[x]!;
      for (let c = 0; c < channels; c++) {
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
