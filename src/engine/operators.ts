/**
 * The numeric operators that a network is made of, each with its gradient, for the engine that is loaded. TensorFlow's
 * fused kernels (`native-operators.ts`) stand in for what tfjs composes of many slow ones; what is not there is
 * composed of tfjs's operations, and so is its gradient: tfjs registers none of its own for tfjs-core alone.
 */
import * as tf from '@tensorflow/tfjs-core';
import { activationOperator } from './activations.js';
import { tokenOperators } from './attention.js';
import { batchNorm, batchNormTraining } from './batch-norm.js';
import { groupsApart } from './native-groups.js';
import { nativeOperators } from './native-operators.js';
import { groupNorm, layerNorm, standardizeKernel } from './normalizations.js';
import type { ActivationName, KernelStandardization, Padding, Pair } from './operations.js';
import { matMulBy, type Operator, sumToLast } from './operator.js';
import { gridOperators } from './pools.js';
import type { Engine } from './tensorflow.js';
import { averagePool, conv2d, depthwiseConv2d, maxPool } from './windows.js';

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
  multiplyBy(factor: number): Operator;
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

const composedOperators: Operators = {
  conv2d: (geometry, groups) => (groups === 1 ? conv2d(geometry) : groupsApart(conv2d(geometry), groups)),
  depthwiseConv2d,
  matMul: matMulBy(tf.matMul),
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
  multiplyBy: (factor) => ({
    forward: ([x]) => [tf.mul(x!, factor)],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }) => [tf.mul(dy, factor)],
  }),
  mask: {
    forward: ([x, mask]) => [tf.mul(x!, mask!)],
    saves: { inputs: [1], outputs: [] },
    backward: ({ dy, inputs: [, mask] }) => [tf.mul(dy, mask!), undefined],
  },
  activation: activationOperator,
  groupNorm,
  layerNorm: (epsilon) => layerNorm(epsilon),
  standardizeKernel,
  ...tokenOperators,
  ...gridOperators,
  averagePool,
  batchNorm,
  batchNormTraining,
  maxPool,
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
