/**
 * The sorted table that a checkpoint's index is, and of version 1 the whole file: blocks of keys and values, an index of
 * the blocks, a footer.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/io/format.cc and table_builder.cc
 */
import { FormatError } from '../../errors.js';
import type { ByteFile } from '../byte-file.js';
import { crc32c, masked, maskedCrc32c } from '../crc32.js';
import { limitExceeded } from '../limits.js';
import { damaged, varintAt } from './protobuf.js';

const FOOTER_BYTES = 48; // two handles of at most 20 bytes, and the magic number
const TRAILER_BYTES = 5; // kind of compression, masked CRC-32C
/** kTableMagicNumber of format.h, as it lies in the file. */
export const TABLE_MAGIC = Buffer.from('57fb808b247547db', 'hex');

/** Blocks of version 1 hold whole tensors; those of an index have 256 KiB. */
const MOST_BLOCK_BYTES = 2 ** 31;
/** slim's largest checkpoint has 3,000 keys. */
const MOST_BLOCKS = 100_000;
/** A block of an index, of 256 KiB, has 10,000 entries at most, the only block of a version 1 file one a tensor. */
const MOST_ENTRIES = 200_000;
/** A key is a tensor's name, or that and the numbers of a slice. */
const MOST_KEY_BYTES = 2 ** 16;

/** Where a block lies in its file. */
export interface BlockHandle {
  readonly offset: number;
  readonly size: number;
}

export interface Entry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The blocks with data, in the order of their keys. @throws CHECKPOINT_DAMAGED, FILE_TRUNCATED */
export async function blocksOf(file: ByteFile): Promise<BlockHandle[]> {
  if (file.size < FOOTER_BYTES) throw damaged(file.path, `${file.size} bytes are too few for a table`);
  const footer = await file.read(file.size - FOOTER_BYTES, FOOTER_BYTES, 'the footer');
  if (!footer.subarray(-8).equals(TABLE_MAGIC)) throw damaged(file.path, 'the footer is not that of a table');
  const { next } = handleAt(file.path, footer, 0); // of the meta index, which is empty
  const index = await readBlock(file, handleAt(file.path, footer, next).handle);
  const handles = entriesOf(file.path, index).map(({ value }) => handleAt(file.path, value, 0).handle);
  if (handles.length > MOST_BLOCKS) throw limitExceeded(file.path, `${handles.length} blocks`, MOST_BLOCKS);
  // each is read once or twice, and a list of them may name the same one again and again
  const bytes = handles.reduce((sum, { size }) => sum + size, 0);
  if (bytes > file.size) throw damaged(file.path, `its blocks take ${bytes} bytes, and it has ${file.size}`);
  return handles;
}

function handleAt(where: string, bytes: Buffer, at: number): { handle: BlockHandle; next: number } {
  const offset = varintAt(where, bytes, at);
  const size = varintAt(where, bytes, offset.next);
  return { handle: { offset: offset.value, size: size.value }, next: size.next };
}

/**
 * A run of a block's bytes in memory of its own, the checksum of the whole block compared: a large tensor is in memory
 * once.
 * @throws as {@link readBlock}
 */
export async function readRun(
  file: ByteFile,
  { offset, size }: BlockHandle,
  from: number,
  bytes: number,
): Promise<Buffer> {
  const what = 'a block of the table';
  const before = await file.read(offset, from, what);
  const run = await file.read(offset + from, bytes, what);
  const after = await file.read(offset + from + bytes, size + TRAILER_BYTES - from - bytes, what);
  const sum = crc32c(after.subarray(0, -4), crc32c(run, crc32c(before)));
  checkTrailer(file.path, offset, masked(sum), after.subarray(-TRAILER_BYTES));
  return run;
}

/** A block, its checksum compared. @throws CHECKPOINT_DAMAGED, CHECKPOINT_COMPRESSED, FILE_TRUNCATED */
export async function readBlock(file: ByteFile, { offset, size }: BlockHandle): Promise<Buffer> {
  if (size > MOST_BLOCK_BYTES) throw limitExceeded(file.path, `a block of ${size} bytes`, MOST_BLOCK_BYTES);
  const bytes = await file.read(offset, size + TRAILER_BYTES, 'a block of the table');
  checkTrailer(file.path, offset, maskedCrc32c(bytes.subarray(0, size + 1)), bytes.subarray(size));
  return bytes.subarray(0, size);
}

/** The kind of compression and the checksum behind a block. */
function checkTrailer(path: string, offset: number, sum: number, trailer: Buffer): void {
  if (sum !== trailer.readUInt32LE(1)) {
    throw damaged(path, `the checksum of the block at byte ${offset} does not agree`);
  }
  if (trailer[0] !== 0) {
    throw new FormatError({
      code: 'CHECKPOINT_COMPRESSED',
      message: `${path}: a block is compressed (kind ${trailer[0]}); expected none, as TensorFlow's Saver writes`,
      hint: 'write the checkpoint again with tf.compat.v1.train.Saver or tf.train.Checkpoint',
    });
  }
}

/** Keys and values of a block. @throws CHECKPOINT_DAMAGED */
export function entriesOf(where: string, block: Buffer): Entry[] {
  const end = endOfEntries(where, block.length, block.length < 4 ? 0 : block.readUInt32LE(block.length - 4));
  const entries: Entry[] = [];
  let key: Buffer = Buffer.alloc(0);
  for (let at = 0; at < end; ) {
    const head = entryAt(where, block, at, key);
    key = head.key;
    if (entries.length >= MOST_ENTRIES) throw limitExceeded(where, 'a block has more entries', MOST_ENTRIES);
    const next = at + head.headBytes + head.valueBytes;
    if (next > end) throw damaged(where, `a value of ${head.valueBytes} bytes goes beyond its block`);
    entries.push({ key, value: block.subarray(at + head.headBytes, next) });
    at = next;
  }
  return entries;
}

/** The restart points come last: their offsets, and how many there are. */
function endOfEntries(where: string, size: number, restarts: number): number {
  const end = size - 4 * (restarts + 1);
  if (size < 4 || end < 0) throw damaged(where, `a block of ${size} bytes with ${restarts} restart points`);
  return end;
}

/** One entry's lengths and key: shared with the key before, own, value's. */
function entryAt(
  where: string,
  bytes: Buffer,
  at: number,
  before: Buffer,
): { key: Buffer; headBytes: number; valueBytes: number } {
  const shared = varintAt(where, bytes, at);
  const own = varintAt(where, bytes, shared.next);
  const value = varintAt(where, bytes, own.next);
  const end = value.next + own.value;
  if (shared.value > before.length || own.value > MOST_KEY_BYTES || end > bytes.length) {
    throw damaged(where, `the lengths of an entry, ${shared.value} and ${own.value}, do not fit`);
  }
  const key = Buffer.concat([before.subarray(0, shared.value), bytes.subarray(value.next, end)]);
  return { key, headBytes: end - at, valueBytes: value.value };
}

/** An entry whose value was only begun to be read. */
export interface EntryHead {
  readonly key: Buffer;
  /** Up to the first `peek` bytes of the value. */
  readonly head: Buffer;
  /** Where the value begins in its block. */
  readonly offset: number;
  readonly valueBytes: number;
}

/** Walks a block's entries without reading their values: of version 1, those are the tensors. */
export async function headsOf(file: ByteFile, handle: BlockHandle, peek: number): Promise<EntryHead[]> {
  const { path } = file;
  const tail = await file.read(handle.offset + handle.size - 4, 4, 'the end of a block');
  const end = endOfEntries(path, handle.size, tail.readUInt32LE(0));
  const heads: EntryHead[] = [];
  let key: Buffer = Buffer.alloc(0);
  for (let at = 0; at < end; ) {
    const length = Math.min(end - at, KEY_PEEK_BYTES + peek);
    const bytes = await file.read(handle.offset + at, length, 'an entry of the table');
    const entry = entryAt(path, bytes, 0, key);
    key = entry.key;
    if (heads.length >= MOST_ENTRIES) throw limitExceeded(path, 'a block has more entries', MOST_ENTRIES);
    const head = bytes.subarray(entry.headBytes, Math.min(entry.headBytes + entry.valueBytes, bytes.length));
    heads.push({ key, head, offset: at + entry.headBytes, valueBytes: entry.valueBytes });
    at += entry.headBytes + entry.valueBytes;
    if (at > end) throw damaged(path, `a value of ${entry.valueBytes} bytes goes beyond its block`);
  }
  return heads;
}

/** Read with every head: names of variables are below 300 bytes, and a longer key is an error that says so. */
const KEY_PEEK_BYTES = 4096;
