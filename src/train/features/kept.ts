/**
 * The frozen part's output for every picture, computed once and kept, so that later epochs, and later runs, cost only
 * what is trained. Pictures come in the order, and in the views, of {@link entriesFromDisk}.
 */
import { randomUUID } from 'node:crypto';
import * as tf from '@tensorflow/tfjs-core';
import { flipView } from '../../augment/augment.js';
import { type AugmentRecipe, recipes, variety } from '../../augment/recipe.js';
import { batches, type Sample } from '../../data/index.js';
import { filledUp } from '../../engine/compile.js';
import { DataError, listFaults, UsageError } from '../../errors.js';
import { bytesOf, fromFloat16, toFloat16 } from '../../weights/float-formats.js';
import { orderOf } from '../sampling.js';
import type { FrozenNetwork, TrainableNetwork } from '../trainable.js';
import type { EntryOptions, EntrySource } from './entries.js';
import { type Print, type RowView, rowId } from './key.js';
import type { RowPrecision } from './places.js';
import type { PutRow } from './segment.js';
import type { RowStore } from './store.js';

/** A picture, and the names of its rows: one for each view that epochs may show. */
interface Planned {
  readonly sample: Sample;
  readonly ids: readonly string[];
}

/** Pictures with the rows that are kept of them. */
export interface KeptPlan {
  readonly pictures: readonly Planned[];
  readonly views: readonly RowView[];
}

/**
 * The views that epochs may show: one, both mirrorings, or the first `count` epochs' own random changes; none where
 * pictures are mixed, since no two batches bring the same ones together.
 * @param count of what else is random
 */
export function viewsOf(
  { augment, mixing, seed }: Pick<EntryOptions, 'augment' | 'mixing' | 'seed'>,
  count: number,
): RowView[] {
  if (mixing !== undefined) return [];
  const shown = variety(augment);
  if (shown === 'one') return [{ kind: 'plain' }];
  if (shown === 'mirrored') return [{ kind: 'plain' }, { kind: 'mirrored' }];
  return Array.from({ length: count }, (_, i) => ({ kind: 'augmented', augment, seed, epoch: i + 1 }));
}

/** Position of the view of a picture that an epoch shows; with as many views as epochs, it is the one without keeping. */
export function shownIn(
  epoch: number,
  { path }: Sample,
  { augment, seed }: Pick<EntryOptions, 'augment' | 'seed'>,
  views: number,
): number {
  if (variety(augment) === 'mirrored') return flipView(seed, epoch, path, augment).flip ? 1 : 0;
  return (epoch - 1) % views;
}

/** Names every row. @param contents of the files by path, without those that could not be read */
export function planRows(
  samples: readonly Sample[],
  views: readonly RowView[],
  contents: ReadonlyMap<string, Print>,
): KeptPlan {
  const pictures = samples.map((sample) => {
    const content = contents.get(sample.path) ?? randomUUID(); // decoding it will say what is wrong
    return { sample, ids: views.map((view) => rowId(content, view, sample.path)) };
  });
  return { pictures, views };
}

/** Bytes of one row. */
export function rowBytesOf({ entryShape }: Pick<TrainableNetwork, 'entryShape'>, precision: RowPrecision): number {
  return entryShape.reduce((a, b) => a * b, 1) * (precision === 'float16' ? 2 : 4);
}

/** One way through the pictures: as they are, which gives the mirrored rows too, or as one epoch changes them. */
interface Pass {
  readonly augment: AugmentRecipe;
  readonly epoch: number;
  readonly pictures: {
    readonly sample: Sample;
    readonly rows: { readonly id: string; readonly mirrored: boolean }[];
  }[];
}

function passesOf(plans: readonly KeptPlan[], store: RowStore): Pass[] {
  const passes = new Map<number, Pass>(); // by epoch; 0: unchanged
  for (const { pictures, views } of plans) {
    for (const { sample, ids } of pictures) {
      const missing = views.flatMap((view, i) => (store.has(ids[i]!) ? [] : [{ view, id: ids[i]! }]));
      for (const { view, id } of missing) {
        const [augment, epoch] = view.kind === 'augmented' ? [view.augment, view.epoch] : ([recipes.none, 0] as const);
        const pass = passes.get(epoch) ?? { augment, epoch, pictures: [] };
        passes.set(epoch, pass);
        const row = { id, mirrored: view.kind === 'mirrored' };
        const last = pass.pictures.at(-1);
        if (last?.sample === sample) last.rows.push(row);
        else pass.pictures.push({ sample, rows: [row] });
      }
    }
  }
  return [...passes.values()];
}

/**
 * Pixels at once: 16 pictures of 224x224, the trainer's own batch. Always as many, the last batch filled up, and
 * whatever the batches of training are: matrix products of another number of rows differ in the last bits, and what is
 * kept must not depend on which run came first.
 */
const PIXELS_AT_ONCE = 16 * 224 * 224;
const MOST_AT_ONCE = 16;

/** Pictures to compute, over all passes. */
export const countMissing = (plans: readonly KeptPlan[], store: RowStore): number =>
  passesOf(plans, store).reduce((sum, { pictures }) => sum + pictures.length, 0);

/** How rows are computed. */
export interface KeepOptions extends EntryOptions {
  readonly frozen: FrozenNetwork;
  readonly rowPrecision: RowPrecision;
  /** Gets the pictures done and all of them; false stops, and what is done is kept. */
  readonly onProgress: (done: number, total: number) => boolean;
}

/**
 * Computes the rows that the store lacks.
 * @returns false when it was stopped
 * @throws BAD_IMAGE, CACHE_PRECISION, FILE_NOT_WRITTEN
 */
export async function computeRows(plans: readonly KeptPlan[], store: RowStore, options: KeepOptions): Promise<boolean> {
  const passes = passesOf(plans, store);
  const total = passes.reduce((sum, { pictures }) => sum + pictures.length, 0);
  if (total === 0) return true;
  let [done, stopped] = [0, false];
  await store.add(async (put) => {
    for (const pass of passes) {
      if (stopped) return;
      await computePass(pass, put, options, (count) => {
        done += count;
        stopped = !options.onProgress(done, total);
        return !stopped;
      });
    }
  });
  return !stopped;
}

async function computePass(
  { augment, epoch, pictures }: Pass,
  put: PutRow,
  options: KeepOptions,
  onBatch: (count: number) => boolean,
): Promise<void> {
  const { network, frozen, preprocessing, size, seed, skipBadImages, onBadImage, rowPrecision } = options;
  const length = network.entryShape.reduce((a, b) => a * b, 1);
  const batchSize = Math.min(MOST_AT_ONCE, Math.max(1, Math.floor(PIXELS_AT_ONCE / (size.height * size.width))));
  const samples = pictures.map(({ sample }) => sample);
  const decoding = { preprocessing, size, batchSize, augment, epoch, seed, lend: true };
  const loading = { ...decoding, skipBadImages, onBadImage, allowNone: true };
  for await (const { pixels, indices, count } of batches(samples, loading)) {
    for (const mirrored of [false, true]) {
      const rows = [...indices].map((index) => pictures[index]!.rows.find((row) => row.mirrored === mirrored));
      if (!rows.some((row) => row !== undefined)) continue;
      const given = tf.tensor(pixels, [count, ...network.graph.input.shape]);
      const entered = enterFilled(frozen, given, { batchSize, mirrored });
      given.dispose();
      const values = (await entered.data()) as Float32Array;
      entered.dispose();
      for (const [i, row] of rows.entries()) {
        if (row === undefined) continue;
        const numbers = values.subarray(i * length, (i + 1) * length);
        await put(row.id, rowPrecision === 'float16' ? bytesOf(halvesOf(numbers)) : bytesOf(numbers));
      }
    }
    if (!onBatch(count)) return;
  }
}

/** Pixels `[N, H, W, C]`, mirrored or as they are, through the frozen part, computed as a batch of `batchSize`. */
const enterFilled = (
  frozen: FrozenNetwork,
  pixels: tf.Tensor,
  { batchSize, mirrored }: { readonly batchSize: number; readonly mirrored: boolean },
): tf.Tensor =>
  tf.tidy(() => {
    const x = mirrored ? tf.reverse(pixels, 2) : pixels;
    return filledUp(x, batchSize, (filled) => [frozen.enter(filled)])[0]!;
  });

/** The exponent's bits of float16: all set in what is no number, or too large for one. */
const NO_NUMBER = 0x7c00;

/** @throws CACHE_PRECISION */
function halvesOf(numbers: Float32Array): Uint16Array {
  const halves = toFloat16(numbers);
  const bad = halves.findIndex((half) => (half & NO_NUMBER) === NO_NUMBER);
  if (bad < 0) return halves;
  throw new UsageError({
    code: 'CACHE_PRECISION',
    message: `the frozen part gives ${numbers[bad]}; float16 ends at 65504`,
    hint: 'leave --cache-precision out, which keeps float32',
  });
}

/**
 * Pictures from their rows.
 * @throws BAD_IMAGE where none of them has any
 */
export function entriesFromRows(
  { pictures, views }: KeptPlan,
  store: RowStore,
  options: EntryOptions & { readonly rowPrecision: RowPrecision },
): EntrySource {
  const { network, batchSize, rowPrecision } = options;
  const samples = pictures.map(({ sample }) => sample);
  const length = network.entryShape.reduce((a, b) => a * b, 1);
  const present = pictures.map(({ ids }) => ids.every((id) => store.has(id)));
  if (pictures.length > 0 && !present.includes(true)) throw nothingReadable(pictures);
  const values = new Float32Array(Math.min(batchSize, pictures.length) * length); // of one batch after the other
  const half = rowPrecision === 'float16' ? new Uint16Array(length) : undefined;
  const readRow = (id: string, target: Float32Array): void => {
    if (half === undefined) store.read(id, bytesOf(target));
    else {
      store.read(id, bytesOf(half));
      fromFloat16(half, target);
    }
  };
  return {
    async *epoch(kind) {
      const order =
        kind === 'in order' ? pictures.map((_, position) => position) : orderOf(samples, options, kind.shuffled);
      for (let start = 0; start < order.length; start += batchSize) {
        const chosen = order.slice(start, start + batchSize).filter((i) => present[i]);
        if (chosen.length === 0) continue;
        const asked = performance.now();
        for (const [i, position] of chosen.entries()) {
          const { sample, ids } = pictures[position]!;
          const view = kind === 'in order' ? 0 : shownIn(kind.shuffled, sample, options, views.length);
          readRow(ids[view]!, values.subarray(i * length, (i + 1) * length));
        }
        yield {
          x: tf.tensor(values.subarray(0, chosen.length * length), [chosen.length, ...network.entryShape]),
          labels: Int32Array.from(chosen, (position) => pictures[position]!.sample.label),
          indices: Int32Array.from(chosen),
          count: chosen.length,
          waitedMs: performance.now() - asked,
        };
      }
    },
  };
}

function nothingReadable(pictures: readonly Planned[]): DataError {
  return new DataError({
    code: 'BAD_IMAGE',
    message: `none of ${pictures.length} pictures could be read:\n${listFaults(pictures.map(({ sample }) => sample.path))}`,
    hint: 'check that the data folder holds picture files',
  });
}
