/** Zip archives with random access: PyTorch's files and NumPy's .npz are both made of them. */

import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { constants, inflateRaw, inflateRawSync } from 'node:zlib';
import yauzl from 'yauzl';
import { FormatError, messageOf, ToolkitError } from '../errors.js';
import { type ByteFile, openByteFile } from './byte-file.js';
import { crc32 } from './crc32.js';
import { DAMAGED_HINT, limitExceeded, MAX_DEFLATE_RATIO, MAX_TENSOR_BYTES, MAX_TENSORS, quote } from './limits.js';

const STORED = 0;
const DEFLATED = 8;

/** An entry a tensor, and a few beside. */
const MAX_ENTRIES = MAX_TENSORS;

export interface ZipEntry {
  readonly name: string;
  /** Bytes when unpacked. */
  readonly size: number;
  readonly compressed: boolean;
}

export interface ZipArchive {
  readonly path: string;
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /**
   * A part of an entry. Of a stored entry only that part is read; a deflated one is unpacked whole.
   * The checksum is compared when the part is the whole entry.
   * @throws ZIP_DAMAGED, FILE_TRUNCATED
   */
  read(name: string, offset?: number, length?: number): Promise<Buffer>;
  /** The first bytes of an entry, fewer than `length` where it is shorter. */
  readHead(name: string, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

interface Located extends ZipEntry {
  readonly raw: yauzl.Entry;
}

/**
 * Reads the central directory.
 * @throws ZIP_DAMAGED, LIMIT_EXCEEDED, FILE_NOT_READ
 */
export async function openZip(path: string): Promise<ZipArchive> {
  const file = await openByteFile(path);
  try {
    const zip = await guarded(path, () =>
      yauzl.fromRandomAccessReaderPromise(new FileReader(file), file.size, {
        autoClose: false,
        lazyEntries: true,
        strictFileNames: true,
        validateEntrySizes: true,
      }),
    );
    if (zip.entryCount > MAX_ENTRIES) throw limitExceeded(path, `${zip.entryCount} zip entries`, MAX_ENTRIES);
    const entries = await guarded(path, () => listEntries(path, zip));
    return archive(file, zip, entries);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function listEntries(path: string, zip: yauzl.ZipFile): Promise<Map<string, Located>> {
  const entries = new Map<string, Located>();
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
    entries.set(name, { name, size, compressed, raw });
  }
  return entries;
}

function archive(file: ByteFile, zip: yauzl.ZipFile, entries: Map<string, Located>): ZipArchive {
  const { path } = file;
  const locate = async (name: string): Promise<Located & { readonly start: number }> => {
    const entry = entries.get(name);
    if (entry === undefined) throw zipError(path, `there is no entry ${quote(name)}`);
    const header = await guarded(path, () => zip.readLocalFileHeaderPromise(entry.raw, { minimal: true }));
    return { ...entry, start: header.fileDataStart };
  };
  return {
    path,
    entries,
    async read(name, offset = 0, length = (entries.get(name)?.size ?? 0) - offset) {
      const { raw, size, compressed, start } = await locate(name);
      if (offset < 0 || length < 0 || offset + length > size) {
        throw zipError(path, `entry ${quote(name)} has ${size} bytes; ${length} were asked for at ${offset}`);
      }
      const whole = offset === 0 && length === size;
      const what = `zip entry ${quote(name)}`;
      if (!compressed) {
        const bytes = await file.read(start + offset, length, what);
        if (whole) checkSum(path, raw, bytes);
        return bytes;
      }
      if (size > MAX_TENSOR_BYTES) throw limitExceeded(path, `${what} has ${size} bytes`, MAX_TENSOR_BYTES);
      const packed = await file.read(start, raw.compressedSize, what);
      const bytes = await guarded(path, () => promisify(inflateRaw)(packed, { maxOutputLength: Math.max(1, size) }));
      if (bytes.length !== size) throw zipError(path, `${what} unpacks to ${bytes.length} bytes; expected ${size}`);
      checkSum(path, raw, bytes);
      return bytes.subarray(offset, offset + length);
    },
    async readHead(name, length) {
      const { raw, size, compressed, start } = await locate(name);
      const what = `zip entry ${quote(name)}`;
      if (!compressed) return await file.read(start, Math.min(length, size), what);
      // deflate never needs more input than output, but for a few bytes a block
      const packed = await file.read(start, Math.min(raw.compressedSize, length + 1024), what);
      const head = await guarded(path, async () =>
        inflateRawSync(packed, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, length),
      );
      return Buffer.from(head);
    },
    close: () => file.close(),
  };
}

function checkSum(path: string, entry: yauzl.Entry, bytes: Uint8Array): void {
  // PyTorch can be told to leave the sum out (torch.serialization.set_crc32_options); it then writes 0
  if (entry.crc32 !== 0 && crc32(bytes) !== entry.crc32) {
    throw zipError(path, `entry ${quote(entry.fileName)} does not match its checksum`);
  }
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
    if (error instanceof ToolkitError) throw error;
    throw zipError(path, messageOf(error).split('\n')[0]!, error);
  }
}

function zipError(path: string, message: string, cause?: unknown): FormatError {
  return new FormatError({ code: 'ZIP_DAMAGED', message: `${path}: ${message}`, hint: DAMAGED_HINT, cause });
}
