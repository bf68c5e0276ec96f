/** The step of LAMB from its moments, which both kinds of updates take. */
import * as tf from '@tensorflow/tfjs-core';
import type { LambStep } from './variables.js';

/**
 * What LAMB subtracts from its target: You et al. 2020, algorithm 2.
 * @param moments as they are after the gradient was taken in
 * @param squares sum of the squares of all elements of a tensor, or a multiple of it, a scalar
 */
export function lambStep(
  target: tf.Tensor,
  moments: { readonly m: tf.Tensor; readonly v: tf.Tensor },
  { lr, beta1, beta2, epsilon, decay, adapts, step }: LambStep,
  squares: (x: tf.Tensor) => tf.Tensor,
): tf.Tensor {
  const root = tf.add(tf.sqrt(tf.div(moments.v, 1 - beta2 ** step)), epsilon);
  const adam = tf.div(tf.div(moments.m, 1 - beta1 ** step), root);
  const whole = decay > 0 ? tf.add(adam, tf.mul(target, decay)) : adam;
  if (!adapts) return tf.mul(whole, lr);
  const [ofTarget, ofStep] = [squares(target), squares(whole)];
  const both = tf.logicalAnd(tf.greater(ofTarget, 0), tf.greater(ofStep, 0));
  const one = tf.onesLike(ofStep);
  const ratio = tf.sqrt(tf.where(both, tf.div(ofTarget, tf.where(both, ofStep, one)), one));
  return tf.mul(whole, tf.mul(ratio, lr));
}
