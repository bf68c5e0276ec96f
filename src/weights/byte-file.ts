/** Reading a file by position. Every declared length is checked against the real one before anything is allocated. */

import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { FormatError } from '../errors.js';
import { fileError } from '../files.js';

/** One read of the system call is at most 2^31 - 1 bytes (read(2)); pieces of 64 MiB stay far below. */
const MAX_READ = 64 * 1024 * 1024;

export interface ByteFile {
  readonly path: string;
  /** In bytes, when it was opened. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`.
   * @param what names them in the error: "tensor conv1/kernel"
   * @throws FILE_TRUNCATED when the file does not reach that far
   */
  read(offset: number, length: number, what: string): Promise<Buffer>;
  /**
   * Fills `target` with the bytes from `offset`, so that the caller may read a file piece by piece into one array.
   * @throws FILE_TRUNCATED when the file does not reach that far
   */
  readInto(target: Uint8Array, offset: number, what: string): Promise<void>;
  /** The same without waiting, for a few bytes of a header. */
  readNow(offset: number, length: number, what: string): Buffer;
  close(): Promise<void>;
}

/** @throws FILE_NOT_READ */
export async function openByteFile(path: string): Promise<ByteFile> {
  let file: FileHandle;
  let size: number;
  try {
    file = await open(path, 'r');
    size = (await file.stat()).size;
  } catch (error) {
    throw fileError('FILE_NOT_READ', path, 'cannot be read', error);
  }
  const check = (offset: number, length: number, what: string): void => {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw truncated(path, size, offset, length, what);
    }
    if (offset + length > size) throw truncated(path, size, offset, length, what);
  };
  const fill = async (target: Uint8Array, offset: number, what: string): Promise<void> => {
    const { length } = target;
    let done = 0;
    try {
      while (done < length) {
        const { bytesRead } = await file.read(target, done, Math.min(MAX_READ, length - done), offset + done);
        if (bytesRead === 0) break; // the file shrank meanwhile
        done += bytesRead;
      }
    } catch (error) {
      throw fileError('FILE_NOT_READ', path, `${what} cannot be read`, error);
    }
    if (done < length) throw truncated(path, offset + done, offset, length, what);
  };
  return {
    path,
    size,
    async read(offset, length, what) {
      check(offset, length, what);
      const out = Buffer.allocUnsafeSlow(length); // its own memory, so that views into it are aligned at 0
      await fill(out, offset, what);
      return out;
    },
    async readInto(target, offset, what) {
      check(offset, target.length, what);
      await fill(target, offset, what);
    },
    readNow(offset, length, what) {
      check(offset, length, what);
      const out = Buffer.allocUnsafeSlow(length);
      let done = 0;
      try {
        while (done < length) {
          const bytesRead = readSync(file.fd, out, done, Math.min(MAX_READ, length - done), offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
      } catch (error) {
        throw fileError('FILE_NOT_READ', path, `${what} cannot be read`, error);
      }
      if (done < length) throw truncated(path, offset + done, offset, length, what);
      return out;
    },
    close: () => file.close(),
  };
}

/** What `use` makes of a file, which is closed then. @throws FILE_NOT_READ */
export async function withByteFile<T>(path: string, use: (file: ByteFile) => Promise<T>): Promise<T> {
  const file = await openByteFile(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** What `use` makes of something open, which stays so for it, and is closed where it throws. */
export async function closedOnFailure<Open extends { close(): Promise<void> }, T>(
  open: Open,
  use: (open: Open) => T | Promise<T>,
): Promise<T> {
  try {
    return await use(open);
  } catch (error) {
    await open.close();
    throw error;
  }
}

function truncated(path: string, size: number, offset: number, length: number, what: string): FormatError {
  return new FormatError({
    code: 'FILE_TRUNCATED',
    message: `${path}: ${what} is declared as ${length} bytes at offset ${offset}, but the file has ${size} bytes`,
    hint: 'the download or copy was cut off, or the file is damaged: fetch it again and compare its size and sha256',
  });
}
