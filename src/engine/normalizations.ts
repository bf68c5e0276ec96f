/** Normalisation over the values of one picture, and of kernels: tfjs's operations, with their gradients written out. */
import * as tf from '@tensorflow/tfjs-core';
import type { KernelStandardization } from './operations.js';
import { type Operator, sumToLast } from './operator.js';

/**
 * Over the last dimension: gamma (x - mean) / sqrt(variance + epsilon) + beta. Ba et al. 2016, equation 3.
 * @param sum over every dimension but the last
 */
export function layerNorm(epsilon: number, sum: (x: tf.Tensor) => tf.Tensor = sumToLast): Operator {
  const mean = (x: tf.Tensor): tf.Tensor => tf.mean(x, -1, true);
  return {
    forward: ([x, gamma, beta]) => {
      const centred = tf.sub(x!, mean(x!));
      const inverse = tf.rsqrt(tf.add(mean(tf.square(centred)), epsilon));
      const normalised = tf.mul(centred, inverse);
      return [tf.add(tf.mul(normalised, gamma!), beta!), normalised, inverse];
    },
    saves: { inputs: [1], outputs: [1, 2] },
    backward: ({ dy, inputs: [, gamma], outputs: [, normalised, inverse] }, wanted) => {
      const dx = (): tf.Tensor => {
        const d = tf.mul(dy, gamma!);
        const along = tf.mul(normalised!, mean(tf.mul(d, normalised!)));
        return tf.mul(tf.sub(tf.sub(d, mean(d)), along), inverse!);
      };
      return [
        wanted[0] ? dx() : undefined,
        wanted[1] ? sum(tf.mul(dy, normalised!)) : undefined,
        wanted[2] ? sum(dy) : undefined,
      ];
    },
  };
}

/**
 * Over the places and the neighbouring channels of a group. Wu and He 2018, equation 7.
 *
 * Every mean is taken over places first and over the few numbers of a group then: TensorFlow is many times slower over
 * both at once, and what is left to do for each place is a scale and a shift a channel.
 */
export function groupNorm({ groups, epsilon }: { readonly groups: number; readonly epsilon: number }): Operator {
  /** `[N, H, W, C]` -> `[N, H W, C]`. */
  const rows = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [x.shape[0]!, -1, x.shape[3]!]);
  /** Mean over the places and a group, for each of its channels: `[N, H W, C]` -> `[N, 1, C]`. */
  const mean = (x: tf.Tensor): tf.Tensor => overGroup(tf.mean(x, 1));
  const overGroup = (x: tf.Tensor): tf.Tensor => {
    const [count, channels] = x.shape as [number, number];
    const size = channels / groups;
    const means = tf.mean(tf.reshape(x, [count, groups, size]), 2, true);
    return tf.reshape(tf.broadcastTo(means, [count, groups, size]), [count, 1, channels]);
  };
  return {
    forward: ([x, gamma, beta]) => {
      const places = rows(x!);
      const centred = tf.sub(places, mean(places));
      const inverse = tf.rsqrt(tf.add(mean(tf.square(centred)), epsilon));
      const y = tf.add(tf.mul(centred, tf.mul(inverse, gamma!)), beta!);
      return [tf.reshape(y, x!.shape), centred, inverse];
    },
    saves: { inputs: [1], outputs: [1, 2] },
    backward: ({ dy, inputs: [, gamma], outputs: [, centred, inverse] }, wanted) => {
      const d = rows(dy);
      const [count, places, channels] = d.shape as [number, number, number];
      const sums = tf.sum(d, 1); // [N, C]
      const products = tf.mul(tf.sum(tf.mul(d, centred!), 1), tf.reshape(inverse!, [count, channels]));
      const dx = (): tf.Tensor => {
        // inverse (gamma dy - mean(gamma dy) - normalised mean(gamma dy normalised))
        const shift = tf.mul(inverse!, overGroup(tf.div(tf.mul(sums, gamma!), places)));
        const along = tf.mul(tf.square(inverse!), overGroup(tf.div(tf.mul(products, gamma!), places)));
        const scaled = tf.sub(tf.mul(d, tf.mul(inverse!, gamma!)), tf.mul(centred!, along));
        return tf.reshape(tf.sub(scaled, shift), dy.shape);
      };
      return [
        wanted[0] ? dx() : undefined,
        wanted[1] ? tf.sum(products, 0) : undefined,
        wanted[2] ? tf.sum(sums, 0) : undefined,
      ];
    },
  };
}

/** Each output channel of a kernel to mean 0 and deviation 1. Qiao et al. 2019, equation 6. */
export function standardizeKernel({ epsilon, addedTo }: KernelStandardization): Operator {
  const statistics = (kernel: tf.Tensor) => {
    const { mean, variance } = tf.moments(kernel, [0, 1, 2], true);
    const root = tf.sqrt(addedTo === 'variance' ? tf.add(variance, epsilon) : variance);
    return { centred: tf.sub(kernel, mean), root, deviation: addedTo === 'variance' ? root : tf.add(root, epsilon) };
  };
  return {
    forward: ([kernel]) => {
      const { centred, deviation } = statistics(kernel!);
      return [tf.div(centred, deviation)];
    },
    saves: { inputs: [0], outputs: [] },
    backward: ({ dy, inputs: [kernel] }) => {
      const { centred, root, deviation } = statistics(kernel!);
      // (dy - mean(dy)) / deviation - centred mean(dy centred) / (deviation^2 root)
      const products = tf.mean(tf.mul(dy, centred), [0, 1, 2], true);
      const along = tf.mul(centred, tf.div(products, tf.mul(tf.square(deviation), root)));
      return [tf.sub(tf.div(tf.sub(dy, tf.mean(dy, [0, 1, 2], true)), deviation), along)];
    },
  };
}
