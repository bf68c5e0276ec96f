/** One epoch of training, and one pass of evaluation. */
import * as tf from '@tensorflow/tfjs-core';
import type { Operators } from '../engine/operators.js';
import { ToolkitError } from '../errors.js';
import type { Rng } from '../rng.js';
import type { EntrySource } from './features.js';
import type { Optimizer } from './optimizers.js';
import { smoothedTargets } from './targets.js';
import { countCorrect, type TrainableNetwork } from './trainable.js';

/** Means over pictures. */
export interface Scores {
  readonly loss: number;
  /** 0 to 1. */
  readonly accuracy: number;
  readonly pictures: number;
}

export interface EpochOptions {
  readonly network: TrainableNetwork;
  readonly optimizer: Optimizer;
  readonly source: EntrySource;
  readonly epoch: number;
  readonly classes: number;
  readonly labelSmoothing: number;
  /** Of this epoch: split by step for the dropout masks. */
  readonly random: Rng;
  /** The rate of the optimiser's next step. */
  readonly lr: () => number;
  /** Called after each step; false stops the epoch. */
  readonly onStep: (step: number, sofar: Scores) => boolean;
}

/** Trains one epoch. Undefined when it was stopped before its end. @throws TRAINING_DIVERGED */
export async function trainEpoch(options: EpochOptions): Promise<Scores | undefined> {
  const { network, optimizer, source, epoch, classes, labelSmoothing, random, lr, onStep } = options;
  let [loss, correct, pictures, step] = [0, 0, 0, 0];
  for await (const { x, labels, count } of source.epoch({ shuffled: epoch })) {
    const targets = tf.tensor2d(smoothedTargets(labels, classes, labelSmoothing), [count, classes]);
    const labelTensor = tf.tensor1d(labels, 'int32');
    const result = network.step({ x, targets, labels: labelTensor, random: random.split(step) });
    if (!Number.isFinite(result.loss)) throw diverged(epoch, step, result.loss, lr());
    optimizer.apply(result.gradients, lr());
    tf.dispose([x, targets, labelTensor, ...result.gradients.values()]);
    loss += result.loss * count;
    correct += result.correct;
    pictures += count;
    step++;
    if (!onStep(step, { loss: loss / pictures, accuracy: correct / pictures, pictures })) return undefined;
  }
  return { loss: loss / pictures, accuracy: correct / pictures, pictures };
}

function diverged(epoch: number, step: number, loss: number, lr: number): ToolkitError {
  return new ToolkitError({
    code: 'TRAINING_DIVERGED',
    message: `the loss became ${loss} in epoch ${epoch}, step ${step + 1}, at a learning rate of ${lr}`,
    hint: 'lower --lr (a tenth is a good try), or raise --warmup; the best model so far is kept',
  });
}

/** Loss (plain cross-entropy) and accuracy over every picture, none dropped; undefined when stopped. */
export async function evaluateEntries(
  network: TrainableNetwork,
  source: EntrySource,
  operators: Operators,
  signal?: AbortSignal,
): Promise<Scores | undefined> {
  let [loss, correct, pictures] = [0, 0, 0];
  for await (const { x, labels, count } of source.epoch('in order')) {
    if (signal?.aborted === true) {
      x.dispose();
      return undefined;
    }
    const logits = network.logits(x);
    const sums = tf.tidy(() => {
      const targets = tf.tensor2d(smoothedTargets(labels, logits.shape[1], 0), logits.shape);
      const losses = operators.softmaxCrossEntropy.forward([logits, targets])[0]!;
      return [tf.sum(losses), countCorrect(logits, tf.tensor1d(labels, 'int32'))] as const;
    });
    loss += sums[0].dataSync()[0]!;
    correct += sums[1].dataSync()[0]!;
    pictures += count;
    tf.dispose([x, logits, ...sums]);
  }
  return pictures === 0
    ? { loss: Number.NaN, accuracy: Number.NaN, pictures }
    : { loss: loss / pictures, accuracy: correct / pictures, pictures };
}
