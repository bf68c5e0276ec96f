/**
 * When and how a run's state is written. An epoch on kept features takes milliseconds, writing a model does not: after
 * a fast epoch the state is held in memory and written a few seconds later, at the end, or when the run is stopped.
 */
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import type { ReadParameter } from '../engine/network.js';
import type { Variable } from '../engine/variables.js';
import { writeFileAtomic } from '../files.js';
import { type ModelRecord, saveModelFolder } from '../weights/model-folder.js';
import { openSafetensors, writeSafetensors } from '../weights/safetensors.js';
import { AUXILIARY } from './auxiliary.js';
import type { Optimizer } from './optimizers.js';
import type { HistoryRow } from './options.js';
import { CHECKPOINT, type CheckpointState, OPTIMIZER, writeHistory } from './run-folder.js';
import { numbersOf, type TrainableNetwork } from './trainable.js';

/** Seconds between two writes at the least: what a crash may cost. */
const SECONDS_BETWEEN_WRITES = 5;

/** Numbers as they were at the end of an epoch. */
type Snapshot = ReadonlyMap<string, Float32Array>;

async function snapshotOf(variables: ReadonlyMap<string, Variable>): Promise<Snapshot> {
  const snapshot = new Map<string, Float32Array>();
  for (const [name, variable] of variables) snapshot.set(name, await numbersOf(variable));
  return snapshot;
}

export interface CheckpointWriter {
  /** Takes the state at the end of an epoch, and writes it if the last write is some time ago. */
  epochDone(state: CheckpointState, history: readonly HistoryRow[]): Promise<void>;
  /** Writes what is not written yet. */
  flush(): Promise<void>;
}

export function checkpointWriter(
  folder: string,
  record: ModelRecord,
  network: TrainableNetwork,
  optimizer: Optimizer,
): CheckpointWriter {
  interface Pending {
    readonly state: CheckpointState;
    readonly history: readonly HistoryRow[];
    readonly model: Snapshot;
    readonly slots: Snapshot;
  }
  let pending: Pending | undefined;
  let bestPending: Snapshot | undefined;
  let lastWrite = performance.now();

  const reader =
    (snapshot: Snapshot): ReadParameter =>
    async (path) =>
      snapshot.get(path) ?? network.read(path);

  const flush = async (): Promise<void> => {
    if (bestPending !== undefined) {
      await saveModelFolder(join(folder, 'best'), record, reader(bestPending));
      bestPending = undefined;
    }
    if (pending === undefined) return;
    const { state, history, model, slots } = pending;
    // The checkpoint comes last: a run that is killed in between goes on from the one before, which needs no more rows.
    await writeHistory(folder, history);
    await saveModelFolder(join(folder, 'last'), record, reader(model), async (fresh) => {
      const entries = [...slots].map(([name, values]) => ({
        name,
        shape: optimizer.slots.get(name)!.shape,
        read: () => values,
      }));
      await writeSafetensors(join(fresh, OPTIMIZER), entries);
      const auxiliary = [...network.auxiliary].map((name) => ({
        name,
        shape: network.variables.get(name)!.shape,
        read: () => model.get(name)!,
      }));
      if (auxiliary.length > 0) await writeSafetensors(join(fresh, AUXILIARY), auxiliary);
      await writeFileAtomic(join(fresh, CHECKPOINT), `${JSON.stringify(state, null, 2)}\n`);
    });
    pending = undefined;
    lastWrite = performance.now();
  };

  return {
    flush,
    epochDone: async (state, history) => {
      const model = await snapshotOf(network.variables);
      pending = { state, history: [...history], model, slots: await snapshotOf(optimizer.slots) };
      if (state.bestEpoch === state.epoch) bestPending = model;
      if (performance.now() - lastWrite > SECONDS_BETWEEN_WRITES * 1000) await flush();
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
