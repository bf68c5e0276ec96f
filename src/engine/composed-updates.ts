/** Variables and update rules of tfjs's own operations, for engines without TensorFlow's kernels. */
import * as tf from '@tensorflow/tfjs-core';
import { lambStep } from './lamb.js';
import type { Updates, Variable } from './variables.js';

function replaceable(shape: readonly number[], value: tf.Tensor): Variable {
  let held = tf.keep(tf.clone(value));
  return {
    shape,
    read: () => tf.clone(held),
    assign: (fresh) => {
      const next = tf.keep(tf.clone(fresh));
      held.dispose();
      held = next;
    },
    dispose: () => held.dispose(),
  };
}

const change = (target: Variable, next: (now: tf.Tensor) => tf.Tensor): void =>
  tf.tidy(() => target.assign(next(target.read())));

/** Moves a running mean: `beta` is the share of the old one. */
const blend = (mean: Variable, beta: number, value: () => tf.Tensor): void =>
  change(mean, (now) => tf.add(tf.mul(now, beta), tf.mul(value(), 1 - beta)));

export const composedUpdates: Updates = {
  together: (updates) => updates(),
  variable: replaceable,
  adam: (target, m, v, gradient, { lr, beta1, beta2, epsilon, step }) => {
    const rate = (lr * Math.sqrt(1 - beta2 ** step)) / (1 - beta1 ** step);
    blend(m, beta1, () => gradient);
    blend(v, beta2, () => tf.square(gradient));
    change(target, (now) => tf.sub(now, tf.div(tf.mul(m.read(), rate), tf.add(tf.sqrt(v.read()), epsilon))));
  },
  momentum: (target, accumulator, gradient, { lr, momentum, nesterov }) => {
    change(accumulator, (now) => tf.sub(tf.mul(now, momentum), tf.mul(gradient, lr)));
    change(target, (now) =>
      nesterov
        ? tf.sub(tf.add(now, tf.mul(accumulator.read(), momentum)), tf.mul(gradient, lr))
        : tf.add(now, accumulator.read()),
    );
  },
  rmsprop: (target, square, accumulator, gradient, { lr, rho, momentum, epsilon }) => {
    blend(square, rho, () => tf.square(gradient));
    change(accumulator, (now) => {
      const step = tf.div(tf.mul(gradient, lr), tf.sqrt(tf.add(square.read(), epsilon)));
      return tf.add(tf.mul(now, momentum), step);
    });
    change(target, (now) => tf.sub(now, accumulator.read()));
  },
  lion: (target, m, gradient, { lr, beta1, beta2 }) => {
    change(target, (now) => {
      const direction = tf.sign(tf.add(tf.mul(m.read(), beta1), tf.mul(gradient, 1 - beta1)));
      return tf.sub(now, tf.mul(direction, lr));
    });
    blend(m, beta2, () => gradient);
  },
  lamb: (target, m, v, gradient, step) => {
    blend(m, step.beta1, () => gradient);
    blend(v, step.beta2, () => tf.square(gradient));
    const squares = (x: tf.Tensor): tf.Tensor => tf.sum(tf.square(x));
    change(target, (now) => tf.sub(now, lambStep(now, { m: m.read(), v: v.read() }, step, squares)));
  },
  descend: (target, gradient, lr) => change(target, (now) => tf.sub(now, tf.mul(gradient, lr))),
  scale: (target, factor) => change(target, (now) => tf.mul(now, factor)),
  average: (target, source, share) => change(target, (now) => tf.add(now, tf.mul(tf.sub(source.read(), now), share))),
};
