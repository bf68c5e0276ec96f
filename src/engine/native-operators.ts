/**
 * TensorFlow's own kernels, forward and backward.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops for every operation named here
 */
import * as tf from '@tensorflow/tfjs-core';
import { nativeActivation } from './native-activations.js';
import { groupedConvolution } from './native-groups.js';
import { layerNorm } from './normalizations.js';
import { LOWEST, type Pair, windowPadding } from './operations.js';
import { matMulBy, type Operator, type Product } from './operator.js';
import type { BatchNormRule, ConvolutionGeometry, Operators } from './operators.js';
import { padExplicitly, withoutPadding } from './padding.js';
import type { NativeAttribute, NativeKernels } from './tensorflow.js';

/** The operators that TensorFlow does better than tfjs composes them. */
export function nativeOperators(native: NativeKernels): Partial<Operators> {
  const plain = convolution(native, ['Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter']);
  const grouped = groupedConvolution(plain);
  return {
    conv2d: (geometry, groups) => (groups === 1 ? plain(geometry) : grouped(geometry, groups)),
    depthwiseConv2d: convolution(native, [
      'DepthwiseConv2dNative',
      'DepthwiseConv2dNativeBackpropInput',
      'DepthwiseConv2dNativeBackpropFilter',
    ]),
    matMul: matMulBy(productOf(native)),
    biasAdd: biasAdd(native),
    layerNorm: (epsilon) => layerNorm(epsilon, (x) => columnSums(native, x)),
    activation: (name) => nativeActivation(native, name),
    batchNorm: (rule) => batchNorm(native, rule, false),
    batchNormTraining: (rule) => batchNorm(native, rule, true),
    maxPool: (size, geometry) => maxPool(native, size, geometry),
    averagePool: (size, geometry) => averagePool(native, size, geometry),
    softmaxCrossEntropy: softmaxCrossEntropy(native),
  };
}

/** Names of a convolution and of its gradients with respect to input and kernel. */
type ConvolutionNames = readonly [forward: string, byInput: string, byKernel: string];

/**
 * TensorFlow runs convolutions with explicit padding on its slower kernels, so what is the same as SAME is called so,
 * and other padding is done apart. The padded picture is then an output, kept for the gradient in the place of x.
 */
function convolution(native: NativeKernels, [forward, byInput, byKernel]: ConvolutionNames) {
  const shapeOf = (tensor: tf.Tensor): tf.Tensor => tf.tensor1d(tensor.shape, 'int32');
  return (geometry: ConvolutionGeometry): Operator => {
    const attributes = (padding: 'SAME' | 'VALID'): NativeAttribute[] => [
      native.typeAttribute('T', 'float32'),
      native.intListAttribute('strides', [1, geometry.strides[0], geometry.strides[1], 1]),
      native.intListAttribute('dilations', [1, 1, 1, 1]),
      native.stringAttribute('data_format', 'NHWC'),
      native.stringAttribute('padding', padding),
    ];
    return {
      forward: ([x, kernel]) => {
        const { padding, amounts } = paddingOf(x as tf.Tensor4D, kernel as tf.Tensor4D, geometry);
        const padded = pad(x as tf.Tensor4D, amounts);
        return [native.execute(forward, attributes(padding), [padded, kernel!]), padded];
      },
      saves: { inputs: [0, 1], outputs: [1] },
      backward: ({ dy, inputs: [x, kernel], outputs: [, kept] }, wanted) => {
        const { padding, amounts } = paddingOf(x as tf.Tensor4D, kernel as tf.Tensor4D, geometry);
        const padded = kept ?? pad(x as tf.Tensor4D, amounts);
        const dx = (): tf.Tensor => {
          const whole = native.execute(byInput, attributes(padding), [shapeOf(padded), kernel!, dy]);
          return amounts === undefined
            ? whole
            : tf.slice(
                whole,
                amounts.map(([before]) => before),
                x!.shape,
              );
        };
        return [
          wanted[0] ? dx() : undefined,
          wanted[1] ? native.execute(byKernel, attributes(padding), [padded, shapeOf(kernel!), dy]) : undefined,
        ];
      },
    };
  };
}

type Amounts = [[number, number], [number, number], [number, number], [number, number]];

const pad = (x: tf.Tensor4D, amounts: Amounts | undefined): tf.Tensor4D =>
  amounts === undefined ? tf.clone(x) : tf.pad4d(x, amounts);

/** How TensorFlow is asked for a padding, and what is padded before. */
function paddingOf(
  x: tf.Tensor4D,
  kernel: tf.Tensor4D,
  { strides, padding }: ConvolutionGeometry,
): { padding: 'SAME' | 'VALID'; amounts?: Amounts } {
  if (padding === 'same') return { padding: 'SAME' };
  if (padding === 'valid') return { padding: 'VALID' };
  const axes = [0, 1] as const;
  const wanted = axes.map((axis) =>
    windowPadding(x.shape[axis + 1]!, kernel.shape[axis]!, strides[axis], padding, axis),
  );
  const same = axes.map((axis) => windowPadding(x.shape[axis + 1]!, kernel.shape[axis]!, strides[axis], 'same', axis));
  const equal = axes.every((axis) => wanted[axis]![0] === same[axis]![0] && wanted[axis]![1] === same[axis]![1]);
  const [rows, columns] = wanted as [readonly [number, number], readonly [number, number]];
  if (rows[0] + rows[1] + columns[0] + columns[1] === 0) return { padding: 'VALID' };
  if (equal) return { padding: 'SAME' };
  return { padding: 'VALID', amounts: [[0, 0], [...rows], [...columns], [0, 0]] };
}

/** `MatMul`, half of the time of the `BatchMatMulV2` that tfjs uses for two matrices as well. */
const productOf =
  (native: NativeKernels): Product =>
  (a, b, transposeA, transposeB) =>
    native.execute(
      'MatMul',
      [
        native.typeAttribute('T', 'float32'),
        native.boolAttribute('transpose_a', transposeA),
        native.boolAttribute('transpose_b', transposeB),
      ],
      [a, b],
    );

/** Sums over every dimension but the last: a fifth of the time that `Sum` takes for the outer ones. */
const columnSums = (native: NativeKernels, x: tf.Tensor): tf.Tensor =>
  native.execute('BiasAddGrad', biasAttributes(native), [x]);

const biasAttributes = (native: NativeKernels): NativeAttribute[] => [
  native.typeAttribute('T', 'float32'),
  native.stringAttribute('data_format', 'NHWC'),
];

function biasAdd(native: NativeKernels): Operator {
  const attributes = biasAttributes(native);
  return {
    forward: ([x, bias]) => [native.execute('BiasAdd', attributes, [x!, bias!])],
    saves: { inputs: [], outputs: [] },
    backward: ({ dy }, wanted) => [
      wanted[0] ? tf.clone(dy) : undefined,
      wanted[1] ? columnSums(native, dy) : undefined,
    ],
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
    // In inference mode the kernel takes the moving statistics that it normalised by: _BaseFusedBatchNormGrad of
    // tensorflow/python/ops/nn_grad.py.
    saves: training ? { inputs: [0, 1], outputs: [3, 4, 5] } : { inputs: [0, 1, 3, 4], outputs: [5] },
    backward: ({ dy, inputs: [x, gamma, , mean, variance], outputs }, wanted) => {
      const reserved = training ? outputs.slice(3) : [mean!, variance!, outputs[5]!];
      const results = native.executeMany('FusedBatchNormGradV3', attributes, [dy, x!, gamma!, ...reserved], 5);
      return wanted.map((each, i) => (each && i < 3 ? results[i] : undefined));
    },
  };
}

function poolAttributes(
  native: NativeKernels,
  size: Pair,
  { strides, padding }: ConvolutionGeometry,
): NativeAttribute[] {
  return [
    native.typeAttribute('T', 'float32'),
    native.intListAttribute('ksize', [1, size[0], size[1], 1]),
    native.intListAttribute('strides', [1, strides[0], strides[1], 1]),
    native.stringAttribute('data_format', 'NHWC'),
    native.stringAttribute('padding', padding === 'same' ? 'SAME' : 'VALID'),
  ];
}

function maxPool(native: NativeKernels, size: Pair, geometry: ConvolutionGeometry): Operator {
  const attributes = poolAttributes(native, size, geometry);
  return {
    forward: ([x]) => {
      const padded = tf.clone(padExplicitly(x as tf.Tensor4D, size, geometry, LOWEST));
      return [native.execute('MaxPool', attributes, [padded]), padded];
    },
    saves: { inputs: [0], outputs: [0, 1] },
    backward: ({ dy, inputs: [x], outputs: [y, padded] }) => {
      const whole = native.execute('MaxPoolGrad', attributes, [padded!, y!, dy]);
      return [withoutPadding(whole, x!, geometry)];
    },
  };
}

function averagePool(native: NativeKernels, size: Pair, geometry: ConvolutionGeometry): Operator {
  const attributes = poolAttributes(native, size, geometry);
  return {
    // The gradient needs the shape of x alone, which takes less to keep than x.
    forward: ([x]) => [native.execute('AvgPool', attributes, [x!]), tf.tensor1d(x!.shape, 'int32')],
    saves: { inputs: [], outputs: [1] },
    backward: ({ dy, outputs: [, shape] }) => [native.execute('AvgPoolGrad', attributes, [shape!, dy])],
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
