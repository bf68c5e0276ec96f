/** Evaluation of a model on labelled pictures: every picture counts once. */
import { batches, closeLoader } from '../data/index.js';
import type { Precision } from '../engine/precision.js';
import type { Engine } from '../engine/tensorflow.js';
import { ToolkitError } from '../errors.js';
import type { OpenedModel } from '../weights/model-folder.js';
import { type LoadableModel, loadClassifier, topIndices } from './classifier.js';
import { type EvaluatedSplit, labelledSamples } from './labelled.js';
import { type ClassScores, type Confusion, classScores } from './metrics.js';

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
export async function evaluate(
  model: OpenedModel | LoadableModel,
  engine: Engine,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { split, samples } = labelledSamples(model.record, options);
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
      const rows = Array.from(await classifier.probabilities(pixels, count));
      labels.forEach((label, i) => {
        const probabilities = rows.slice(i * classCount, (i + 1) * classCount);
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
    await classifier.dispose();
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
