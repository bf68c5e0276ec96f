/** Where rows are kept between epochs: in memory, or in files that the next run starts from. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.js';
import { openSegment, type PutRow, type RowKind, type Segment, writeSegment } from './segment.js';
import { SEGMENT_ENDING } from './space.js';

export interface RowStore {
  has(id: string): boolean;
  /** Copies a row into `target`, which has its length. */
  read(id: string, target: Uint8Array): void;
  /** Adds rows; those that were put are kept even where `fill` throws, which is then thrown again. */
  add(fill: (put: PutRow) => Promise<void>): Promise<void>;
  close(): void;
}

/** Rows in memory, gone with the run. */
export function memoryStore(): RowStore {
  const rows = new Map<string, Uint8Array>();
  return {
    has: (id) => rows.has(id),
    read: (id, target) => target.set(rows.get(id)!),
    add: (fill) =>
      fill(async (id, bytes) => {
        rows.set(id, bytes.slice());
      }),
    close: () => rows.clear(),
  };
}

/** What {@link diskStore} opens. */
export interface DiskStoreOptions {
  /** Of this kind of rows alone. */
  readonly folder: string;
  readonly kind: RowKind;
  /** Names of the rows that will be asked for: no others are looked at. */
  readonly wanted: ReadonlySet<string>;
  /** Hears of a damaged file, which is removed. */
  readonly onDamage: (message: string) => void;
}

/**
 * Rows in files. Each run adds one with what the earlier ones lack, so that ten more pictures cost ten. Every wanted row
 * is compared with its checksum now, once; a file that is damaged is removed, and what it held is computed again.
 */
export async function diskStore({ folder, kind, wanted, onDamage }: DiskStoreOptions): Promise<RowStore> {
  const segments: Segment[] = [];
  const places = new Map<string, { readonly segment: Segment; readonly row: number }>();
  const take = async (path: string): Promise<void> => {
    const segment = await openSegment(path, kind);
    const found = [...segment.rows].filter(([id]) => wanted.has(id) && !places.has(id));
    try {
      await segment.verify(found.map(([, row]) => row));
    } catch (error) {
      segment.close();
      throw error;
    }
    if (found.length === 0) return segment.close();
    segments.push(segment);
    for (const [id, row] of found) places.set(id, { segment, row });
    await touch(path);
  };
  for (const name of existsSync(folder) ? (await readdir(folder)).sort() : []) {
    if (!name.endsWith(SEGMENT_ENDING) || name.startsWith('.')) continue;
    const path = join(folder, name);
    try {
      await take(path);
    } catch (error) {
      onDamage(`${messageOf(error)}; it is removed, and what it held is computed again`);
      await rm(path, { force: true });
    }
  }
  return {
    has: (id) => places.has(id),
    read: (id, target) => {
      const { segment, row } = places.get(id)!;
      segment.read(row, target);
    },
    add: async (fill) => {
      const path = join(folder, `${randomBytes(8).toString('hex')}${SEGMENT_ENDING}`);
      let failure: { readonly error: unknown } | undefined;
      const count = await writeSegment(path, kind, async (put) => {
        await fill(put).catch((error: unknown) => {
          failure = { error };
        });
      });
      if (count === 0) await rm(path);
      else await take(path);
      if (failure !== undefined) throw failure.error;
    },
    close: () => {
      for (const segment of segments) segment.close();
    },
  };
}

/** When a file was last used is when it was last changed: what is oldest makes room first. */
async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined); // somebody else's file: it is then as old as it was
}
