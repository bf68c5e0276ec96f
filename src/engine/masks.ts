/** Masks of dropout and stochastic depth: drawn apart from the network that they go into, by the node's path. */
import * as tf from '@tensorflow/tfjs-core';
import type { Rng } from '../rng.js';
import type { Node } from './graph.js';

/** One mask that a training step needs. */
export interface MaskNeed {
  readonly path: string;
  readonly shape: readonly number[];
  /** Part of the mask that is zero, above 0 and below 1. */
  readonly rate: number;
}

/** What a node is masked with where `count` pictures are trained on; nothing where it drops nothing. */
export function maskNeedOf({ path, operation, shape }: Node, count: number): MaskNeed | undefined {
  if (operation.kind !== 'dropout' && operation.kind !== 'drop_path') return undefined;
  const { rate } = operation;
  if (rate === 0) return undefined;
  // Of stochastic depth one number a picture.
  return { path, shape: [count, ...(operation.kind === 'dropout' ? shape : shape.map(() => 1))], rate };
}

/** Zero with probability `rate`, else 1 / (1 - rate); drawn from our own generator so that a run repeats exactly. */
export function drawMask({ path, shape, rate }: MaskNeed, random: Rng): tf.Tensor {
  const own = random.split(path);
  const mask = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < mask.length; i++) mask[i] = own.uniform() < rate ? 0 : 1 / (1 - rate);
  return tf.tensor(mask, [...shape]);
}
