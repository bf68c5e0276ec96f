/** Numbers as they lie in files, and as the float32 that networks compute with. */

import type { FileDtype } from './source.js';

/** Bytes a number. */
export const DTYPE_BYTES: Readonly<Record<FileDtype, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  int32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
  bool: 1,
};

/** Nearly every processor of Node is little-endian (IBM's s390x is not). */
export const HOST_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Converts raw numbers to float32: wider types are rounded to nearest, booleans become 0 and 1.
 * @param bytes a whole number of elements; not changed
 * @returns an array that is alone in its buffer, which may be that of `bytes` when they are float32 alone in theirs
 */
export function toFloat32(bytes: Uint8Array, dtype: FileDtype, littleEndian = true): Float32Array {
  const width = DTYPE_BYTES[dtype];
  const swap = width > 1 && littleEndian !== HOST_LITTLE_ENDIAN;
  const isAlone = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  // typed arrays need their own alignment, and swapping must not change the caller's bytes; Buffer.slice copies nothing
  const isCopied = swap || bytes.byteOffset % width !== 0 || (dtype === 'float32' && !isAlone);
  const own = isCopied ? new Uint8Array(bytes) : bytes;
  if (swap) reverseEach(own, width);
  const count = Math.floor(own.byteLength / width);
  const { buffer, byteOffset } = own;
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, byteOffset, count);
    case 'float64':
      return Float32Array.from(new Float64Array(buffer, byteOffset, count));
    case 'float16':
      return fromFloat16(new Uint16Array(buffer, byteOffset, count));
    case 'bfloat16':
      return fromBfloat16(new Uint16Array(buffer, byteOffset, count));
    case 'int8':
      return Float32Array.from(new Int8Array(buffer, byteOffset, count));
    case 'uint8':
      return Float32Array.from(new Uint8Array(buffer, byteOffset, count));
    case 'int16':
      return Float32Array.from(new Int16Array(buffer, byteOffset, count));
    case 'uint16':
      return Float32Array.from(new Uint16Array(buffer, byteOffset, count));
    case 'int32':
      return Float32Array.from(new Int32Array(buffer, byteOffset, count));
    case 'uint32':
      return Float32Array.from(new Uint32Array(buffer, byteOffset, count));
    case 'int64':
      return fromBigInts(new BigInt64Array(buffer, byteOffset, count));
    case 'uint64':
      return fromBigInts(new BigUint64Array(buffer, byteOffset, count));
    case 'bool':
      return Float32Array.from(new Uint8Array(buffer, byteOffset, count), (value) => (value === 0 ? 0 : 1));
  }
}

/**
 * IEEE 754 binary16, every value exactly: 1 sign, 5 exponent (bias 15), 10 fraction bits.
 * @param out as long as `halves`; a new array when absent
 */
export function fromFloat16(halves: Uint16Array, out: Float32Array = new Float32Array(halves.length)): Float32Array {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      out[i] = fraction * 2 ** -24; // subnormal, or zero
      bits[i]! |= sign;
    } else if (exponent === 0x1f) {
      bits[i] = sign | 0x7f800000 | (fraction << 13); // infinity, or not a number
    } else {
      bits[i] = sign | ((exponent + 112) << 23) | (fraction << 13); // 112 = 127 - 15, the difference of the biases
    }
  }
  return out;
}

/** The upper half of a float32. */
function fromBfloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}

function fromBigInts(values: BigInt64Array | BigUint64Array): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = Number(values[i]!);
  return out;
}

function reverseEach(bytes: Uint8Array, width: number): void {
  for (let start = 0; start + width <= bytes.length; start += width) bytes.subarray(start, start + width).reverse();
}

/** Float32 to IEEE 754 binary16, rounded to nearest even; above 65504 + half a step becomes infinity. */
export function toFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) out[i] = float16Bits(bits[i]!);
  return out;
}

function float16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // not a number
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2^16 and above
  if (magnitude < 0x33000000) return sign; // below half of the smallest subnormal, 2^-25
  if (magnitude < 0x38800000) {
    // below 2^-14: subnormal; the fraction with its hidden bit, shifted into units of 2^-24
    const shift = 126 - (magnitude >>> 23);
    return sign | roundShift((magnitude & 0x7fffff) | 0x800000, shift);
  }
  return sign | roundShift(magnitude - 0x38000000, 13); // a carry out of the fraction steps the exponent: right
}

/** value >> shift, rounded to nearest, ties to even; shift is 1 to 31. */
function roundShift(value: number, shift: number): number {
  const floor = value >>> shift;
  const rest = value - floor * 2 ** shift;
  const half = 2 ** (shift - 1);
  return rest > half || (rest === half && (floor & 1) === 1) ? floor + 1 : floor;
}

/** The bytes behind a typed array, without a copy. */
export function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Elements of a shape; not finite or not safe for shapes that no file can hold. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
