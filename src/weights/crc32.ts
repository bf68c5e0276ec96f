/** Checksums of 32 bits, reflected: CRC-32 as zip has it, and CRC-32C as TensorFlow's checkpoints do. */

import * as zlib from 'node:zlib';

type Tables = readonly [Int32Array, Int32Array, Int32Array, Int32Array];

/** table[k][byte]: the remainder of that byte followed by k zero bytes, so that 4 bytes are done in one step. */
function makeTables(polynomial: number): Tables {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? polynomial : 0);
    return remainder;
  });
  const tables = [first];
  for (let k = 1; k < 4; k++) {
    tables.push(tables[k - 1]!.map((remainder) => (remainder >>> 8) ^ first[remainder & 0xff]!));
  }
  return tables as unknown as Tables;
}

function checksum([t0, t1, t2, t3]: Tables, bytes: Uint8Array, before = 0): number {
  const whole = bytes.length & ~3;
  let sum = ~before;
  let i = 0;
  for (; i < whole; i += 4) {
    sum ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    sum = t3[sum & 0xff]! ^ t2[(sum >>> 8) & 0xff]! ^ t1[(sum >>> 16) & 0xff]! ^ t0[sum >>> 24]!;
  }
  for (; i < bytes.length; i++) sum = t0[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8);
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

/** @returns an unsigned 32-bit number */
export const crc32c = (bytes: Uint8Array): number => checksum(CASTAGNOLI, bytes);

/**
 * As TensorFlow stores a CRC-32C, turned and moved, so that a checksum of checksums is no special case.
 * @see https://github.com/google/leveldb/blob/main/util/crc32c.h, Mask
 */
export function maskedCrc32c(bytes: Uint8Array): number {
  const sum = crc32c(bytes);
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}
