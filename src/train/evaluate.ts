/** Evaluation of a model on labelled pictures: every picture counts once. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { batches, closeLoader, type Sample } from '../data/index.js';
import type { Precision } from '../engine/precision.js';
import type { Engine } from '../engine/tensorflow.js';
import { DataError, listFaults, ToolkitError } from '../errors.js';
import type { OpenedModel } from '../weights/model-folder.js';
import { loadClassifier, softmax, topIndices } from './classifier.js';
import { type ClassScores, type Confusion, classScores } from './metrics.js';
import { listPictures, type PrintedDataset } from './pictures.js';

export type EvaluatedSplit = 'val' | 'train' | 'all';

export interface EvaluateOptions {
  readonly data: string;
  readonly manifest?: string;
  /** By default `val` where the folder says which pictures those are or the model was trained on it, else `all`. */
  readonly split?: EvaluatedSplit;
  readonly batchSize?: number;
  /** `float32` when absent. */
  readonly precision?: Precision;
  readonly skipBadImages?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Evaluation {
  readonly split: EvaluatedSplit;
  readonly pictures: number;
  /** Mean cross-entropy. */
  readonly loss: number;
  /** 0 to 1. */
  readonly top1: number;
  /** 0 to 1; 1 with five classes or fewer. */
  readonly top5: number;
  readonly classes: readonly ClassScores[];
  /** `confusion[label][prediction]`. */
  readonly confusion: Confusion;
  readonly badPictures: readonly { readonly path: string; readonly reason: string }[];
}

/** @throws DATA_UNKNOWN_CLASS, DATA_EMPTY, BAD_IMAGE, PRECISION_UNSUPPORTED */
export async function evaluate(model: OpenedModel, engine: Engine, options: EvaluateOptions): Promise<Evaluation> {
  const { valSplit, seed, fingerprint } = model.record.data;
  const dataset = listPictures({ data: options.data, manifest: options.manifest, valSplit, seed });
  const split = options.split ?? defaultSplit(dataset, options, fingerprint);
  const samples = relabel(dataset, model.record.classes, split);
  const classifier = await loadClassifier(model, engine, { pictures: samples.length, precision: options.precision });
  const classCount = classifier.classes.length;
  const confusion = classifier.classes.map(() => new Array<number>(classCount).fill(0));
  const bad: { path: string; reason: string }[] = [];
  let [loss, top1, top5, pictures] = [0, 0, 0, 0];
  try {
    const loaded = batches(samples, {
      preprocessing: model.record.preprocessing,
      size: model.record.inputSize,
      batchSize: options.batchSize ?? 16,
      augment: 'none',
      seed: 0,
      epoch: 0,
      skipBadImages: options.skipBadImages ?? false,
      onBadImage: (path, reason) => bad.push({ path, reason }),
    });
    for await (const { pixels, labels, count } of loaded) {
      const logits = await classifier.logits(pixels, count);
      labels.forEach((label, i) => {
        const probabilities = softmax(logits.subarray(i * classCount, (i + 1) * classCount));
        const best = topIndices(probabilities, 5);
        loss -= Math.log(Math.max(probabilities[label]!, Number.MIN_VALUE));
        if (best[0] === label) top1++;
        if (best.includes(label)) top5++;
        confusion[label]![best[0]!]!++;
      });
      pictures += count;
      options.onProgress?.(pictures, samples.length);
      if (options.signal?.aborted === true) throw stopped(pictures, samples.length);
    }
  } finally {
    classifier.dispose();
    await closeLoader();
  }
  return {
    split,
    pictures,
    loss: loss / pictures,
    top1: top1 / pictures,
    top5: top5 / pictures,
    classes: classScores(confusion, classifier.classes),
    confusion,
    badPictures: bad,
  };
}

function stopped(done: number, all: number): ToolkitError {
  return new ToolkitError({
    code: 'STOPPED',
    message: `the evaluation was stopped after ${done} of ${all} pictures`,
    hint: 'start it again: figures of a part of the pictures would mislead',
  });
}

function defaultSplit(dataset: PrintedDataset, { data, manifest }: EvaluateOptions, trainedOn: string): EvaluatedSplit {
  const saysItself = manifest === undefined ? existsSync(join(data, 'train')) : dataset.val.length > 0;
  return saysItself || dataset.fingerprint === trainedOn ? 'val' : 'all';
}

/** The pictures of a split with the model's own labels. */
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
