/** Batch normalisation of tfjs's operations, with its gradients written out. Ioffe and Szegedy 2015, algorithm 1. */
import * as tf from '@tensorflow/tfjs-core';
import { type Operator, sumToLast } from './operator.js';
import type { BatchNormRule } from './operators.js';

/** By the moving statistics, which have no gradient. */
export function batchNorm({ epsilon }: BatchNormRule): Operator {
  return {
    forward: ([x, gamma, beta, mean, variance]) => [normalise(x!, { mean, variance }, gamma, beta, epsilon)],
    saves: { inputs: [0, 1, 3, 4], outputs: [] },
    backward: ({ dy, inputs: [x, gamma, , mean, variance] }, wanted) => {
      const inverse = tf.rsqrt(tf.add(variance!, epsilon));
      return [
        wanted[0] ? tf.mul(dy, tf.mul(inverse, gamma!)) : undefined,
        wanted[1] ? tf.mul(sumToLast(tf.mul(dy, tf.sub(x!, mean!))), inverse) : undefined,
        wanted[2] ? sumToLast(dy) : undefined,
        undefined,
        undefined,
      ];
    },
  };
}

/** By the statistics of the batch; the unbiased variance goes into the moving one: see `VarianceRule`. */
export function batchNormTraining({ epsilon, momentum }: BatchNormRule): Operator {
  return {
    forward: ([x, gamma, beta, movingMean, movingVariance]) => {
      const { mean, variance } = tf.moments(x!, [0, 1, 2]);
      const count = countOf(x!);
      const blend = (a: tf.Tensor, b: tf.Tensor) => tf.add(tf.mul(a, momentum), tf.mul(b, 1 - momentum));
      const unbiased = tf.mul(variance, count / Math.max(1, count - 1));
      const y = normalise(x!, { mean, variance }, gamma, beta, epsilon);
      return [y, blend(movingMean!, mean), blend(movingVariance!, unbiased), mean, variance];
    },
    saves: { inputs: [0, 1], outputs: [3, 4] },
    backward: ({ dy, inputs: [x, gamma], outputs: [, , , mean, variance] }, wanted) => {
      const inverse = tf.rsqrt(tf.add(variance!, epsilon));
      const centred = tf.sub(x!, mean!);
      const [sums, products] = [sumToLast(dy), sumToLast(tf.mul(dy, centred))];
      const dx = (): tf.Tensor => {
        // gamma inverse (dy - mean(dy) - centred inverse^2 mean(dy centred))
        const along = tf.mul(centred, tf.mul(tf.square(inverse), tf.div(products, countOf(x!))));
        return tf.mul(tf.sub(tf.sub(dy, tf.div(sums, countOf(x!))), along), tf.mul(inverse, gamma!));
      };
      return [
        wanted[0] ? dx() : undefined,
        wanted[1] ? tf.mul(products, inverse) : undefined,
        wanted[2] ? sums : undefined,
        undefined,
        undefined,
      ];
    },
  };
}

/** Values of one channel. */
const countOf = (x: tf.Tensor): number => x.size / x.shape.at(-1)!;

function normalise(
  x: tf.Tensor,
  { mean, variance }: { readonly mean: tf.Tensor | undefined; readonly variance: tf.Tensor | undefined },
  gamma: tf.Tensor | undefined,
  beta: tf.Tensor | undefined,
  epsilon: number,
): tf.Tensor {
  const [of, by] = [mean as tf.Tensor1D, variance as tf.Tensor1D];
  return tf.batchNorm(x, of, by, beta as tf.Tensor1D, gamma as tf.Tensor1D, epsilon);
}
