/** What an operator is: a function of tensors with its gradient. */
import * as tf from '@tensorflow/tfjs-core';

/** What a backward pass has at hand. */
export interface Saved {
  /** Gradient of the loss with respect to the first output. */
  readonly dy: tf.Tensor;
  readonly inputs: readonly tf.Tensor[];
  readonly outputs: readonly tf.Tensor[];
}

/** Positions of inputs and outputs. */
export interface Saves {
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** A differentiable function of tensors. */
export interface Operator {
  /** The first output is the result; others are for the backward pass, or moving statistics. */
  forward(inputs: readonly tf.Tensor[]): tf.Tensor[];
  /** Positions of the inputs and outputs that `backward` looks at; the others are not kept for it. */
  readonly saves: Saves;
  /** Those that it looks at where only some gradients are wanted, if these are fewer. */
  savesFor?(wanted: readonly boolean[]): Saves;
  /** One gradient for each input that is wanted, in their order. */
  backward(saved: Saved, wanted: readonly boolean[]): (tf.Tensor | undefined)[];
}

/** Sum over every dimension but the last. */
export function sumToLast(x: tf.Tensor): tf.Tensor {
  return tf.sum(
    x,
    Array.from({ length: x.rank - 1 }, (_, axis) => axis),
  );
}

/** Every dimension but the last in one. */
const rolled = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [-1, x.shape.at(-1)!]);
/** The other way, with the outer dimensions of `like`. */
const unrolled = (x: tf.Tensor, like: tf.Tensor): tf.Tensor =>
  like.rank === 2 ? x : tf.reshape(x, [...like.shape.slice(0, -1), x.shape[1]!]);

/** Multiplies two matrices, each as it is or transposed. */
export type Product = (a: tf.Tensor2D, b: tf.Tensor2D, transposeA: boolean, transposeB: boolean) => tf.Tensor;

/** `[..., in]`, `[in, out]` -> `[..., out]`. */
export const matMulBy = (product: Product): Operator => ({
  forward: ([x, kernel]) => [unrolled(product(rolled(x!), kernel as tf.Tensor2D, false, false), x!)],
  saves: { inputs: [0, 1], outputs: [] },
  // Before a kernel that is not trained, its input need not be kept.
  savesFor: ([x, kernel]) => ({ inputs: [...(kernel ? [0] : []), ...(x ? [1] : [])], outputs: [] }),
  backward: ({ dy, inputs: [x, kernel] }, wanted) => [
    wanted[0] ? unrolled(product(rolled(dy), kernel as tf.Tensor2D, false, true), dy) : undefined,
    wanted[1] ? product(rolled(x!), rolled(dy), true, false) : undefined,
  ],
});
