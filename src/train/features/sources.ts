/** Whether the frozen part's output is kept for a run, and where. */
import type { Precision } from '../../engine/precision.js';
import { version } from '../../version.js';
import { endlessFlags, mixingFor } from '../augmentation.js';
import type { Reporter } from '../options.js';
import type { FinetuneSettings } from '../settings/settings.js';
import type { Start } from '../start.js';
import type { FrozenNetwork, TrainableNetwork } from '../trainable.js';
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
import { choosePlace } from './place.js';
import type { RowStore } from './store.js';

/** The pictures of a run. */
export interface RunPictures {
  readonly train: EntrySource;
  readonly val: EntrySource;
  /** How many views of each training picture were kept, of which epochs show one each; 0: pictures come from their files. */
  readonly views: number;
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
  readonly entries: EntryOptions & { readonly network: TrainableNetwork };
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
  const views = viewsOf(entries, cacheViews);
  if (cache === 'off') return await sourcesAnew(options);
  if (resolved.cut === null || views.length === 0) {
    if (cache !== 'auto') reporter.warn(`--cache ${cache}: ${nothingToKeep(resolved.cut, settings)}`);
    return await sourcesAnew(options);
  }
  const contents = await contentPrints([...train, ...val].map(({ path }) => path));
  const plans = { train: planRows(train, views, contents), val: planRows(val, [{ kind: 'plain' }], contents) };
  const rowPrecision = settings.cachePrecision ?? 'float32';
  const place = await choosePlace({
    what: "the frozen part's output",
    cache,
    plans: [plans.train, plans.val],
    rowBytes: rowBytesOf(entries.network, rowPrecision),
    print: () => {
      const { preprocessing, size } = entries;
      const { graph, cut, engine } = start;
      const part = { graph, cut: cut!, engine, precision: options.precision, preprocessing, size, rowPrecision };
      return frozenPrint({ ...part, toolkit: version }, options.reader);
    },
    reporter,
  });
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
      const [train, val] = [plans.train, plans.val].map((plan) => entriesFromRows(plan, store, how));
      return { train: train!, val: val!, views: views.length };
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
      views: 0,
    }),
    close: () => frozen.dispose(),
  };
}

/** Computes rows, and says how far it is. @returns false when it was stopped */
export async function fillRows(
  plans: readonly KeptPlan[],
  store: RowStore,
  how: Omit<KeepOptions, 'onProgress'>,
  { reporter, signal }: Pick<SourcesOptions, 'reporter' | 'signal'>,
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

function nothingToKeep(cut: string | null, settings: FinetuneSettings): string {
  if (cut === null) return 'nothing is frozen, so there is nothing to keep';
  const flags = endlessFlags(settings);
  const shown = `${flags.join(' and ')} ${flags.length > 1 ? 'show' : 'shows'} other pictures in every epoch`;
  const mixed = mixingFor(settings, 2) !== undefined;
  return `${shown}, so nothing is kept${mixed ? '' : '; --cache-views N keeps N of them'}`;
}
