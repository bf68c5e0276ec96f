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

export type ActivationName = 'relu' | 'relu6';

export type Pair = readonly [height: number, width: number];

export type Operation =
  | { readonly kind: 'input' }
  | { readonly kind: 'conv2d'; readonly strides: Pair; readonly padding: Padding; readonly groups: number }
  | { readonly kind: 'depthwise_conv2d'; readonly strides: Pair; readonly padding: Padding }
  | { readonly kind: 'dense' }
  | {
      readonly kind: 'batch_norm';
      readonly epsilon: number;
      readonly momentum: number;
      readonly variance: VarianceRule;
    }
  | { readonly kind: 'activation'; readonly name: ActivationName }
  | { readonly kind: 'add' }
  | { readonly kind: 'max_pool'; readonly size: Pair; readonly strides: Pair; readonly padding: Padding }
  | { readonly kind: 'global_average_pool' }
  | { readonly kind: 'dropout'; readonly rate: number };

/**
 * Which batch variance goes into the moving variance. TensorFlow's fused kernel (so Keras 2 and slim) and PyTorch use
 * the unbiased one, n / (n - 1); Keras 3 the biased one. All sources here were trained with the unbiased one.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3 and torch.nn.BatchNorm2d
 */
export type VarianceRule = 'unbiased';

export type OperationKind = Operation['kind'];
export type OperationOf<K extends OperationKind> = Extract<Operation, { kind: K }>;

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
