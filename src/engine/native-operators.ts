/**
 * TensorFlow's own kernels, forward and backward.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops for every operation named here
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ActivationName, Padding } from './operations.js';
import type { BatchNormRule, ConvolutionGeometry, Operator, Operators } from './operators.js';
import type { NativeAttribute, NativeKernels } from './tensorflow.js';

/** The operators that TensorFlow does better than tfjs composes them. */
export function nativeOperators(native: NativeKernels): Partial<Operators> {
  const plain = convolution(native, 'Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter');
  return {
    conv2d: (geometry, groups) => (groups === 1 ? plain(geometry) : groupedConv2d(plain(geometry), groups)),
    depthwiseConv2d: convolution(
      native,
      'DepthwiseConv2dNative',
      'DepthwiseConv2dNativeBackpropInput',
      'DepthwiseConv2dNativeBackpropFilter',
    ),
    biasAdd: biasAdd(native),
    activation: (name) => activation(native, name),
    batchNorm: (rule) => batchNorm(native, rule, false),
    batchNormTraining: (rule) => batchNorm(native, rule, true),
    softmaxCrossEntropy: softmaxCrossEntropy(native),
  };
}

function convolution(native: NativeKernels, op: string, byInput: string, byKernel: string) {
  return ({ strides, padding }: ConvolutionGeometry): Operator => {
    const attributes = [
      native.typeAttribute('T', 'float32'),
      native.intListAttribute('strides', [1, strides[0], strides[1], 1]),
      native.intListAttribute('dilations', [1, 1, 1, 1]),
      native.stringAttribute('data_format', 'NHWC'),
      ...paddingAttributes(native, padding),
    ];
    const shapeOf = (tensor: tf.Tensor): tf.Tensor => tf.tensor1d(tensor.shape, 'int32');
    return {
      forward: ([x, kernel]) => [native.execute(op, attributes, [x!, kernel!])],
      saves: { inputs: [0, 1], outputs: [] },
      backward: ({ dy, inputs: [x, kernel] }, wanted) => [
        wanted[0] ? native.execute(byInput, attributes, [shapeOf(x!), kernel!, dy]) : undefined,
        wanted[1] ? native.execute(byKernel, attributes, [x!, shapeOf(kernel!), dy]) : undefined,
      ],
    };
  };
}

function paddingAttributes(native: NativeKernels, padding: Padding): NativeAttribute[] {
  if (typeof padding === 'string') return [native.stringAttribute('padding', padding.toUpperCase())];
  const { top, bottom, left, right } = padding;
  if (top + bottom + left + right === 0) return [native.stringAttribute('padding', 'VALID')];
  return [
    native.stringAttribute('padding', 'EXPLICIT'),
    native.intListAttribute('explicit_paddings', [0, 0, top, bottom, left, right, 0, 0]),
  ];
}

/** Groups are convolved apart and joined: input and output channels are divided evenly, in order. */
function groupedConv2d(plain: Operator, groups: number): Operator {
  const parts = (tensor: tf.Tensor): tf.Tensor[] => tf.split(tensor, groups, 3);
  return {
    forward: ([x, kernel]) => {
      const kernels = parts(kernel!);
      return [
        tf.concat(
          parts(x!).map((part, i) => plain.forward([part, kernels[i]!])[0]!),
          3,
        ),
      ];
    },
    saves: plain.saves,
    backward: ({ dy, inputs: [x, kernel] }, wanted) => {
      const [xs, kernels] = [parts(x!), parts(kernel!)];
      const gradients = parts(dy).map((part, i) =>
        plain.backward({ dy: part, inputs: [xs[i]!, kernels[i]!], outputs: [] }, wanted),
      );
      return wanted.map((each, i) =>
        each
          ? tf.concat(
              gradients.map((pair) => pair[i]!),
              3,
            )
          : undefined,
      );
    },
  };
}

function biasAdd(native: NativeKernels): Operator {
  const attributes = [native.typeAttribute('T', 'float32'), native.stringAttribute('data_format', 'NHWC')];
  return {
    forward: ([x, bias]) => [native.execute('BiasAdd', attributes, [x!, bias!])],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }, wanted) => [
      wanted[0] ? tf.clone(dy) : undefined,
      wanted[1] ? native.execute('BiasAddGrad', attributes, [dy]) : undefined,
    ],
  };
}

const ACTIVATIONS: Record<ActivationName, { op: string; gradient: string }> = {
  relu: { op: 'Relu', gradient: 'ReluGrad' },
  relu6: { op: 'Relu6', gradient: 'Relu6Grad' },
};

function activation(native: NativeKernels, name: ActivationName): Operator {
  const attributes = [native.typeAttribute('T', 'float32')];
  const { op, gradient } = ACTIVATIONS[name];
  return {
    forward: ([x]) => [native.execute(op, attributes, [x!])],
    // The result tells as much as the argument, and the next layer keeps it anyway.
    saves: { inputs: [], outputs: [0] },
    backward: ({ dy, outputs: [y] }) => [native.execute(gradient, attributes, [dy, y!])],
  };
}

/** Outputs of FusedBatchNormV3: y, (new) mean, (new) variance, and three that its gradient needs. */
const BATCH_NORM_OUTPUTS = 6;

function batchNorm(native: NativeKernels, { epsilon, momentum }: BatchNormRule, training: boolean): Operator {
  const attributes = [
    native.typeAttribute('T', 'float32'),
    native.typeAttribute('U', 'float32'),
    native.floatAttribute('epsilon', epsilon),
    native.stringAttribute('data_format', 'NHWC'),
    native.boolAttribute('is_training', training),
  ];
  // With a factor the kernel itself blends the unbiased batch variance into the moving one.
  const forwardAttributes = training
    ? [...attributes, native.floatAttribute('exponential_avg_factor', 1 - momentum)]
    : attributes;
  return {
    forward: (inputs) => native.executeMany('FusedBatchNormV3', forwardAttributes, inputs, BATCH_NORM_OUTPUTS),
    saves: { inputs: [0, 1], outputs: [3, 4, 5] },
    backward: ({ dy, inputs: [x, gamma], outputs }, wanted) => {
      const reserved = outputs.slice(3);
      const results = native.executeMany('FusedBatchNormGradV3', attributes, [dy, x!, gamma!, ...reserved], 5);
      return wanted.map((each, i) => (each && i < 3 ? results[i] : undefined));
    },
  };
}

function softmaxCrossEntropy(native: NativeKernels): Operator {
  const attributes = [native.typeAttribute('T', 'float32')];
  return {
    forward: ([logits, targets]) =>
      native.executeMany('SoftmaxCrossEntropyWithLogits', attributes, [logits!, targets!], 2),
    saves: { inputs: [], outputs: [1] },
    backward: ({ dy, outputs: [, gradient] }) => [tf.mul(tf.expandDims(dy, 1), gradient!), undefined],
  };
}
