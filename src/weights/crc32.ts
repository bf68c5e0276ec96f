/** Checksums of 32 bits, reflected: CRC-32 as zip has it, and CRC-32C as TensorFlow's checkpoints do. */

import * as zlib from 'node:zlib';

/** Bytes that one step takes: one table each, so that no step waits for the one before but once. */
const STRIDE = 16;

const NO_WORDS = new Int32Array(0);

/** 16 tables of 256 one after the other: entry `256 k + byte` is the remainder of that byte followed by k zero bytes. */
function makeTables(polynomial: number): Int32Array {
  const tables = new Int32Array(STRIDE * 256);
  for (let byte = 0; byte < 256; byte++) {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? polynomial : 0);
    tables[byte] = remainder;
  }
  for (let i = 256; i < tables.length; i++) {
    const remainder = tables[i - 256]!;
    tables[i] = (remainder >>> 8) ^ tables[remainder & 0xff]!;
  }
  return tables;
}

/** Words are read in the machine's order, which is little-endian on every processor of Node. */
function checksum(t: Int32Array, bytes: Uint8Array, before = 0): number {
  const { length, byteOffset, buffer } = bytes;
  let sum = ~before;
  let i = 0;
  for (; (byteOffset + i) % 4 !== 0 && i < length; i++) sum = t[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8);
  const steps = Math.floor((length - i) / STRIDE);
  const words = steps === 0 ? NO_WORDS : new Int32Array(buffer, byteOffset + i, (STRIDE / 4) * steps);
  for (let w = 0; w < words.length; w += 4) {
    const [a, b, c, d] = [sum ^ words[w]!, words[w + 1]!, words[w + 2]!, words[w + 3]!];
    sum =
      t[3840 + (a & 0xff)]! ^
      t[3584 + ((a >>> 8) & 0xff)]! ^
      t[3328 + ((a >>> 16) & 0xff)]! ^
      t[3072 + (a >>> 24)]! ^
      t[2816 + (b & 0xff)]! ^
      t[2560 + ((b >>> 8) & 0xff)]! ^
      t[2304 + ((b >>> 16) & 0xff)]! ^
      t[2048 + (b >>> 24)]! ^
      t[1792 + (c & 0xff)]! ^
      t[1536 + ((c >>> 8) & 0xff)]! ^
      t[1280 + ((c >>> 16) & 0xff)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + (d & 0xff)]! ^
      t[512 + ((d >>> 8) & 0xff)]! ^
      t[256 + ((d >>> 16) & 0xff)]! ^
      t[d >>> 24]!;
  }
  for (i += words.byteLength; i < length; i++) sum = t[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8);
  return ~sum >>> 0;
}

const ZIP = makeTables(0xedb88320); // ISO 3309
const CASTAGNOLI = makeTables(0x82f63b78); // RFC 3720, section 12.1

/** Node's own is several times faster; it has one from 20.15 on. */
const native: ((bytes: Uint8Array, before: number) => number) | undefined = zlib.crc32;

/**
 * @param before checksum of the bytes that come before these
 * @returns an unsigned 32-bit number
 */
export const crc32 = (bytes: Uint8Array, before = 0): number =>
  native === undefined ? checksum(ZIP, bytes, before) : native(bytes, before);

/**
 * @param before checksum of the bytes that come before these
 * @returns an unsigned 32-bit number
 */
export const crc32c = (bytes: Uint8Array, before = 0): number => checksum(CASTAGNOLI, bytes, before);

/**
 * As TensorFlow stores a CRC-32C, turned and moved, so that a checksum of checksums is no special case.
 * @see https://github.com/google/leveldb/blob/main/util/crc32c.h, Mask
 */
export const maskedCrc32c = (bytes: Uint8Array): number => masked(crc32c(bytes));

/** A CRC-32C as TensorFlow stores it. */
export function masked(sum: number): number {
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}
