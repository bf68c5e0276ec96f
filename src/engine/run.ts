/** The only forward pass: a graph, its parameters and the values of some nodes give the values of others. */
import * as tf from '@tensorflow/tfjs-core';
import type { Rng } from '../rng.js';
import { type Graph, type Node, nodesBetween, tapOf } from './graph.js';
import type { Kernels } from './kernels.js';
import type { OperationOf } from './operations.js';

/** The tensor of a parameter path. */
export type ParameterValues = (path: string) => tf.Tensor;

/** New moving statistics of one batch-norm node; the receiver disposes of the tensors. */
export type OnStatistics = (node: Node, statistics: { mean: tf.Tensor1D; variance: tf.Tensor1D }) => void;

export type RunMode =
  /** Dropout off; moving statistics used and left alone. */
  | { readonly kind: 'inference' }
  /** Dropout on, its masks drawn from `random`; batch statistics used, and the new moving ones handed on. */
  | { readonly kind: 'training'; readonly random: Rng; readonly onStatistics: OnStatistics };

export interface RunOptions {
  readonly kernels: Kernels;
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

  // Each value is freed as soon as its last consumer ran. A gradient tape keeps clones of what it will need.
  for (const node of plan) {
    const inputs = node.inputs.map((input) => values.get(input)!);
    values.set(
      node,
      tf.tidy(() => evaluate(node, inputs, options)),
    );
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

function evaluate(node: Node, inputs: readonly tf.Tensor[], { kernels, parameters, mode }: RunOptions): tf.Tensor {
  const x = inputs[0]!;
  const value = <T extends tf.Tensor>(leaf: string): T => parameters(`${node.path}.${leaf}`) as T;
  const biased = <T extends tf.Tensor>(y: T): T =>
    node.parameters.some((p) => p.role === 'bias') ? kernels.biasAdd(y, value<tf.Tensor1D>('bias')) : y;
  const operation = node.operation;
  switch (operation.kind) {
    case 'input':
      throw new Error('the input of a network was not given');
    case 'conv2d':
      return biased(groupedConv2d(kernels, x as tf.Tensor4D, value<tf.Tensor4D>('kernel'), operation));
    case 'depthwise_conv2d':
      return biased(kernels.depthwiseConv2d(x as tf.Tensor4D, value<tf.Tensor4D>('kernel'), operation));
    case 'dense':
      return biased(tf.matMul(x as tf.Tensor2D, value<tf.Tensor2D>('kernel')));
    case 'batch_norm': {
      const p = {
        gamma: value<tf.Tensor1D>('gamma'),
        beta: value<tf.Tensor1D>('beta'),
        mean: value<tf.Tensor1D>('mean'),
        variance: value<tf.Tensor1D>('variance'),
      };
      if (mode.kind === 'inference') return kernels.batchNorm(x as tf.Tensor4D, p, operation.epsilon);
      const { y, mean, variance } = kernels.batchNormTraining(x as tf.Tensor4D, p, operation);
      mode.onStatistics(node, { mean: tf.keep(mean), variance: tf.keep(variance) });
      return y;
    }
    case 'activation':
      return kernels.activation(x, operation.name);
    case 'add':
      return tf.add(x, inputs[1]!);
    case 'max_pool':
      return kernels.maxPool(x as tf.Tensor4D, operation.size, operation);
    case 'global_average_pool':
      return tf.mean(x, [1, 2]);
    case 'dropout':
      return mode.kind === 'inference' || operation.rate === 0
        ? tf.clone(x)
        : tf.mul(x, dropoutMask(x.shape, operation.rate, mode.random.split(node.path)));
  }
}

/** Groups are convolved apart and joined: input and output channels divided evenly, in order. */
function groupedConv2d(
  kernels: Kernels,
  x: tf.Tensor4D,
  kernel: tf.Tensor4D,
  { groups, strides, padding }: OperationOf<'conv2d'>,
): tf.Tensor4D {
  if (groups === 1) return kernels.conv2d(x, kernel, { strides, padding });
  const inputs = tf.split(x, groups, 3);
  const parts = tf.split(kernel, groups, 3);
  return tf.concat(
    inputs.map((input, i) => kernels.conv2d(input as tf.Tensor4D, parts[i] as tf.Tensor4D, { strides, padding })),
    3,
  ) as tf.Tensor4D;
}

/** Zero with probability `rate`, else 1 / (1 - rate); drawn from our own generator so that a run repeats exactly. */
function dropoutMask(shape: readonly number[], rate: number, random: Rng): tf.Tensor {
  const mask = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < mask.length; i++) mask[i] = random.uniform() < rate ? 0 : 1 / (1 - rate);
  return tf.tensor(mask, [...shape]);
}
