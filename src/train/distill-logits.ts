/**
 * A teacher's logits for what its student is shown. Both get the same crop, flip and colours of the same decoded picture,
 * each by its own preprocessing record: a teacher that saw another part would teach what the student cannot see.
 * @see Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent",
 *   https://arxiv.org/abs/2106.05237
 */
import { isDeepStrictEqual } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import type { Recipe } from '../data/index.js';
import { loadNetwork } from '../engine/network.js';
import type { Precision } from '../engine/precision.js';
import type { Engine } from '../engine/tensorflow.js';
import { version } from '../version.js';
import { bytesOf } from '../weights/float-formats.js';
import type { Teacher } from './distill.js';
import type { Entries, EntryOptions, EntrySource } from './features/entries.js';
import { countMissing, type KeptPlan, planRows, rowBytesOf, shownIn, viewsOf } from './features/kept.js';
import { contentPrints, frozenPrint } from './features/key.js';
import { choosePlace, type Place } from './features/place.js';
import { fillRows } from './features/sources.js';
import type { RowStore } from './features/store.js';
import type { Reporter } from './options.js';
import type { PrintedDataset } from './pictures.js';
import { type FrozenNetwork, upTo } from './trainable.js';

/** What a run is taught with. */
export interface TeachingOptions {
  readonly teacher: Teacher;
  readonly dataset: PrintedDataset;
  readonly engine: Engine;
  readonly precision: Precision;
  readonly entries: EntryOptions;
  /** How many views of each training picture the student's epochs show in turn; 0: each epoch its own. */
  readonly views: number;
  readonly cache: 'auto' | 'disk' | 'memory' | 'off';
  readonly reporter: Reporter;
  readonly signal: AbortSignal | undefined;
}

/** Gives training pictures their teacher's logits. */
export interface Teaching {
  /** The pictures of a source, in its shuffled epochs with the teacher's logits. */
  taught(source: EntrySource): EntrySource;
  close(): void;
}

const recipeOf = ({ model }: Teacher): Recipe => ({
  preprocessing: model.record.preprocessing,
  size: model.record.inputSize,
});

/**
 * Where epochs show pictures again in the same views, the teacher's logits for each are computed now, and kept;
 * otherwise it is asked at every step.
 * @returns undefined when it was stopped
 * @throws BAD_IMAGE, CACHE_TOO_LARGE, FILE_NOT_WRITTEN, PRECISION_UNSUPPORTED
 */
export async function openTeaching(options: TeachingOptions): Promise<Teaching | undefined> {
  const { entries, cache, views: shown } = options;
  const views = cache === 'off' ? [] : viewsOf(entries, shown);
  if (views.length === 0) return await askedAnew(options);
  const contents = await contentPrints(options.dataset.train.map(({ path }) => path));
  const plan = planRows(options.dataset.train, views, contents);
  const place = await placeOf(options, plan);
  if (place === undefined) return await askedAnew(options);
  const { store, message } = place;
  try {
    options.reporter.info(message);
    if (!(await fillLogits(options, plan, store))) {
      store.close();
      return undefined;
    }
  } catch (error) {
    store.close();
    throw error;
  }
  return {
    taught: (source) => withLogits(source, undefined, (given, epoch) => logitsFrom(plan, store, options, given, epoch)),
    close: () => store.close(),
  };
}

const classesOf = ({ model }: Teacher): number => model.record.classes.length;

function placeOf(
  { teacher, engine, precision, cache, reporter }: TeachingOptions,
  plan: KeptPlan,
): Promise<Place | undefined> {
  const part = { graph: teacher.model.graph, cut: 'logits', engine, precision, ...recipeOf(teacher) };
  return choosePlace({
    what: "the teacher's output",
    cache: cache === 'off' ? 'memory' : cache,
    plans: [plan],
    rowBytes: rowBytesOf({ entryShape: [classesOf(teacher)] }, 'float32'),
    print: () => frozenPrint({ ...part, rowPrecision: 'float32', toolkit: version }, teacher.reader),
    reporter,
  });
}

/** @returns false when it was stopped */
async function fillLogits(options: TeachingOptions, plan: KeptPlan, store: RowStore): Promise<boolean> {
  if (countMissing([plan], store) === 0) return true;
  const { teacher, entries } = options;
  const frozen = await loadTeacher(options);
  try {
    const network = { graph: teacher.model.graph, entryShape: [classesOf(teacher)] };
    const how = { ...entries, ...recipeOf(teacher), network, frozen, rowPrecision: 'float32' } as const;
    return await fillRows([plan], store, how, options);
  } finally {
    frozen.dispose();
  }
}

async function loadTeacher({ teacher, engine, precision }: TeachingOptions): Promise<FrozenNetwork> {
  const { model, reader } = teacher;
  const how = { outputs: ['logits'], compiled: true, precision };
  return upTo('logits', await loadNetwork(model.graph, reader.read, engine, how));
}

async function askedAnew(options: TeachingOptions): Promise<Teaching> {
  const { teacher, entries } = options;
  const frozen = await loadTeacher(options);
  const [own, { preprocessing, size }] = [recipeOf(teacher), entries];
  const second = isDeepStrictEqual(own, { preprocessing, size }) ? undefined : own; // the same pixels serve both
  const { shape } = teacher.model.graph.input;
  return {
    taught: (source) =>
      withLogits(source, second, ({ pixels, count }) => {
        const seen = second === undefined ? pixels!.own : pixels!.second!;
        return tf.tidy(() => {
          const logits = frozen.enter(tf.tensor(seen, [count, ...shape]));
          const { order } = teacher;
          return order === undefined ? logits : tf.gather(logits, [...order], 1);
        });
      }),
    close: () => frozen.dispose(),
  };
}

/** Kept logits `[count, classes]`, in the student's order. */
function logitsFrom(
  { pictures, views }: KeptPlan,
  store: RowStore,
  { teacher, entries }: TeachingOptions,
  { indices, count }: Entries,
  epoch: number,
): tf.Tensor {
  const classes = classesOf(teacher);
  const values = new Float32Array(count * classes);
  const row = new Float32Array(classes);
  for (const [i, position] of indices.entries()) {
    const { sample, ids } = pictures[position]!;
    store.read(ids[shownIn(epoch, sample, entries, views.length)]!, bytesOf(row));
    for (let c = 0; c < classes; c++) values[i * classes + c] = row[teacher.order?.[c] ?? c]!;
  }
  return tf.tensor2d(values, [count, classes]);
}

/**
 * @param second what is to be decoded for the teacher
 * @param logitsOf of what an epoch shows
 */
function withLogits(
  source: EntrySource,
  second: Recipe | undefined,
  logitsOf: (entries: Entries, epoch: number) => tf.Tensor,
): EntrySource {
  return {
    async *epoch(kind) {
      if (kind === 'in order') return yield* source.epoch(kind);
      for await (const entries of source.epoch({ ...kind, second }))
        yield { ...entries, teacher: logitsOf(entries, kind.shuffled) };
    },
  };
}
