/** From the start of a run to what is trained: its network, and the pictures as that takes them. */
import { mixingFor, recipeFor } from './augmentation.js';
import { openTeaching } from './distill-logits.js';
import type { EntryOptions, EntrySource } from './features/entries.js';
import { type PrintingReader, printingReader } from './features/key.js';
import { openSources } from './features/sources.js';
import { trainedOf } from './lora.js';
import type { Reporter } from './options.js';
import type { BadPicture } from './run-folder.js';
import type { Start } from './start.js';
import { loadTrainable, type TrainableNetwork } from './trainable.js';

/** A network of a run, and what belongs to it. */
export interface Prepared {
  readonly start: Start;
  readonly reader: PrintingReader;
  readonly network: TrainableNetwork;
  /** Damaged pictures that were left out, by path. */
  readonly bad: Map<string, string>;
}

/** Those pictures, for messages and checkpoints. */
export const badPicturesOf = ({ bad }: Pick<Prepared, 'bad'>): BadPicture[] =>
  [...bad].map(([path, reason]) => ({ path, reason }));

/** Loads what is trained, with the numbers that the start reads. @throws PRECISION_UNSUPPORTED */
export async function loadForRun(start: Start): Promise<Pick<Prepared, 'reader' | 'network'>> {
  const { settings, resolved } = start.args;
  const reader = printingReader(start.read);
  const network = await loadTrainable(start.graph, reader.read, start.engine, {
    cut: start.cut,
    auxiliary: start.auxiliary,
    labelLoss: { focal: settings.focal, weighted: resolved.classWeights !== undefined },
    distillation: start.teacher?.distillation,
    trains: trainedOf(start.graph),
    batchNorm: settings.batchNorm,
    precision: settings.precision ?? 'float32',
    recompute: settings.recompute ?? false,
  });
  return { reader, network };
}

/** How the pictures of a run are shown. */
export function entriesOf({
  start,
  network,
  bad,
}: Pick<Prepared, 'start' | 'network' | 'bad'>): EntryOptions & { readonly network: TrainableNetwork } {
  const { settings, resolved } = start.args;
  return {
    network,
    preprocessing: start.record.preprocessing,
    size: resolved.inputSize,
    batchSize: settings.batchSize,
    sampler: settings.sampler,
    augment: recipeFor(settings),
    mixing: mixingFor(settings, resolved.classes.length),
    seed: settings.seed,
    skipBadImages: settings.skipBadImages,
    onBadImage: (path, reason) => bad.set(path, reason),
  };
}

/** What epochs go through. */
export interface ShownPictures {
  readonly train: EntrySource;
  readonly val: EntrySource;
}

/** The pictures of a run, and where they come from. */
export interface Pictures {
  /**
   * Computes what of the frozen part's output, and of a teacher's, is to be kept and is not yet.
   * @returns undefined when it was stopped
   * @throws BAD_IMAGE, CACHE_PRECISION, FILE_NOT_WRITTEN
   */
  fill(): Promise<ShownPictures | undefined>;
  close(): void;
}

/**
 * Opens the pictures of a run. All numbers of the frozen part are read here; nothing is computed yet.
 * @throws CACHE_TOO_LARGE, FILE_NOT_WRITTEN
 */
export async function openPictures(
  prepared: Prepared,
  { reporter, signal }: { readonly reporter: Reporter; readonly signal: AbortSignal | undefined },
): Promise<Pictures> {
  const { start, reader } = prepared;
  const { teacher, dataset, engine } = start;
  const { cache, precision = 'float32' } = start.args.settings;
  const entries = entriesOf(prepared);
  const sources = await openSources({ start, reader, entries, precision, reporter, signal });
  let closeTeaching = (): void => {};
  return {
    fill: async () => {
      const pictures = await sources.fill();
      if (pictures === undefined || teacher === undefined) return pictures;
      const how = { teacher, dataset, engine, precision, entries, views: pictures.views, cache, reporter, signal };
      const teaching = await openTeaching(how);
      if (teaching === undefined) return undefined;
      closeTeaching = () => teaching.close();
      return { ...pictures, train: teaching.taught(pictures.train) };
    },
    close: () => {
      closeTeaching();
      sources.close();
    },
  };
}
