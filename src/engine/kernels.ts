/**
 * The numeric operations a network is made of, each with its gradient, on the engine that is loaded. On TensorFlow
 * the fused kernels stand in for what tfjs composes of many slow ones (`native-kernels.ts`); elsewhere tfjs's own
 * operations do the same sums.
 */
import * as tf from '@tensorflow/tfjs-core';
import { nativeKernels } from './native-kernels.js';
import type { ActivationName, Padding, Pair } from './operations.js';
import { windowPadding } from './operations.js';
import type { Engine } from './tensorflow.js';

export interface ConvolutionGeometry {
  readonly strides: Pair;
  readonly padding: Padding;
}

/** Batch normalisation in training mode: `y`, and the moving statistics as they are after this batch. */
export interface Normalised {
  readonly y: tf.Tensor4D;
  readonly mean: tf.Tensor1D;
  readonly variance: tf.Tensor1D;
}

export interface NormParameters {
  readonly gamma: tf.Tensor1D;
  readonly beta: tf.Tensor1D;
  readonly mean: tf.Tensor1D;
  readonly variance: tf.Tensor1D;
}

/** All of them are differentiable in every float argument, except that moving statistics get no gradient. */
export interface Kernels {
  /** x `[N, H, W, in]`, kernel `[h, w, in, out]` -> `[N, H', W', out]`. */
  conv2d(x: tf.Tensor4D, kernel: tf.Tensor4D, geometry: ConvolutionGeometry): tf.Tensor4D;
  /** x `[N, H, W, C]`, kernel `[h, w, C, multiplier]` -> `[N, H', W', C * multiplier]`. */
  depthwiseConv2d(x: tf.Tensor4D, kernel: tf.Tensor4D, geometry: ConvolutionGeometry): tf.Tensor4D;
  /** Adds `[C]` to the last dimension. */
  biasAdd<T extends tf.Tensor>(x: T, bias: tf.Tensor1D): T;
  activation<T extends tf.Tensor>(x: T, name: ActivationName): T;
  batchNorm(x: tf.Tensor4D, p: NormParameters, epsilon: number): tf.Tensor4D;
  /** `momentum` is the share of the old moving average that is kept; the new variance is the unbiased one. */
  batchNormTraining(x: tf.Tensor4D, p: NormParameters, options: { epsilon: number; momentum: number }): Normalised;
  maxPool(x: tf.Tensor4D, size: Pair, geometry: ConvolutionGeometry): tf.Tensor4D;
  /** Cross-entropy of each row: labels and logits `[N, classes]` -> `[N]`. */
  softmaxCrossEntropy(labels: tf.Tensor2D, logits: tf.Tensor2D): tf.Tensor1D;
}

/** Lowest finite float32: what a padded cell of a max pool holds, so that padding never wins. */
const LOWEST = -3.4028234663852886e38;

type Paddings4D = [[number, number], [number, number], [number, number], [number, number]];

function padded(x: tf.Tensor4D, size: Pair, geometry: ConvolutionGeometry, value: number): tf.Tensor4D {
  const { padding, strides } = geometry;
  if (typeof padding === 'string') return x;
  const rows = windowPadding(x.shape[1], size[0], strides[0], padding, 0);
  const columns = windowPadding(x.shape[2], size[1], strides[1], padding, 1);
  if (rows[0] + rows[1] + columns[0] + columns[1] === 0) return x;
  const paddings: Paddings4D = [
    [0, 0],
    [rows[0], rows[1]],
    [columns[0], columns[1]],
    [0, 0],
  ];
  return tf.pad4d(x, paddings, value);
}

const paddingName = (padding: Padding): 'same' | 'valid' => (padding === 'same' ? 'same' : 'valid');

const sizeOf = (kernel: tf.Tensor4D): Pair => [kernel.shape[0], kernel.shape[1]];

/** The same operations composed of tfjs-core's, for engines without TensorFlow's kernels. */
export const composedKernels: Kernels = {
  conv2d: (x, kernel, g) =>
    tf.conv2d(padded(x, sizeOf(kernel), g, 0), kernel, [...g.strides] as [number, number], paddingName(g.padding)),
  depthwiseConv2d: (x, kernel, g) =>
    tf.depthwiseConv2d(
      padded(x, sizeOf(kernel), g, 0),
      kernel,
      [...g.strides] as [number, number],
      paddingName(g.padding),
    ),
  biasAdd: (x, bias) => tf.add(x, bias),
  activation: (x, name) => (name === 'relu' ? tf.relu(x) : tf.relu6(x)),
  batchNorm: (x, { gamma, beta, mean, variance }, epsilon) => tf.batchNorm4d(x, mean, variance, beta, gamma, epsilon),
  batchNormTraining: (x, { gamma, beta, mean, variance }, { epsilon, momentum }) => {
    const count = x.size / x.shape[3];
    const moments = tf.moments(x, [0, 1, 2]);
    const batchMean = moments.mean as tf.Tensor1D;
    const batchVariance = moments.variance as tf.Tensor1D;
    const blend = (old: tf.Tensor1D, fresh: tf.Tensor) =>
      tf.add(tf.mul(old, momentum), tf.mul(fresh, 1 - momentum)) as tf.Tensor1D;
    return {
      y: tf.batchNorm4d(x, batchMean, batchVariance, beta, gamma, epsilon),
      mean: blend(mean, batchMean),
      variance: blend(variance, tf.mul(batchVariance, count / Math.max(1, count - 1))),
    };
  },
  maxPool: (x, size, g) =>
    tf.maxPool(padded(x, size, g, LOWEST), [...size], [...g.strides] as [number, number], paddingName(g.padding)),
  softmaxCrossEntropy: (labels, logits) =>
    tf.customGrad((x, save) => {
      const shifted = tf.sub(x as tf.Tensor2D, tf.max(x as tf.Tensor2D, 1, true));
      const logSum = tf.log(tf.sum(tf.exp(shifted), 1, true));
      (save as tf.GradSaveFunc)([tf.exp(tf.sub(shifted, logSum))]);
      return {
        value: tf.sum(tf.mul(labels, tf.sub(logSum, shifted)), 1) as tf.Tensor1D,
        // Labels sum to one in every row, so the gradient is softmax minus labels.
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(tf.expandDims(dy, 1), tf.sub(saved[0]!, labels)),
      };
    })(logits) as tf.Tensor1D,
};

/** The kernels of a loaded engine. */
export function kernelsOf(engine: Engine): Kernels {
  return engine.native === undefined ? composedKernels : { ...composedKernels, ...nativeKernels(engine.native) };
}
