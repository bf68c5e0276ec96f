/** Where a network's output for every picture is kept. */
import { freemem } from 'node:os';
import { join } from 'node:path';
import { messageOf, UsageError } from '../../errors.js';
import type { Reporter } from '../options.js';
import { countMissing, type KeptPlan } from './kept.js';
import type { Print } from './key.js';
import type { CachePlace } from './places.js';
import { segmentBytes } from './segment.js';
import { featuresFolder, makeSpace } from './space.js';
import { diskStore, memoryStore, type RowStore } from './store.js';

/** What is to be kept. */
export interface Keeping {
  /** In words, such as "the frozen part's output". */
  readonly what: string;
  readonly cache: CachePlace;
  readonly plans: readonly KeptPlan[];
  /** Bytes of a row. */
  readonly rowBytes: number;
  /** The name of what the rows have in common. */
  readonly print: () => Promise<Print>;
  readonly reporter: Reporter;
}

export interface Place {
  readonly store: RowStore;
  readonly message: string;
}

/**
 * @returns undefined where there is room nowhere, and none was insisted on
 * @throws CACHE_TOO_LARGE, FILE_NOT_WRITTEN
 */
export async function choosePlace({
  what,
  cache,
  plans,
  rowBytes,
  print,
  reporter,
}: Keeping): Promise<Place | undefined> {
  const wanted = new Set(plans.flatMap(({ pictures }) => pictures.flatMap(({ ids }) => ids)));
  const all = wanted.size * rowBytes;
  const tooLarge = (bytes: number, where: string, hint: string): UsageError =>
    new UsageError({
      code: 'CACHE_TOO_LARGE',
      message: `--cache ${cache}: ${what} takes ${megabytes(bytes)}, more than there is room ${where}`,
      hint,
    });
  const inMemory = (): Place => ({
    store: memoryStore(),
    message: `computing ${what} once and keeping it (${megabytes(all)} in memory)`,
  });
  if (cache === 'memory') {
    if (fitsInMemory(all)) return inMemory();
    throw tooLarge(all, 'in half of the free memory', 'choose --cache disk, --cache-precision float16 or --cache off');
  }
  const name = await print();
  const folder = join(featuresFolder(), name);
  const store = await diskStore({
    folder,
    kind: { print: name, rowBytes },
    wanted,
    onDamage: (message) => reporter.warn(message),
  });
  const missing = countMissing(plans, store);
  if (missing === 0) return { store, message: `${what} is there from an earlier run: ${folder}` };
  const rows = [...wanted].filter((id) => !store.has(id)).length;
  const bytes = segmentBytes(rows, rowBytes);
  if (await hasSpace({ bytes, folder, insists: cache === 'disk' }, cache === 'auto' ? { what, reporter } : undefined)) {
    const message = `computing ${what} of ${pictures(missing)} once and keeping it (${megabytes(bytes)} in ${folder})`;
    return { store, message };
  }
  store.close();
  if (cache === 'disk') {
    throw tooLarge(
      bytes,
      `on the disk of ${folder}`,
      'free some space, or choose --cache-precision float16 or --cache off',
    );
  }
  if (fitsInMemory(all)) return inMemory();
  reporter.info(`${what} would take ${megabytes(bytes)}, too much to keep: it is computed in every epoch`);
  return undefined;
}

/** Whether so many bytes may be kept: half of what is free, so that training itself still fits. */
const fitsInMemory = (bytes: number): boolean => bytes <= freemem() / 2;

/** @param tell where nobody insists, a folder that cannot be written is told and is then no room */
async function hasSpace(
  need: Parameters<typeof makeSpace>[0],
  tell: Pick<Keeping, 'what' | 'reporter'> | undefined,
): Promise<boolean> {
  try {
    return await makeSpace(need);
  } catch (error) {
    if (tell === undefined) throw error;
    tell.reporter.warn(`${need.folder}: ${tell.what} cannot be kept there: ${messageOf(error)}`);
    return false;
  }
}

const megabytes = (bytes: number): string => `${Math.max(1, Math.round(bytes / 1e6)).toLocaleString('en')} MB`;
const pictures = (count: number): string => `${count.toLocaleString('en')} picture${count === 1 ? '' : 's'}`;
