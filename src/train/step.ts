/** One training step as a function of tensors: what is compiled, or run operation by operation. */
import * as tf from '@tensorflow/tfjs-core';
import { type Graph, type Node, nodesBetween, tapOf } from '../engine/graph.js';
import { type MaskNeed, maskNeedOf } from '../engine/masks.js';
import type { Operators } from '../engine/operators.js';
import { type After, runRecomputing } from '../engine/recompute.js';
import { type BatchNormMode, run } from '../engine/run.js';
import { startTape } from '../engine/tape.js';
import { type AuxiliaryLoss, type Distillation, type LabelLoss, stepLosses } from './losses.js';

/** What is trained. */
export interface StepNetwork {
  readonly graph: Graph;
  /** Where a step begins: the node of the cut, or the input. */
  readonly entry: Node;
  readonly operators: Operators;
  readonly auxiliary: readonly AuxiliaryLoss[];
  /** Where a teacher takes part in the loss. */
  readonly distillation?: Distillation | undefined;
  /** How the part of the labels is taken; as plain cross-entropy when absent. */
  readonly labelLoss?: LabelLoss | undefined;
  /** Every parameter behind the entry, in the order of {@link StepValues.parameters}. */
  readonly paths: readonly string[];
  /** Those with a gradient. */
  readonly trainable: readonly string[];
  /** Which statistics batch norms normalise by; `train` when absent. */
  readonly batchNorm?: BatchNormMode | undefined;
  /** Where blocks are run a second time instead of kept for their gradients. */
  readonly recompute?: After | undefined;
}

/** What a step is given. */
export interface StepValues {
  /** `[N, ...entry]` */
  readonly x: tf.Tensor;
  /** `[N, classes]`, each row sums to one. */
  readonly targets: tf.Tensor;
  /** `[N]`, class indices. */
  readonly labels: tf.Tensor;
  /** How much each picture's label counts, `[N]`, where the network's {@link StepNetwork.labelLoss} is weighted. */
  readonly weights?: tf.Tensor | undefined;
  /** A teacher's logits `[N, classes]`, where the network has {@link StepNetwork.distillation}. */
  readonly teacher?: tf.Tensor | undefined;
  readonly parameters: readonly tf.Tensor[];
  /** In the order of {@link maskedNodes}. */
  readonly masks: readonly tf.Tensor[];
}

/** What a step gives. */
export interface StepOutputs {
  /** Scalar: the mean over the batch; auxiliary losses times their weights are in it. */
  readonly loss: tf.Tensor;
  /** Scalars, where a teacher takes part: the mean cross-entropy with the targets, and the mean divergence from it. */
  readonly parts?: { readonly hard: tf.Tensor; readonly soft: tf.Tensor } | undefined;
  /** Scalar: pictures whose largest logit is their label's. */
  readonly correct: tf.Tensor;
  /** In the order of `trainable`. */
  readonly gradients: readonly tf.Tensor[];
  /** New moving statistics, in the order of {@link statisticsOf}. */
  readonly statistics: readonly tf.Tensor[];
}

/** The nodes that a step runs through, in their order. */
function planOf({ graph, entry, auxiliary }: StepNetwork): Node[] {
  const taps = ['logits', ...auxiliary.map(({ tap }) => tap)];
  return nodesBetween(
    graph,
    new Set([entry]),
    taps.map((tap) => tapOf(graph, tap)),
  );
}

/** The nodes that a step needs a mask for. */
export const maskedNodes = (network: StepNetwork): Node[] =>
  planOf(network).filter((node) => maskNeedOf(node, 1) !== undefined);

/** Paths of the moving statistics that a step gives anew. */
export const statisticsOf = (network: StepNetwork): string[] =>
  planOf(network)
    .filter(({ operation }) => operation.kind === 'batch_norm' && network.batchNorm !== 'eval')
    .flatMap(({ path }) => [`${path}.mean`, `${path}.variance`]);

/** Loss, gradients and new statistics; nothing is changed. */
export function stepOf(network: StepNetwork, given: StepValues): StepOutputs {
  const { graph, entry, operators, auxiliary, distillation, labelLoss, paths, trainable, batchNorm, recompute } =
    network;
  const { x, targets, labels, weights, teacher, parameters, masks } = given;
  const values = new Map(paths.map((path, i) => [path, parameters[i]!]));
  const drawn = new Map(maskedNodes(network).map(({ path }, i) => [path, masks[i]!]));
  const fresh = new Map<string, tf.Tensor>();
  const tape = startTape(trainable.map((path) => values.get(path)!));
  const entries = new Map([[entry, x]]);
  const taps = ['logits', ...auxiliary.map(({ tap }) => tap)];
  const options = {
    operators,
    parameters: (path: string) => values.get(path)!,
    mode: {
      kind: 'training',
      apply: tape.apply,
      batchNorm,
      mask: ({ path }: MaskNeed) => tf.clone(drawn.get(path)!),
      onStatistics: ({ path }: Node, { mean, variance }: { mean: tf.Tensor; variance: tf.Tensor }) => {
        fresh.set(`${path}.mean`, mean).set(`${path}.variance`, variance);
      },
    },
  } as const;
  const outputs =
    recompute === undefined
      ? run(graph, entries, taps, options)
      : runRecomputing(graph, entries, taps, options, recompute);
  const logits = outputs.get('logits') as tf.Tensor2D;
  const taught = distillation === undefined ? undefined : { logits: teacher!, distillation };
  const how = { operators, apply: tape.apply, focal: labelLoss?.focal };
  const { whole: losses, parts } = stepLosses(outputs, { targets, weights, teacher: taught }, auxiliary, how);
  const count = logits.shape[0];
  const correct = countCorrect(logits, labels as tf.Tensor1D);
  const seed = tf.fill([count], 1 / count); // the loss is the mean over the batch
  const gradients = tape.gradients(losses, seed);
  const loss = tf.mean(losses);
  const means = parts && { hard: tf.mean(parts.hard), soft: tf.mean(parts.soft) };
  tf.dispose([seed, losses, parts, ...outputs.values()].filter((each) => each !== undefined));
  return { loss, parts: means, correct, gradients, statistics: statisticsOf(network).map((path) => fresh.get(path)!) };
}

/** How many rows of the logits `[N, classes]` have their largest value at the label. */
export function countCorrect(logitsOfBatch: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor {
  return tf.tidy(() => tf.sum(tf.cast(tf.equal(tf.argMax(logitsOfBatch, 1), labels), 'int32')));
}
