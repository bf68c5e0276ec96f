/** Zip archives with random access: PyTorch's files and NumPy's .npz are both made of them. */

import { pipeline, Readable } from 'node:stream';
import { constants, createInflateRaw, inflateRawSync } from 'node:zlib';
import yauzl from 'yauzl';
import { FormatError, messageOf, ToolkitError } from '../../errors.js';
import { type ByteFile, closedOnFailure, openByteFile } from '../byte-file.js';
import { crc32 } from '../crc32.js';
import { DAMAGED_HINT, limitExceeded, MAX_DEFLATE_RATIO, MAX_TENSORS, quote } from '../limits.js';

const STORED = 0;
const DEFLATED = 8;

/** An entry a tensor, and a few beside. */
const MAX_ENTRIES = MAX_TENSORS;

/** Large enough that a call costs nothing beside the bytes that it moves, small enough to stay in a cache. */
const PIECE_BYTES = 2 ** 20;

export interface ZipEntry {
  readonly name: string;
  /** Bytes when unpacked. */
  readonly size: number;
  readonly compressed: boolean;
  /** An ordinary file, and no link or device of a Unix system. */
  readonly ordinary: boolean;
}

export interface ZipArchive {
  readonly path: string;
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /**
   * A part of an entry. Of a stored entry only that part is read, and its checksum compared where that is all of it; a
   * deflated one is unpacked from its beginning to its end, of which only the part is kept.
   * @throws ZIP_DAMAGED, FILE_TRUNCATED
   */
  read(name: string, offset?: number, length?: number): Promise<Buffer>;
  /**
   * A whole entry, piece by piece; the last one has come only when length and checksum are right. Each piece is
   * overwritten by the next.
   * @throws ZIP_DAMAGED, FILE_TRUNCATED
   */
  pieces(name: string): AsyncGenerator<Uint8Array>;
  /** The first bytes of an entry, fewer than `length` where it is shorter. */
  readHead(name: string, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

interface Listed extends ZipEntry {
  readonly raw: yauzl.Entry;
}

interface Located extends Listed {
  /** Where its bytes begin. */
  readonly start: number;
}

/**
 * Reads the central directory.
 * @throws ZIP_DAMAGED, ARCHIVE_UNSAFE, LIMIT_EXCEEDED, FILE_NOT_READ
 */
export async function openZip(path: string): Promise<ZipArchive> {
  return await closedOnFailure(await openByteFile(path), async (file) => {
    const zip = await guarded(path, () =>
      yauzl.fromRandomAccessReaderPromise(new FileReader(file), file.size, {
        autoClose: false,
        lazyEntries: true,
        strictFileNames: false, // Windows once wrote backslashes; they become slashes before names are checked
        validateEntrySizes: true,
      }),
    );
    if (zip.entryCount > MAX_ENTRIES) throw limitExceeded(path, `${zip.entryCount} zip entries`, MAX_ENTRIES);
    const entries = await guarded(path, () => listEntries(path, zip));
    return archive(file, zip, entries);
  });
}

async function listEntries(path: string, zip: yauzl.ZipFile): Promise<Map<string, Listed>> {
  const entries = new Map<string, Listed>();
  for await (const raw of zip.eachEntry()) {
    const { fileName: name, uncompressedSize: size, compressedSize, compressionMethod } = raw;
    if (name.endsWith('/')) continue; // a folder
    if (entries.has(name)) throw zipError(path, `two entries are called ${quote(name)}`);
    if (raw.isEncrypted()) throw zipError(path, `entry ${quote(name)} is encrypted`);
    if (compressionMethod !== STORED && compressionMethod !== DEFLATED) {
      throw zipError(
        path,
        `entry ${quote(name)} uses compression method ${compressionMethod}; expected stored or deflate`,
      );
    }
    if (compressedSize > zip.fileSize) {
      throw zipError(path, `entry ${quote(name)} is declared as ${compressedSize} bytes in a file of ${zip.fileSize}`);
    }
    const compressed = compressionMethod === DEFLATED;
    if (compressed ? size > compressedSize * MAX_DEFLATE_RATIO : size !== compressedSize) {
      throw zipError(path, `entry ${quote(name)} declares ${size} bytes out of ${compressedSize}, which cannot be`);
    }
    entries.set(name, { name, size, compressed, ordinary: isOrdinary(raw), raw });
  }
  return entries;
}

/** The upper half of the attributes is a Unix mode (APPNOTE.TXT, 4.4.15), 0 where another system wrote the entry. */
function isOrdinary({ externalFileAttributes }: yauzl.Entry): boolean {
  const type = (externalFileAttributes >>> 16) & 0o170000; // S_IFMT of inode(7)
  return type === 0 || type === 0o100000;
}

function archive(file: ByteFile, zip: yauzl.ZipFile, entries: Map<string, Listed>): ZipArchive {
  const { path } = file;
  const locate = async (name: string): Promise<Located> => {
    const entry = entries.get(name);
    if (entry === undefined) throw zipError(path, `there is no entry ${quote(name)}`);
    const header = await guarded(path, () => zip.readLocalFileHeaderPromise(entry.raw, { minimal: true }));
    return { ...entry, start: header.fileDataStart };
  };
  return {
    path,
    entries,
    async read(name, offset = 0, length = (entries.get(name)?.size ?? 0) - offset) {
      const entry = await locate(name);
      const { size, compressed, start } = entry;
      if (offset < 0 || length < 0 || offset + length > size) {
        throw zipError(path, `entry ${quote(name)} has ${size} bytes; ${length} were asked for at ${offset}`);
      }
      if (!compressed) {
        const bytes = await file.read(start + offset, length, whatIs(name));
        if (length === size) checkSum(path, entry, crc32(bytes));
        return bytes;
      }
      const out = Buffer.allocUnsafeSlow(length);
      let at = 0;
      for await (const piece of piecesOf(file, entry)) {
        if (at < offset + length && at + piece.length > offset) {
          out.set(piece.subarray(Math.max(0, offset - at), offset + length - at), Math.max(0, at - offset));
        }
        at += piece.length;
      }
      return out;
    },
    async *pieces(name) {
      yield* piecesOf(file, await locate(name));
    },
    async readHead(name, length) {
      const { raw, size, compressed, start } = await locate(name);
      if (!compressed) return await file.read(start, Math.min(length, size), whatIs(name));
      // deflate never needs more input than output, but for a few bytes a block
      const packed = await file.read(start, Math.min(raw.compressedSize, length + 1024), whatIs(name));
      const head = await guarded(path, async () =>
        inflateRawSync(packed, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, length),
      );
      return Buffer.from(head);
    },
    close: () => file.close(),
  };
}

const whatIs = (name: string): string => `zip entry ${quote(name)}`;

async function* piecesOf(file: ByteFile, entry: Located): AsyncGenerator<Uint8Array> {
  const { path } = file;
  const { name, size, compressed } = entry;
  let done = 0;
  let sum = 0;
  try {
    for await (const piece of compressed ? inflated(file, entry) : stored(file, entry)) {
      done += piece.length;
      if (done > size) break;
      sum = crc32(piece, sum);
      yield piece;
    }
  } catch (error) {
    throw asZipError(path, error);
  }
  if (done !== size) {
    const what = done > size ? 'more' : `${done} bytes`;
    throw zipError(path, `${whatIs(name)} unpacks to ${what}; expected ${size} bytes`);
  }
  checkSum(path, entry, sum);
}

async function* stored(file: ByteFile, { name, size, start }: Located): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, size));
  for (let at = 0; at < size; at += PIECE_BYTES) {
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, size - at));
    await file.readInto(piece, start + at, whatIs(name));
    yield piece;
  }
}

async function* inflated(file: ByteFile, { name, start, raw }: Located): AsyncGenerator<Uint8Array> {
  const packed = async function* (): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < raw.compressedSize; at += PIECE_BYTES) {
      yield await file.read(start + at, Math.min(PIECE_BYTES, raw.compressedSize - at), whatIs(name));
    }
  };
  const inflate = createInflateRaw({ chunkSize: PIECE_BYTES });
  pipeline(Readable.from(packed(), { objectMode: false, highWaterMark: PIECE_BYTES }), inflate, () => {}); // its failure is thrown below
  yield* inflate;
}

function checkSum(path: string, { name, raw }: Listed, sum: number): void {
  // PyTorch can be told to leave the sum out (torch.serialization.set_crc32_options); it then writes 0
  if (raw.crc32 !== 0 && sum !== raw.crc32) throw zipError(path, `entry ${quote(name)} does not match its checksum`);
}

/** yauzl's view of an open file. It reads without waiting, so that a parser's own failure surfaces where it is caught. */
class FileReader extends yauzl.RandomAccessReader {
  readonly #file: ByteFile;

  constructor(file: ByteFile) {
    super();
    this.#file = file;
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    try {
      this.#file.readNow(position, length, 'the zip directory').copy(buffer, offset);
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    callback(null);
  }

  override _readStreamForRange(): Readable {
    throw new Error('entries are read by position, never as streams');
  }

  override close(callback: (error: Error | null) => void): void {
    callback(null); // the file is closed by its owner
  }
}

async function guarded<T>(path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw asZipError(path, error);
  }
}

/** What yauzl's validateFileName says, whose errors carry no code. */
const UNSAFE_NAME = /^(absolute path|invalid relative path|invalid characters in fileName): /;

function asZipError(path: string, error: unknown): ToolkitError {
  if (error instanceof ToolkitError) return error;
  const message = messageOf(error).split('\n')[0]!;
  if (!UNSAFE_NAME.test(message)) return zipError(path, message, error);
  return new FormatError({
    code: 'ARCHIVE_UNSAFE',
    message: `${path}: ${message.slice(0, 400)}`,
    hint: 'no tool writes such a name by itself: do not unpack this archive',
    cause: error,
  });
}

function zipError(path: string, message: string, cause?: unknown): FormatError {
  return new FormatError({ code: 'ZIP_DAMAGED', message: `${path}: ${message}`, hint: DAMAGED_HINT, cause });
}
