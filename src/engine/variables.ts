/**
 * Numbers that training changes, and the rules that change them. On TensorFlow a variable is a resource that the fused
 * update kernels write in place (`native-updates.ts`); elsewhere it is a tensor that is replaced (`composed-updates.ts`).
 */
import type * as tf from '@tensorflow/tfjs-core';
import { composedUpdates } from './composed-updates.js';
import { nativeUpdates } from './native-updates.js';
import type { Engine } from './tensorflow.js';

export interface Variable {
  readonly shape: readonly number[];
  /** A tensor of the numbers as they are now. The caller disposes of it, before the next update for speed. */
  read(): tf.Tensor;
  /** Takes new numbers of the same shape; the given tensor stays the caller's. */
  assign(value: tf.Tensor): void;
  dispose(): void;
}

/** Settings of one Adam update. `step` counts from 1. */
export interface AdamStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly step: number;
}

export interface MomentumStep {
  readonly lr: number;
  readonly momentum: number;
  readonly nesterov: boolean;
}

/** Settings of one RMSprop update. `rho` is the share of the old mean square that is kept. */
export interface RmspropStep {
  readonly lr: number;
  readonly rho: number;
  readonly momentum: number;
  readonly epsilon: number;
}

/** Settings of one Lion update. */
export interface LionStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
}

/** Settings of one LAMB update. `step` counts from 1. */
export interface LambStep extends AdamStep {
  /** Weight decay, which is part of what the trust ratio scales. */
  readonly decay: number;
  /** Whether the step is scaled by the trust ratio; without it, it is Adam's. */
  readonly adapts: boolean;
}

/** Update rules. The gradient stays the caller's. */
export interface Updates {
  /** Runs the updates of one step, whose settings then go to the engine once and not once for every variable. */
  together(updates: () => void): void;
  variable(shape: readonly number[], value: tf.Tensor): Variable;
  /**
   * Kingma and Ba 2015, in the form of section 2's last paragraph, which TensorFlow and Keras use: the bias
   * corrections are in the rate, and epsilon is added to the uncorrected root. PyTorch adds it to the corrected one.
   * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam
   */
  adam(target: Variable, m: Variable, v: Variable, gradient: tf.Tensor, step: AdamStep): void;
  /**
   * `accumulator = momentum * accumulator - lr * gradient; target += accumulator`, as Keras' SGD; with Nesterov's
   * momentum `target += momentum * accumulator - lr * gradient` (Sutskever et al. 2013, section 3, in the form of
   * Bengio et al. 2013). PyTorch keeps the rate out of the accumulator: the same while the rate is the same.
   * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyKerasMomentum
   */
  momentum(target: Variable, accumulator: Variable, gradient: tf.Tensor, step: MomentumStep): void;
  /**
   * Hinton 2012, lecture 6e, in TensorFlow's and Keras' form: `square = rho * square + (1 - rho) * gradient^2;
   * accumulator = momentum * accumulator + lr * gradient / sqrt(square + epsilon); target -= accumulator`. PyTorch adds
   * epsilon behind the root, and keeps the rate out of the accumulator.
   * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyRMSProp
   */
  rmsprop(target: Variable, square: Variable, accumulator: Variable, gradient: tf.Tensor, step: RmspropStep): void;
  /**
   * Chen et al. 2023, algorithm 2: `target -= lr * sign(beta1 * m + (1 - beta1) * gradient); m = beta2 * m + (1 - beta2) *
   * gradient`. Keras and timm have the same.
   */
  lion(target: Variable, m: Variable, gradient: tf.Tensor, step: LionStep): void;
  /**
   * You et al. 2020, algorithm 2, with the identity for phi, as timm has it: Adam's corrected step, epsilon behind the
   * root, plus `decay * target`, is scaled by the norm of the target over its own, or by 1 where either is 0. Keras has
   * the same without the decay, which it takes before and outside of the ratio.
   */
  lamb(target: Variable, m: Variable, v: Variable, gradient: tf.Tensor, step: LambStep): void;
  /** `target -= lr * gradient`. */
  descend(target: Variable, gradient: tf.Tensor, lr: number): void;
  /** `target *= factor`. */
  scale(target: Variable, factor: number): void;
  /** `target += share * (source - target)`. */
  average(target: Variable, source: Variable, share: number): void;
}

export function updatesOf(engine: Engine): Updates {
  return engine.native === undefined ? composedUpdates : nativeUpdates(engine.native);
}
