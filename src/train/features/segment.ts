/**
 * A file of rows of one length, each found by its name. It is written once, under its final name only when it is
 * complete, and never changed:
 *
 *     tl-rows1, 32 bytes of the common print, length of a row (uint32), 0 (uint32)
 *     the rows
 *     for each row the 32 bytes of its name and its CRC-32 (uint32)
 *     number of rows (uint32), CRC-32 of the list before (uint32)
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { FormatError, messageOf } from '../../errors.js';
import { fileError, writeStreamAtomic } from '../../files.js';
import { crc32 } from '../../weights/crc32.js';
import type { Print } from './key.js';

const MAGIC = 'tl-rows1';
const HEADER_BYTES = 48;
const NAME_BYTES = 32;
const ENTRY_BYTES = NAME_BYTES + 4;
const END_BYTES = 8;

/** What all rows of a segment share. */
export interface RowKind {
  readonly print: Print;
  readonly rowBytes: number;
}

/** Bytes of a segment with so many rows. */
export const segmentBytes = (rows: number, rowBytes: number): number =>
  HEADER_BYTES + rows * (rowBytes + ENTRY_BYTES) + END_BYTES;

/** Adds a row: its name in base64, and its bytes, which are the caller's again once this is done. */
export type PutRow = (id: string, bytes: Uint8Array) => Promise<void>;

/**
 * Writes a segment, whole or not at all.
 * @returns how many rows it has
 * @throws FILE_NOT_WRITTEN, or what `fill` throws
 */
export async function writeSegment(
  path: string,
  { print, rowBytes }: RowKind,
  fill: (put: PutRow) => Promise<void>,
): Promise<number> {
  let count = 0;
  await writeStreamAtomic(path, async (file) => {
    const entries: Buffer[] = [];
    let end = HEADER_BYTES;
    await fill(async (id, bytes) => {
      const entry = Buffer.alloc(ENTRY_BYTES);
      entry.write(id, 'base64');
      entry.writeUInt32LE(crc32(bytes), NAME_BYTES);
      await writeAt(file, bytes, end).catch((error: unknown) => {
        throw fileError('FILE_NOT_WRITTEN', path, 'cannot be written', error);
      });
      entries.push(entry);
      end += rowBytes;
    });
    count = entries.length;
    await file.truncate(end); // a row of which only a part could be written is none
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, 'latin1');
    header.write(print, MAGIC.length, 'hex');
    header.writeUInt32LE(rowBytes, MAGIC.length + NAME_BYTES);
    const list = Buffer.concat(entries);
    const tail = Buffer.alloc(END_BYTES);
    tail.writeUInt32LE(count);
    tail.writeUInt32LE(crc32(list), 4);
    await writeAt(file, Buffer.concat([list, tail]), end);
    await writeAt(file, header, 0); // last: what was cut off before has none
  });
  return count;
}

/** A write of the system may take less than it was given. */
async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** A segment that is open for reading. */
export interface Segment {
  readonly path: string;
  /** Name of a row -> its number. */
  readonly rows: ReadonlyMap<string, number>;
  /** Copies a row into `target`, which has its length. @throws ROWS_DAMAGED where the file has become shorter */
  read(row: number, target: Uint8Array): void;
  /** Compares rows with their checksums. @throws ROWS_DAMAGED */
  verify(rows: readonly number[]): Promise<void>;
  close(): void;
}

/** Bytes read before others get their turn: 10 ms. */
const UNINTERRUPTED_BYTES = 32 * 1024 * 1024;

/**
 * Opens a segment and checks all of it but the rows themselves.
 * @throws ROWS_DAMAGED
 */
export async function openSegment(path: string, kind: RowKind): Promise<Segment> {
  const { rowBytes } = kind;
  const list = await readList(path, kind);
  const count = list.length / ENTRY_BYTES;
  const rows = new Map<string, number>();
  for (let i = 0; i < count; i++) rows.set(list.toString('base64', i * ENTRY_BYTES, i * ENTRY_BYTES + NAME_BYTES), i);
  const file = openSync(path, 'r');
  const read = (row: number, target: Uint8Array): void => {
    for (let done = 0; done < rowBytes; ) {
      const got = readSync(file, target, done, rowBytes - done, HEADER_BYTES + row * rowBytes + done);
      if (got === 0) throw damaged(path, `it ends within row ${row}`);
      done += got;
    }
  };
  return {
    path,
    rows,
    read,
    verify: async (wanted) => {
      const bytes = Buffer.alloc(rowBytes);
      let since = 0;
      for (const row of [...wanted].sort((a, b) => a - b)) {
        read(row, bytes);
        if (crc32(bytes) !== list.readUInt32LE(row * ENTRY_BYTES + NAME_BYTES)) {
          throw damaged(path, `row ${row} is not what was written`);
        }
        since += rowBytes;
        if (since < UNINTERRUPTED_BYTES) continue;
        since = 0;
        await othersTurn();
      }
    },
    close: () => closeSync(file),
  };
}

/** The names and checksums of a segment's rows. */
async function readList(path: string, { print, rowBytes }: RowKind): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const part = async (position: number, length: number): Promise<Buffer> => {
        if (position < 0 || position + length > size) throw damaged(path, `it has ${size} bytes`);
        const bytes = Buffer.alloc(length);
        await file.read(bytes, 0, length, position);
        return bytes;
      };
      const header = await part(0, HEADER_BYTES);
      const wanted = Buffer.from(`${Buffer.from(MAGIC).toString('hex')}${print}`, 'hex');
      if (!header.subarray(0, wanted.length).equals(wanted) || header.readUInt32LE(wanted.length) !== rowBytes) {
        throw damaged(path, 'its header is that of something else');
      }
      const end = await part(size - END_BYTES, END_BYTES);
      const count = end.readUInt32LE();
      if (size !== segmentBytes(count, rowBytes)) throw damaged(path, `it has ${size} bytes, and ${count} rows`);
      const list = await part(HEADER_BYTES + count * rowBytes, count * ENTRY_BYTES);
      if (crc32(list) !== end.readUInt32LE(4)) throw damaged(path, 'its list of rows is not what was written');
      return list;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof FormatError ? error : damaged(path, messageOf(error), error);
  }
}

function damaged(path: string, what: string, cause?: unknown): FormatError {
  return new FormatError({
    code: 'ROWS_DAMAGED',
    message: `${path}: ${what}`,
    hint: 'remove the file: what it holds is computed again',
    cause,
  });
}
