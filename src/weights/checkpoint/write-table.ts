/**
 * Writes the sorted table that a checkpoint's index is, byte for byte as TensorFlow does.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/io/table_builder.cc and block_builder.cc
 */

import { varint } from '../../protobuf.js';
import { maskedCrc32c } from '../crc32.js';
import { type Entry, TABLE_MAGIC } from './table.js';

/** table_options.h: `block_size` and `block_restart_interval`. */
const BLOCK_BYTES = 262_144;
const RESTART_INTERVAL = 16;
/** format.h, Footer: two block handles of at most 20 bytes, then the magic number. */
const HANDLES_BYTES = 40;

/** The bytes of a table, whose keys ascend bytewise. */
export function encodeTable(entries: readonly Entry[]): Buffer {
  const pieces: Buffer[] = [];
  let size = 0;
  const append = (contents: Buffer): Buffer => {
    const handle = Buffer.concat([varint(size), varint(contents.length)]);
    const typed = Buffer.concat([contents, Buffer.of(0)]); // no compression
    const checksum = Buffer.alloc(4);
    checksum.writeUInt32LE(maskedCrc32c(typed));
    pieces.push(typed, checksum);
    size += typed.length + checksum.length;
    return handle;
  };
  const index = blockBuilder(1);
  let block = blockBuilder(RESTART_INTERVAL);
  entries.forEach(({ key, value }, i) => {
    block.add(key, value);
    const next = entries[i + 1]?.key;
    if (next !== undefined && block.size() < BLOCK_BYTES) return;
    index.add(next === undefined ? shortSuccessor(key) : shortestSeparator(key, next), append(block.finish()));
    block = blockBuilder(RESTART_INTERVAL);
  });
  const meta = append(blockBuilder(RESTART_INTERVAL).finish());
  const handles = Buffer.concat([meta, append(index.finish())]);
  return Buffer.concat([...pieces, handles, Buffer.alloc(HANDLES_BYTES - handles.length), TABLE_MAGIC]);
}

/** Entries whose keys share their beginnings, with restart points at which a key is whole. */
function blockBuilder(interval: number) {
  const pieces: Buffer[] = [];
  const restarts = [0];
  let size = 0;
  let since = 0;
  let before: Buffer = Buffer.alloc(0);
  return {
    add(key: Buffer, value: Buffer): void {
      let shared = 0;
      if (since < interval) shared = sharedBytes(before, key);
      else {
        restarts.push(size);
        since = 0;
      }
      const lengths = [shared, key.length - shared, value.length].map(varint);
      const piece = Buffer.concat([...lengths, key.subarray(shared), value]);
      pieces.push(piece);
      size += piece.length;
      before = key;
      since++;
    },
    /** BlockBuilder::CurrentSizeEstimate. */
    size: (): number => size + 4 * (restarts.length + 1),
    finish(): Buffer {
      const tail = Buffer.alloc(4 * (restarts.length + 1));
      for (const [i, offset] of [...restarts, restarts.length].entries()) tail.writeUInt32LE(offset, 4 * i);
      return Buffer.concat([...pieces, tail]);
    },
  };
}

function sharedBytes(a: Buffer, b: Buffer): number {
  const most = Math.min(a.length, b.length);
  for (let i = 0; i < most; i++) if (a[i] !== b[i]) return i;
  return most;
}

/** A short key from `start` on and before `limit`: FindShortestSeparator of table_builder.cc. */
function shortestSeparator(start: Buffer, limit: Buffer): Buffer {
  const shared = sharedBytes(start, limit);
  if (shared >= Math.min(start.length, limit.length)) return start;
  const byte = start[shared]!;
  return byte < 0xff && byte + 1 < limit[shared]! ? Buffer.of(...start.subarray(0, shared), byte + 1) : start;
}

/** A short key from `key` on: FindShortSuccessor of table_builder.cc. */
function shortSuccessor(key: Buffer): Buffer {
  const at = key.findIndex((byte) => byte !== 0xff);
  return at < 0 ? key : Buffer.of(...key.subarray(0, at), key[at]! + 1);
}
