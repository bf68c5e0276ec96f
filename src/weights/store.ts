/**
 * The local store of imported weights: `$TL_HOME/weights/<backbone>/<source>/` with the numbers under our own names
 * and a record of the file they came from.
 */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Parameter } from '../engine/graph.js';
import { toolkitHome } from '../engine/setup/home.js';
import { FormatError, listFaults, messageOf } from '../errors.js';
import { readJsonFile, recoverFolder, replaceFolderAtomic, writeFileAtomic } from '../files.js';
import type { Head } from '../heads/heads.js';
import { headSchema } from './model-folder.js';
import { type SafetensorsEntry, writeSafetensors } from './safetensors.js';

const WEIGHTS = 'weights.safetensors';
const RECORD = 'record.json';

/** `format` in the metadata of safetensors files whose tensors are called by our own parameter paths. */
export const CANONICAL_FORMAT = 'tl';

/** A file as it was: its name without folders, its size in bytes and its SHA-256. */
export interface FilePrint {
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
}

/** Where stored weights came from. */
export interface StoreRecord {
  readonly formatVersion: 1;
  readonly backbone: string;
  readonly source: string;
  /** Classes of the classifier; null where the file had none. */
  readonly classes: number | null;
  /** Layers of somebody's own in the place of the classifier, under `head`; absent where there are none. */
  readonly head?: Head & { readonly classes: number };
  /** The imported file. */
  readonly file: FilePrint & {
    /** Of an archive: the path in it that was read. */
    readonly member?: string;
    /** Files beside it that hold its numbers, as the shards of a checkpoint. */
    readonly parts?: readonly FilePrint[];
  };
  /** Of the imported file. */
  readonly format: string;
  /** When it was imported, ISO 8601. */
  readonly date: string;
  /** Where the publisher keeps such files. */
  readonly origin: string;
  readonly license: string;
  /** What was done to the numbers, in sentences; empty where they lie as in the file. */
  readonly adaptations: readonly string[];
  /** Tensors and parameters that the user chose to leave out. */
  readonly ignored: readonly string[];
}

const filePrintSchema = z.object({
  name: z.string(),
  size: z.number().int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

const recordSchema: z.ZodType<StoreRecord> = z.object({
  formatVersion: z.literal(1),
  backbone: z.string(),
  source: z.string(),
  classes: z.number().int().positive().nullable(),
  head: headSchema.extend({ classes: z.number().int().positive() }).exactOptional(),
  file: filePrintSchema.extend({
    member: z.string().exactOptional(),
    parts: z.array(filePrintSchema).exactOptional(),
  }),
  format: z.string(),
  date: z.string(),
  origin: z.string(),
  license: z.string(),
  adaptations: z.array(z.string()),
  ignored: z.array(z.string()),
});

/** Weights in the store. */
export interface StoredWeights {
  readonly folder: string;
  /** The safetensors file. */
  readonly file: string;
  readonly record: StoreRecord;
}

/** The folder of all stored weights. */
export function storeFolder(): string {
  return join(toolkitHome(), 'weights');
}

/** The folder of one backbone and source, whether it is there or not. */
export function folderOf(backbone: string, source: string): string {
  return join(storeFolder(), backbone, source);
}

/** Everything in the store, by backbone and source; what cannot be read is listed apart with its reason. */
export async function listStored(): Promise<{
  readonly stored: readonly StoredWeights[];
  readonly damaged: readonly { readonly folder: string; readonly reason: string }[];
}> {
  const stored: StoredWeights[] = [];
  const damaged: { folder: string; reason: string }[] = [];
  for (const backbone of await foldersIn(storeFolder())) {
    for (const source of await foldersIn(join(storeFolder(), backbone))) {
      try {
        const found = await findStored(backbone, source);
        if (found !== undefined) stored.push(found);
      } catch (error) {
        damaged.push({ folder: folderOf(backbone, source), reason: messageOf(error).split('\n')[0]! });
      }
    }
  }
  return { stored, damaged };
}

/**
 * The stored weights of a backbone from one source, or undefined.
 * @throws STORE_DAMAGED when something lies there that is no such thing
 */
export async function findStored(backbone: string, source: string): Promise<StoredWeights | undefined> {
  const folder = folderOf(backbone, source);
  await recoverFolder(folder);
  if (!existsSync(folder)) return undefined;
  const file = join(folder, WEIGHTS);
  const record = await readRecord(folder, backbone, source);
  await stat(file).catch((error: unknown) => {
    throw damagedStore(folder, `${WEIGHTS} is not there`, error);
  });
  return { folder, file, record };
}

/** The stored weights of a backbone, in the order of the given sources. @throws STORE_DAMAGED */
export async function findAllStored(backbone: string, sources: readonly string[]): Promise<StoredWeights[]> {
  const found: StoredWeights[] = [];
  for (const source of sources) {
    const stored = await findStored(backbone, source);
    if (stored !== undefined) found.push(stored);
  }
  return found;
}

/**
 * Puts weights into the store, whole or not at all, in the place of those of the same backbone and source.
 * @param parameters every one that is kept, with its shape
 * @param read gives their numbers, one parameter at a time
 * @param describe gives the record; it is asked for once the numbers are written
 * @throws FILE_NOT_WRITTEN, or what `read` and `describe` throw
 */
export async function storeWeights(
  { backbone, source }: Pick<StoreRecord, 'backbone' | 'source'>,
  parameters: readonly Parameter[],
  read: (path: string) => ReturnType<SafetensorsEntry['read']>,
  describe: () => StoreRecord | Promise<StoreRecord>,
): Promise<StoredWeights> {
  const folder = folderOf(backbone, source);
  let record: StoreRecord | undefined;
  await replaceFolderAtomic(folder, async (fresh) => {
    const entries = parameters.map(({ path, shape }) => ({ name: path, shape, read: () => read(path) }));
    await writeSafetensors(join(fresh, WEIGHTS), entries, { format: CANONICAL_FORMAT, backbone, source });
    record = await describe();
    await writeFileAtomic(join(fresh, RECORD), `${JSON.stringify(record, null, 2)}\n`);
  });
  return { folder, file: join(folder, WEIGHTS), record: record! };
}

async function readRecord(folder: string, backbone: string, source: string): Promise<StoreRecord> {
  let json: unknown;
  try {
    json = await readJsonFile(join(folder, RECORD));
  } catch (error) {
    throw damagedStore(folder, messageOf(error), error);
  }
  const result = recordSchema.safeParse(json);
  if (!result.success) {
    const faults = result.error.issues.map((issue) => `${issue.path.join('.') || '(whole file)'}: ${issue.message}`);
    throw damagedStore(folder, `${RECORD} is not a record of imported weights\n${listFaults(faults)}`);
  }
  const { data } = result;
  if (data.backbone !== backbone || data.source !== source) {
    throw damagedStore(folder, `${RECORD} is that of ${data.backbone} (source ${data.source})`);
  }
  return data;
}

function damagedStore(folder: string, reason: string, cause?: unknown): FormatError {
  return new FormatError({
    code: 'STORE_DAMAGED',
    message: `${folder}: ${reason}`,
    hint: `remove that folder and import the weights again: tl import FILE`,
    cause,
  });
}

/** Names of the folders in a folder, sorted; hidden ones, which are unfinished, left out. */
async function foldersIn(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  const entries = await readdir(folder, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => entry.name)
    .sort();
}
