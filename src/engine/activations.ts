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
/** The normal distribution's density. */
const density: Elementwise = (x) => tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), INVERSE_SQRT_2_PI);

// Hendrycks and Gimpel 2016, section 2: x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3). Half of 1 + tanh(u)
// is the sigmoid of 2 u, which takes fewer steps.
const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715 * LINEAR;

/** The gate of GELU's tanh form, `sigmoid(2 u)`, and the derivative of `2 u`. */
export function tanhGate(x: tf.Tensor): { gate: tf.Tensor; slope: () => tf.Tensor } {
  const square = tf.square(x);
  const gate = tf.sigmoid(tf.mul(x, tf.add(tf.mul(square, CUBIC), LINEAR)));
  return { gate, slope: () => tf.add(tf.mul(square, 3 * CUBIC), LINEAR) };
}

/** The derivative, g + y (1 - g), is of the gate g and the result y, which the next layer keeps anyway. */
const swish: Operator = {
  forward: ([x]) => {
    const gate = tf.sigmoid(x!);
    return [tf.mul(x!, gate), gate];
  },
  saves: { inputs: [], outputs: [0, 1] },
  backward: ({ dy, outputs: [y, gate] }) => [tf.mul(dy, tf.add(gate!, tf.mul(y!, tf.sub(1, gate!))))],
};

const operators: Readonly<Record<ActivationName, Operator>> = {
  relu: ofResult(tf.relu, (y) => tf.cast(tf.greater(y, 0), 'float32')),
  relu6: ofResult(tf.relu6, (y) => between(y, 0, 6)),
  sigmoid: ofResult(tf.sigmoid, (y) => tf.mul(y, tf.sub(1, y))),
  tanh: ofResult(tf.tanh, (y) => tf.sub(1, tf.square(y))),
  hard_sigmoid: ofArgument(hardSigmoid, (x) => tf.div(between(x, -3, 3), 6)),
  swish,
  hard_swish: ofArgument(
    (x) => tf.mul(x, hardSigmoid(x)),
    (x) => tf.add(hardSigmoid(x), tf.div(tf.mul(x, between(x, -3, 3)), 6)),
  ),
  gelu: ofArgument(
    (x) => tf.mul(x, cumulative(x)),
    (x) => tf.add(cumulative(x), tf.mul(x, density(x))),
  ),
  gelu_tanh: ofArgument(
    (x) => tf.mul(x, tanhGate(x).gate),
    (x) => {
      const { gate, slope } = tanhGate(x);
      return tf.mul(gate, tf.add(tf.mul(tf.mul(x, tf.sub(1, gate)), slope()), 1));
    },
  ),
};

export function activationOperator(name: ActivationName): Operator {
  return operators[name];
}
