/**
 * Where a download lies while it grows: `$TL_HOME/downloads/<16 digits>/<file>.part`, and beside it what the server said
 * of the file, so that another process can go on. The digits are of the publisher's address.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, rmdir, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ToolkitError } from '../../errors.js';
import { fileError } from '../../files.js';

/** What the server said of the file that the part is of. */
export interface PartRecord {
  /** The publisher's address. */
  readonly url: string;
  /** Of the whole file. */
  readonly length?: number | undefined;
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
  /** What the hub states, before any file is asked for. */
  readonly sha256?: string | undefined;
}

const recordSchema: z.ZodType<PartRecord> = z.object({
  url: z.string(),
  length: z.number().int().min(0).optional(),
  etag: z.string().optional(),
  lastModified: z.string().optional(),
  sha256: z.string().optional(),
});

/** The paths of one download. */
export interface Place {
  readonly folder: string;
  /** The whole file. */
  readonly file: string;
  readonly part: string;
  readonly record: string;
  readonly lock: string;
}

export function placeOf(downloads: string, url: string, name: string): Place {
  const key = createHash('sha256').update(url).digest('hex').slice(0, 16);
  const folder = join(downloads, key);
  const file = join(folder, name);
  return { folder, file, part: `${file}.part`, record: `${file}.part.json`, lock: join(downloads, `${key}.lock`) };
}

/** A part that can be added to. */
export interface Part {
  /** Bytes that are there. */
  size(): number;
  record(): PartRecord | undefined;
  append(bytes: Uint8Array): Promise<void>;
  /** Empties it, and notes what it will be. */
  begin(record: PartRecord): Promise<void>;
  /** Everything that is there, in order. */
  read(): AsyncIterable<Uint8Array>;
  /** Gives it the name of the whole file. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/** @throws FILE_NOT_WRITTEN */
export async function openPart(place: Place): Promise<Part> {
  const { folder, part } = place;
  const writing = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw fileError('FILE_NOT_WRITTEN', part, 'the download cannot be written', error);
    }
  };
  const handle = await writing(async () => {
    await mkdir(folder, { recursive: true });
    return await open(part, 'a'); // made where it is missing
  });
  let size = await writing(async () => (await handle.stat()).size);
  let record = await readRecord(place.record);
  return {
    size: () => size,
    record: () => record,
    append: (bytes) =>
      writing(async () => {
        await handle.appendFile(bytes);
        size += bytes.length;
      }),
    begin: (fresh) =>
      writing(async () => {
        await handle.truncate(0);
        size = 0;
        record = fresh;
        // Not flushed: the server is sending already, and a record that is lost costs no more than a new start
        await writeFile(place.record, `${JSON.stringify(fresh)}\n`);
      }),
    read: () => createReadStream(part, { highWaterMark: 1 << 20, end: Math.max(0, size - 1) }),
    finish: () =>
      writing(async () => {
        await handle.sync();
        await rename(part, place.file);
      }),
    close: () => handle.close(),
  };
}

/** Whatever cannot be read is as good as none: the download then starts again. */
async function readRecord(path: string): Promise<PartRecord | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Removes a download, whole or not, and its folder. */
export async function removeDownload({ folder, file, part, record }: Place): Promise<void> {
  for (const path of [file, part, record]) await rm(path, { force: true });
  await rmdir(folder).catch(() => undefined); // where somebody put something else into it
}

/** The size of a whole file that an earlier run left; undefined where there is none. */
export async function sizeOfWhole({ file }: Place): Promise<number | undefined> {
  const found = await stat(file).catch(() => undefined);
  return found?.isFile() === true ? found.size : undefined;
}

/**
 * Whether the disk has room for what is still to come and, since the import writes as many numbers again, for the file
 * once more.
 * @throws DISK_FULL
 */
export async function checkSpace({ folder, file }: Place, missing: number, whole: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const [free, needed] = [bavail * bsize, missing + whole];
  if (free >= needed) return;
  const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
  throw new ToolkitError({
    code: 'DISK_FULL',
    message: `${file}: the download and its import need ${megabytes(needed)}, but the disk has ${megabytes(free)} left`,
    hint: 'free some space, or set TL_HOME to a folder on another disk',
  });
}
