/**
 * When and how a run's state is written. An epoch on kept features takes milliseconds, writing a model does not: after
 * a fast epoch the state is held in memory and written a few seconds later, at the end, or when the run is stopped.
 */
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { merged } from '../engine/lora.js';
import type { ReadParameter } from '../engine/network.js';
import type { Variable } from '../engine/variables.js';
import { writeFileAtomic } from '../files.js';
import { type ModelRecord, saveModelFolder } from '../weights/model-folder.js';
import { openSafetensors, type SafetensorsEntry, writeSafetensors } from '../weights/safetensors.js';
import { AUXILIARY } from './auxiliary.js';
import { ADAPTERS, adapterEntries } from './lora.js';
import type { Outcome } from './metrics.js';
import type { Optimizer } from './optimizers.js';
import type { HistoryRow } from './options.js';
import { writeOutcomes } from './outcomes.js';
import { CHECKPOINT, type CheckpointState, OPTIMIZER, orNull, writeHistory } from './run-folder.js';
import { numbersOf, type TrainableNetwork } from './trainable.js';

/** Seconds between two writes at the least: what a crash may cost. */
const SECONDS_BETWEEN_WRITES = 5;

/**
 * The most that is held in memory for a later write; a larger state is written at once. Whatever is larger takes longer
 * than the time between two writes to train an epoch with, but on a handful of pictures.
 */
const MOST_HELD_BYTES = 64 * 1024 * 1024;

/** Numbers by name, as they are now or as they were held. */
type Numbers = (name: string) => Float32Array | Promise<Float32Array>;

/** Numbers as they were at the end of an epoch. */
type Snapshot = ReadonlyMap<string, Float32Array>;

type Variables = ReadonlyMap<string, Variable>;

async function snapshotOf(variables: Variables): Promise<Snapshot> {
  const snapshot = new Map<string, Float32Array>();
  for (const [name, variable] of variables) snapshot.set(name, await numbersOf(variable));
  return snapshot;
}

const held =
  (snapshot: Snapshot): Numbers =>
  (name) =>
    snapshot.get(name)!;

/** Reads one variable after the other, so that a whole network's state is never in memory twice. */
const living =
  (variables: Variables): Numbers =>
  (name) =>
    numbersOf(variables.get(name)!);

const bytesIn = (...many: readonly Variables[]): number =>
  many
    .flatMap((variables) => [...variables.values()])
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, Float32Array.BYTES_PER_ELEMENT), 0);

export interface CheckpointWriter {
  /**
   * Takes the state at the end of an epoch, and writes it if the last write is some time ago.
   * @param outcomes of the best epoch so far
   */
  epochDone(state: CheckpointState, history: readonly HistoryRow[], outcomes: readonly Outcome[]): Promise<void>;
  /** Writes what is not written yet. */
  flush(): Promise<void>;
}

export function checkpointWriter(
  folder: string,
  record: ModelRecord,
  network: Pick<TrainableNetwork, 'graph' | 'variables' | 'auxiliary' | 'read'>,
  optimizer: Optimizer,
): CheckpointWriter {
  interface Pending {
    readonly state: CheckpointState;
    readonly history: readonly HistoryRow[];
    readonly outcomes: readonly Outcome[];
    readonly model: Snapshot;
    readonly slots: Snapshot;
  }
  let pending: Pending | undefined;
  let bestPending: { readonly model: Snapshot; readonly row: HistoryRow } | undefined;
  let lastWrite = performance.now();
  const mayHold = bytesIn(network.variables, optimizer.slots) <= MOST_HELD_BYTES;

  /** The rest is frozen, and the same at any time. */
  const withFrozen =
    (model: Numbers): ReadParameter =>
    async (path) =>
      network.variables.has(path) ? model(path) : network.read(path);

  const writeBest = (model: Numbers, row: HistoryRow): Promise<void> =>
    saveModelFolder(join(folder, 'best'), reaching(record, row), merged(network.graph, withFrozen(model)));

  const writeLast = async (
    { state, history, outcomes }: Pick<Pending, 'state' | 'history' | 'outcomes'>,
    model: Numbers,
    slots: Numbers,
  ): Promise<void> => {
    const entriesOf = (names: Iterable<string>, variables: Variables, numbers: Numbers): SafetensorsEntry[] =>
      [...names].map((name) => ({ name, shape: variables.get(name)!.shape, read: () => numbers(name) }));
    // The checkpoint comes last: a run that is killed in between goes on from the one before, which needs no more rows.
    await writeHistory(folder, history);
    const read = withFrozen(model);
    const reached = reaching(record, history.at(-1)!);
    await saveModelFolder(join(folder, 'last'), reached, merged(network.graph, read), async (fresh) => {
      await writeSafetensors(join(fresh, OPTIMIZER), entriesOf(optimizer.slots.keys(), optimizer.slots, slots));
      const auxiliary = entriesOf(network.auxiliary, network.variables, model);
      if (auxiliary.length > 0) await writeSafetensors(join(fresh, AUXILIARY), auxiliary);
      const adapters = adapterEntries(network.graph, read);
      if (adapters.length > 0) await writeSafetensors(join(fresh, ADAPTERS), adapters);
      await writeOutcomes(fresh, outcomes);
      await writeFileAtomic(join(fresh, CHECKPOINT), `${JSON.stringify(state, null, 2)}\n`);
    });
    lastWrite = performance.now();
  };

  const flush = async (): Promise<void> => {
    if (bestPending !== undefined) await writeBest(held(bestPending.model), bestPending.row);
    bestPending = undefined;
    if (pending !== undefined) await writeLast(pending, held(pending.model), held(pending.slots));
    pending = undefined;
  };

  return {
    flush,
    epochDone: async (state, history, outcomes) => {
      const isBest = state.bestEpoch === state.epoch;
      pending = undefined; // an older epoch's
      if (isBest) bestPending = undefined;
      if (mayHold && performance.now() - lastWrite <= SECONDS_BETWEEN_WRITES * 1000) {
        const model = await snapshotOf(network.variables);
        pending = { state, history: [...history], outcomes, model, slots: await snapshotOf(optimizer.slots) };
        if (isBest) bestPending = { model, row: history.at(-1)! };
        return;
      }
      if (isBest) await writeBest(living(network.variables), history.at(-1)!);
      else await flush(); // a best model of before
      await writeLast({ state, history, outcomes }, living(network.variables), living(optimizer.slots));
    },
  };
}

/** Gives an optimiser the slots of a checkpoint back. */
export async function restoreOptimizer(folder: string, optimizer: Optimizer, state: CheckpointState): Promise<void> {
  const source = await openSafetensors(join(folder, 'last', OPTIMIZER));
  try {
    for (const [name, variable] of optimizer.slots) {
      const value = tf.tensor(await source.read(name), [...variable.shape]);
      variable.assign(value);
      value.dispose();
    }
  } finally {
    await source.close();
  }
  optimizer.steps = state.optimizerSteps;
}

/** The record of the model at the end of an epoch. */
function reaching(record: ModelRecord, row: HistoryRow): ModelRecord {
  if (record.training === undefined) return record;
  const { epoch, trainLoss, trainAccuracy } = row;
  const reached = {
    epoch,
    trainLoss,
    trainAccuracy,
    valLoss: orNull(row.valLoss),
    valAccuracy: orNull(row.valAccuracy),
  };
  return { ...record, training: { ...record.training, reached } };
}
