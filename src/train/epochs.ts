/** One epoch of training, and one pass of evaluation. */
import * as tf from '@tensorflow/tfjs-core';
import type { Operators } from '../engine/operators.js';
import { softmaxRows } from '../engine/softmax.js';
import { ToolkitError } from '../errors.js';
import type { Rng } from '../rng.js';
import type { Entries, EntrySource } from './features/entries.js';
import { type Outcome, outcomeOf } from './metrics.js';
import { smoothedTargets, weightedTargets } from './targets.js';
import { countCorrect, type LossParts, numbersOf, type StepResult, type TrainableNetwork } from './trainable.js';
import type { Updater } from './updater.js';

/** Means over pictures. */
export interface Scores {
  readonly loss: number;
  /** 0 to 1. */
  readonly accuracy: number;
  readonly pictures: number;
}

/** An epoch of training. */
export interface Trained extends Scores {
  /** What the loss was made of, where a teacher took part. */
  readonly parts?: LossParts | undefined;
  /** For which the trainer had no pictures. */
  readonly waitedSeconds: number;
}

/** An evaluation. */
export interface Validated extends Scores {
  /** What was said of each picture. */
  readonly outcomes: readonly Outcome[];
}

/** What labels become the targets of a step by. */
export interface BatchTargets {
  readonly classes: number;
  readonly labelSmoothing: number;
  /** How much each class counts, where the network's loss is weighted. */
  readonly classWeights?: readonly number[] | undefined;
}

export interface EpochOptions extends BatchTargets {
  readonly network: TrainableNetwork;
  readonly updater: Updater;
  readonly source: EntrySource;
  readonly epoch: number;
  /** Of this epoch: split by step for the dropout masks. */
  readonly random: Rng;
  /** The rate of the optimiser's next update. */
  readonly lr: () => number;
  /** Called after each step; false stops the epoch. */
  readonly onStep: (step: number, sofar: Scores) => boolean;
}

/** One step on a batch, whose tensors it disposes of. The gradients are the caller's. */
export function stepOn(
  { x, labels, targets: mixed, teacher }: Entries,
  network: TrainableNetwork,
  { classes, labelSmoothing, classWeights }: BatchTargets,
  random: Rng,
): StepResult {
  const wanted = mixed ?? smoothedTargets(labels, classes, labelSmoothing);
  const given = tf.tidy(() => ({
    labels: tf.tensor1d(labels, 'int32'),
    ...tensorsOf(classWeights === undefined ? { targets: wanted } : weightedTargets(wanted, classWeights), classes),
  }));
  const result = network.step({ x, ...given, teacher, random });
  tf.dispose([x, given, ...(teacher === undefined ? [] : [teacher])]);
  return result;
}

/** Trains one epoch. Undefined when it was stopped before its end. @throws TRAINING_DIVERGED */
export async function trainEpoch(options: EpochOptions): Promise<Trained | undefined> {
  const { network, updater, source, epoch, random, lr, onStep } = options;
  let [loss, correct, pictures, step, waitedMs] = [0, 0, 0, 0, 0];
  let rate = lr();
  let parts: LossParts | undefined;
  for await (const entries of source.epoch({ shuffled: epoch })) {
    const { count } = entries;
    waitedMs += entries.waitedMs;
    const result = stepOn(entries, network, options, random.split(step));
    rate = lr();
    if (!Number.isFinite(result.loss)) {
      tf.dispose([...result.gradients.values()]);
      throw diverged(`the loss became ${result.loss} in epoch ${epoch}, step ${step + 1}`, rate);
    }
    updater.take(result.gradients, count, rate);
    loss += result.loss * count;
    if (result.parts !== undefined) {
      const { hard, soft } = result.parts;
      parts = { hard: (parts?.hard ?? 0) + hard * count, soft: (parts?.soft ?? 0) + soft * count };
    }
    correct += result.correct;
    pictures += count;
    step++;
    if (!onStep(step, { loss: loss / pictures, accuracy: correct / pictures, pictures })) return undefined;
  }
  updater.finish(rate);
  const means = parts && { hard: parts.hard / pictures, soft: parts.soft / pictures };
  return {
    loss: loss / pictures,
    parts: means,
    accuracy: correct / pictures,
    pictures,
    waitedSeconds: waitedMs / 1000,
  };
}

const tensorsOf = (
  { targets, weights }: { readonly targets: Float32Array; readonly weights?: Float32Array },
  classes: number,
) => ({
  targets: tf.tensor2d(targets, [targets.length / classes, classes]),
  ...(weights === undefined ? {} : { weights: tf.tensor1d(weights) }),
});

function diverged(what: string, lr: number): ToolkitError {
  return new ToolkitError({
    code: 'TRAINING_DIVERGED',
    message: `${what}, at a learning rate of ${lr}`,
    hint: 'lower --lr (a tenth is a good try; `tl lr-find` tests a range), or raise --warmup; the best model so far is kept',
  });
}

/**
 * What the last step of an epoch did shows in no loss of that epoch: the validation loss tells, and where there is
 * none, the numbers themselves.
 * @throws TRAINING_DIVERGED
 */
export async function assertSound(
  network: Pick<TrainableNetwork, 'variables'>,
  validated: Scores,
  { epoch, lr }: { readonly epoch: number; readonly lr: number },
): Promise<void> {
  if (validated.pictures > 0) {
    if (Number.isFinite(validated.loss)) return;
    throw diverged(`the validation loss became ${validated.loss} in epoch ${epoch}`, lr);
  }
  for (const [path, variable] of network.variables) {
    const numbers = await numbersOf(variable);
    if (!numbers.every(Number.isFinite)) throw diverged(`${path} holds no numbers any more after epoch ${epoch}`, lr);
  }
}

/** Loss (plain cross-entropy) and accuracy over every picture, none dropped; undefined when stopped. */
export async function evaluateEntries(
  network: Pick<TrainableNetwork, 'logits'>,
  source: EntrySource,
  operators: Operators,
  signal?: AbortSignal,
): Promise<Validated | undefined> {
  let [loss, correct, pictures] = [0, 0, 0];
  const outcomes: Outcome[] = [];
  for await (const { x, labels, indices, count } of source.epoch('in order')) {
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
    const classes = logits.shape[1];
    const rows = softmaxRows(logits.dataSync(), classes);
    indices.forEach((index, i) => {
      outcomes.push(outcomeOf(index, labels[i]!, rows.subarray(i * classes, (i + 1) * classes)));
    });
    tf.dispose([x, logits, ...sums]);
  }
  return pictures === 0
    ? { loss: Number.NaN, accuracy: Number.NaN, pictures, outcomes }
    : { loss: loss / pictures, accuracy: correct / pictures, pictures, outcomes };
}
