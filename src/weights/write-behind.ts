/** Writing a large file a step behind: while the system writes one piece, the next is read and computed. */
import type { FileHandle } from 'node:fs/promises';

/** A larger piece is waited for, so that it is gone from memory before the next is made. */
const MOST_BEHIND_BYTES = 64 * 1024 * 1024;

/** So much is written before the disk is told to begin: what is left for the end, when all must be on it, is little. */
const FLUSH_EVERY_BYTES = 256 * 1024 * 1024;

export interface WriteBehind {
  /** Takes a piece, which must not change until the next call returns. @throws what writing the ones before it came to */
  write(bytes: Uint8Array): Promise<void>;
  /** Waits until everything is written. */
  finish(): Promise<void>;
}

/** @param file open for writing; pieces are written where it stands */
export function writeBehind(file: FileHandle): WriteBehind {
  let writing: Promise<void> = Promise.resolve();
  let flushing: Promise<void> = Promise.resolve();
  let unflushed = 0;
  const start = (step: Promise<void>): Promise<void> => {
    step.catch(() => undefined); // thrown where it is waited for
    return step;
  };
  return {
    async write(bytes) {
      await writing;
      if (unflushed >= FLUSH_EVERY_BYTES) {
        await flushing;
        flushing = start(file.datasync());
        unflushed = 0;
      }
      writing = start(writeAll(file, bytes));
      unflushed += bytes.length;
      if (bytes.length > MOST_BEHIND_BYTES) await writing;
    },
    async finish() {
      await writing;
      await flushing;
    },
  };
}

/** One call of the system may write less than it is given (write(2)). */
async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}
