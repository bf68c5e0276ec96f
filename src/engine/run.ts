/** The only forward pass: a graph, its parameters and the values of some nodes give the values of others. */
import * as tf from '@tensorflow/tfjs-core';
import { type Graph, hasBias, hasGamma, type Node, nodesBetween, tapOf } from './graph.js';
import { channels } from './layers.js';
import { type MaskNeed, maskNeedOf } from './masks.js';
import type { OperationOf } from './operations.js';
import type { Operator, Operators } from './operators.js';
import { type Apply, applyOnly } from './tape.js';

/** The tensor of a parameter path. */
export type ParameterValues = (path: string) => tf.Tensor;

/** New moving statistics of one batch-norm node; the receiver disposes of the tensors. */
export type OnStatistics = (node: Node, statistics: { mean: tf.Tensor; variance: tf.Tensor }) => void;

/**
 * What batch norms normalise by in training: the statistics of the batch, and new moving ones are handed on (`train`), or
 * the moving ones, which stay as they are (`eval`). Their gamma and beta have gradients either way.
 */
export const batchNormModes = ['train', 'eval'] as const;
export type BatchNormMode = (typeof batchNormModes)[number];

export type RunMode =
  /** Dropout off; moving statistics used and left alone. */
  | { readonly kind: 'inference'; readonly apply: Apply }
  /** Dropout on, each mask a tensor of its own. */
  | {
      readonly kind: 'training';
      readonly apply: Apply;
      /** `train` when absent. */
      readonly batchNorm?: BatchNormMode | undefined;
      readonly mask: (need: MaskNeed) => tf.Tensor;
      readonly onStatistics: OnStatistics;
    };

/** How inference runs: nothing is recorded. */
export const inference: RunMode = { kind: 'inference', apply: applyOnly };

export interface RunOptions {
  readonly operators: Operators;
  readonly parameters: ParameterValues;
  readonly mode: RunMode;
}

/**
 * Runs the part of a network that lies between `given` and the taps `outputs`.
 * @param given values `[N, ...shape]` of nodes: the input, or the node of a cut
 * @returns one tensor a tap, which the caller disposes of; the given tensors are left alive
 */
export function run(
  graph: Graph,
  given: ReadonlyMap<Node, tf.Tensor>,
  outputs: readonly string[],
  options: RunOptions,
): Map<string, tf.Tensor> {
  const targets = outputs.map((name) => tapOf(graph, name));
  const plan = nodesBetween(graph, new Set(given.keys()), targets);
  const values = new Map<Node, tf.Tensor>(given);
  const waiting = new Map<Node, number>(); // how many consumers each value still has
  for (const node of plan) for (const input of node.inputs) waiting.set(input, (waiting.get(input) ?? 0) + 1);
  const kept = new Set<Node>([...given.keys(), ...targets]);

  const absorbed = usesBatchStatistics(options.mode) ? absorbedBiases(plan, kept) : new Set<Node>();

  // Each value is freed as soon as its last consumer ran. A tape keeps clones of what it will need.
  for (const node of plan) {
    const inputs = node.inputs.map((input) => values.get(input)!);
    values.set(node, evaluate(node, inputs, absorbed, options));
    for (const input of node.inputs) {
      const left = waiting.get(input)! - 1;
      waiting.set(input, left);
      if (left === 0 && !kept.has(input)) {
        values.get(input)!.dispose();
        values.delete(input);
      }
    }
  }
  // A tap may be a given node, or be asked for twice: each result is a tensor of its own.
  const result = new Map<string, tf.Tensor>();
  const taken = new Set<Node>(given.keys());
  targets.forEach((node, i) => {
    const value = values.get(node)!;
    result.set(outputs[i]!, taken.has(node) ? tf.clone(value) : value);
    taken.add(node);
  });
  return result;
}

type Training = Extract<RunMode, { kind: 'training' }>;

const usesBatchStatistics = (mode: RunMode): mode is Training => mode.kind === 'training' && mode.batchNorm !== 'eval';

/**
 * Convolutions whose bias a batch norm in training mode takes away again: it shifts every value and the batch mean
 * alike. Leaving it out changes nothing but the batch mean, and its gradient is exactly zero (Ioffe and Szegedy 2015,
 * section 3.2).
 */
function absorbedBiases(plan: readonly Node[], kept: ReadonlySet<Node>): Set<Node> {
  const norms = plan.filter((node) => node.operation.kind === 'batch_norm').map((node) => node.inputs[0]!);
  const consumers = plan.flatMap((node) => node.inputs);
  return new Set(
    norms.filter(
      (node) =>
        (node.operation.kind === 'conv2d' || node.operation.kind === 'depthwise_conv2d') &&
        hasBias(node) &&
        !kept.has(node) &&
        consumers.filter((each) => each === node).length === 1,
    ),
  );
}

function evaluate(
  node: Node,
  inputs: readonly tf.Tensor[],
  absorbed: ReadonlySet<Node>,
  options: RunOptions,
): tf.Tensor {
  const { operators, parameters, mode } = options;
  const value = (leaf: string): tf.Tensor => parameters(`${node.path}.${leaf}`);
  /** Runs an operator and keeps its result alone. */
  const only = (operator: Operator, given: readonly tf.Tensor[]): tf.Tensor => {
    const [result, ...others] = mode.apply(operator, given);
    tf.dispose(others);
    return result!;
  };
  const biased = (y: tf.Tensor): tf.Tensor => {
    if (!hasBias(node) || absorbed.has(node)) return y;
    const result = only(operators.biasAdd, [y, value('bias')]);
    y.dispose();
    return result;
  };
  const convolve = ({ standardization, ...geometry }: OperationOf<'conv2d'>): tf.Tensor => {
    const convolution = operators.conv2d(geometry, geometry.groups);
    if (standardization === undefined) return only(convolution, [...inputs, value('kernel')]);
    const kernel = only(operators.standardizeKernel(standardization), [value('kernel')]);
    const y = only(convolution, [...inputs, kernel]);
    kernel.dispose();
    return y;
  };
  const masked = (): tf.Tensor => {
    const [x] = inputs;
    const need = maskNeedOf(node, x!.shape[0]!);
    // not a clone, which a tape would not see
    if (mode.kind === 'inference' || need === undefined) return only(operators.reshape(node.shape, node.shape), inputs);
    const mask = mode.mask(need);
    const result = only(operators.mask, [x!, mask]);
    mask.dispose();
    return result;
  };
  const normalised = (rule: OperationOf<'batch_norm'>, gamma: tf.Tensor): tf.Tensor => {
    const given = [...inputs, gamma, ...['beta', 'mean', 'variance'].map(value)];
    if (!usesBatchStatistics(mode)) return only(operators.batchNorm(rule), given);
    const [y, mean, variance, ...others] = mode.apply(operators.batchNormTraining(rule), given);
    tf.dispose(others);
    const input = node.inputs[0]!;
    if (absorbed.has(input)) {
      const shifted = shiftedMean(mean!, parameters(`${input.path}.bias`), rule.momentum);
      mode.onStatistics(node, { mean: shifted, variance: variance! });
      mean!.dispose();
    } else mode.onStatistics(node, { mean: mean!, variance: variance! });
    return y!;
  };
  const operation = node.operation;
  switch (operation.kind) {
    case 'input':
      throw new Error('the input of a network was not given');
    case 'conv2d':
      return biased(convolve(operation));
    case 'depthwise_conv2d':
      return biased(only(operators.depthwiseConv2d(operation), [...inputs, value('kernel')]));
    case 'dense':
      return biased(only(operators.matMul, [...inputs, value('kernel')]));
    case 'low_rank': {
      const [x, y] = inputs;
      const down = only(operators.matMul, [x!, value('a')]);
      const scaled = only(operators.multiplyBy(operation.scale), [down]); // of few numbers
      const up = only(operators.matMul, [scaled, value('b')]);
      const sum = only(operators.add, [y!, up]);
      tf.dispose([down, scaled, up]);
      return sum;
    }
    case 'batch_norm': {
      if (hasGamma(node)) return normalised(operation, value('gamma'));
      const ones = tf.ones([channels(node)]);
      const y = normalised(operation, ones);
      ones.dispose();
      return y;
    }
    case 'activation':
      return only(operators.activation(operation.name), inputs);
    case 'add':
      return only(operators.add, inputs);
    case 'max_pool':
      return only(operators.maxPool(operation.size, operation), inputs);
    case 'global_average_pool':
      return only(operators.globalAveragePool, inputs);
    case 'group_norm':
      return only(operators.groupNorm(operation), [...inputs, value('gamma'), value('beta')]);
    case 'layer_norm':
      return only(operators.layerNorm(operation.epsilon), [...inputs, value('gamma'), value('beta')]);
    case 'scale_channels':
      return only(operators.scaleChannels, inputs);
    case 'layer_scale':
      return only(operators.layerScale, [...inputs, value('gamma')]);
    case 'concat':
      return only(operators.concat(node.inputs.map(channels)), inputs);
    case 'average_pool':
      return only(operators.averagePool(operation.size, operation), inputs);
    case 'adaptive_average_pool':
      return only(operators.adaptiveAveragePool(operation.size), inputs);
    case 'reshape':
      return only(operators.reshape(node.inputs[0]!.shape, node.shape), inputs);
    case 'class_token':
      return only(operators.classToken, [...inputs, value('token')]);
    case 'position_embedding':
      return only(operators.addPosition, [...inputs, value('embedding')]);
    case 'attention':
      return only(operators.attention(operation.heads), inputs);
    case 'take_token':
      return only(operators.takeToken(operation.index, node.inputs[0]!.shape[0]!), inputs);
    case 'dropout':
    case 'drop_path':
      return masked();
  }
}

/** The moving mean as it would be had the bias been added: the batch mean's share of it. */
const shiftedMean = (mean: tf.Tensor, bias: tf.Tensor, momentum: number): tf.Tensor =>
  tf.tidy(() => tf.add(mean, tf.mul(bias, 1 - momentum)));
