/** A model, loaded: pixels in, probabilities out. */
import * as tf from '@tensorflow/tfjs-core';
import { loadNetwork } from '../engine/network.js';
import type { Precision } from '../engine/precision.js';
import { softmaxRows } from '../engine/softmax.js';
import type { Engine } from '../engine/tensorflow.js';
import type { ModelRecord, OpenedModel } from '../weights/model-folder.js';

export interface Classifier {
  /** What computes: the engine, or the runtime of an exported model, with its version. */
  readonly runtime: string;
  readonly classes: readonly string[];
  /** Preprocessed pixels `[count, height, width, channels]` -> probabilities `[count, classes]`, in C order. */
  probabilities(pixels: Float32Array, count: number): Promise<ArrayLike<number>>;
  dispose(): void | Promise<void>;
}

/** What brings its own way of computing, such as an exported model. */
export interface LoadableModel {
  readonly record: Pick<ModelRecord, 'classes' | 'inputSize' | 'preprocessing' | 'data'>;
  load(engine: Engine): Promise<Classifier>;
}

/** How a model is loaded. */
export interface ClassifierOptions {
  /** How many will come. */
  readonly pictures: number;
  readonly precision?: Precision | undefined;
}

/**
 * From so many pictures on compiling pays: it takes as long as about eight batches of eight, and what is compiled takes
 * 0.45 (MobileNet v2) to 0.8 (ResNet-50) of the time.
 */
const MANY = 128;

/** @throws PRECISION_UNSUPPORTED */
export async function loadClassifier(
  model: OpenedModel | LoadableModel,
  engine: Engine,
  { pictures, precision = 'float32' }: ClassifierOptions,
): Promise<Classifier> {
  if ('load' in model) return model.load(engine);
  const { graph, read, record } = model;
  const compiled = pictures >= MANY;
  const network = await loadNetwork(graph, read, engine, { outputs: ['logits'], compiled, precision });
  return {
    runtime: engine.name,
    classes: record.classes,
    probabilities: async (pixels, count) => {
      const x = tf.tensor(pixels, [count, ...graph.input.shape]);
      const logits = network.run(x, ['logits']).get('logits')!;
      const values = (await logits.data()) as Float32Array;
      tf.dispose([x, logits]);
      return softmaxRows(values, record.classes.length);
    },
    dispose: () => network.dispose(),
  };
}

/** Indices of the largest values, largest first; the smaller index of two equal ones first. */
export function topIndices(values: ArrayLike<number>, count: number): number[] {
  const top: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (top.length === count && !(values[i]! > values[top.at(-1)!]!)) continue;
    let place = top.length;
    while (place > 0 && values[i]! > values[top[place - 1]!]!) place--;
    top.splice(place, 0, i);
    if (top.length > count) top.pop();
  }
  return top;
}
