/** Activation functions with TensorFlow's kernels for their gradients: one pass over memory where tfjs makes several. */
import * as tf from '@tensorflow/tfjs-core';
import { activationOperator, tanhGate } from './activations.js';
import type { ActivationName } from './operations.js';
import type { Operator } from './operator.js';
import type { NativeKernels } from './tensorflow.js';

export function nativeActivation(native: NativeKernels, name: ActivationName): Operator {
  const attributes = [native.typeAttribute('T', 'float32')];
  const run = (op: string, ...inputs: tf.Tensor[]): tf.Tensor => native.execute(op, attributes, inputs);
  // The order of arguments is theirs: ReluGrad(gradients, features), SigmoidGrad(y, dy).
  const reluGrad = (op: 'ReluGrad' | 'Relu6Grad', dy: tf.Tensor, x: tf.Tensor): tf.Tensor => run(op, dy, x);
  const sigmoidGrad = (y: tf.Tensor, dy: tf.Tensor): tf.Tensor => run('SigmoidGrad', y, dy);
  /** The result tells as much as the argument, and the next layer keeps it anyway. */
  const byResult = (op: string, gradient: (dy: tf.Tensor, y: tf.Tensor) => tf.Tensor): Operator => ({
    forward: ([x]) => [run(op, x!)],
    saves: { inputs: [], outputs: [0] },
    backward: ({ dy, outputs: [y] }) => [gradient(dy, y!)],
  });
  const byArgument = (gradient: (dy: tf.Tensor, x: tf.Tensor) => tf.Tensor): Operator => ({
    forward: activationOperator(name).forward,
    saves: { inputs: [0], outputs: [] },
    backward: ({ dy, inputs: [x] }) => [gradient(dy, x!)],
  });
  switch (name) {
    case 'relu':
      return byResult('Relu', (dy, y) => reluGrad('ReluGrad', dy, y));
    case 'relu6':
      return byResult('Relu6', (dy, y) => reluGrad('Relu6Grad', dy, y));
    case 'sigmoid':
      return byResult('Sigmoid', (dy, y) => sigmoidGrad(y, dy));
    case 'tanh':
      return byResult('Tanh', (dy, y) => run('TanhGrad', y, dy));
    case 'hard_sigmoid':
      return byArgument((dy, x) => tf.div(reluGrad('Relu6Grad', dy, tf.add(x, 3)), 6));
    case 'hard_swish':
      // (relu6(x + 3) + x where that is between 0 and 6) / 6: Relu6Grad tells where from the result as well.
      return byArgument((dy, x) => {
        const gate = run('Relu6', tf.add(x, 3));
        return tf.mul(dy, tf.mul(tf.add(gate, reluGrad('Relu6Grad', x, gate)), 1 / 6));
      });
    case 'gelu_tanh':
      return byArgument((dy, x) => {
        const { gate, slope } = tanhGate(x);
        return tf.add(tf.mul(dy, gate), tf.mul(sigmoidGrad(gate, tf.mul(dy, x)), slope()));
      });
    case 'swish':
      return activationOperator(name);
    case 'gelu':
      return {
        forward: ([x]) => {
          const u = tf.mul(x!, Math.SQRT1_2);
          const share = tf.mul(tf.add(tf.erf(u), 1), 0.5); // cumulative(x)
          return [tf.mul(x!, share), share, u];
        },
        saves: { inputs: [], outputs: [1, 2] },
        // x density(x) is u e^(-u^2) / sqrt(pi)
        backward: ({ dy, outputs: [, share, u] }) => [
          tf.mul(dy, tf.add(share!, tf.mul(u!, tf.exp(tf.sub(-0.5 * Math.log(Math.PI), tf.square(u!)))))),
        ],
      };
  }
}
