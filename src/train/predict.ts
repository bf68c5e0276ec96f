/** Prediction: class and probability for each picture, as it is done. */
import { closeLoader } from '../data/loader.js'; // alone: a data set is read by more
import type { Sample } from '../data/sample.js';
import type { Precision } from '../engine/precision.js';
import { type Engine, loadEngine } from '../engine/tensorflow.js';
import type { OpenedModel } from '../weights/model-folder.js';
import { type LoadableModel, loadClassifier, topIndices } from './classifier.js';
import { classified, type TestTimeAugmentation, viewsOf } from './test-time.js';

export interface Guess {
  readonly class: string;
  /** 0 to 1. */
  readonly probability: number;
}

/** One picture's result; `error` where it could not be read. */
export type Prediction =
  | { readonly path: string; readonly guesses: readonly Guess[] }
  | { readonly path: string; readonly error: string };

export interface PredictOptions {
  /** How many classes are named for each picture; 3 when absent. */
  readonly top?: number;
  readonly batchSize?: number;
  /** `float32` when absent. */
  readonly precision?: Precision;
  /** Several views of each picture, of whose probabilities the mean counts; one when absent. */
  readonly testTime?: TestTimeAugmentation;
  readonly signal?: AbortSignal;
}

/** Pictures decoded on the calling thread: starting threads for a few takes longer than decoding them. */
const FEW = 4;

/**
 * Predicts pictures in the given order, in batches; a picture that cannot be read does not stop the others.
 * @param engine computes a model folder's network, not an exported model; the native one where it is ready when absent
 * @throws PRECISION_UNSUPPORTED
 */
export async function* predict(
  model: OpenedModel | LoadableModel,
  paths: readonly string[],
  engine?: Engine,
  { top = 3, batchSize = 8, precision, testTime, signal }: PredictOptions = {},
): AsyncGenerator<Prediction, void, void> {
  const classifier = await loadClassifier(model, engine ?? (await loadEngine()), {
    pictures: paths.length * viewsOf(testTime),
    precision,
  });
  const { inputSize, preprocessing } = model.record;
  const classCount = classifier.classes.length;
  try {
    for (let start = 0; start < paths.length; start += CHUNK) {
      const chunk = paths.slice(start, start + CHUNK);
      const samples = chunk.map((path): Sample => ({ path, label: 0, split: 'val' }));
      const results = new Map<number, Prediction>();
      const bad = new Map<string, string>();
      const how = {
        preprocessing,
        size: inputSize,
        batchSize,
        skipBadImages: true,
        allowNone: true,
        onBadImage: (path: string, reason: string) => bad.set(path, reason),
        ...(paths.length <= FEW ? { workers: 0 } : {}),
      };
      let next = 0;
      const ready = function* (end: number): Generator<Prediction> {
        for (; next < end; next++) {
          const path = chunk[next]!;
          yield results.get(next) ?? { path, error: bad.get(path) ?? 'it could not be read' };
        }
      };
      for await (const { indices, probabilities: all } of classified(classifier, samples, how, testTime)) {
        const rows = Array.from(all);
        indices.forEach((index, i) => {
          const probabilities = rows.slice(i * classCount, (i + 1) * classCount);
          const guesses = topIndices(probabilities, top).map((c) => ({
            class: classifier.classes[c]!,
            probability: probabilities[c]!,
          }));
          results.set(index, { path: chunk[index]!, guesses });
        });
        yield* ready((indices.at(-1) ?? -1) + 1);
        if (signal?.aborted === true) return;
      }
      yield* ready(chunk.length);
    }
  } finally {
    await classifier.dispose();
    await closeLoader();
  }
}

/** Pictures whose results are held at a time. */
const CHUNK = 1024;
