/** Padding that is done before a window, where the window's own kernel does not do it. */
import * as tf from '@tensorflow/tfjs-core';
import { type Pair, windowPadding } from './operations.js';
import type { ConvolutionGeometry } from './operators.js';

type Rows = [[number, number], [number, number], [number, number], [number, number]];

/** Explicit padding, done before the window; `same` and `valid` are left to the kernel. */
export function padExplicitly(x: tf.Tensor4D, size: Pair, geometry: ConvolutionGeometry, value: number): tf.Tensor4D {
  const { padding, strides } = geometry;
  if (typeof padding === 'string') return x;
  const rows = windowPadding(x.shape[1], size[0], strides[0], padding, 0);
  const columns = windowPadding(x.shape[2], size[1], strides[1], padding, 1);
  if (rows[0] + rows[1] + columns[0] + columns[1] === 0) return x;
  const amounts: Rows = [
    [0, 0],
    [rows[0], rows[1]],
    [columns[0], columns[1]],
    [0, 0],
  ];
  return tf.pad4d(x, amounts, value);
}

/** The gradient of a picture from that of the picture with padding around it. */
export function withoutPadding(padded: tf.Tensor, x: tf.Tensor, { padding }: ConvolutionGeometry): tf.Tensor {
  if (typeof padding === 'string') return padded;
  return tf.slice(padded, [0, padding.top, padding.left, 0], x.shape);
}
