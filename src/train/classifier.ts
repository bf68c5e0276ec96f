/** A model folder, loaded: pixels in, probabilities out. */
import * as tf from '@tensorflow/tfjs-core';
import { loadNetwork } from '../engine/network.js';
import type { Precision } from '../engine/precision.js';
import type { Engine } from '../engine/tensorflow.js';
import type { OpenedModel } from '../weights/model-folder.js';

export interface Classifier {
  readonly classes: readonly string[];
  /** Preprocessed pixels `[count, height, width, channels]` -> logits `[count, classes]`, in C order. */
  logits(pixels: Float32Array, count: number): Promise<Float32Array>;
  dispose(): void;
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
  { graph, read, record }: OpenedModel,
  engine: Engine,
  { pictures, precision = 'float32' }: ClassifierOptions,
): Promise<Classifier> {
  const compiled = pictures >= MANY;
  const network = await loadNetwork(graph, read, engine, { outputs: ['logits'], compiled, precision });
  return {
    classes: record.classes,
    logits: async (pixels, count) => {
      const x = tf.tensor(pixels, [count, ...graph.input.shape]);
      const logits = network.run(x, ['logits']).get('logits')!;
      const values = (await logits.data()) as Float32Array;
      tf.dispose([x, logits]);
      return values;
    },
    dispose: () => network.dispose(),
  };
}

/** Softmax of one row, in double precision. */
export function softmax(logits: ArrayLike<number>): number[] {
  const row = Array.from(logits);
  const largest = Math.max(...row);
  const powers = row.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Indices of the largest values, largest first; the smaller index of two equal ones first. */
export function topIndices(values: readonly number[], count: number): number[] {
  return values
    .map((value, index) => ({ value, index }))
    .sort((a, b) => b.value - a.value || a.index - b.index)
    .slice(0, count)
    .map(({ index }) => index);
}
