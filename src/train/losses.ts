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

/** How the labels' part of the loss is taken. */
export interface LabelLoss {
  /** Gamma of the focal loss; the cross-entropy is taken when absent. */
  readonly focal?: number | undefined;
  /** Whether every step is given how much each picture counts; they all count the same when absent. */
  readonly weighted?: boolean | undefined;
}

/** What a network is to say of a batch. */
export interface Wanted {
  /** `[N, classes]`, each row sums to one. */
  readonly targets: tf.Tensor;
  /** How much each picture's part of the labels counts, `[N]`; all count 1 when absent. */
  readonly weights?: tf.Tensor | undefined;
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

/** The least that a focal loss takes the rest of a probability for, as Keras clips: powers below 1 have no end at 0. */
const LEAST = 1e-7;

/**
 * The focal loss of each row over a softmax: `-sum of targets * (1 - p)^gamma * log(p)`; logits and targets `[N, classes]`
 * -> `[N]`. With gamma 0 it is the cross-entropy. There is no factor alpha: one for all classes is a learning rate, and
 * one for each is a class weight, which the targets may have in them (keras.losses.CategoricalFocalCrossentropy with
 * alpha 1; torchvision's `sigmoid_focal_loss` is over a sigmoid a class instead).
 * @param gamma from 0
 * @see Lin et al. 2017, equation 4, https://arxiv.org/abs/1708.02002
 */
export const focalLoss = (gamma: number): Operator => ({
  forward: ([logits, targets]) => {
    const logP = logSoftmax(logits!, 1);
    const p = tf.exp(logP);
    const rest = tf.maximum(tf.neg(tf.expm1(logP)), LEAST); // 1 - p, exact where p is almost 1
    const factor = tf.pow(rest, gamma);
    const losses = tf.neg(tf.sum(tf.mul(targets!, tf.mul(factor, logP)), 1));
    // p times the derivative of -(1 - p)^gamma log(p)
    const slope = tf.sub(tf.mul(tf.mul(tf.pow(rest, gamma - 1), gamma), tf.mul(p, logP)), factor);
    const pull = tf.mul(targets!, slope);
    return [losses, tf.sub(pull, tf.mul(p, tf.sum(pull, 1, true)))];
  },
  saves: { inputs: [], outputs: [1] },
  backward: ({ dy, outputs: [, gradient] }) => [tf.mul(tf.expandDims(dy, 1), gradient!), undefined],
});

function logSoftmax(logits: tf.Tensor, temperature: number): tf.Tensor {
  const cooled = tf.div(logits, temperature);
  const shifted = tf.sub(cooled, tf.max(cooled, 1, true));
  return tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true)));
}

/** How losses are computed. */
export interface LossMeans {
  readonly operators: Operators;
  readonly apply: Apply;
  /** Gamma of the labels' part, which is a focal loss; the cross-entropy when absent. */
  readonly focal?: number | undefined;
}

/** @param outputs logits `[N, classes]` by tap: `logits`, and those of the auxiliary classifiers */
export function stepLosses(
  outputs: ReadonlyMap<string, tf.Tensor>,
  { targets, weights, teacher }: Wanted,
  auxiliary: readonly AuxiliaryLoss[],
  { operators, apply, focal }: LossMeans,
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
  const ofLabels = focal === undefined ? operators.softmaxCrossEntropy : focalLoss(focal);
  const hard = ofAll((logits) => {
    const losses = only(ofLabels, [logits, targets]);
    if (weights === undefined) return losses;
    const weighted = only(operators.multiply, [losses, weights]);
    losses.dispose();
    return weighted;
  });
  if (teacher === undefined) return { whole: hard };
  const { weight, temperature } = teacher.distillation;
  const divergence = distillationLoss(temperature);
  const soft = ofAll((logits) => only(divergence, [logits, teacher.logits]));
  return { whole: plus(times(hard, 1 - weight), times(soft, weight)), parts: { hard, soft } };
}
