/** Whether the frozen part's output is kept for a run, and where. */
import { freemem } from 'node:os';
import { join } from 'node:path';
import type { Precision } from '../../engine/precision.js';
import { messageOf, UsageError } from '../../errors.js';
import { version } from '../../version.js';
import type { Reporter } from '../options.js';
import type { Start } from '../start.js';
import type { FrozenNetwork } from '../trainable.js';
import { type EntryOptions, type EntrySource, entriesFromDisk } from './entries.js';
import {
  computeRows,
  countMissing,
  entriesFromRows,
  type KeepOptions,
  type KeptPlan,
  planRows,
  rowBytesOf,
  viewsOf,
} from './kept.js';
import { contentPrints, frozenPrint, type PrintingReader } from './key.js';
import type { RowPrecision } from './places.js';
import { segmentBytes } from './segment.js';
import { featuresFolder, makeSpace } from './space.js';
import { diskStore, memoryStore, type RowStore } from './store.js';

/** The pictures of a run. */
export interface RunPictures {
  readonly train: EntrySource;
  readonly val: EntrySource;
}

/** Where they come from. The frozen part is loaded while anything has to go through it, and no longer. */
export interface Sources {
  /**
   * Computes what is not kept yet.
   * @returns undefined when it was stopped
   * @throws BAD_IMAGE, CACHE_PRECISION, FILE_NOT_WRITTEN
   */
  fill(): Promise<RunPictures | undefined>;
  close(): void;
}

export interface SourcesOptions {
  readonly start: Start;
  /** Gives the frozen part its numbers. */
  readonly reader: PrintingReader;
  readonly entries: EntryOptions;
  /** Of the computation. */
  readonly precision: Precision;
  readonly reporter: Reporter;
  readonly signal: AbortSignal | undefined;
}

/**
 * Decides whether and where the frozen part's output is kept, as the run's settings want it, and looks for what earlier
 * runs kept of it. All numbers of the frozen part are read here; nothing is computed yet.
 * @throws CACHE_TOO_LARGE, FILE_NOT_WRITTEN
 */
export async function openSources(options: SourcesOptions): Promise<Sources> {
  const { start, entries, reporter } = options;
  const { settings, resolved } = start.args;
  const { train, val } = start.dataset;
  const { cache, cacheViews = 0 } = settings;
  const views = viewsOf(settings.augment, settings.seed, cacheViews);
  if (cache === 'off') return await sourcesAnew(options);
  if (resolved.cut === null || views.length === 0) {
    if (cache !== 'auto') reporter.warn(`--cache ${cache}: ${nothingToKeep(resolved.cut, settings.augment)}`);
    return await sourcesAnew(options);
  }
  const contents = await contentPrints([...train, ...val].map(({ path }) => path));
  const plans = { train: planRows(train, views, contents), val: planRows(val, [{ kind: 'plain' }], contents) };
  const rowPrecision = settings.cachePrecision ?? 'float32';
  const place = await choosePlace(options, [plans.train, plans.val], rowPrecision);
  if (place === undefined) return await sourcesAnew(options);
  const { store } = place;
  let frozen: FrozenNetwork | undefined;
  try {
    if (countMissing([plans.train, plans.val], store) > 0) frozen = await entries.network.loadFrozen();
    reporter.info(place.message);
  } catch (error) {
    store.close();
    throw error;
  }
  const release = (): void => {
    frozen?.dispose();
    frozen = undefined;
  };
  return {
    fill: async () => {
      const how = { ...entries, rowPrecision };
      if (frozen !== undefined && !(await fillRows([plans.train, plans.val], store, { ...how, frozen }, options)))
        return undefined;
      release();
      return { train: entriesFromRows(plans.train, store, how), val: entriesFromRows(plans.val, store, how) };
    },
    close: () => {
      release();
      store.close();
    },
  };
}

/** Nothing is kept: every picture goes through the frozen part in every epoch. */
async function sourcesAnew({ start, entries }: SourcesOptions): Promise<Sources> {
  const { train, val } = start.dataset;
  const frozen = await entries.network.loadFrozen();
  return {
    fill: async () => ({
      train: entriesFromDisk(train, { ...entries, frozen }),
      val: entriesFromDisk(val, { ...entries, frozen }),
    }),
    close: () => frozen.dispose(),
  };
}

/** Computes rows, and says how far it is. @returns false when it was stopped */
async function fillRows(
  plans: readonly KeptPlan[],
  store: RowStore,
  how: Omit<KeepOptions, 'onProgress'>,
  { reporter, signal }: SourcesOptions,
): Promise<boolean> {
  const began = performance.now();
  return await computeRows(plans, store, {
    ...how,
    onProgress: (done, total) => {
      const imagesPerSecond = (1000 * done) / (performance.now() - began);
      reporter.featureProgress?.({ done, total, imagesPerSecond });
      return signal?.aborted !== true;
    },
  });
}

const nothingToKeep = (cut: string | null, augment: string): string =>
  cut === null
    ? 'nothing is frozen, so there is nothing to keep'
    : `--augment ${augment} shows other pictures in every epoch, so nothing is kept; --cache-views N keeps N of them`;

interface Place {
  readonly store: RowStore;
  readonly message: string;
}

/** @returns undefined where there is room nowhere, and none was insisted on */
async function choosePlace(
  { start, entries, reader, precision, reporter }: SourcesOptions,
  plans: readonly KeptPlan[],
  rowPrecision: RowPrecision,
): Promise<Place | undefined> {
  const { cache } = start.args.settings;
  const rowBytes = rowBytesOf(entries.network, rowPrecision);
  const wanted = new Set(plans.flatMap(({ pictures }) => pictures.flatMap(({ ids }) => ids)));
  const all = wanted.size * rowBytes;
  const tooLarge = (bytes: number, where: string, hint: string): UsageError =>
    new UsageError({
      code: 'CACHE_TOO_LARGE',
      message: `--cache ${cache}: the frozen part's output takes ${megabytes(bytes)}, more than there is room ${where}`,
      hint,
    });
  if (cache === 'memory') {
    if (fitsInMemory(all)) return inMemory(all);
    throw tooLarge(all, 'in half of the free memory', 'choose --cache disk, --cache-precision float16 or --cache off');
  }
  const print = await frozenPrint(
    {
      graph: start.graph,
      cut: start.cut!,
      engine: start.engine,
      precision,
      preprocessing: entries.preprocessing,
      size: entries.size,
      rowPrecision,
      toolkit: version,
    },
    reader,
  );
  const folder = join(featuresFolder(), print);
  const store = await diskStore({
    folder,
    kind: { print, rowBytes },
    wanted,
    onDamage: (message) => reporter.warn(message),
  });
  const missing = countMissing(plans, store);
  if (missing === 0) return { store, message: `the frozen part's output is there from an earlier run: ${folder}` };
  const rows = [...wanted].filter((id) => !store.has(id)).length;
  const bytes = segmentBytes(rows, rowBytes);
  if (await hasSpace({ bytes, folder, insists: cache === 'disk' }, cache === 'auto' ? reporter : undefined)) {
    const message = `computing the frozen part's output of ${pictures(missing)} once and keeping it (${megabytes(bytes)} in ${folder})`;
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
  if (fitsInMemory(all)) return inMemory(all);
  reporter.info(
    `the frozen part's output would take ${megabytes(bytes)}, too much to keep: it is computed in every epoch`,
  );
  return undefined;
}

const inMemory = (bytes: number): Place => ({
  store: memoryStore(),
  message: `computing the frozen part's output once and keeping it (${megabytes(bytes)} in memory)`,
});

/** Whether so many bytes may be kept: half of what is free, so that training itself still fits. */
const fitsInMemory = (bytes: number): boolean => bytes <= freemem() / 2;

/** @param reporter where nobody insists, a folder that cannot be written is told and is then no room */
async function hasSpace(need: Parameters<typeof makeSpace>[0], reporter: Reporter | undefined): Promise<boolean> {
  try {
    return await makeSpace(need);
  } catch (error) {
    if (reporter === undefined) throw error;
    reporter.warn(`${need.folder}: the frozen part's output cannot be kept there: ${messageOf(error)}`);
    return false;
  }
}

const megabytes = (bytes: number): string => `${Math.max(1, Math.round(bytes / 1e6)).toLocaleString('en')} MB`;
const pictures = (count: number): string => `${count.toLocaleString('en')} picture${count === 1 ? '' : 's'}`;
