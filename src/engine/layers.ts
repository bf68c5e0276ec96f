/**
 * Layers: functions that add a node to a scope. Each declares its parameters once and infers its input channels.
 */
import { UsageError } from '../errors.js';
import type { Node, Parameter, Role, Scope } from './graph.js';
import type { Initializer } from './initializers.js';
import { type ActivationName, type Padding, type Pair, windowOutput } from './operations.js';

const zeros: Initializer = { kind: 'zeros' };
const ones: Initializer = { kind: 'ones' };

/** Channels (last dimension) of a node. */
export function channels(x: Node): number {
  return x.shape.at(-1)!;
}

function parameter(s: Scope, leaf: string, role: Role, shape: readonly number[], initializer: Initializer): Parameter {
  const trainable = role !== 'norm.mean' && role !== 'norm.variance';
  return { path: `${s.path}.${leaf}`, role, shape, trainable, initializer };
}

const pair = (value: number | Pair): Pair => (typeof value === 'number' ? [value, value] : value);

/** Padding of `n` rows and columns on every side. */
export const around = (n: number): Padding => ({ top: n, bottom: n, left: n, right: n });

function windowShape(s: Scope, x: Node, size: Pair, strides: Pair, padding: Padding): Pair {
  const [height, width] = x.shape as readonly [number, number];
  const out: Pair = [
    windowOutput(height, size[0], strides[0], padding, 0),
    windowOutput(width, size[1], strides[1], padding, 1),
  ];
  if (out[0] < 1 || out[1] < 1) {
    throw new UsageError({
      code: 'INPUT_TOO_SMALL',
      message: `${s.path} gets a picture of ${height}x${width}, which its ${size[0]}x${size[1]} window does not fit into`,
      hint: 'give a larger input size',
    });
  }
  return out;
}

export interface ConvOptions {
  readonly stride?: number;
  readonly padding?: Padding;
  readonly groups?: number;
  readonly bias?: boolean;
  readonly initializer?: Initializer;
}

/** Convolution: `[H, W, in] -> [H', W', filters]`, kernel `[size, size, in / groups, filters]`. */
export function conv2d(s: Scope, x: Node, filters: number, size: number | Pair, options: ConvOptions = {}): Node {
  const {
    stride = 1,
    padding = 'same',
    groups = 1,
    bias = false,
    initializer = { kind: 'he_normal_fan_out' },
  } = options;
  const kernel = pair(size);
  const shape = windowShape(s, x, kernel, [stride, stride], padding);
  return s.add({
    operation: { kind: 'conv2d', strides: [stride, stride], padding, groups },
    inputs: [x],
    shape: [...shape, filters],
    parameters: [
      parameter(s, 'kernel', 'conv.kernel', [...kernel, channels(x) / groups, filters], initializer),
      ...(bias ? [parameter(s, 'bias', 'bias', [filters], zeros)] : []),
    ],
  });
}

/** Depthwise convolution with multiplier 1: `[H, W, C] -> [H', W', C]`, kernel `[size, size, C, 1]`. */
export function depthwiseConv2d(
  s: Scope,
  x: Node,
  size: number | Pair,
  options: Omit<ConvOptions, 'groups'> = {},
): Node {
  const { stride = 1, padding = 'same', bias = false, initializer = { kind: 'he_normal_fan_out' } } = options;
  const kernel = pair(size);
  const shape = windowShape(s, x, kernel, [stride, stride], padding);
  return s.add({
    operation: { kind: 'depthwise_conv2d', strides: [stride, stride], padding },
    inputs: [x],
    shape: [...shape, channels(x)],
    parameters: [
      parameter(s, 'kernel', 'depthwise.kernel', [...kernel, channels(x), 1], initializer),
      ...(bias ? [parameter(s, 'bias', 'bias', [channels(x)], zeros)] : []),
    ],
  });
}

/** Fully connected: `[in] -> [units]`, kernel `[in, units]`. */
export function dense(s: Scope, x: Node, units: number, initializer: Initializer = { kind: 'glorot_uniform' }): Node {
  return s.add({
    operation: { kind: 'dense' },
    inputs: [x],
    shape: [units],
    parameters: [
      parameter(s, 'kernel', 'dense.kernel', [channels(x), units], initializer),
      parameter(s, 'bias', 'bias', [units], zeros),
    ],
  });
}

/** Batch normalisation over the last dimension. `momentum` is the share of the old moving average that is kept. */
export function batchNorm(s: Scope, x: Node, { epsilon, momentum }: { epsilon: number; momentum: number }): Node {
  const shape = [channels(x)];
  return s.add({
    operation: { kind: 'batch_norm', epsilon, momentum, variance: 'unbiased' },
    inputs: [x],
    shape: x.shape,
    parameters: [
      parameter(s, 'gamma', 'norm.gamma', shape, ones),
      parameter(s, 'beta', 'norm.beta', shape, zeros),
      parameter(s, 'mean', 'norm.mean', shape, zeros),
      parameter(s, 'variance', 'norm.variance', shape, ones),
    ],
  });
}

/** An activation function; the node is called after it: `stem.relu`. */
export function activation(s: Scope, x: Node, name: ActivationName): Node {
  return s.add({ operation: { kind: 'activation', name }, inputs: [x], shape: x.shape, parameters: [] }, name);
}

/** Elementwise sum of two nodes of one shape. */
export function add(s: Scope, a: Node, b: Node): Node {
  if (a.shape.join() !== b.shape.join()) throw new Error(`${s.path}: cannot add [${a.shape}] and [${b.shape}]`);
  return s.add({ operation: { kind: 'add' }, inputs: [a, b], shape: a.shape, parameters: [] }, 'add');
}

/** Largest value of a window; padding never wins. */
export function maxPool(s: Scope, x: Node, size: number, options: { stride: number; padding: Padding }): Node {
  const strides: Pair = [options.stride, options.stride];
  const shape = windowShape(s, x, [size, size], strides, options.padding);
  return s.add(
    {
      operation: { kind: 'max_pool', size: [size, size], strides, padding: options.padding },
      inputs: [x],
      shape: [...shape, channels(x)],
      parameters: [],
    },
    'max_pool',
  );
}

/** Mean over height and width: `[H, W, C] -> [C]`. */
export function globalAveragePool(s: Scope, x: Node): Node {
  const operation = { kind: 'global_average_pool' } as const;
  return s.add({ operation, inputs: [x], shape: [channels(x)], parameters: [] }, 'average');
}

/** Sets a share `rate` of the values to zero in training and scales the rest by 1 / (1 - rate). */
export function dropout(s: Scope, x: Node, rate: number): Node {
  return s.add({ operation: { kind: 'dropout', rate }, inputs: [x], shape: x.shape, parameters: [] }, 'dropout');
}
