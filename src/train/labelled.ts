/** The labelled pictures of a data set as a model sees them: to evaluate it, to check and to calibrate an export. */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type Batch, batches, type Sample } from '../data/index.js';
import { DataError, listFaults } from '../errors.js';
import type { ModelRecord } from '../weights/model-folder.js';
import { listPictures, type PrintedDataset } from './pictures.js';
import { readArguments } from './run-folder.js';

export type EvaluatedSplit = 'val' | 'train' | 'all';

/** Where labelled pictures are. */
export interface PicturesAt {
  readonly data: string;
  readonly manifest?: string | undefined;
  /** By default `val` where the folder says which pictures those are or the model was trained on it, else `all`. */
  readonly split?: EvaluatedSplit | undefined;
}

export type KnowsItsData = Pick<ModelRecord, 'classes' | 'inputSize' | 'preprocessing' | 'data'>;

/** The pictures of a split with the model's own labels. */
export interface LabelledSamples {
  readonly split: EvaluatedSplit;
  readonly samples: readonly Sample[];
}

/** A data set that has been listed: gives its pictures of a split. @throws DATA_UNKNOWN_CLASS, DATA_EMPTY */
export type LabelledData = (split?: EvaluatedSplit) => LabelledSamples;

/** Lists a data set once, for any of its splits. @throws what listing a folder or manifest throws */
export function labelledData(record: KnowsItsData, at: Omit<PicturesAt, 'split'>): LabelledData {
  const { valSplit, seed } = record.data;
  return samplesOf(record, at, listPictures({ data: at.data, manifest: at.manifest, valSplit, seed }));
}

function samplesOf(record: KnowsItsData, at: Omit<PicturesAt, 'split'>, dataset: PrintedDataset): LabelledData {
  return (split = defaultSplit(dataset, at, record.data.fingerprint)) => ({
    split,
    samples: relabel(dataset, record.classes, split),
  });
}

/**
 * The pictures of a split with the model's own labels.
 * @throws DATA_UNKNOWN_CLASS, DATA_EMPTY, and what listing a folder or manifest throws
 */
export function labelledSamples(record: KnowsItsData, at: PicturesAt): LabelledSamples {
  return labelledData(record, at)(at.split);
}

/** Those pictures, preprocessed by the model's record, from the start each time that it is called. */
export function labelledPictures(record: KnowsItsData, samples: readonly Sample[]): () => AsyncGenerator<Batch> {
  const { preprocessing, inputSize: size } = record;
  const plain = { augment: 'none', seed: 0, epoch: 0, skipBadImages: true } as const;
  return () => batches(samples, { preprocessing, size, batchSize: 16, ...plain });
}

/**
 * The data set that the run of a model folder was trained on, where it is still there and the same.
 * @param folder the model folder, a run's `best/` or `last/`
 */
export async function dataOfRun(folder: string, record: KnowsItsData): Promise<LabelledData | undefined> {
  const run = ['best', 'last'].includes(basename(resolve(folder))) ? dirname(resolve(folder)) : folder;
  const args = await readArguments(run).catch(() => undefined);
  if (args === undefined) return undefined;
  const { data = 'data', manifest } = args.settings;
  if (!existsSync(manifest ?? data)) return undefined;
  const at = { data, ...(manifest === undefined ? {} : { manifest }) };
  const { valSplit, seed, fingerprint } = record.data;
  try {
    const dataset = listPictures({ ...at, valSplit, seed });
    return dataset.fingerprint === fingerprint ? samplesOf(record, at, dataset) : undefined;
  } catch {
    return undefined; // another folder of that name
  }
}

function defaultSplit(dataset: PrintedDataset, { data, manifest }: PicturesAt, trainedOn: string): EvaluatedSplit {
  const saysItself = manifest === undefined ? existsSync(join(data, 'train')) : dataset.val.length > 0;
  return saysItself || dataset.fingerprint === trainedOn ? 'val' : 'all';
}

function relabel(dataset: PrintedDataset, classes: readonly string[], split: EvaluatedSplit): Sample[] {
  const unknown = dataset.classes.filter((name) => !classes.includes(name));
  if (unknown.length > 0) {
    throw new DataError({
      code: 'DATA_UNKNOWN_CLASS',
      message: `${dataset.root} has classes that the model does not know (it knows ${classes.join(', ')}):\n${listFaults(unknown)}`,
      hint: 'rename or remove these folders',
    });
  }
  const chosen = split === 'all' ? [...dataset.train, ...dataset.val] : dataset[split];
  if (chosen.length === 0) {
    throw new DataError({
      code: 'DATA_EMPTY',
      message: `${dataset.root} has no pictures in the split "${split}"`,
      hint: 'choose another with --split train, val or all',
    });
  }
  return chosen.map((sample) => ({ ...sample, label: classes.indexOf(dataset.classes[sample.label]!) }));
}
