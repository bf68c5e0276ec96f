/** Operators that move, join and weigh channels and places, with their gradients written out. */
import * as tf from '@tensorflow/tfjs-core';
import { adaptiveWindows, type Pair } from './operations.js';
import { type Operator, sumToLast } from './operator.js';

const scaleChannels: Operator = {
  forward: ([x, scale]) => [tf.mul(x!, eachPlace(scale!))],
  saves: { inputs: [0, 1], outputs: [] },
  backward: ({ dy, inputs: [x, scale] }, wanted) => [
    wanted[0] ? tf.mul(dy, eachPlace(scale!)) : undefined,
    wanted[1] ? tf.sum(tf.mul(dy, x!), [1, 2]) : undefined,
  ],
};

/** `[N, C]` -> `[N, 1, 1, C]`. */
const eachPlace = (scale: tf.Tensor): tf.Tensor => tf.reshape(scale, [scale.shape[0]!, 1, 1, scale.shape[1]!]);

const layerScale: Operator = {
  forward: ([x, gamma]) => [tf.mul(x!, gamma!)],
  saves: { inputs: [0, 1], outputs: [] },
  backward: ({ dy, inputs: [x, gamma] }, wanted) => [
    wanted[0] ? tf.mul(dy, gamma!) : undefined,
    wanted[1] ? sumToLast(tf.mul(dy, x!)) : undefined,
  ],
};

const concat = (sizes: readonly number[]): Operator => ({
  forward: (inputs) => [tf.concat([...inputs], -1)],
  saves: { inputs: [], outputs: [] },
  backward: ({ dy }) => tf.split(dy, [...sizes], -1),
});

const reshape = (from: readonly number[], to: readonly number[]): Operator => ({
  forward: ([x]) => [tf.reshape(x!, [x!.shape[0]!, ...to])],
  saves: { inputs: [], outputs: [] },
  backward: ({ dy }) => [tf.reshape(dy, [dy.shape[0]!, ...from])],
});

/** A matrix `[size, length]` that averages the windows. */
function averaging(length: number, size: number): tf.Tensor3D {
  const values = new Float32Array(size * length);
  adaptiveWindows(length, size).forEach(([start, end], i) => {
    values.fill(1 / (end - start), i * length + start, i * length + end);
  });
  return tf.tensor3d(values, [1, size, length]);
}

const adaptiveAveragePool = (size: Pair): Operator => ({
  forward: ([x]) => {
    const [count, height, width, channels] = x!.shape as [number, number, number, number];
    const rows = tf.matMul(averaging(height, size[0]), tf.reshape(x!, [count, height, width * channels]));
    const cells = tf.matMul(averaging(width, size[1]), tf.reshape(rows, [count * size[0], width, channels]));
    return [tf.reshape(cells, [count, size[0], size[1], channels])];
  },
  saves: { inputs: [0], outputs: [] },
  backward: ({ dy, inputs: [x] }) => {
    const [count, height, width, channels] = x!.shape as [number, number, number, number];
    const cells = tf.reshape(dy, [count * size[0], size[1], channels]);
    const rows = tf.reshape(tf.matMul(averaging(width, size[1]), cells, true), [count, size[0], width * channels]);
    return [tf.reshape(tf.matMul(averaging(height, size[0]), rows, true), [count, height, width, channels])];
  },
});

export const gridOperators = { scaleChannels, layerScale, concat, reshape, adaptiveAveragePool };
