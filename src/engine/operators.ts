/**
 * The numeric operators that a network is made of, each with its gradient, for the engine that is loaded. TensorFlow's
 * fused kernels (`native-operators.ts`) stand in for what tfjs composes of many slow ones; what is not there is
 * composed of tfjs's operations, and its gradient is tfjs's own.
 */
import * as tf from '@tensorflow/tfjs-core';
import { activationOperator } from './activations.js';
import { tokenOperators } from './attention.js';
import { groupsApart } from './native-groups.js';
import { nativeOperators } from './native-operators.js';
import { groupNorm, layerNorm, standardizeKernel } from './normalizations.js';
import {
  type ActivationName,
  type KernelStandardization,
  LOWEST,
  type Padding,
  type Pair,
  windowPadding,
} from './operations.js';
import { composed, type Operator, sumToLast } from './operator.js';
import { padExplicitly } from './padding.js';
import { gridOperators } from './pools.js';
import type { Engine } from './tensorflow.js';

export type { Operator } from './operator.js';

export interface ConvolutionGeometry {
  readonly strides: Pair;
  readonly padding: Padding;
}

/** `momentum` is the share of the old moving average that is kept. */
export interface BatchNormRule {
  readonly epsilon: number;
  readonly momentum: number;
}

/** Shapes are those of the inputs and of the first output. */
export interface Operators {
  /** `[N, H, W, in]`, `[h, w, in / groups, out]` -> `[N, H', W', out]`. */
  conv2d(geometry: ConvolutionGeometry, groups: number): Operator;
  /** `[N, H, W, C]`, `[h, w, C, multiplier]` -> `[N, H', W', C * multiplier]`. */
  depthwiseConv2d(geometry: ConvolutionGeometry): Operator;
  /** `[..., in]`, `[in, out]` -> `[..., out]`. */
  readonly matMul: Operator;
  /** `[..., C]`, `[C]` -> `[..., C]`. */
  readonly biasAdd: Operator;
  readonly add: Operator;
  readonly multiply: Operator;
  /** `[N, ...]` times constants of the same rank, which have no gradient. */
  readonly mask: Operator;
  activation(name: ActivationName): Operator;
  /** x, gamma, beta, mean, variance -> y. */
  batchNorm(rule: BatchNormRule): Operator;
  /** x, gamma, beta, moving mean, moving variance -> y by batch statistics, new moving mean, new moving variance, ... */
  batchNormTraining(rule: BatchNormRule): Operator;
  /** x, gamma, beta -> y. */
  groupNorm(rule: { readonly groups: number; readonly epsilon: number }): Operator;
  /** x, gamma, beta -> y. */
  layerNorm(epsilon: number): Operator;
  /** `[h, w, in / groups, out]` -> the same shape, each output channel with mean 0 and deviation 1. */
  standardizeKernel(rule: KernelStandardization): Operator;
  /** `[N, H, W, C]`, `[N, C]` -> `[N, H, W, C]`. */
  readonly scaleChannels: Operator;
  /** `[..., C]`, `[C]` -> `[..., C]`. */
  readonly layerScale: Operator;
  /** Tensors of `sizes` channels -> one of their sum. */
  concat(sizes: readonly number[]): Operator;
  /** Shapes without the batch. */
  reshape(from: readonly number[], to: readonly number[]): Operator;
  /** `[N, T, D]`, `[D]` -> `[N, 1 + T, D]`. */
  readonly classToken: Operator;
  /** `[N, T, D]`, `[T, D]` -> `[N, T, D]`. */
  readonly addPosition: Operator;
  /** Queries, keys, values `[N, T, D]` -> `[N, T, D]`. */
  attention(heads: number): Operator;
  /** `[N, T, D]` -> `[N, D]`. */
  takeToken(index: number, tokens: number): Operator;
  /** `[N, H, W, C]` -> `[N, H', W', C]`; padded cells do not count. */
  averagePool(size: Pair, geometry: ConvolutionGeometry): Operator;
  /** `[N, H, W, C]` -> `[N, ...size, C]`. */
  adaptiveAveragePool(size: Pair): Operator;
  /** `[N, H, W, C]` -> `[N, H', W', C]`. */
  maxPool(size: Pair, geometry: ConvolutionGeometry): Operator;
  /** `[N, H, W, C]` -> `[N, C]`. */
  readonly globalAveragePool: Operator;
  /** Logits and targets `[N, classes]` -> cross-entropy of each row, `[N]`. Rows of the targets sum to one. */
  readonly softmaxCrossEntropy: Operator;
}

export function operatorsOf(engine: Engine): Operators {
  return engine.native === undefined ? composedOperators : { ...composedOperators, ...nativeOperators(engine.native) };
}

const paddingName = (padding: Padding): 'same' | 'valid' => (padding === 'same' ? 'same' : 'valid');
const stridesOf = ({ strides }: ConvolutionGeometry): [number, number] => [strides[0], strides[1]];
const sizeOf = (kernel: tf.Tensor): Pair => [kernel.shape[0]!, kernel.shape[1]!];

function plainConv2d(x: tf.Tensor4D, kernel: tf.Tensor4D, geometry: ConvolutionGeometry): tf.Tensor4D {
  return tf.conv2d(
    padExplicitly(x, sizeOf(kernel), geometry, 0),
    kernel,
    stridesOf(geometry),
    paddingName(geometry.padding),
  );
}

/**
 * Sums of zero-padded windows, divided by how many cells of each lie in the picture: tfjs's own gradient of a pool with
 * SAME padding divides by all of them.
 */
function averagePool(x: tf.Tensor4D, size: Pair, { strides, padding }: ConvolutionGeometry): tf.Tensor {
  const [height, width] = [x.shape[1], x.shape[2]];
  const rows = windowPadding(height, size[0], strides[0], padding, 0);
  const columns = windowPadding(width, size[1], strides[1], padding, 1);
  const pool = (of: tf.Tensor4D): tf.Tensor =>
    tf.avgPool(tf.pad4d(of, [[0, 0], [...rows], [...columns], [0, 0]]), [...size], [...strides], 'valid');
  if (rows[0] + rows[1] + columns[0] + columns[1] === 0) return tf.avgPool(x, [...size], [...strides], 'valid');
  return tf.div(pool(x), pool(tf.ones([1, height, width, 1])));
}

interface Moments {
  readonly mean: tf.Tensor1D;
  readonly variance: tf.Tensor1D;
}

function batchMoments(x: tf.Tensor): Moments {
  const { mean, variance } = tf.moments(x, [0, 1, 2]);
  return { mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D };
}

/** The unbiased batch variance goes into the moving one: see `VarianceRule`. */
function movingStatistics(x: tf.Tensor, moments: Moments, old: Moments, momentum: number): tf.Tensor[] {
  const count = x.size / x.shape.at(-1)!;
  const blend = (a: tf.Tensor, b: tf.Tensor) => tf.add(tf.mul(a, momentum), tf.mul(b, 1 - momentum));
  const unbiased = tf.mul(moments.variance, count / Math.max(1, count - 1));
  return [blend(old.mean, moments.mean), blend(old.variance, unbiased)];
}

function trainingBatchNorm({ epsilon, momentum }: BatchNormRule): Operator {
  const normalised = composed(3, ([x, gamma, beta]) => {
    const { mean, variance } = batchMoments(x!);
    return tf.batchNorm(x!, mean, variance, beta as tf.Tensor1D, gamma as tf.Tensor1D, epsilon);
  });
  return {
    forward: ([x, gamma, beta, mean, variance]) => [
      ...normalised.forward([x!, gamma!, beta!]),
      ...movingStatistics(
        x!,
        batchMoments(x!),
        { mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D },
        momentum,
      ),
    ],
    saves: { inputs: [0, 1, 2], outputs: [] },
    backward: (saved, wanted) => [
      ...normalised.backward({ ...saved, inputs: saved.inputs.slice(0, 3) }, wanted.slice(0, 3)),
      undefined,
      undefined,
    ],
  };
}

/** Every dimension but the last in one. */
const rolled = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [-1, x.shape.at(-1)!]);
/** The other way, with the outer dimensions of `like`. */
const unrolled = (x: tf.Tensor2D, like: tf.Tensor): tf.Tensor =>
  like.rank === 2 ? x : tf.reshape(x, [...like.shape.slice(0, -1), x.shape[1]]);

const composedOperators: Operators = {
  conv2d: (geometry, groups) => {
    const plain = composed(2, ([x, kernel]) => plainConv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, geometry));
    return groups === 1 ? plain : groupsApart(plain, groups);
  },
  depthwiseConv2d: (geometry) =>
    composed(2, ([x, kernel]) =>
      tf.depthwiseConv2d(
        padExplicitly(x as tf.Tensor4D, sizeOf(kernel!), geometry, 0),
        kernel as tf.Tensor4D,
        stridesOf(geometry),
        paddingName(geometry.padding),
      ),
    ),
  matMul: {
    forward: ([x, kernel]) => [unrolled(tf.matMul(rolled(x!), kernel as tf.Tensor2D), x!)],
    saves: { inputs: [0, 1], outputs: [] },
    backward: ({ dy, inputs: [x, kernel] }, wanted) => [
      wanted[0] ? unrolled(tf.matMul(rolled(dy), kernel as tf.Tensor2D, false, true), x!) : undefined,
      wanted[1] ? tf.matMul(rolled(x!), rolled(dy), true, false) : undefined,
    ],
  },
  biasAdd: {
    forward: ([x, bias]) => [tf.add(x!, bias!)],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }, wanted) => [wanted[0] ? tf.clone(dy) : undefined, wanted[1] ? sumToLast(dy) : undefined],
  },
  add: {
    forward: ([a, b]) => [tf.add(a!, b!)],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }, wanted) => wanted.map((each) => (each ? tf.clone(dy) : undefined)),
  },
  multiply: {
    forward: ([a, b]) => [tf.mul(a!, b!)],
    saves: { inputs: [0, 1], outputs: [] },
    backward: ({ dy, inputs: [a, b] }, wanted) => [
      wanted[0] ? tf.mul(dy, b!) : undefined,
      wanted[1] ? tf.mul(dy, a!) : undefined,
    ],
  },
  mask: {
    forward: ([x, mask]) => [tf.mul(x!, mask!)],
    saves: { inputs: [1], outputs: [] },
    backward: ({ dy, inputs: [, mask] }) => [tf.mul(dy, mask!), undefined],
  },
  activation: activationOperator,
  groupNorm,
  layerNorm,
  standardizeKernel,
  ...tokenOperators,
  ...gridOperators,
  averagePool: (size, geometry) => composed(1, ([x]) => averagePool(x as tf.Tensor4D, size, geometry)),
  batchNorm: ({ epsilon }) =>
    composed(5, ([x, gamma, beta, mean, variance]) =>
      tf.batchNorm(
        x!,
        mean as tf.Tensor1D,
        variance as tf.Tensor1D,
        beta as tf.Tensor1D,
        gamma as tf.Tensor1D,
        epsilon,
      ),
    ),
  batchNormTraining: trainingBatchNorm,
  maxPool: (size, geometry) =>
    composed(1, ([x]) =>
      tf.maxPool(
        padExplicitly(x as tf.Tensor4D, size, geometry, LOWEST),
        [size[0], size[1]],
        stridesOf(geometry),
        paddingName(geometry.padding),
      ),
    ),
  globalAveragePool: {
    forward: ([x]) => [tf.mean(x!, [1, 2])],
    saves: { inputs: [0], outputs: [] },
    backward: ({ dy, inputs: [x] }) => {
      const [count, height, width, channels] = x!.shape as [number, number, number, number];
      const share = tf.reshape(tf.div(dy, height * width), [count, 1, 1, channels]);
      return [tf.broadcastTo(share, [count, height, width, channels])];
    },
  },
  softmaxCrossEntropy: {
    forward: ([logits, targets]) => {
      const shifted = tf.sub(logits!, tf.max(logits!, 1, true));
      const logSum = tf.log(tf.sum(tf.exp(shifted), 1, true));
      const probabilities = tf.exp(tf.sub(shifted, logSum));
      return [tf.sum(tf.mul(targets!, tf.sub(logSum, shifted)), 1), tf.sub(probabilities, targets!)];
    },
    saves: { inputs: [], outputs: [1] },
    backward: ({ dy, outputs: [, gradient] }) => [tf.mul(tf.expandDims(dy, 1), gradient!), undefined],
  },
};
