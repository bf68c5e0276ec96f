/**
 * Pillow's resampling: a filter that widens with the scale when shrinking, applied along rows, then along columns.
 *
 * Bytes use Pillow's 22-bit fixed-point weights and are rounded and clipped after each pass, which is what makes the
 * result equal to the last bit. Rows always come before columns, as in every Pillow up to 12; Pillow 13 exchanges the
 * passes where the height shrinks much more than the width, which moves a few pixels by a rounding. Floats are summed in double precision and stored as float32, as Pillow's mode F does.
 *
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c (precompute_coeffs,
 *   normalize_coeffs_8bpc, ImagingResampleHorizontal_8bpc, ImagingResampleVertical_8bpc)
 */

import type { Axis, Source } from './resample-axis.js';

type PillowKernel = 'pil_bilinear' | 'pil_bicubic';

/** `32 - 8 - 2`: 8 bits for the byte, 2 for sums that overshoot it (Resample.c, PRECISION_BITS). */
const PRECISION_BITS = 32 - 8 - 2;
const ONE_HALF = 1 << (PRECISION_BITS - 1);

/** Pixels on each side that the filter reaches at scale 1. */
const support: Record<PillowKernel, number> = { pil_bilinear: 1, pil_bicubic: 2 };

const filters: Record<PillowKernel, (x: number) => number> = {
  pil_bilinear: (x) => {
    const d = Math.abs(x);
    return d < 1 ? 1 - d : 0;
  },
  // Keys' cubic convolution with a = -0.5; written as in Resample.c, so that rounding is the same.
  pil_bicubic: (x) => {
    const a = -0.5;
    const d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
    return 0;
  },
};

/** For each wanted output pixel: the first input pixel, how many, and their weights, `taps` apart. */
export interface PillowAxis {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly taps: number;
  /** `[count, taps]`, summing to 1 for each output pixel. */
  readonly weights: Float64Array;
}

/** The weights of one axis. */
export function pillowAxis(kernel: PillowKernel, { inSize, outSize, start, count }: Axis): PillowAxis {
  const filter = filters[kernel];
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const reach = support[kernel] * filterScale;
  const taps = Math.ceil(reach) * 2 + 1;
  const inverse = 1 / filterScale;
  const starts = new Int32Array(count);
  const counts = new Int32Array(count);
  const weights = new Float64Array(count * taps);
  for (let i = 0; i < count; i++) {
    const center = (start + i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const n = Math.min(Math.trunc(center + reach + 0.5), inSize) - first;
    let sum = 0;
    for (let t = 0; t < n; t++) {
      const weight = filter((t + first - center + 0.5) * inverse);
      weights[i * taps + t] = weight;
      sum += weight;
    }
    if (sum !== 0) for (let t = 0; t < n; t++) weights[i * taps + t]! /= sum;
    starts[i] = first;
    counts[i] = n;
  }
  return { starts, counts, taps, weights };
}

/** Rounds away from zero to fixed point, as C's cast of `x ± 0.5` does. */
export function toFixedPoint(weights: Float64Array): Int32Array {
  const out = new Int32Array(weights.length);
  for (let i = 0; i < weights.length; i++) {
    const scaled = weights[i]! * (1 << PRECISION_BITS);
    out[i] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  }
  return out;
}

/** Rows `[firstRow, lastRow)` of the source's box resized along the row: `[lastRow - firstRow, columns, channels]`. */
export function pillowHorizontal(
  source: Source,
  firstRow: number,
  lastRow: number,
  columns: PillowAxis,
): Uint8Array | Float32Array {
  const { data } = source;
  if (source.channels !== 3) return horizontalOthers(source, firstRow, lastRow, columns);
  return data instanceof Uint8Array
    ? horizontalBytes({ ...source, data }, firstRow, lastRow, columns)
    : horizontalFloats({ ...source, data }, firstRow, lastRow, columns);
}

/**
 * Resized along the columns: `[rows, stride]`.
 * @param data `[..., stride]`, width times channels, whose first row is row `firstRow` of the source's box
 */
export function pillowVertical(
  data: Uint8Array | Float32Array,
  stride: number,
  firstRow: number,
  rows: PillowAxis,
): Uint8Array | Float32Array {
  return data instanceof Uint8Array
    ? verticalBytes(data, stride, firstRow, rows)
    : verticalFloats(data, stride, firstRow, rows);
}

/**
 * Column by column: the weights of a column stay in registers while the rows go by. Three and four pixels are what most
 * photographs take on their way to 224 pixels; written out they take half the time of the loop over `weights`.
 */
function horizontalBytes(
  { data, stride, box }: Source & { data: Uint8Array },
  firstRow: number,
  lastRow: number,
  { starts, counts, taps, weights }: PillowAxis,
): Uint8Array {
  const fixed = toFixedPoint(weights);
  const outStride = starts.length * 3;
  const out = new Uint8ClampedArray((lastRow - firstRow) * outStride);
  const origin = (box.y + firstRow) * stride + box.x * 3;
  const columns = { data, stride, out, outStride };
  for (let x = 0; x < starts.length; x++) {
    const first = x * taps;
    const w = fixed.subarray(first, first + counts[x]!);
    const i = origin + starts[x]! * 3;
    if (w.length === 3) columnOfThree(columns, i, x * 3, w);
    else if (w.length === 4) columnOfFour(columns, i, x * 3, w);
    else columnOfAny(columns, i, x * 3, w);
  }
  return new Uint8Array(out.buffer);
}

/** A clamped array does Pillow's clip8 when a sum, without its fraction, is stored. */
interface Columns {
  readonly data: Uint8Array;
  readonly stride: number;
  readonly out: Uint8ClampedArray;
  readonly outStride: number;
}

/** One output column, from input index `i` and output index `o` downwards. */
type Column = (columns: Columns, i: number, o: number, weights: Int32Array) => void;

const columnOfThree: Column = ({ data, stride, out, outStride }, i, o, weights) => {
  const { imul } = Math;
  const [a, b, c] = weights as unknown as readonly [number, number, number];
  for (; o < out.length; i += stride, o += outStride) {
    out[o] = (imul(data[i]!, a) + imul(data[i + 3]!, b) + imul(data[i + 6]!, c) + ONE_HALF) >> PRECISION_BITS;
    out[o + 1] = (imul(data[i + 1]!, a) + imul(data[i + 4]!, b) + imul(data[i + 7]!, c) + ONE_HALF) >> PRECISION_BITS;
    out[o + 2] = (imul(data[i + 2]!, a) + imul(data[i + 5]!, b) + imul(data[i + 8]!, c) + ONE_HALF) >> PRECISION_BITS;
  }
};

const columnOfFour: Column = ({ data, stride, out, outStride }, i, o, weights) => {
  const { imul } = Math;
  const [a, b, c, d] = weights as unknown as readonly [number, number, number, number];
  for (; o < out.length; i += stride, o += outStride) {
    for (let channel = 0; channel < 3; channel++) {
      const j = i + channel;
      const sum = imul(data[j]!, a) + imul(data[j + 3]!, b) + imul(data[j + 6]!, c) + imul(data[j + 9]!, d);
      out[o + channel] = (sum + ONE_HALF) >> PRECISION_BITS;
    }
  }
};

const columnOfAny: Column = ({ data, stride, out, outStride }, i, o, weights) => {
  const { imul } = Math;
  for (; o < out.length; i += stride, o += outStride) {
    let r = ONE_HALF;
    let g = ONE_HALF;
    let b = ONE_HALF;
    for (let k = 0, j = i; k < weights.length; k++, j += 3) {
      const weight = weights[k]!;
      r = (r + imul(data[j]!, weight)) | 0;
      g = (g + imul(data[j + 1]!, weight)) | 0;
      b = (b + imul(data[j + 2]!, weight)) | 0;
    }
    out[o] = r >> PRECISION_BITS;
    out[o + 1] = g >> PRECISION_BITS;
    out[o + 2] = b >> PRECISION_BITS;
  }
};

/** Grey and RGBA. One loop for any number of channels takes twice the time of the loops above. */
function horizontalOthers(
  { data, channels, stride, box }: Source,
  firstRow: number,
  lastRow: number,
  { starts, counts, taps, weights }: PillowAxis,
): Uint8Array | Float32Array {
  const bytes = data instanceof Uint8Array;
  const factors = bytes ? toFixedPoint(weights) : weights;
  const length = (lastRow - firstRow) * starts.length * channels;
  const out = bytes ? new Uint8Array(length) : new Float32Array(length);
  let o = 0;
  for (let y = firstRow; y < lastRow; y++) {
    const row = (box.y + y) * stride + box.x * channels;
    for (let x = 0; x < starts.length; x++) {
      const first = x * taps;
      const end = first + counts[x]!;
      for (let c = 0; c < channels; c++) {
        let sum = bytes ? ONE_HALF : 0;
        let i = row + starts[x]! * channels + c;
        for (let k = first; k < end; k++, i += channels) sum += data[i]! * factors[k]!;
        out[o++] = bytes ? clip(sum) : sum;
      }
    }
  }
  return out;
}

/** Four rows at a time into the sums of an output row: memory is gone through once for them, and in order. */
function verticalBytes(
  data: Uint8Array,
  stride: number,
  firstRow: number,
  { starts, counts, taps, weights }: PillowAxis,
): Uint8Array {
  const fixed = toFixedPoint(weights);
  const height = starts.length;
  const out = new Uint8ClampedArray(height * stride);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    const last = counts[y]! - 1;
    const first = (starts[y]! - firstRow) * stride;
    // Beyond the last row: that row again, with the weight 0 that stands behind the weights in use.
    const row = (k: number): Uint8Array => {
      const at = first + Math.min(k, last) * stride;
      return data.subarray(at, at + stride);
    };
    const weight = (k: number): number => (k <= last ? fixed[y * taps + k]! : 0);
    sums.fill(ONE_HALF);
    for (let k = 0; k <= last; k += 4) {
      const rows = [row(k), row(k + 1), row(k + 2), row(k + 3)] as const;
      addRows(sums, rows, [weight(k), weight(k + 1), weight(k + 2), weight(k + 3)]);
    }
    for (let x = 0, o = y * stride; x < stride; x++, o++) out[o] = sums[x]! >> PRECISION_BITS;
  }
  return new Uint8Array(out.buffer);
}

type Four<T> = readonly [T, T, T, T];

function addRows(sums: Int32Array, [p, q, r, s]: Four<Uint8Array>, [a, b, c, d]: Four<number>): void {
  const { imul } = Math;
  for (let x = 0; x < sums.length; x++) {
    sums[x] = sums[x]! + imul(p[x]!, a) + imul(q[x]!, b) + imul(r[x]!, c) + imul(s[x]!, d);
  }
}

function clip(sum: number): number {
  const value = sum >> PRECISION_BITS;
  return value < 0 ? 0 : Math.min(value, 255);
}

function horizontalFloats(
  { data, stride, box }: Source & { data: Float32Array },
  firstRow: number,
  lastRow: number,
  { starts, counts, taps, weights }: PillowAxis,
): Float32Array {
  const width = starts.length;
  const out = new Float32Array((lastRow - firstRow) * width * 3);
  let o = 0;
  for (let y = firstRow; y < lastRow; y++) {
    const row = (box.y + y) * stride + box.x * 3;
    for (let x = 0; x < width; x++) {
      let i = row + starts[x]! * 3;
      let k = x * taps;
      let r = 0;
      let g = 0;
      let b = 0;
      for (const end = k + counts[x]!; k < end; k++, i += 3) {
        const weight = weights[k]!;
        r += data[i]! * weight;
        g += data[i + 1]! * weight;
        b += data[i + 2]! * weight;
      }
      out[o] = r;
      out[o + 1] = g;
      out[o + 2] = b;
      o += 3;
    }
  }
  return out;
}

function verticalFloats(
  data: Float32Array,
  stride: number,
  firstRow: number,
  { starts, counts, taps, weights }: PillowAxis,
): Float32Array {
  const height = starts.length;
  const out = new Float32Array(height * stride);
  let o = 0;
  for (let y = 0; y < height; y++) {
    const row = (starts[y]! - firstRow) * stride;
    const first = y * taps;
    const end = first + counts[y]!;
    for (let x = 0; x < stride; x++) {
      let sum = 0;
      let i = row + x;
      for (let k = first; k < end; k++, i += stride) sum += data[i]! * weights[k]!;
      out[o++] = sum;
    }
  }
  return out;
}
