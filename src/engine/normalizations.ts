/** Normalisation over the values of one picture, and of kernels: tfjs's operations, with their gradients written out. */
import * as tf from '@tensorflow/tfjs-core';
import type { KernelStandardization } from './operations.js';
import { composed, type Operator, sumToLast } from './operator.js';

/** How values are gathered: a view of x, and the axes of it over which one mean is taken. */
interface Grouping {
  view(x: tf.Tensor): tf.Tensor;
  readonly axes: readonly number[];
}

/** x, gamma, beta -> gamma * (x - mean) / sqrt(variance + epsilon) + beta; the biased variance. */
function affineNorm(epsilon: number, { view, axes }: Grouping): Operator {
  const mean = (x: tf.Tensor): tf.Tensor => tf.mean(x, [...axes], true);
  return {
    forward: ([x, gamma, beta]) => {
      const grouped = view(x!);
      const centred = tf.sub(grouped, mean(grouped));
      const inverse = tf.rsqrt(tf.add(mean(tf.square(centred)), epsilon));
      const normalised = tf.reshape(tf.mul(centred, inverse), x!.shape);
      return [tf.add(tf.mul(normalised, gamma!), beta!), normalised, inverse];
    },
    saves: { inputs: [1], outputs: [1, 2] },
    backward: ({ dy, inputs: [, gamma], outputs: [, normalised, inverse] }, wanted) => {
      const dx = (): tf.Tensor => {
        const [d, n] = [view(tf.mul(dy, gamma!)), view(normalised!)];
        const along = tf.mul(n, mean(tf.mul(d, n)));
        return tf.reshape(tf.mul(tf.sub(tf.sub(d, mean(d)), along), inverse!), dy.shape);
      };
      return [
        wanted[0] ? dx() : undefined,
        wanted[1] ? sumToLast(tf.mul(dy, normalised!)) : undefined,
        wanted[2] ? sumToLast(dy) : undefined,
      ];
    },
  };
}

/** Over the last dimension. Ba et al. 2016, equation 3. */
export const layerNorm = (epsilon: number): Operator => affineNorm(epsilon, { view: (x) => x, axes: [-1] });

/** Over the places and the neighbouring channels of a group. Wu and He 2018, equation 7. */
export const groupNorm = ({ groups, epsilon }: { readonly groups: number; readonly epsilon: number }): Operator =>
  affineNorm(epsilon, {
    view: (x) => {
      const [count, height, width, channels] = x.shape as [number, number, number, number];
      return tf.reshape(x, [count, height * width, groups, channels / groups]);
    },
    axes: [1, 3],
  });

/** Each output channel of a kernel to mean 0 and deviation 1. Qiao et al. 2019, equation 6. */
export const standardizeKernel = ({ epsilon, addedTo }: KernelStandardization): Operator =>
  composed(1, ([kernel]) => {
    const { mean, variance } = tf.moments(kernel!, [0, 1, 2], true);
    const deviation = addedTo === 'variance' ? tf.sqrt(tf.add(variance, epsilon)) : tf.add(tf.sqrt(variance), epsilon);
    return tf.div(tf.sub(kernel!, mean), deviation);
  });
