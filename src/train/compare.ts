/** Several runs side by side: what they reached, and which of their settings differ. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { listFaults, ToolkitError, UsageError } from '../errors.js';
import { readJsonFile } from '../files.js';
import { parseHistory } from './history.js';
import type { HistoryRow, RunMetrics } from './options.js';
import { overfittingOf } from './overfitting.js';
import { orNull, type RunArguments, readArguments } from './run-folder.js';

/** What a run reached; null where it has no such number. */
export interface ComparedRun {
  readonly folder: string;
  /** The folder's name, or its whole path where another has the same. */
  readonly name: string;
  readonly backbone: string;
  readonly source: string;
  readonly freeze: string;
  /** Done, and wanted. */
  readonly epochs: number;
  readonly epochsWanted: number;
  readonly bestEpoch: number;
  readonly valLoss: number | null;
  /** 0 to 1. */
  readonly valAccuracy: number | null;
  /** Parameters; null where the run has not ended yet. */
  readonly trainableParameters: number | null;
  readonly parameters: number | null;
  /** In its epochs. */
  readonly seconds: number;
  /** The epoch since which it overfits. */
  readonly overfitsSince: number | null;
}

/** A setting that is not the same in all runs. */
export interface Difference {
  readonly setting: string;
  /** In the order of the runs; undefined where a run has none. */
  readonly values: readonly unknown[];
}

export interface RunComparison {
  readonly runs: readonly ComparedRun[];
  readonly differences: readonly Difference[];
  /** Whether all were trained and validated on the same pictures. */
  readonly samePictures: boolean;
  /** The rows of each run, in their order. */
  readonly histories: readonly (readonly HistoryRow[])[];
}

interface ReadRun {
  readonly folder: string;
  readonly args: RunArguments;
  readonly history: readonly HistoryRow[];
  readonly metrics: Partial<RunMetrics>;
}

/**
 * Reads what runs left in their folders, finished or not.
 * @param folders two or more
 * @throws COMPARE_TOO_FEW, RUN_NOT_COMPARED naming every folder that holds no run, or none with an epoch
 */
export async function compareRuns(folders: readonly string[]): Promise<RunComparison> {
  if (new Set(folders.map((folder) => resolve(folder))).size < Math.max(2, folders.length)) {
    throw new UsageError({
      code: 'COMPARE_TOO_FEW',
      message: `expected two or more runs, each once, received ${folders.join(', ')}`,
      hint: 'for example: tl compare runs/finetune-1 runs/finetune-2',
    });
  }
  const runs: ReadRun[] = [];
  const faults: string[] = [];
  for (const folder of folders) {
    try {
      runs.push(await readRun(folder));
    } catch (error) {
      if (!(error instanceof ToolkitError)) throw error;
      faults.push(error.message);
    }
  }
  if (faults.length > 0) {
    throw new UsageError({
      code: 'RUN_NOT_COMPARED',
      message: `not every folder holds a run with an epoch:\n${listFaults(faults)}`,
      hint: 'give folders that `tl finetune` printed, of runs that finished an epoch',
    });
  }
  const names = namesOf(folders);
  return {
    runs: runs.map((run, i) => comparedRun(run, names[i]!)),
    differences: differencesOf(runs),
    samePictures: new Set(runs.map(({ args }) => args.resolved.dataFingerprint)).size === 1,
    histories: runs.map(({ history }) => history),
  };
}

async function readRun(folder: string): Promise<ReadRun> {
  const args = await readArguments(folder);
  const file = join(folder, 'history.csv');
  const history = existsSync(file) ? parseHistory(await readFile(file, 'utf8'), file) : [];
  if (history.length === 0) {
    throw new UsageError({
      code: 'RUN_WITHOUT_EPOCHS',
      message: `${folder}: the run has no finished epoch yet`,
      hint: 'wait until it has one',
    });
  }
  const metrics = join(folder, 'metrics.json'); // there when a run has ended
  return { folder, args, history, metrics: existsSync(metrics) ? ((await readJsonFile(metrics)) as object) : {} };
}

function namesOf(folders: readonly string[]): string[] {
  const short = folders.map((folder) => basename(resolve(folder)));
  return folders.map((folder, i) => (short.filter((name) => name === short[i]).length === 1 ? short[i]! : folder));
}

function comparedRun({ folder, args, history, metrics }: ReadRun, name: string): ComparedRun {
  const { resolved, settings } = args;
  const best = history.findLast((row) => row.best) ?? history.at(-1)!;
  return {
    folder,
    name,
    backbone: resolved.backbone,
    source: resolved.source,
    freeze: settings.freeze,
    epochs: history.length,
    epochsWanted: settings.epochs,
    bestEpoch: best.epoch,
    valLoss: orNull(best.valLoss),
    valAccuracy: orNull(best.valAccuracy),
    trainableParameters: metrics.trainableParameters ?? null,
    parameters: metrics.parameters ?? null,
    seconds: history.reduce((sum, { seconds }) => sum + seconds, 0),
    overfitsSince: overfittingOf(history)?.since ?? null,
  };
}

/** Settings as they worked: what was left open counts as what it was resolved to. */
function differencesOf(runs: readonly ReadRun[]): Difference[] {
  const worked = runs.map(({ args: { settings, resolved } }) => {
    const { backbone, source, lr, weightDecay, inputSize, channels, weightsOrigin } = resolved;
    const all = { ...settings, backbone, source, lr, weightDecay, inputSize, channels, weights: weightsOrigin };
    return new Map<string, unknown>(Object.entries(all).filter(([, value]) => value !== undefined));
  });
  const settings = new Set(worked.flatMap((each) => [...each.keys()]));
  return [...settings].flatMap((setting) => {
    const values = worked.map((each) => each.get(setting));
    return new Set(values.map((value) => JSON.stringify(value))).size === 1 ? [] : [{ setting, values }];
  });
}
