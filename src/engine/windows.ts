/** Convolutions and pools by tfjs's kernels, and their gradients by the kernels that tfjs has for those. */
import * as tf from '@tensorflow/tfjs-core';
import { LOWEST, type Padding, type Pair, windowPadding } from './operations.js';
import type { Operator } from './operator.js';
import type { ConvolutionGeometry } from './operators.js';
import { padExplicitly, withoutPadding } from './padding.js';

const paddingName = (padding: Padding): 'same' | 'valid' => (padding === 'same' ? 'same' : 'valid');
const sizeOf = (kernel: tf.Tensor): Pair => [kernel.shape[0]!, kernel.shape[1]!];

/** Runs a kernel of tfjs that no function of its own calls, as those of gradients. */
const runKernel = (name: string, inputs: tf.NamedTensorMap, attributes: tf.NamedAttrMap): tf.Tensor =>
  tf.engine().runKernel(name, inputs, attributes) as tf.Tensor;

/** What a window's kernel is told of it. */
const attributesOf = ({ strides, padding }: ConvolutionGeometry): tf.NamedAttrMap => ({
  strides: [...strides],
  dilations: [1, 1],
  pad: paddingName(padding),
  dataFormat: 'NHWC',
});

/** Names of a convolution's gradients with respect to input and kernel. */
type GradientNames = readonly [byInput: string, byKernel: string];

function convolution(
  geometry: ConvolutionGeometry,
  [byInput, byKernel]: GradientNames,
  compute: (padded: tf.Tensor4D, kernel: tf.Tensor4D, strides: [number, number], pad: 'same' | 'valid') => tf.Tensor,
): Operator {
  const padded = (x: tf.Tensor, kernel: tf.Tensor) => padExplicitly(x as tf.Tensor4D, sizeOf(kernel), geometry, 0);
  return {
    forward: ([x, kernel]) => [
      compute(padded(x!, kernel!), kernel as tf.Tensor4D, [...geometry.strides], paddingName(geometry.padding)),
    ],
    saves: { inputs: [0, 1], outputs: [] },
    backward: ({ dy, inputs: [x, kernel] }, wanted) => {
      const input = padded(x!, kernel!);
      const attributes = attributesOf(geometry);
      const dx = (): tf.Tensor =>
        withoutPadding(
          runKernel(byInput, { dy, filter: kernel! }, { ...attributes, inputShape: input.shape }),
          x!,
          geometry,
        );
      return [
        wanted[0] ? dx() : undefined,
        wanted[1] ? runKernel(byKernel, { x: input, dy }, { ...attributes, filterShape: kernel!.shape }) : undefined,
      ];
    },
  };
}

export const conv2d = (geometry: ConvolutionGeometry): Operator =>
  convolution(geometry, ['Conv2DBackpropInput', 'Conv2DBackpropFilter'], tf.conv2d);

export const depthwiseConv2d = (geometry: ConvolutionGeometry): Operator =>
  convolution(
    geometry,
    ['DepthwiseConv2dNativeBackpropInput', 'DepthwiseConv2dNativeBackpropFilter'],
    tf.depthwiseConv2d,
  );

export function maxPool(size: Pair, geometry: ConvolutionGeometry): Operator {
  const padded = (x: tf.Tensor): tf.Tensor4D => padExplicitly(x as tf.Tensor4D, size, geometry, LOWEST);
  return {
    forward: ([x]) => [tf.maxPool(padded(x!), [...size], [...geometry.strides], paddingName(geometry.padding))],
    saves: { inputs: [0], outputs: [0] },
    backward: ({ dy, inputs: [x], outputs: [y] }) => {
      const attributes = { ...attributesOf(geometry), filterSize: [...size] };
      const whole = runKernel('MaxPoolGrad', { dy, input: padded(x!), output: y! }, attributes);
      return [withoutPadding(whole, x!, geometry)];
    },
  };
}

/** Sums of zero-padded windows, divided by how many cells of each lie in the picture. */
export function averagePool(size: Pair, { strides, padding }: ConvolutionGeometry): Operator {
  const amountsFor = ({ shape: [, height, width] }: tf.Tensor): [[number, number], [number, number]] => [
    [...windowPadding(height!, size[0], strides[0], padding, 0)],
    [...windowPadding(width!, size[1], strides[1], padding, 1)],
  ];
  const pad = (x: tf.Tensor4D, [rows, columns]: ReturnType<typeof amountsFor>): tf.Tensor4D =>
    tf.pad4d(x, [[0, 0], rows, columns, [0, 0]]);
  const pool = (x: tf.Tensor4D): tf.Tensor => tf.avgPool(x, [...size], [...strides], 'valid');
  /** Share of a window's cells that lie in the picture. */
  const shares = (x: tf.Tensor, amounts: ReturnType<typeof amountsFor>): tf.Tensor =>
    pool(pad(tf.ones([1, x.shape[1]!, x.shape[2]!, 1]), amounts));
  return {
    forward: ([x]) => {
      const amounts = amountsFor(x!);
      if (amounts.flat().every((amount) => amount === 0)) return [pool(x as tf.Tensor4D)];
      return [tf.div(pool(pad(x as tf.Tensor4D, amounts)), shares(x!, amounts))];
    },
    saves: { inputs: [0], outputs: [] },
    backward: ({ dy, inputs: [x] }) => {
      const amounts = amountsFor(x!);
      const attributes = { filterSize: [...size], strides: [...strides], pad: 'valid' };
      const inputs = { dy: tf.div(dy, shares(x!, amounts)), input: pad(x as tf.Tensor4D, amounts) };
      const whole = runKernel('AvgPoolGrad', inputs, attributes);
      return [tf.slice(whole, [0, amounts[0][0], amounts[1][0], 0], x!.shape)];
    },
  };
}
