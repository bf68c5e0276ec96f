/** The run folder: what a run leaves behind, and how it starts again from there. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Channels, ImageSize } from '../augment/image.js';
import { FormatError, UsageError } from '../errors.js';
import { readJsonFile, writeFileAtomic } from '../files.js';
import { formatHead, type Head } from '../heads/heads.js';
import type { TeacherRecord } from './distill.js';
import { formatHistory, parseHistory } from './history.js';
import type { HistoryRow } from './options.js';
import type { FinetuneSettings } from './settings/settings.js';

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
}

/** What `last/` holds besides the model: where the run stands. */
export interface CheckpointState {
  readonly epoch: number;
  readonly optimizerSteps: number;
  readonly bestEpoch: number;
  readonly bestLoss: number | null;
}

const ARGS = 'args.json';
const HISTORY = 'history.csv';
export const CHECKPOINT = 'checkpoint.json';
export const OPTIMIZER = 'optimizer.safetensors';

/** The first of `runs/finetune-1`, `runs/finetune-2`, ... that is not there yet. */
export function nextRunFolder(parent = 'runs'): string {
  const taken = existsSync(parent) ? readdirSync(parent) : [];
  const numbers = taken.map((name) => Number(/^finetune-(\d+)$/.exec(name)?.[1] ?? 0));
  return join(parent, `finetune-${Math.max(0, ...numbers) + 1}`);
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
  if (readdirSync(folder).length === 0) return;
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

export async function writeArguments(folder: string, args: RunArguments): Promise<void> {
  await writeFileAtomic(join(folder, ARGS), `${JSON.stringify(args, null, 2)}\n`);
}

/** @throws RUN_NOT_FOUND */
export async function readArguments(folder: string): Promise<RunArguments> {
  if (!existsSync(join(folder, ARGS))) {
    throw new UsageError({
      code: 'RUN_NOT_FOUND',
      message: `${folder} holds no run: ${ARGS} is not there`,
      hint: 'give the folder that `tl finetune` printed',
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

const stateSchema: z.ZodType<CheckpointState> = z.object({
  epoch: z.number().int().min(0),
  optimizerSteps: z.number().int().min(0),
  bestEpoch: z.number().int().min(0),
  bestLoss: z.number().nullable(),
});

/** @throws RUN_NOTHING_TO_RESUME, RUN_INVALID */
export async function readCheckpoint(folder: string): Promise<CheckpointState> {
  const file = join(folder, 'last', CHECKPOINT);
  if (!existsSync(file)) {
    throw new UsageError({
      code: 'RUN_NOTHING_TO_RESUME',
      message: `${folder}: the run was stopped before its first checkpoint; ${file} is not there`,
      hint: 'start it again with --overwrite',
    });
  }
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
