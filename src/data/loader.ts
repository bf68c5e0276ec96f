/**
 * Labelled pictures as batches of numbers, decoded ahead of the consumer on other threads.
 *
 * TensorFlow computes on the main thread and lets nothing else run there meanwhile. So a task is a whole batch, and
 * each worker holds its next one already: it need not ask the main thread in between.
 */

import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import type { Piscina } from 'piscina';
import { picturesAddonFile } from '../addon.js';
import type { ImageSize } from '../augment/image.js';
import { plainView, preprocessInto, type View } from '../augment/pipeline.js';
import { channelsFor, type Preprocessing } from '../augment/preprocessing.js';
import { type Augmentation, type AugmentRecipe, recipeOf } from '../augment/recipe.js';
import { DataError, listFaults, UsageError } from '../errors.js';
import type { Sample } from './dataset.js';
import { decodeImage } from './decode.js';
import { type DecodeResult, type DecodeTask, decodeBatch, type PictureFault, type Recipe } from './decode-batch.js';

/** Some pictures, ready for the network. */
export interface Batch {
  /** `[count, height, width, channels]`, as many channels as the record has means. */
  readonly pixels: Float32Array;
  /** The same pictures, with the same random changes, for the second network where one was named. */
  readonly second?: Float32Array | undefined;
  /** `[count]`, class indices. */
  readonly labels: Int32Array;
  /** `[count]`, positions in the samples that were asked for. */
  readonly indices: Int32Array;
  /** Pictures in this batch: `batchSize`, or fewer in the last one and where bad pictures were left out. */
  readonly count: number;
  /** How long the consumer waited for this batch; above 0 in every batch means that decoding is the bottleneck. */
  readonly waitedMs: number;
}

export interface LoaderOptions {
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly batchSize: number;
  /** Positions of the samples to show, where wanted more than once; each of them once, in their order, when absent. */
  readonly order?: readonly number[];
  /** What is random about the pictures: a preset's name, or a recipe. */
  readonly augment: Augmentation | AugmentRecipe;
  /** Shows every picture in this view, whatever `augment` says; for keeping a frozen network's output. */
  readonly view?: View;
  /** A second network, for which each picture is made ready too, from the same decoded file. */
  readonly second?: Recipe | undefined;
  readonly seed: number | string;
  /** Names the random changes, so that each epoch has its own. */
  readonly epoch: number;
  /** Threads that decode, 0 for none but the calling one; one less than the cores, at most 8, when absent. */
  readonly workers?: number;
  /** Batches in memory ahead of the consumer; two for each worker when absent. */
  readonly prefetch?: number;
  /**
   * A batch's pixels are lent: they are written over once the next batch is asked for. Else each batch becomes garbage, and
   * collecting it takes a fifth of the time of decoding: Node counts such memory as if all of it were objects.
   */
  readonly lend?: boolean;
  /** Leave bad pictures out and report them, instead of stopping at the first. */
  readonly skipBadImages: boolean;
  readonly onBadImage?: (path: string, reason: string) => void;
  /** Left-out pictures may be all of them; otherwise that is an error, since nothing could be trained. */
  readonly allowNone?: boolean;
}

/** More threads than this have not been needed to keep a network fed. */
const MOST_WORKERS = 8;
/** Batches ahead of the consumer for each worker: the one it decodes, and its next. */
const BATCHES_PER_WORKER = 2;

/**
 * The samples in batches, in an order and with contents that do not depend on the number of workers. Every sample
 * comes exactly once unless an order says otherwise, the last batch may be smaller. Ending the loop early stops the
 * decoding.
 *
 * @throws DataError `BAD_IMAGE` at the first bad picture in order, or when no picture at all could be read
 * @throws UsageError `BAD_LOADER_OPTION`
 */
export async function* batches(samples: readonly Sample[], options: LoaderOptions): AsyncGenerator<Batch, void, void> {
  const workers = options.workers ?? defaultWorkers();
  const prefetch = options.prefetch ?? Math.max(1, workers) * BATCHES_PER_WORKER;
  checkOptions({ ...options, workers, prefetch });
  const order = options.order ?? samples.map((_, position) => position);
  const cancelled = new Int32Array(new SharedArrayBuffer(4));
  const run = workers === 0 ? decodeBatch : await poolOf(workers);

  const ahead: Promise<DecodeResult>[] = [];
  const faults: PictureFault[] = [];
  let started = 0;
  const slot = options.size.height * options.size.width * channelsFor(options.preprocessing);
  const bytes = options.batchSize * slot * Float32Array.BYTES_PER_ELEMENT;
  const startNext = (): void => {
    if (started >= order.length) return;
    const paths = order.slice(started, started + options.batchSize).map((index) => samples[index]!.path);
    started += paths.length;
    const result = run({
      ...taskOf(paths, options, cancelled),
      memory: options.lend === true ? blockOf(bytes) : undefined,
    });
    result.catch(() => undefined); // its turn to be awaited, and thrown, comes later or never
    ahead.push(result);
  };

  try {
    for (let i = 0; i < prefetch; i++) startNext();
    let delivered = 0;
    for (let start = 0; start < order.length; start += options.batchSize) {
      const asked = performance.now();
      const { pixels, second, kept, faults: bad } = await ahead.shift()!;
      const waitedMs = performance.now() - asked;
      reportFaults(bad, options);
      faults.push(...bad);
      startNext();
      if (kept.length === 0) continue;
      delivered += kept.length;
      const indices = Int32Array.from(kept, (position) => order[start + position]!);
      const labels = Int32Array.from(indices, (index) => samples[index]!.label);
      yield { pixels, second, labels, indices, count: kept.length, waitedMs };
      takeBack(pixels);
    }
    if (samples.length > 0 && delivered === 0 && options.allowNone !== true) throw nothingReadable(faults);
  } finally {
    Atomics.store(cancelled, 0, 1);
    for (const left of await Promise.allSettled(ahead)) if (left.status === 'fulfilled') takeBack(left.value.pixels);
  }
}

/**
 * One picture, ready for the network: `[height, width, channels]`.
 * @throws DataError `BAD_IMAGE` with the path and the reason
 */
export async function loadOne(path: string, preprocessing: Preprocessing, size: ImageSize): Promise<Float32Array> {
  const channels = channelsFor(preprocessing);
  const out = new Float32Array(size.height * size.width * channels);
  preprocessInto(await decodeImage(path, channels), preprocessing, size, out, 0, plainView);
  return out;
}

/** A message about pictures that were left out: how many, and the first of them; empty when there were none. */
export function describeBadImages(bad: readonly { readonly path: string; readonly reason: string }[]): string {
  if (bad.length === 0) return '';
  const what = bad.length === 1 ? '1 bad picture was' : `${bad.length} bad pictures were`;
  return `${what} left out:\n${listFaults(bad.map(({ path, reason }) => `${path}: ${reason}`))}`;
}

/** Ends the worker threads, so that the process can end; a later {@link batches} starts new ones. */
export async function closeLoader(): Promise<void> {
  const open = [...pools.values()];
  pools.clear();
  idle = [];
  await Promise.all(open.map((pool) => pool.destroy()));
}

/** What is lent, of one size at a time: as many as were in use at once. Without garbage nothing would free it. */
let idle: SharedArrayBuffer[] = [];

function blockOf(bytes: number): SharedArrayBuffer {
  if (idle[0]?.byteLength !== bytes) idle = [];
  return idle.pop() ?? new SharedArrayBuffer(bytes);
}

function takeBack({ buffer }: Float32Array): void {
  if (!(buffer instanceof SharedArrayBuffer)) return;
  if (idle[0]?.byteLength !== buffer.byteLength) idle = [];
  idle.push(buffer);
}

const pools = new Map<number, Piscina<DecodeTask, DecodeResult>>();

/** Threads are loaded where they are used: a single picture needs none. */
async function poolOf(workers: number): Promise<(task: DecodeTask) => Promise<DecodeResult>> {
  const { Piscina } = await import('piscina');
  let pool = pools.get(workers);
  if (!pool) {
    pool = new Piscina<DecodeTask, DecodeResult>({
      // Built JavaScript, also when this file runs from its source: worker threads read no TypeScript.
      filename: createRequire(import.meta.url).resolve('#decode-worker'),
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: BATCHES_PER_WORKER,
    });
    pools.set(workers, pool);
  }
  const running = pool;
  return (task) => running.run(task);
}

function defaultWorkers(): number {
  return Math.min(Math.max(availableParallelism() - 1, 1), MOST_WORKERS);
}

function taskOf(paths: readonly string[], options: LoaderOptions, cancelled: Int32Array): DecodeTask {
  const { preprocessing, size, augment, seed, epoch, view, second, skipBadImages } = options;
  return {
    paths,
    preprocessing,
    size,
    augment: recipeOf(augment),
    seed,
    epoch,
    view,
    second,
    stopAtFault: !skipBadImages,
    cancelled,
    addon: picturesAddonFile(),
  };
}

function reportFaults(faults: readonly PictureFault[], { skipBadImages, onBadImage }: LoaderOptions): void {
  for (const { path, code, message, hint } of faults) {
    if (!skipBadImages) throw new DataError({ code, message, ...(hint === undefined ? {} : { hint }) });
    onBadImage?.(path, message.replace(`cannot read ${path}: `, ''));
  }
}

function nothingReadable(faults: readonly PictureFault[]): DataError {
  return new DataError({
    code: 'BAD_IMAGE',
    message: `none of ${faults.length} pictures could be read:\n${listFaults(faults.map(({ message }) => message))}`,
    hint: 'check that the data folder holds picture files',
  });
}

function checkOptions(options: LoaderOptions): void {
  const { size, batchSize, workers, prefetch } = options;
  const numbers = { batchSize, prefetch, height: size.height, width: size.width };
  const faults = Object.entries(numbers)
    .filter(([, value]) => !(Number.isInteger(value) && value! >= 1))
    .map(([name, value]) => `${name} must be a whole number of at least 1, received ${value}`);
  if (!(Number.isInteger(workers) && workers! >= 0)) {
    faults.push(`workers must be a whole number of at least 0, received ${workers}`);
  }
  if (faults.length === 0) return;
  throw new UsageError({
    code: 'BAD_LOADER_OPTION',
    message: `pictures cannot be loaded with these options:\n${listFaults(faults)}`,
    hint: 'correct the options',
  });
}
