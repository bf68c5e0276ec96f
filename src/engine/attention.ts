/** Operators on tokens `[N, T, D]`, with their gradients written out. */
import * as tf from '@tensorflow/tfjs-core';
import type { Operator } from './operator.js';

/** `[N, T, D]` -> `[N, heads, T, D / heads]`. */
function splitHeads(x: tf.Tensor, heads: number): tf.Tensor4D {
  const [count, tokens, depth] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [count, tokens, heads, depth / heads]), [0, 2, 1, 3]) as tf.Tensor4D;
}

/** The other way. */
function joinHeads(x: tf.Tensor): tf.Tensor3D {
  const [count, heads, tokens, depth] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [count, tokens, heads * depth]);
}

/** Vaswani et al. 2017, equation 1, in every head. */
function attention(heads: number): Operator {
  const scaleOf = (query: tf.Tensor): number => 1 / Math.sqrt(query.shape[2]! / heads);
  return {
    forward: (inputs) => {
      const [q, k, v] = inputs.map((each) => splitHeads(each, heads)) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
      const scores = tf.matMul(tf.mul(q, scaleOf(inputs[0]!)), k, false, true); // [N, heads, T, T]
      const weights = tf.softmax(scores);
      return [joinHeads(tf.matMul(weights, v)), weights];
    },
    saves: { inputs: [0, 1, 2], outputs: [0, 1] },
    backward: ({ dy, inputs, outputs: [y, weights] }, wanted) => {
      const [q, k, v] = inputs.map((each) => splitHeads(each, heads)) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
      const scale = scaleOf(inputs[0]!);
      const d = splitHeads(dy, heads);
      // The sum of weights times their gradients over the keys is that of y times its own over a head's D / heads
      // numbers, which are fewer (Dao et al. 2022, https://arxiv.org/abs/2205.14135, appendix B.2). The scale goes to
      // queries and keys for the same reason.
      const along = tf.sum(splitHeads(tf.mul(dy, y!), heads), -1, true); // [N, heads, T, 1]
      const dScores = tf.mul(weights!, tf.sub(tf.matMul(d, v, false, true), along)) as tf.Tensor4D;
      return [
        wanted[0] ? joinHeads(tf.matMul(dScores, tf.mul(k, scale))) : undefined,
        wanted[1] ? joinHeads(tf.matMul(dScores, tf.mul(q, scale), true, false)) : undefined,
        wanted[2] ? joinHeads(tf.matMul(weights as tf.Tensor4D, d, true, false)) : undefined,
      ];
    },
  };
}

const classToken: Operator = {
  forward: ([x, token]) => {
    const [count, , depth] = x!.shape as [number, number, number];
    const tokens = tf.broadcastTo(tf.reshape(token!, [1, 1, depth]), [count, 1, depth]);
    return [tf.concat([tokens, x!], 1)];
  },
  saves: { inputs: [], outputs: [] },
  backward: ({ dy }, wanted) => {
    const [count, tokens, depth] = dy.shape as [number, number, number];
    return [
      wanted[0] ? tf.slice(dy, [0, 1, 0], [count, tokens - 1, depth]) : undefined,
      wanted[1] ? tf.sum(tf.slice(dy, [0, 0, 0], [count, 1, depth]), [0, 1]) : undefined,
    ];
  },
};

const addPosition: Operator = {
  forward: ([x, embedding]) => [tf.add(x!, embedding!)],
  saves: { inputs: [], outputs: [] },
  backward: ({ dy }, wanted) => [wanted[0] ? tf.clone(dy) : undefined, wanted[1] ? tf.sum(dy, 0) : undefined],
};

const takeToken = (index: number, tokens: number): Operator => ({
  forward: ([x]) => [tf.squeeze(tf.slice(x!, [0, index, 0], [-1, 1, -1]), [1])],
  saves: { inputs: [], outputs: [] },
  backward: ({ dy }) => [
    tf.pad(tf.expandDims(dy, 1), [
      [0, 0],
      [index, tokens - 1 - index],
      [0, 0],
    ]),
  ],
});

export const tokenOperators = { attention, classToken, addPosition, takeToken };
