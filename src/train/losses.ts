/** The loss of a training step as operators: labels, a teacher's logits, and auxiliary classifiers for the same. */
import * as tf from '@tensorflow/tfjs-core';
import type { Operator, Operators } from '../engine/operators.js';
import type { Apply } from '../engine/tape.js';

/** What an auxiliary classifier adds to the loss, for the same targets. */
export interface AuxiliaryLoss {
  /** Of its logits. */
  readonly tap: string;
  /** Share of its loss in the whole. */
  readonly weight: number;
}

/** How a teacher's logits take part in the loss: `(1 - weight) * hard + weight * soft`. */
export interface Distillation {
  /** 0 to 1. */
  readonly weight: number;
  /** Divides the logits of both before their softmax, above 0. */
  readonly temperature: number;
}

/** What a network is to say of a batch. */
export interface Wanted {
  /** `[N, classes]`, each row sums to one. */
  readonly targets: tf.Tensor;
  /** The teacher's logits `[N, classes]`, with how much they count. */
  readonly teacher?: { readonly logits: tf.Tensor; readonly distillation: Distillation } | undefined;
}

/** Losses of each picture, `[N]`: of `logits`, and the auxiliary ones times their weights. */
export interface Losses {
  /** What is lowered. */
  readonly whole: tf.Tensor;
  /** What it is made of where a teacher takes part: cross-entropy with the labels, divergence from the teacher. */
  readonly parts?: { readonly hard: tf.Tensor; readonly soft: tf.Tensor };
}

/**
 * `T^2 * KL(softmax(teacher / T) || softmax(student / T))` of each row: logits of the student and of the teacher, which
 * have no gradient, `[N, classes]` each, -> `[N]`. With `T^2` the gradients keep their size whatever T is.
 * @param temperature T, above 0
 * @see Hinton, Vinyals, Dean 2015, section 2, https://arxiv.org/abs/1503.02531
 */
export const distillationLoss = (temperature: number): Operator => ({
  forward: ([student, teacher]) => {
    const [logQ, logP] = [logSoftmax(student!, temperature), logSoftmax(teacher!, temperature)];
    const p = tf.exp(logP);
    const divergence = tf.sum(tf.mul(p, tf.sub(logP, logQ)), 1);
    return [tf.mul(divergence, temperature ** 2), tf.mul(tf.sub(tf.exp(logQ), p), temperature)];
  },
  saves: { inputs: [], outputs: [1] },
  backward: ({ dy, outputs: [, gradient] }) => [tf.mul(tf.expandDims(dy, 1), gradient!), undefined],
});

function logSoftmax(logits: tf.Tensor, temperature: number): tf.Tensor {
  const cooled = tf.div(logits, temperature);
  const shifted = tf.sub(cooled, tf.max(cooled, 1, true));
  return tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true)));
}

/** @param outputs logits `[N, classes]` by tap: `logits`, and those of the auxiliary classifiers */
export function stepLosses(
  outputs: ReadonlyMap<string, tf.Tensor>,
  { targets, teacher }: Wanted,
  auxiliary: readonly AuxiliaryLoss[],
  { operators, apply }: { readonly operators: Operators; readonly apply: Apply },
): Losses {
  /** Keeps the first result alone. */
  const only = (operator: Operator, inputs: readonly tf.Tensor[]): tf.Tensor => {
    const [result, ...others] = apply(operator, inputs);
    tf.dispose(others);
    return result!;
  };
  const times = (loss: tf.Tensor, weight: number): tf.Tensor => {
    const weights = tf.fill([targets.shape[0]!], weight);
    const weighted = only(operators.multiply, [loss, weights]);
    weights.dispose();
    return weighted;
  };
  const plus = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => {
    const sum = only(operators.add, [a, b]);
    tf.dispose([a, b]);
    return sum;
  };
  const ofAll = (lossOf: (logits: tf.Tensor) => tf.Tensor): tf.Tensor =>
    auxiliary.reduce(
      (sum, { tap, weight }) => {
        const own = lossOf(outputs.get(tap)!);
        const weighted = times(own, weight);
        own.dispose();
        return plus(sum, weighted);
      },
      lossOf(outputs.get('logits')!),
    );
  const hard = ofAll((logits) => only(operators.softmaxCrossEntropy, [logits, targets]));
  if (teacher === undefined) return { whole: hard };
  const { weight, temperature } = teacher.distillation;
  const divergence = distillationLoss(temperature);
  const soft = ofAll((logits) => only(divergence, [logits, teacher.logits]));
  return { whole: plus(times(hard, 1 - weight), times(soft, weight)), parts: { hard, soft } };
}
