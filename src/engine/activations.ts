/** Activation functions of tfjs's operations, with their gradients written out: tfjs's own keep far more in memory. */
import * as tf from '@tensorflow/tfjs-core';
import type { ActivationName } from './operations.js';
import type { Operator } from './operator.js';

type Elementwise = (x: tf.Tensor) => tf.Tensor;

/** A function of the argument, and its derivative by it. */
const ofArgument = (value: Elementwise, derivative: Elementwise): Operator => ({
  forward: ([x]) => [value(x!)],
  saves: { inputs: [0], outputs: [] },
  backward: ({ dy, inputs: [x] }) => [tf.mul(dy, derivative(x!))],
});

/** A function whose derivative follows from its result, which the next layer keeps anyway. */
const ofResult = (value: Elementwise, derivative: Elementwise): Operator => ({
  forward: ([x]) => [value(x!)],
  saves: { inputs: [], outputs: [0] },
  backward: ({ dy, outputs: [y] }) => [tf.mul(dy, derivative(y!))],
});

const between = (x: tf.Tensor, low: number, high: number): tf.Tensor =>
  tf.cast(tf.logicalAnd(tf.greater(x, low), tf.less(x, high)), 'float32');

const hardSigmoid: Elementwise = (x) => tf.div(tf.relu6(tf.add(x, 3)), 6);

/** The normal distribution function, exactly: `(1 + erf(x / sqrt 2)) / 2`. */
const cumulative: Elementwise = (x) => tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);

const INVERSE_SQRT_2_PI = 1 / Math.sqrt(2 * Math.PI);
const density: Elementwise = (x) => tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), INVERSE_SQRT_2_PI);

// Hendrycks and Gimpel 2016, section 2: the tanh form of GELU
const SQRT_2_BY_PI = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;
const tanhOf: Elementwise = (x) => tf.tanh(tf.mul(x, tf.add(tf.mul(tf.square(x), CUBIC * SQRT_2_BY_PI), SQRT_2_BY_PI)));

const operators: Readonly<Record<ActivationName, Operator>> = {
  relu: ofResult(tf.relu, (y) => tf.cast(tf.greater(y, 0), 'float32')),
  relu6: ofResult(tf.relu6, (y) => between(y, 0, 6)),
  sigmoid: ofResult(tf.sigmoid, (y) => tf.mul(y, tf.sub(1, y))),
  tanh: ofResult(tf.tanh, (y) => tf.sub(1, tf.square(y))),
  hard_sigmoid: ofArgument(hardSigmoid, (x) => tf.div(between(x, -3, 3), 6)),
  swish: ofArgument(
    (x) => tf.mul(x, tf.sigmoid(x)),
    (x) => {
      const s = tf.sigmoid(x);
      return tf.mul(s, tf.add(tf.mul(x, tf.sub(1, s)), 1));
    },
  ),
  hard_swish: ofArgument(
    (x) => tf.mul(x, hardSigmoid(x)),
    (x) => tf.add(hardSigmoid(x), tf.div(tf.mul(x, between(x, -3, 3)), 6)),
  ),
  gelu: ofArgument(
    (x) => tf.mul(x, cumulative(x)),
    (x) => tf.add(cumulative(x), tf.mul(x, density(x))),
  ),
  gelu_tanh: ofArgument(
    (x) => tf.mul(tf.mul(x, 0.5), tf.add(tanhOf(x), 1)),
    (x) => {
      const t = tanhOf(x);
      const inner = tf.add(tf.mul(tf.square(x), 3 * CUBIC * SQRT_2_BY_PI), SQRT_2_BY_PI);
      const slope = tf.mul(tf.mul(tf.mul(x, 0.5), tf.sub(1, tf.square(t))), inner);
      return tf.add(tf.mul(tf.add(t, 1), 0.5), slope);
    },
  ),
};

export function activationOperator(name: ActivationName): Operator {
  return operators[name];
}
