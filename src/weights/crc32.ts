/** CRC-32 as zip uses it (ISO 3309, reflected polynomial 0xedb88320). Node has its own only from 20.15 on. */

/** table[k][byte]: the remainder of that byte followed by k zero bytes, so that 4 bytes are done in one step. */
const TABLES = makeTables();

function makeTables(): readonly Int32Array[] {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0xedb88320 : 0);
    return remainder;
  });
  const tables = [first];
  for (let k = 1; k < 4; k++) {
    tables.push(tables[k - 1]!.map((remainder) => (remainder >>> 8) ^ first[remainder & 0xff]!));
  }
  return tables;
}

/** @returns an unsigned 32-bit number */
export function crc32(bytes: Uint8Array): number {
  const [t0, t1, t2, t3] = TABLES as readonly [Int32Array, Int32Array, Int32Array, Int32Array];
  const whole = bytes.length & ~3;
  let sum = -1;
  let i = 0;
  for (; i < whole; i += 4) {
    sum ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    sum = t3[sum & 0xff]! ^ t2[(sum >>> 8) & 0xff]! ^ t1[(sum >>> 16) & 0xff]! ^ t0[sum >>> 24]!;
  }
  for (; i < bytes.length; i++) sum = t0[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8);
  return ~sum >>> 0;
}
