/** The norm of all gradients together, and gradients that are cut back to one. */
import * as tf from '@tensorflow/tfjs-core';
import { type Compiled, compile, compilerOf } from './compile.js';
import type { Engine } from './tensorflow.js';

export interface Clipper {
  /**
   * All gradients times one factor, `limit / max(norm, limit)`, where `norm` is the root of the sum of the squares of all
   * their elements: shorter ones stay as they are, to the bit.
   * @param gradients of the same shapes each time; they stay the caller's
   * @returns new tensors, in the same order
   */
  clip(gradients: readonly tf.Tensor[]): tf.Tensor[];
  dispose(): void;
}

/**
 * Clips by the global norm: Pascanu et al. 2013, algorithm 1, in the form of tf.clip_by_global_norm and of Keras'
 * `global_clipnorm`. torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm it divides by.
 * @param limit the longest that the gradients may be together, above 0
 */
export function clipperOf(engine: Engine, limit: number): Clipper {
  const { native } = engine;
  const squares = (x: tf.Tensor): tf.Tensor =>
    native === undefined
      ? tf.sum(tf.square(x))
      : tf.mul(native.execute('L2Loss', [native.typeAttribute('T', 'float32')], [x]), 2);
  const work = (gradients: readonly tf.Tensor[]): tf.Tensor[] =>
    tf.tidy(() => {
      const norm = tf.sqrt(tf.addN(gradients.map(squares)));
      const factor = tf.div(limit, tf.maximum(norm, limit));
      return gradients.map((gradient) => tf.mul(gradient, factor));
    });
  const compiler = compilerOf(engine);
  let compiled: Compiled | undefined; // one graph for all: a hundred norms and products side by side
  return {
    clip: (gradients) => {
      if (compiler === undefined) return work(gradients);
      compiled ??= compile(compiler, gradients, () => work(gradients));
      return compiled.run(gradients);
    },
    dispose: () => compiled?.dispose(),
  };
}
