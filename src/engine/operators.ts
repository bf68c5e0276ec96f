/**
 * The numeric operators that a network is made of, each with its gradient, for the engine that is loaded. TensorFlow's
 * fused kernels (`native-operators.ts`) stand in for what tfjs composes of many slow ones; what is not there is
 * composed of tfjs's operations, and its gradient is tfjs's own.
 */
import * as tf from '@tensorflow/tfjs-core';
import { nativeOperators } from './native-operators.js';
import type { ActivationName, Padding, Pair } from './operations.js';
import { LOWEST, padExplicitly } from './padding.js';
import type { Engine } from './tensorflow.js';

/** What a backward pass has at hand. */
export interface Saved {
  /** Gradient of the loss with respect to the first output. */
  readonly dy: tf.Tensor;
  readonly inputs: readonly tf.Tensor[];
  readonly outputs: readonly tf.Tensor[];
}

/** A differentiable function of tensors. */
export interface Operator {
  /** The first output is the result; others are for the backward pass, or moving statistics. */
  forward(inputs: readonly tf.Tensor[]): tf.Tensor[];
  /** Positions of the inputs and outputs that `backward` looks at; the others are not kept for it. */
  readonly saves: { readonly inputs: readonly number[]; readonly outputs: readonly number[] };
  /** One gradient for each input that is wanted, in their order. */
  backward(saved: Saved, wanted: readonly boolean[]): (tf.Tensor | undefined)[];
}

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
  /** `[N, in]`, `[in, out]` -> `[N, out]`. */
  readonly matMul: Operator;
  /** `[..., C]`, `[C]` -> `[..., C]`. */
  readonly biasAdd: Operator;
  readonly add: Operator;
  readonly multiply: Operator;
  activation(name: ActivationName): Operator;
  /** x, gamma, beta, mean, variance -> y. */
  batchNorm(rule: BatchNormRule): Operator;
  /** x, gamma, beta, moving mean, moving variance -> y by batch statistics, new moving mean, new moving variance, ... */
  batchNormTraining(rule: BatchNormRule): Operator;
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

/** An operator of tfjs operations, with tfjs's gradient: the forward pass is done once more in the backward pass. */
export function composed(inputCount: number, compute: (inputs: readonly tf.Tensor[]) => tf.Tensor): Operator {
  return {
    forward: (inputs) => [compute(inputs)],
    saves: { inputs: Array.from({ length: inputCount }, (_, i) => i), outputs: [] },
    backward: ({ dy, inputs }, wanted) => {
      const xs = inputs.filter((_, i) => wanted[i]);
      const { grads } = tf.engine().gradients(() => compute(inputs), xs, dy, true);
      return wanted.map((each) => (each ? grads.shift() : undefined));
    },
  };
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

/** Groups are convolved apart and joined: input and output channels are divided evenly, in order. */
function groupedConv2d(
  x: tf.Tensor4D,
  kernel: tf.Tensor4D,
  geometry: ConvolutionGeometry,
  groups: number,
): tf.Tensor4D {
  const kernels = tf.split(kernel, groups, 3);
  const parts = tf
    .split(x, groups, 3)
    .map((part, i) => plainConv2d(part as tf.Tensor4D, kernels[i] as tf.Tensor4D, geometry));
  return tf.concat4d(parts, 3);
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

const composedOperators: Operators = {
  conv2d: (geometry, groups) =>
    composed(2, ([x, kernel]) =>
      groups === 1
        ? plainConv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, geometry)
        : groupedConv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, geometry, groups),
    ),
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
    forward: ([x, kernel]) => [tf.matMul(x as tf.Tensor2D, kernel as tf.Tensor2D)],
    saves: { inputs: [0, 1], outputs: [] },
    backward: ({ dy, inputs: [x, kernel] }, wanted) => [
      wanted[0] ? tf.matMul(dy as tf.Tensor2D, kernel as tf.Tensor2D, false, true) : undefined,
      wanted[1] ? tf.matMul(x as tf.Tensor2D, dy as tf.Tensor2D, true, false) : undefined,
    ],
  },
  biasAdd: {
    forward: ([x, bias]) => [tf.add(x!, bias!)],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }, wanted) => [
      wanted[0] ? tf.clone(dy) : undefined,
      wanted[1]
        ? tf.sum(
            dy,
            Array.from({ length: dy.rank - 1 }, (_, axis) => axis),
          )
        : undefined,
    ],
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
  activation: (name) => composed(1, ([x]) => (name === 'relu' ? tf.relu(x!) : tf.relu6(x!))),
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
