/** The stock layers of each kind of node. */
import { gammaOf, type ReadParameter } from '../../engine/fold.js';
import { hasGamma, type Node, type Parameter } from '../../engine/graph.js';
import type { ActivationName, ExplicitPadding, OperationOf, Padding, Pair } from '../../engine/operations.js';
import type { ToolkitError } from '../../errors.js';
import { elementsOf } from '../../weights/float-formats.js';
import type { Dialect, Json, KerasLayerToWrite, KerasWeight } from './topology.js';

/** A layer before it has its name. */
export type Added = Pick<KerasLayerToWrite, 'className' | 'config' | 'inputs'> & {
  readonly weights?: readonly KerasWeight[];
};

export interface Context {
  readonly dialect: Dialect;
  readonly read: ReadParameter;
  /** Adds a layer, called after the node, or after a part of it. @returns its name */
  add(layer: Added, part?: string): string;
  refuse(why: string): ToolkitError;
}

const LAST = 'channels_last';

/**
 * Adds the layers of one node.
 * @param inputs names of the layers that its inputs come from
 * @returns the name of the layer that has its value
 * @throws EXPORT_UNSUPPORTED
 */
export function layerOf(node: Node, inputs: readonly string[], c: Context): string {
  const { operation } = node;
  const [x] = inputs as readonly [string];
  const add = (className: string, config: Added['config'], weights?: Added['weights']): string =>
    c.add({ className, config, inputs, ...(weights === undefined ? {} : { weights }) });
  switch (operation.kind) {
    case 'input':
      throw new Error('the input is no layer of its own');
    case 'conv2d':
      return convolution(node, x, operation, c);
    case 'depthwise_conv2d':
      return depthwise(node, x, operation, c);
    case 'dense':
      return add(
        'Dense',
        { units: node.shape.at(-1)!, activation: 'linear', use_bias: biasOf(node) !== undefined },
        kernelAndBias(node, 'kernel', c),
      );
    case 'low_rank':
      throw new Error(`${node.path}: adapters are merged before a model is written`);
    case 'batch_norm':
      return batchNorm(node, x, operation, c);
    case 'layer_norm':
      return add('LayerNormalization', { axis: -1, epsilon: operation.epsilon, center: true, scale: true }, [
        channelWeight(node, 'gamma', c),
        channelWeight(node, 'beta', c),
      ]);
    case 'layer_scale':
      return affine(node, x, c, { scale: () => c.read(`${node.path}.gamma`) });
    case 'activation':
      return activation(node, x, operation.name, c);
    case 'add':
      return add('Add', {});
    case 'scale_channels': {
      const [, gate] = inputs as readonly [string, string];
      const shaped = reshaped(gate, [1, 1, node.shape.at(-1)!], c, 'gate');
      return c.add({ className: 'Multiply', config: {}, inputs: [x, shaped] });
    }
    case 'concat':
      return inputs.length === 1 ? x : add('Concatenate', { axis: -1 });
    case 'max_pool':
      return maxPool(node, x, operation, c);
    case 'average_pool':
      return add('AveragePooling2D', poolConfig(operation, operation.padding));
    case 'global_average_pool':
      return add('GlobalAveragePooling2D', { data_format: LAST });
    case 'reshape':
      return node.shape.length === 1 && node.inputs[0]!.shape.length > 1
        ? add('Flatten', { data_format: LAST })
        : reshaped(x, node.shape, c);
    case 'dropout':
      return operation.rate === 0 ? x : add('Dropout', { rate: operation.rate });
    case 'drop_path': {
      // Huang et al. 2016: a picture's whole branch at once
      const whole = [null, ...node.shape.map(() => 1)];
      return operation.rate === 0 ? x : add('Dropout', { rate: operation.rate, noise_shape: whole });
    }
    case 'group_norm':
      throw c.refuse('normalises by groups of channels');
    case 'adaptive_average_pool':
      throw c.refuse('averages over windows that differ in size');
    case 'class_token':
      throw c.refuse('puts a trained token before the others');
    case 'position_embedding':
      throw c.refuse('adds a trained position to every token');
    case 'attention':
      throw c.refuse('is attention between queries, keys and values of its own');
    case 'take_token':
      throw c.refuse('takes one token of many');
  }
}

const biasOf = (node: Node): Parameter | undefined => node.parameters.find(({ role }) => role === 'bias');
const kernelOf = (node: Node): Parameter => node.parameters.find(({ role }) => role.endsWith('.kernel'))!;

/** What quantisation calls the bias is its leaf here: the layer has no name yet. */
function kernelAndBias(node: Node, leaf: 'kernel' | 'depthwise_kernel', { read }: Context): KerasWeight[] {
  const { path, shape } = kernelOf(node);
  const bias = biasOf(node);
  const isDepthwise = leaf === 'depthwise_kernel';
  const kernel: KerasWeight = {
    leaf,
    shape,
    use: {
      kind: 'kernel',
      depthwise: isDepthwise,
      channels: elementsOf(shape.slice(isDepthwise ? -2 : -1)),
      input: { path: node.inputs[0]!.path, first: 0 },
      bias: bias === undefined ? undefined : { name: 'bias', length: bias.shape[0]!, first: 0 },
    },
    read: () => read(path),
  };
  if (bias === undefined) return [kernel];
  return [kernel, { leaf: 'bias', shape: bias.shape, use: { kind: 'channel' }, read: () => read(bias.path) }];
}

const channelWeight = (node: Node, leaf: string, { read }: Context, named = leaf): KerasWeight => ({
  ...{ leaf: named, shape: [node.shape.at(-1)!], use: { kind: 'channel' } },
  read: () => read(`${node.path}.${leaf}`),
});

function convolution(node: Node, x: string, operation: OperationOf<'conv2d'>, c: Context): string {
  const { strides, groups, padding, standardization } = operation;
  if (standardization !== undefined) throw c.refuse('standardises its kernel anew whenever it is used');
  if (groups > 1 && !c.dialect.groups) throw c.refuse(`is a convolution in ${groups} groups`);
  const [height, width] = kernelOf(node).shape as readonly [number, number];
  return c.add({
    className: 'Conv2D',
    config: {
      ...{ filters: node.shape.at(-1)!, kernel_size: [height, width], strides, ...paddingConfig(padding) },
      ...(groups === 1 ? {} : { groups }),
      ...{ activation: 'linear', use_bias: biasOf(node) !== undefined },
    },
    inputs: [padded(x, padding, c)],
    weights: kernelAndBias(node, 'kernel', c),
  });
}

function depthwise(node: Node, x: string, operation: OperationOf<'depthwise_conv2d'>, c: Context): string {
  const [height, width] = kernelOf(node).shape as readonly [number, number];
  const { strides, padding } = operation;
  return c.add({
    className: 'DepthwiseConv2D',
    config: {
      ...{ kernel_size: [height, width], strides, ...paddingConfig(padding), depth_multiplier: 1 },
      ...{ activation: 'linear', use_bias: biasOf(node) !== undefined },
    },
    inputs: [padded(x, padding, c)],
    weights: kernelAndBias(node, 'depthwise_kernel', c),
  });
}

const isNone = (padding: Padding): boolean =>
  padding === 'valid' || (padding !== 'same' && padding.top + padding.bottom + padding.left + padding.right === 0);

function paddingConfig(padding: Padding): Record<string, Json> {
  return { padding: padding === 'same' ? 'same' : 'valid', data_format: LAST };
}

/** Zeros around a picture, where a window has padding of its own. */
function padded(x: string, padding: Padding, c: Context): string {
  if (padding === 'same' || isNone(padding)) return x;
  const { top, bottom, left, right } = padding as ExplicitPadding;
  const rows = [
    [top, bottom],
    [left, right],
  ];
  return c.add({ className: 'ZeroPadding2D', config: { padding: rows, data_format: LAST }, inputs: [x] }, 'pad');
}

function poolConfig({ size, strides }: { readonly size: Pair; readonly strides: Pair }, padding: Padding) {
  return { pool_size: size, strides, ...paddingConfig(padding) };
}

/** Padding never wins; zeros do not either where nothing is below zero. */
function maxPool(node: Node, x: string, operation: OperationOf<'max_pool'>, c: Context): string {
  const { padding } = operation;
  if (padding !== 'same' && !isNone(padding) && !isNeverNegative(node.inputs[0]!)) {
    throw c.refuse('takes maxima with padding of its own around numbers that may all be negative');
  }
  return c.add({
    className: 'MaxPooling2D',
    config: poolConfig(operation, padding),
    inputs: [padded(x, padding, c)],
  });
}

function isNeverNegative({ operation, inputs }: Node): boolean {
  switch (operation.kind) {
    case 'activation':
      return ['relu', 'relu6', 'sigmoid', 'hard_sigmoid'].includes(operation.name);
    case 'max_pool':
    case 'average_pool':
    case 'dropout':
    case 'concat':
    case 'add':
      return inputs.every(isNeverNegative);
    default:
      return false;
  }
}

function batchNorm(node: Node, x: string, operation: OperationOf<'batch_norm'>, c: Context): string {
  const { epsilon, momentum } = operation;
  if (c.dialect.batchNorm === 'layer') {
    const weights = [
      ...(hasGamma(node) ? [channelWeight(node, 'gamma', c)] : []),
      channelWeight(node, 'beta', c),
      channelWeight(node, 'mean', c, 'moving_mean'),
      channelWeight(node, 'variance', c, 'moving_variance'),
    ];
    const config = { axis: -1, momentum, epsilon, center: true, scale: hasGamma(node) };
    return c.add({ className: 'BatchNormalization', config, inputs: [x], weights });
  }
  const read = (leaf: string): Promise<Float32Array> => c.read(`${node.path}.${leaf}`);
  const scales = async (): Promise<Float64Array> => {
    const [gamma, variance] = [await gammaOf(node, c.read), await read('variance')];
    return Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + epsilon));
  };
  return affine(node, x, c, {
    scale: async () => Float32Array.from(await scales()),
    shift: async () => {
      const [factors, beta, means] = [await scales(), await read('beta'), await read('mean')];
      return Float32Array.from(factors, (factor, i) => beta[i]! - means[i]! * factor);
    },
  });
}

interface Affine {
  scale(): Promise<Float32Array>;
  shift?(): Promise<Float32Array>;
}

/** A number a channel to multiply by, and one to add: a depthwise convolution of 1x1. */
function affine({ shape }: Node, x: string, c: Context, { scale, shift }: Affine, part?: string): string {
  const channels = shape.at(-1)!;
  const isPicture = shape.length === 3;
  const named = (name: string): string => (part === undefined ? name : `${part}_${name}`);
  const places = shape.length === 1 ? [1, 1, channels] : [1, ...shape];
  const picture = isPicture ? x : reshaped(x, places, c, named('places'));
  const kernel: KerasWeight = {
    ...{ leaf: 'depthwise_kernel', shape: [1, 1, channels, 1], use: { kind: 'channel' } },
    read: scale,
  };
  const bias: KerasWeight[] =
    shift === undefined ? [] : [{ leaf: 'bias', shape: [channels], use: { kind: 'channel' }, read: shift }];
  const layer: Added = {
    className: 'DepthwiseConv2D',
    config: {
      ...{ kernel_size: [1, 1], strides: [1, 1], ...paddingConfig('valid'), depth_multiplier: 1 },
      ...{ activation: 'linear', use_bias: shift !== undefined },
    },
    inputs: [picture],
    weights: [kernel, ...bias],
  };
  if (isPicture) return c.add(layer, part);
  return reshaped(c.add(layer, named('scale')), shape, c, part);
}

const reshaped = (x: string, shape: readonly number[], c: Context, part?: string): string =>
  c.add({ className: 'Reshape', config: { target_shape: shape }, inputs: [x] }, part);

/** In stock layers, and of the activations only those that are the same function in every version. */
function activation(node: Node, x: string, name: ActivationName, c: Context): string {
  const { recent } = c.dialect;
  const named = (activated: string, of = x, part?: string): string =>
    c.add({ className: 'Activation', config: { activation: activated }, inputs: [of] }, part);
  const times = (factors: readonly string[], part?: string): string =>
    c.add({ className: 'Multiply', config: {}, inputs: factors }, part);
  const rescaled = (of: string, scale: number, offset: number, part?: string): string => {
    if (recent) return c.add({ className: 'Rescaling', config: { scale, offset }, inputs: [of] }, part);
    const all = (value: number) => async () => new Float32Array(node.shape.at(-1)!).fill(value);
    return affine(node, of, c, { scale: all(scale), shift: all(offset) }, part);
  };
  /** Howard et al. 2019, section 5.2: `relu6(x + 3) / 6`; `hard_sigmoid` of Keras 2 has another slope than that of 3. */
  const hardSigmoid = (part?: string): string => {
    const clipped = c.add(
      { className: 'ReLU', config: { max_value: 6 }, inputs: [rescaled(x, 1, 3, 'shift')] },
      'relu6',
    );
    return rescaled(clipped, 1 / 6, 0, part);
  };
  switch (name) {
    case 'relu':
    case 'sigmoid':
    case 'tanh':
      return named(name);
    case 'relu6':
      return c.add({ className: 'ReLU', config: { max_value: 6 }, inputs: [x] });
    case 'swish':
      return recent ? named('swish') : times([x, named('sigmoid', x, 'gate')]);
    case 'hard_sigmoid':
      return hardSigmoid();
    case 'hard_swish':
      return times([x, hardSigmoid('gate')]);
    case 'gelu':
      if (!recent) throw c.refuse('is gelu');
      return named('gelu'); // the exact form in Keras 2, Keras 3 and TensorFlow.js
    case 'gelu_tanh': {
      // Hendrycks and Gimpel 2016, section 2: x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
      const slope = 2 * Math.sqrt(2 / Math.PI);
      // never a tensor with itself: TensorFlow.js then frees it too early
      const square = times([x, rescaled(x, 0.044715 * slope, 0, 'cubic')], 'square');
      const factor = rescaled(square, 1, slope, 'slope');
      return times([x, named('sigmoid', times([x, factor], 'argument'), 'gate')]);
    }
  }
}
