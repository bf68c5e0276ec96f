/** The run folder: what a run leaves behind, and how it starts again from there. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import type { Channels, ImageSize } from '../augment/image.js';
import { FormatError, UsageError } from '../errors.js';
import {
  isUnfinished,
  readJsonFile,
  recoverFolder,
  removeUnfinished,
  replaceFolderAtomic,
  writeFileAtomic,
} from '../files.js';
import { formatHead, type Head } from '../heads/heads.js';
import type { TeacherRecord } from './distill.js';
import { formatHistory, parseHistory } from './history.js';
import type { HistoryRow } from './options.js';
import type { FinetuneSettings } from './settings/settings.js';
import type { StageRow } from './strategy-table.js';

/** `args.json`: every setting, what it was resolved to, and with what. */
export interface RunArguments {
  readonly settings: FinetuneSettings;
  readonly resolved: {
    readonly backbone: string;
    readonly source: string;
    readonly cut: string | null;
    /** Names of the auxiliary classifiers that take part in training. */
    readonly auxiliary: readonly string[];
    /** Whose logits are learned too, and how much they count. */
    readonly teacher?: TeacherRecord;
    readonly lr: number;
    readonly weightDecay: number;
    /** What is frozen and what is trained; absent in runs of versions that kept none. */
    readonly stages?: readonly StageRow[];
    /** How much each class counts in the training loss, in the order of their indices; the same when absent. */
    readonly classWeights?: readonly number[];
    readonly weightsOrigin: string;
    readonly weightsLicense: string;
    /** What was done to the weights so that they fit the input, in sentences. */
    readonly adaptations: readonly string[];
    readonly inputSize: ImageSize;
    readonly channels: Channels;
    readonly classes: readonly string[];
    readonly trainPictures: number;
    readonly valPictures: number;
    /** SHA-256 over the labelled list of pictures: a resumed run must see the same. */
    readonly dataFingerprint: string;
  };
  readonly versions: Readonly<Record<string, string>>;
  /** What computes, on which the last digits of every number depend; absent in runs of versions that kept none. */
  readonly computing?: Computing;
}

/** What the last digits of a run's numbers depend on besides its settings. */
export interface Computing {
  readonly device: 'cpu' | 'gpu';
  /** Of the engine; null where it does not say. */
  readonly threads: number | null;
  /** Its name: TensorFlow has kernels for what a processor can do. */
  readonly processor: string;
}

/** A damaged picture that was left out. */
export interface BadPicture {
  readonly path: string;
  readonly reason: string;
}

/** What `last/` holds besides the model: where the run stands. */
export interface CheckpointState {
  readonly epoch: number;
  readonly optimizerSteps: number;
  readonly bestEpoch: number;
  readonly bestLoss: number | null;
  /** Those that were found so far: once all epochs are done, no picture is looked at again. */
  readonly badPictures: readonly BadPicture[];
}

const ARGS = 'args.json';
const HISTORY = 'history.csv';
const METRICS = 'metrics.json';
export const CHECKPOINT = 'checkpoint.json';
export const OPTIMIZER = 'optimizer.safetensors';

/** The first of `runs/finetune-1`, `runs/finetune-2`, ... that is not there yet, or of another name with a number. */
export function nextRunFolder(parent = 'runs', name = 'finetune'): string {
  const taken = existsSync(parent) ? readdirSync(parent) : [];
  const numbers = taken.map((each) =>
    each.startsWith(`${name}-`) ? Number(/^\d+$/.exec(each.slice(name.length + 1)) ?? 0) : 0,
  );
  return join(parent, `${name}-${Math.max(0, ...numbers) + 1}`);
}

/** Refuses a folder that holds a run, or anything else. @throws RUN_EXISTS */
export function assertFree(folder: string, overwrite: boolean): void {
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory()) {
    throw new UsageError({
      code: 'RUN_EXISTS',
      message: `${folder} is a file, expected a folder for the run`,
      hint: 'choose another --out',
    });
  }
  if (readdirSync(folder).every(isUnfinished)) return; // whatever began there was killed before it had a first file
  const isRun = existsSync(join(folder, ARGS));
  if (isRun && overwrite) return;
  throw new UsageError({
    code: 'RUN_EXISTS',
    message: isRun ? `${folder} holds a run already` : `${folder} is not empty, and holds no run`,
    hint: isRun
      ? `go on with it: --resume ${folder}; replace it: --overwrite; or choose another --out`
      : 'choose another --out',
  });
}

/**
 * Makes the folder of a run, which can go on from then on.
 * @param overwrite whether another run in it is replaced, all at once
 * @throws FILE_NOT_WRITTEN
 */
export async function beginFolder(folder: string, args: RunArguments, overwrite: boolean): Promise<void> {
  const fill = async (place: string): Promise<void> => {
    await writeJson(place, ARGS, args);
    await writeJson(place, 'class_indices.json', { ...args.resolved.classes });
  };
  if (overwrite && existsSync(folder)) await replaceFolderAtomic(folder, fill);
  else await fill(folder);
}

/** A run that was stopped or killed. */
export interface StoppedRun {
  readonly args: RunArguments;
  /** Where it stands; undefined where it ended before its first checkpoint. */
  readonly state: CheckpointState | undefined;
}

/**
 * Opens the folder of a run that goes on. What a killed process left half done is ended, or removed: no other process
 * may train in it.
 * @throws RUN_NOT_FOUND, RUN_NOTHING_TO_RESUME, RUN_INVALID
 */
export async function reopenFolder(folder: string): Promise<StoppedRun> {
  await recoverFolder(folder);
  const args = await readArguments(folder);
  for (const model of ['last', 'best']) await recoverFolder(join(folder, model));
  await removeUnfinished(folder);
  await removeUnfinished(dirname(resolve(folder)), basename(resolve(folder)));
  return { args, state: await readCheckpoint(folder) };
}

/** @throws RUN_NOT_FOUND */
export async function readArguments(folder: string): Promise<RunArguments> {
  if (!existsSync(join(folder, ARGS))) {
    throw new UsageError({
      code: 'RUN_NOT_FOUND',
      message: `${folder} holds no run: ${ARGS} is not there`,
      hint: 'give the folder that `tl finetune` printed; a run that ended before it had one is started again as before',
    });
  }
  const json = await readJsonFile(join(folder, ARGS));
  const shape = z.object({ settings: z.object({}), resolved: z.object({}), versions: z.object({}) });
  if (!shape.safeParse(json).success) {
    throw new FormatError({
      code: 'RUN_INVALID',
      message: `${join(folder, ARGS)} does not hold the settings of a run`,
      hint: 'it may have been edited; start the run anew with --overwrite',
    });
  }
  const args = json as RunArguments;
  const { channels = 3, adaptations = [], auxiliary = [] } = args.resolved; // of versions that knew none of them
  const resolved = { ...args.resolved, channels, adaptations, auxiliary };
  const head = args.settings.head as string | Head; // an object, in versions before it was as on the command line
  if (typeof head === 'string') return { ...args, resolved };
  return { ...args, settings: { ...args.settings, head: formatHead(head), headDropout: head.dropout }, resolved };
}

/** What a version added has a default: what holds in the checkpoints of those before it. */
const stateSchema = z.object({
  epoch: z.number().int().min(0),
  optimizerSteps: z.number().int().min(0),
  bestEpoch: z.number().int().min(0),
  bestLoss: z.number().nullable(),
  badPictures: z.array(z.object({ path: z.string(), reason: z.string() })).default([]),
});

/**
 * Undefined where a run ended before its first checkpoint.
 * @throws RUN_NOTHING_TO_RESUME where it had one, which was removed; RUN_INVALID
 */
async function readCheckpoint(folder: string): Promise<CheckpointState | undefined> {
  const last = join(folder, 'last');
  if (!existsSync(last)) {
    if (!existsSync(join(folder, METRICS))) return undefined;
    throw new UsageError({
      code: 'RUN_NOTHING_TO_RESUME',
      message: `${folder}: the run has ${METRICS}, and its last checkpoint is not there: ${last}`,
      hint: 'put that folder back, or start the run anew with --overwrite',
    });
  }
  const file = join(last, CHECKPOINT);
  const result = stateSchema.safeParse(await readJsonFile(file));
  if (result.success) return result.data;
  throw new FormatError({
    code: 'RUN_INVALID',
    message: `${file} is damaged`,
    hint: 'start the run anew with --overwrite',
  });
}

export async function writeHistory(folder: string, history: readonly HistoryRow[]): Promise<void> {
  await writeFileAtomic(join(folder, HISTORY), formatHistory(history));
}

/** The rows up to an epoch; later ones were not kept by the checkpoint. */
export async function readHistory(folder: string, epochs: number): Promise<HistoryRow[]> {
  const file = join(folder, HISTORY);
  const history = parseHistory(await readFile(file, 'utf8'), file).slice(0, epochs);
  if (history.length === epochs) return history;
  throw new FormatError({
    code: 'HISTORY_INVALID',
    message: `${file} has ${history.length} epochs, the checkpoint has ${epochs}`,
    hint: 'it may have been edited; start the run anew with --overwrite',
  });
}

/** Writes the files that are JSON for other programs: `class_indices.json`, `metrics.json`. */
export async function writeJson(folder: string, name: string, value: unknown): Promise<void> {
  await writeFileAtomic(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
}

/** JSON has no NaN: null stands for a number that there is none of. */
export const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);
