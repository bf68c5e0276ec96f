/**
 * Layers: functions that add a node to a scope. Each declares its parameters once and infers its input channels.
 */
import { UsageError } from '../errors.js';
import type { Node, Parameter, Places, Role, Scope, Shape } from './graph.js';
import type { Initializer } from './initializers.js';
import {
  type ActivationName,
  type KernelStandardization,
  type Operation,
  type Padding,
  type Pair,
  windowOutput,
} from './operations.js';

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
  readonly biasInitializer?: Initializer;
  readonly standardization?: KernelStandardization;
}

/** Convolution: `[H, W, in] -> [H', W', filters]`, kernel `[size, size, in / groups, filters]`. */
export function conv2d(s: Scope, x: Node, filters: number, size: number | Pair, options: ConvOptions = {}): Node {
  const { stride = 1, padding = 'same', groups = 1, bias = false, standardization } = options;
  const { initializer = { kind: 'he_normal_fan_out' }, biasInitializer = zeros } = options;
  if (channels(x) % groups !== 0 || filters % groups !== 0) {
    throw new Error(`${s.path}: ${groups} groups do not divide ${channels(x)} and ${filters} channels`);
  }
  const kernel = pair(size);
  const shape = windowShape(s, x, kernel, [stride, stride], padding);
  return s.add({
    operation: {
      kind: 'conv2d',
      strides: [stride, stride],
      padding,
      groups,
      ...(standardization === undefined ? {} : { standardization }),
    },
    inputs: [x],
    shape: [...shape, filters],
    parameters: [
      parameter(s, 'kernel', 'conv.kernel', [...kernel, channels(x) / groups, filters], initializer),
      ...(bias ? [parameter(s, 'bias', 'bias', [filters], biasInitializer)] : []),
    ],
  });
}

/** Depthwise convolution with multiplier 1: `[H, W, C] -> [H', W', C]`, kernel `[size, size, C, 1]`. */
export function depthwiseConv2d(
  s: Scope,
  x: Node,
  size: number | Pair,
  options: Omit<ConvOptions, 'groups' | 'standardization' | 'biasInitializer'> = {},
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

export interface DenseOptions {
  readonly initializer?: Initializer;
  readonly biasInitializer?: Initializer;
  readonly bias?: boolean;
  /** Of the kernel, and of the bias: see `Parameter.unflattened`. */
  readonly unflattened?: { readonly kernel: Shape; readonly bias?: Shape };
}

/** Fully connected over the last dimension: `[..., in] -> [..., units]`, kernel `[in, units]`. */
export function dense(s: Scope, x: Node, units: number, options: DenseOptions = {}): Node {
  const { initializer = { kind: 'glorot_uniform' }, biasInitializer = zeros, bias = true } = options;
  const unflattened = options.unflattened ?? unflattenedInput(x, units);
  const of = (shape: Shape | undefined) => (shape === undefined ? {} : { unflattened: shape });
  return s.add({
    operation: { kind: 'dense' },
    inputs: [x],
    shape: [...x.shape.slice(0, -1), units],
    parameters: [
      {
        ...parameter(s, 'kernel', 'dense.kernel', [channels(x), units], initializer),
        ...of(unflattened?.kernel),
      },
      ...(bias ? [{ ...parameter(s, 'bias', 'bias', [units], biasInitializer), ...of(unflattened?.bias) }] : []),
    ],
  });
}

/** A dense layer on a flattened picture remembers the picture's shape: PyTorch flattens it in another order. */
function unflattenedInput(x: Node, units: number): { kernel: Shape; bias?: Shape } | undefined {
  const flattened = x.operation.kind === 'dropout' ? x.inputs[0]! : x;
  if (flattened.operation.kind !== 'reshape' || flattened.shape.length !== 1) return undefined;
  return { kernel: [...flattened.inputs[0]!.shape, units] };
}

export interface BatchNormOptions {
  readonly epsilon: number;
  /** Share of the old moving average that is kept. */
  readonly momentum: number;
  /** Whether there is a gamma; true by default. Without one, normalised values keep their scale. */
  readonly scale?: boolean;
}

/** Batch normalisation over the last dimension. */
export function batchNorm(s: Scope, x: Node, { epsilon, momentum, scale = true }: BatchNormOptions): Node {
  const shape = [channels(x)];
  return s.add({
    operation: { kind: 'batch_norm', epsilon, momentum, variance: 'unbiased' },
    inputs: [x],
    shape: x.shape,
    parameters: [
      ...(scale ? [parameter(s, 'gamma', 'norm.gamma', shape, ones)] : []),
      parameter(s, 'beta', 'norm.beta', shape, zeros),
      parameter(s, 'mean', 'norm.mean', shape, zeros),
      parameter(s, 'variance', 'norm.variance', shape, ones),
    ],
  });
}

export interface GroupNormOptions {
  readonly groups: number;
  readonly epsilon: number;
  readonly gammaInitializer?: Initializer;
}

/** Group normalisation: mean and variance over places and the channels of a group. Wu and He 2018. */
export function groupNorm(s: Scope, x: Node, { groups, epsilon, gammaInitializer }: GroupNormOptions): Node {
  if (channels(x) % groups !== 0) throw new Error(`${s.path}: ${groups} groups do not divide ${channels(x)} channels`);
  return affineNorm(s, x, { kind: 'group_norm', groups, epsilon }, gammaInitializer);
}

/** Layer normalisation over the last dimension. Ba et al. 2016. */
export function layerNorm(s: Scope, x: Node, { epsilon }: { epsilon: number }): Node {
  return affineNorm(s, x, { kind: 'layer_norm', epsilon });
}

function affineNorm(s: Scope, x: Node, operation: Operation, gammaInitializer: Initializer = ones): Node {
  const shape = [channels(x)];
  return s.add({
    operation,
    inputs: [x],
    shape: x.shape,
    parameters: [
      parameter(s, 'gamma', 'norm.gamma', shape, gammaInitializer),
      parameter(s, 'beta', 'norm.beta', shape, zeros),
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

/** Mean of a window; padded cells do not count. */
export function averagePool(
  s: Scope,
  x: Node,
  size: number | Pair,
  options: { stride: number | Pair; padding: 'valid' | 'same' },
): Node {
  const [window, strides, { padding }] = [pair(size), pair(options.stride), options];
  const shape = windowShape(s, x, window, strides, padding);
  const operation = { kind: 'average_pool', size: window, strides, padding } as const;
  return s.add({ operation, inputs: [x], shape: [...shape, channels(x)], parameters: [] }, 'average_pool');
}

/**
 * Mean over windows that divide the picture into a grid of `size`, whatever its own size: `[H, W, C] -> [size, C]`.
 * Nothing where it has that size, an ordinary pool where the windows are alike.
 * @see https://pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
 */
export function adaptiveAveragePool(s: Scope, x: Node, size: Pair): Node {
  const [height, width] = x.shape as readonly [number, number];
  if (height === size[0] && width === size[1]) return x;
  if (height % size[0] === 0 && width % size[1] === 0) {
    const window: Pair = [height / size[0], width / size[1]];
    return averagePool(s, x, window, { stride: window, padding: 'valid' });
  }
  const operation = { kind: 'adaptive_average_pool', size } as const;
  return s.add({ operation, inputs: [x], shape: [...size, channels(x)], parameters: [] }, 'adaptive_average_pool');
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

/** In training, the whole branch of a picture becomes zero with probability `rate`, else it grows by 1 / (1 - rate). */
export function dropPath(s: Scope, x: Node, rate: number): Node {
  return s.add({ operation: { kind: 'drop_path', rate }, inputs: [x], shape: x.shape, parameters: [] }, 'drop_path');
}

/** `[H, W, C]` times `[C]`. */
export function scaleChannels(s: Scope, x: Node, scale: Node): Node {
  if (scale.shape.join() !== String(channels(x))) {
    throw new Error(`${s.path}: cannot scale [${x.shape}] by [${scale.shape}]`);
  }
  const operation = { kind: 'scale_channels' } as const;
  return s.add({ operation, inputs: [x, scale], shape: x.shape, parameters: [] }, 'scale');
}

/** Times one trained number a channel, the parameter `gamma`. Touvron et al. 2021, https://arxiv.org/abs/2103.17239 */
export function layerScale(s: Scope, x: Node, initial: number): Node {
  return s.add({
    operation: { kind: 'layer_scale' },
    inputs: [x],
    shape: x.shape,
    parameters: [parameter(s, 'gamma', 'layer_scale', [channels(x)], { kind: 'constant', value: initial })],
  });
}

/** Joins nodes along the last dimension. */
export function concat(s: Scope, xs: readonly Node[]): Node {
  const [first] = xs as readonly [Node];
  const outer = first.shape.slice(0, -1);
  if (xs.some((x) => x.shape.slice(0, -1).join() !== outer.join())) {
    throw new Error(`${s.path}: cannot join ${xs.map((x) => `[${x.shape}]`).join(' and ')}`);
  }
  const shape = [...outer, xs.reduce((sum, x) => sum + channels(x), 0)];
  return s.add({ operation: { kind: 'concat' }, inputs: xs, shape, parameters: [] }, 'concat');
}

/** The same numbers in another shape, C order. */
export function reshape(s: Scope, x: Node, shape: Shape): Node {
  return s.add({ operation: { kind: 'reshape' }, inputs: [x], shape, parameters: [] }, 'reshape');
}

/**
 * `[H, W, C] -> [H W C]`, for a dense layer that was trained on one grid.
 * @param grid height and width that x must have
 * @throws INPUT_SIZE with the sizes that give that grid
 */
export function flatten(s: Scope, x: Node, grid: Pair): Node {
  const [height, width, depth] = x.shape as readonly [number, number, number];
  if (height !== grid[0] || width !== grid[1]) {
    const sides = [0, 1].map((axis) => lengthsFor(x, grid[axis as 0 | 1], axis as 0 | 1));
    const span = ([low, high]: Pair): string => (low === high ? `${low}` : `${low} to ${high}`);
    const [rows, columns] = sides.map(span) as [string, string];
    throw new UsageError({
      code: 'INPUT_SIZE',
      message:
        `its dense layers were trained on a grid of ${grid.join('x')}, and ` +
        `this input size gives ${height}x${width}`,
      hint:
        rows === columns ? `give a height and width of ${rows}` : `give a height of ${rows} and a width of ${columns}`,
    });
  }
  return reshape(s, x, [height * width * depth]);
}

/** Smallest and largest length of the input with which `node` has the length `wanted`; windows only look forward. */
function lengthsFor(node: Node, wanted: number, axis: 0 | 1): Pair {
  const chain: Node[] = [];
  for (let at: Node | undefined = node; at !== undefined; at = at.inputs[0]) chain.unshift(at);
  const outputOf = (length: number): number =>
    chain.reduce((n, { operation, parameters }) => {
      switch (operation.kind) {
        case 'conv2d':
        case 'depthwise_conv2d':
          return windowOutput(n, parameters[0]!.shape[axis]!, operation.strides[axis], operation.padding, axis);
        case 'max_pool':
        case 'average_pool':
          return windowOutput(n, operation.size[axis], operation.strides[axis], operation.padding, axis);
        default:
          return n;
      }
    }, length);
  let low = 1;
  while (outputOf(low) < wanted) low++;
  let high = low;
  while (outputOf(high + 1) === wanted) high++;
  return [low, high];
}

/** Puts a trained token before the others: `[T, D] -> [1 + T, D]`, parameter `token`, `[D]`. */
export function classToken(s: Scope, x: Node, initializer: Initializer = zeros): Node {
  const [tokens, depth] = x.shape as readonly [number, number];
  return s.add({
    operation: { kind: 'class_token' },
    inputs: [x],
    shape: [1 + tokens, depth],
    parameters: [parameter(s, 'token', 'class_token', [depth], initializer)],
  });
}

/** Adds a trained position to every token: parameter `embedding`, `[T, D]`, of a grid that ends the tokens. */
export function positionEmbedding(s: Scope, x: Node, places: Places, initializer: Initializer): Node {
  const embedding = parameter(s, 'embedding', 'position_embedding', x.shape, initializer);
  return s.add({
    operation: { kind: 'position_embedding' },
    inputs: [x],
    shape: x.shape,
    parameters: [{ ...embedding, places }],
  });
}

/** Scaled dot-product attention in every head, of queries, keys and values `[T, D]`. Vaswani et al. 2017, equation 1. */
export function attention(s: Scope, query: Node, key: Node, value: Node, heads: number): Node {
  if (channels(query) % heads !== 0) throw new Error(`${s.path}: ${heads} heads do not divide ${channels(query)}`);
  return s.add(
    { operation: { kind: 'attention', heads }, inputs: [query, key, value], shape: query.shape, parameters: [] },
    'attention',
  );
}

/** One token: `[T, D] -> [D]`. */
export function takeToken(s: Scope, x: Node, index: number): Node {
  const operation = { kind: 'take_token', index } as const;
  return s.add({ operation, inputs: [x], shape: [channels(x)], parameters: [] }, 'token');
}
