/**
 * Dialects: how a framework names the parameters of one layer, joins them to the layer's name, and lays them out.
 * The layers' own names belong to the family (`Published.ownerNames`); the two tables never mix.
 */
import type { DialectName, Layout } from '../../backbones/backbone.js';
import type { Parameter, Role, Shape } from '../../engine/graph.js';
import { type Memory, permute } from './permute.js';

export type { Layout } from '../../backbones/backbone.js';

export interface Dialect {
  /** Between a layer's name and a parameter's. */
  readonly separator: '/' | '.';
  /** What a parameter may be called; `layer` is the last part of its layer's name. */
  leafs(role: Role, layer: string): readonly string[];
  /** The shapes in which a file may hold a parameter, and how to read each of them; the usual one first. */
  layouts(parameter: Pick<Parameter, 'role' | 'shape' | 'unflattened'>): readonly Layout[];
  /**
   * After a tensor's name, that of the running average of its numbers over the training. Where a file has one it is
   * taken, as its publisher's evaluation does.
   */
  readonly average?: string;
  /** Tensors of training or bookkeeping, which no network reads: set aside, and listed as such. */
  readonly setAside: readonly { readonly pattern: RegExp; readonly reason: string }[];
}

/** Said of a convolution over a whole picture; heads of attention apart are how their publisher keeps them. */
const adaptationOf = (unflattened: Shape): { adaptation?: string } =>
  unflattened.length === 4 ? { adaptation: 'convolution read as a dense layer' } : {};

/** As it is, and as the same numbers in other dimensions. */
const asIs = ({ role, shape, unflattened }: Pick<Parameter, 'role' | 'shape' | 'unflattened'>): Layout[] => [
  { shape },
  ...(unflattened === undefined ? [] : [{ shape: unflattened, ...adaptationOf(unflattened) }]),
  // of a batch of one
  ...(role === 'class_token' ? [{ shape: [1, 1, ...shape] }, { shape: [1, ...shape] }] : []),
  ...(role === 'position_embedding' ? [{ shape: [1, ...shape] }] : []),
];

/** TensorFlow keeps our layout; classifiers may be 1x1 convolutions instead of dense layers. */
const tensorflowLayouts: Dialect['layouts'] = (parameter) => {
  const { role, shape } = parameter;
  if (role !== 'dense.kernel') return asIs(parameter);
  return [...asIs(parameter), { shape: [1, 1, ...shape], adaptation: '1x1 convolution read as a dense layer' }];
};

const dialects: Record<DialectName, Dialect> = {
  keras: {
    separator: '/',
    leafs: (role, layer) => {
      const names = {
        // of a grouped one, Keras' ResNeXt keeps the kernel of a depthwise convolution
        'conv.kernel': ['kernel', `${layer}_W`, `${layer}_W_1`, 'depthwise_kernel'],
        'depthwise.kernel': ['depthwise_kernel', 'kernel'], // Keras 2 and Keras 3
        'dense.kernel': ['kernel', `${layer}_W`, `${layer}_W_1`],
        bias: ['bias', `${layer}_b`, `${layer}_b_1`],
        layer_scale: ['gamma', 'Variable'], // the published ConvNeXts are of a Keras that gave it no name
        class_token: ['cls'],
        position_embedding: ['pos_embed'],
        'norm.gamma': ['gamma', `${layer}_gamma`, `${layer}_gamma_1`],
        'norm.beta': ['beta', `${layer}_beta`, `${layer}_beta_1`],
        'norm.mean': ['moving_mean', `${layer}_running_mean`, `${layer}_running_mean_1`],
        // Keras 1 called it running_std and kept the variance in it
        'norm.variance': ['moving_variance', `${layer}_running_std`, `${layer}_running_std_1`],
      };
      return names[role];
    },
    layouts: tensorflowLayouts,
    setAside: [
      { pattern: /^optimizer/, reason: 'of the optimiser' },
      { pattern: /(^|\/)(iteration|learning_rate)$/, reason: 'of the optimiser' },
    ],
  },
  slim: {
    separator: '/',
    leafs: (role) =>
      ({
        'conv.kernel': ['weights'],
        'depthwise.kernel': ['depthwise_weights'],
        'dense.kernel': ['weights'],
        bias: ['biases'],
        layer_scale: ['gamma'],
        class_token: ['cls'],
        position_embedding: ['pos_embedding'],
        'norm.gamma': ['gamma'],
        'norm.beta': ['beta'],
        'norm.mean': ['moving_mean'],
        'norm.variance': ['moving_variance'],
      })[role],
    layouts: tensorflowLayouts,
    average: '/ExponentialMovingAverage', // tf.train.ExponentialMovingAverage.average_name
    setAside: [
      { pattern: /^global_step$/, reason: 'a count of training steps' },
      { pattern: /^mean_rgb$/, reason: 'a constant, or what belongs to preprocessing' },
      { pattern: /\/ExponentialMovingAverage$/, reason: 'a running average of nothing here' },
      { pattern: /\/(RMSProp(_1)?|Momentum|Adam(_1)?)$/, reason: 'of the optimiser' },
    ],
  },
  torch: {
    separator: '.',
    leafs: (role) =>
      ({
        'conv.kernel': ['weight'],
        'depthwise.kernel': ['weight'],
        'dense.kernel': ['weight', 'in_proj_weight'], // torch.nn.MultiheadAttention
        bias: ['bias', 'in_proj_bias'],
        layer_scale: ['gamma', 'layer_scale'], // timm, torchvision
        class_token: ['cls_token', 'class_token'],
        position_embedding: ['pos_embed', 'pos_embedding'],
        'norm.gamma': ['weight'],
        'norm.beta': ['bias'],
        'norm.mean': ['running_mean'],
        'norm.variance': ['running_var'],
      })[role],
    layouts: torchLayouts,
    setAside: [{ pattern: /\.num_batches_tracked$/, reason: 'a count of training steps' }],
  },
  flax: {
    separator: '/',
    leafs: (role) =>
      ({
        'conv.kernel': ['kernel'],
        'depthwise.kernel': ['kernel'],
        'dense.kernel': ['kernel'],
        bias: ['bias'],
        layer_scale: ['gamma'],
        class_token: ['cls'],
        position_embedding: ['pos_embedding'],
        'norm.gamma': ['scale'],
        'norm.beta': ['bias'],
        'norm.mean': ['mean'],
        'norm.variance': ['var'],
      })[role],
    layouts: (parameter) =>
      parameter.role.startsWith('norm.')
        ? [...asIs(parameter), { shape: [1, 1, 1, ...parameter.shape] }] // group norms of the hybrid
        : asIs(parameter),
    setAside: [
      { pattern: /^opt(imizer)?\//, reason: 'of the optimiser' },
      { pattern: /^chrono\//, reason: 'bookkeeping' }, // big_vision's train.py keeps its stopwatch beside `params` and `opt`
    ],
  },
};

function torchLayouts(parameter: Pick<Parameter, 'role' | 'shape' | 'unflattened'>): Layout[] {
  const { role, shape, unflattened } = parameter;
  const [a, b, c, d] = shape as readonly [number, number, number, number];
  switch (role) {
    case 'conv.kernel': // OIHW
      return [{ shape: [d, c, a, b], permutation: [2, 3, 1, 0] }];
    case 'depthwise.kernel': // [channels * multiplier, 1, h, w]; every one here has multiplier 1
      return [{ shape: [c, d, a, b], permutation: [2, 3, 0, 1] }];
    case 'dense.kernel': {
      if (unflattened?.length === 4) {
        const [h, w, channels, out] = unflattened as [number, number, number, number];
        const adaptation = 'rows of a flattened picture moved from channels first to channels last';
        return [
          { shape: [b, a], view: [out, channels, h, w], permutation: [2, 3, 1, 0], adaptation },
          { shape: [out, channels, h, w], permutation: [2, 3, 1, 0], ...adaptationOf(unflattened) }, // timm's VGG
        ];
      }
      return [
        { shape: [b, a], permutation: [1, 0] },
        { shape: [b, a, 1, 1], permutation: [2, 3, 1, 0], adaptation: '1x1 convolution read as a dense layer' },
      ];
    }
    case 'layer_scale':
      return [{ shape }, { shape: [a, 1, 1] }];
    default:
      return asIs(parameter);
  }
}

export function dialectOf(name: DialectName): Dialect {
  return dialects[name];
}

/** A parameter's numbers in our layout, from a file's tensor. */
export function relay(tensor: Float32Array, { shape, part, view, permutation, factor }: Layout): Float32Array {
  const own = partOf(tensor, part);
  const inOrder = () => (part === undefined ? own : own.slice());
  const values = permutation === undefined ? inOrder() : permute(own, view ?? shape, permutation);
  return factor === undefined ? values : values.map((value) => value * factor);
}

/** Numbers of a piece: 8 MiB. A tensor of a few hundred MB is then never in memory twice. */
const PIECE = 2 ** 21;

/**
 * The same numbers as {@link relay}, piece by piece; where they lie in our layout already they are not copied.
 * @param memory gives the arrays that pieces are put in
 */
export function* relayPieces(
  tensor: Float32Array,
  { shape, part, view = shape, permutation, factor }: Layout,
  memory: Memory,
): Generator<Float32Array> {
  const own = partOf(tensor, part);
  const rows = permutation?.[0] === undefined ? own.length : view[permutation[0]]!;
  const step = Math.max(1, Math.floor(PIECE / (own.length / rows)));
  for (let row = 0; row < rows; row += step) {
    const end = Math.min(rows, row + step);
    const range = [row, end] as const;
    const piece =
      permutation === undefined ? own.subarray(...range) : permute(own, view, permutation, { range, memory });
    yield factor === undefined ? piece : piece.map((value) => value * factor);
  }
}

function partOf(tensor: Float32Array, part: Layout['part']): Float32Array {
  if (part === undefined) return tensor;
  const length = tensor.length / part.of;
  return tensor.subarray(part.index * length, (part.index + 1) * length);
}
