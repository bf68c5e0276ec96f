/** What a node can do. One union: adding a member makes the compiler point at every table that must learn it. */

/** Rows and columns of zeros added around a picture. */
export interface ExplicitPadding {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** `same` is TensorFlow's rule: the extra row or column goes to the bottom and the right. */
export type Padding = 'valid' | 'same' | ExplicitPadding;

/**
 * `gelu` is the exact form with erf, `gelu_tanh` its approximation (Hendrycks and Gimpel 2016, section 2); `swish` is
 * x sigmoid(x); `hard_sigmoid` is relu6(x + 3) / 6 and `hard_swish` x times it (Howard et al. 2019, section 5.2).
 */
export type ActivationName =
  | 'relu'
  | 'relu6'
  | 'sigmoid'
  | 'hard_sigmoid'
  | 'swish'
  | 'hard_swish'
  | 'gelu'
  | 'gelu_tanh'
  | 'tanh';

/**
 * Weight standardisation: each output channel of a kernel gets mean 0 and deviation 1 before it is used. Epsilon is
 * added to the standard deviation (Google's big transfer code) or to the variance (timm).
 * @see Qiao et al. 2019, https://arxiv.org/abs/1903.10520
 */
export interface KernelStandardization {
  readonly epsilon: number;
  readonly addedTo: 'deviation' | 'variance';
}

export type Pair = readonly [height: number, width: number];

export type Operation =
  | { readonly kind: 'input' }
  | {
      readonly kind: 'conv2d';
      readonly strides: Pair;
      readonly padding: Padding;
      readonly groups: number;
      readonly standardization?: KernelStandardization;
    }
  | { readonly kind: 'depthwise_conv2d'; readonly strides: Pair; readonly padding: Padding }
  | { readonly kind: 'dense' }
  /** x `[..., in]` and y `[..., out]`: y + scale x A B, of trained A `[in, rank]` and B `[rank, out]`. */
  | { readonly kind: 'low_rank'; readonly scale: number }
  | {
      readonly kind: 'batch_norm';
      readonly epsilon: number;
      readonly momentum: number;
      readonly variance: VarianceRule;
    }
  | { readonly kind: 'group_norm'; readonly groups: number; readonly epsilon: number }
  | { readonly kind: 'layer_norm'; readonly epsilon: number }
  | { readonly kind: 'activation'; readonly name: ActivationName }
  | { readonly kind: 'add' }
  /** `[H, W, C]` times `[C]`: what squeeze and excitation does. */
  | { readonly kind: 'scale_channels' }
  /** Times one trained number a channel. */
  | { readonly kind: 'layer_scale' }
  /** Along the last dimension. */
  | { readonly kind: 'concat' }
  | { readonly kind: 'max_pool'; readonly size: Pair; readonly strides: Pair; readonly padding: Padding }
  /** Padded cells do not count. */
  | { readonly kind: 'average_pool'; readonly size: Pair; readonly strides: Pair; readonly padding: 'valid' | 'same' }
  /** To a fixed grid, by windows that may differ in size by one. */
  | { readonly kind: 'adaptive_average_pool'; readonly size: Pair }
  | { readonly kind: 'global_average_pool' }
  /** To the node's shape, in C order. */
  | { readonly kind: 'reshape' }
  /** `[T, D] -> [1 + T, D]`: a trained token before the others. */
  | { readonly kind: 'class_token' }
  /** `[T, D]` plus a trained `[T, D]`. */
  | { readonly kind: 'position_embedding' }
  /** Queries, keys and values `[T, D]` each: softmax(q k^T / sqrt(D / heads)) v in every head. */
  | { readonly kind: 'attention'; readonly heads: number }
  /** `[T, D] -> [D]`. */
  | { readonly kind: 'take_token'; readonly index: number }
  | { readonly kind: 'dropout'; readonly rate: number }
  /** Stochastic depth: in training, a picture's whole branch becomes zero with probability `rate`. */
  | { readonly kind: 'drop_path'; readonly rate: number };

/**
 * Which batch variance goes into the moving variance. TensorFlow's fused kernel (so Keras 2 and slim) and PyTorch use
 * the unbiased one, n / (n - 1); Keras 3 the biased one. All sources here were trained with the unbiased one.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3 and torch.nn.BatchNorm2d
 */
export type VarianceRule = 'unbiased';

export type OperationKind = Operation['kind'];
export type OperationOf<K extends OperationKind> = Extract<Operation, { kind: K }>;

/** Lowest finite float32: what a padded cell of a max pool holds, so that padding never wins. */
export const LOWEST = -3.4028234663852886e38;

/**
 * The windows, start to before end, that divide `length` places into `size` of them; they may overlap.
 * @see torch/aten/src/ATen/native/AdaptivePooling.h, start_index and end_index
 */
export function adaptiveWindows(length: number, size: number): (readonly [start: number, end: number])[] {
  return Array.from({ length: size }, (_, i) => [
    Math.floor((i * length) / size),
    Math.ceil(((i + 1) * length) / size),
  ]);
}

/** Output length of a window that slides over `length`. */
export function windowOutput(length: number, size: number, stride: number, padding: Padding, axis: 0 | 1): number {
  if (padding === 'same') return Math.ceil(length / stride);
  const around = padding === 'valid' ? 0 : axis === 0 ? padding.top + padding.bottom : padding.left + padding.right;
  return Math.floor((length + around - size) / stride) + 1;
}

/** Rows (axis 0) or columns (axis 1) added before and after by a padding rule. */
export function windowPadding(
  length: number,
  size: number,
  stride: number,
  padding: Padding,
  axis: 0 | 1,
): readonly [before: number, after: number] {
  if (padding === 'valid') return [0, 0];
  if (padding === 'same') {
    const total = Math.max(0, (Math.ceil(length / stride) - 1) * stride + size - length);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  }
  return axis === 0 ? [padding.top, padding.bottom] : [padding.left, padding.right];
}

/**
 * Padding that makes a window keep a last, partial step, as PyTorch's pools do in `ceil_mode`: the length of the output
 * is rounded up, and a window that would begin behind the picture is dropped again.
 * @param around rows and columns that are padded on every side in any case
 * @see torch/aten/src/ATen/native/Pool.h, pooling_output_shape_pad_lr
 */
export function ceilPadding([height, width]: Pair, size: number, stride: number, around = 0): ExplicitPadding {
  const after = (length: number): number => {
    const rounded = Math.ceil((length + 2 * around - size) / stride) + 1;
    const steps = (rounded - 1) * stride >= length + around ? rounded - 1 : rounded;
    return Math.max(0, (steps - 1) * stride + size - length - around);
  };
  return { top: around, bottom: after(height), left: around, right: after(width) };
}
