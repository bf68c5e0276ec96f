/** Evaluation of a model on labelled pictures: every picture counts once. */
import { closeLoader } from '../data/index.js';
import type { Precision } from '../engine/precision.js';
import type { Engine } from '../engine/tensorflow.js';
import { ToolkitError } from '../errors.js';
import type { OpenedModel } from '../weights/model-folder.js';
import { type LoadableModel, loadClassifier } from './classifier.js';
import { type EvaluatedSplit, labelledSamples } from './labelled.js';
import { type Figures, figuresOf, type Outcome, outcomeOf } from './metrics.js';
import { classified, type TestTimeAugmentation, viewsOf } from './test-time.js';

export interface EvaluateOptions {
  readonly data: string;
  readonly manifest?: string;
  /** By default `val` where the folder says which pictures those are or the model was trained on it, else `all`. */
  readonly split?: EvaluatedSplit;
  readonly batchSize?: number;
  /** `float32` when absent. */
  readonly precision?: Precision;
  readonly skipBadImages?: boolean;
  /** Several views of each picture, of whose probabilities the mean counts; one when absent. */
  readonly testTime?: TestTimeAugmentation;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Evaluation extends Figures {
  /** What computed: the engine, or the runtime of an exported model, with its version. */
  readonly runtime: string;
  readonly split: EvaluatedSplit;
  readonly badPictures: readonly { readonly path: string; readonly reason: string }[];
  /** What the model said of each picture, in the order of the data. */
  readonly outcomes: readonly PictureOutcome[];
}

export interface PictureOutcome extends Outcome {
  readonly path: string;
}

/** @throws DATA_UNKNOWN_CLASS, DATA_EMPTY, BAD_IMAGE, PRECISION_UNSUPPORTED */
export async function evaluate(
  model: OpenedModel | LoadableModel,
  engine: Engine,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { split, samples } = labelledSamples(model.record, options);
  const { precision, testTime } = options;
  const pictures = samples.length * viewsOf(testTime);
  const classifier = await loadClassifier(model, engine, { pictures, precision });
  const classCount = classifier.classes.length;
  const outcomes: PictureOutcome[] = [];
  const bad: { path: string; reason: string }[] = [];
  try {
    const how = {
      preprocessing: model.record.preprocessing,
      size: model.record.inputSize,
      batchSize: options.batchSize ?? 16,
      skipBadImages: options.skipBadImages ?? false,
      onBadImage: (path: string, reason: string) => bad.push({ path, reason }),
    };
    for await (const { labels, indices, probabilities: all } of classified(classifier, samples, how, testTime)) {
      const rows = Array.from(all);
      indices.forEach((index, i) => {
        const probabilities = rows.slice(i * classCount, (i + 1) * classCount);
        outcomes.push({ path: samples[index]!.path, ...outcomeOf(index, labels[i]!, probabilities) });
      });
      options.onProgress?.(outcomes.length, samples.length);
      if (options.signal?.aborted === true) throw stopped(outcomes.length, samples.length);
    }
  } finally {
    await classifier.dispose();
    await closeLoader();
  }
  const { runtime } = classifier;
  return { runtime, split, ...figuresOf(outcomes, classifier.classes), badPictures: bad, outcomes };
}

function stopped(done: number, all: number): ToolkitError {
  return new ToolkitError({
    code: 'STOPPED',
    message: `the evaluation was stopped after ${done} of ${all} pictures`,
    hint: 'start it again: figures of a part of the pictures would mislead',
  });
}
