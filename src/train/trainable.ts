/**
 * A network in training: the frozen part as constants that run outside the gradient tape, everything after the cut as
 * variables.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Cut, cutAt, type Graph, type Node, nodesBetween, type Parameter, tapOf } from '../engine/graph.js';
import { loadNetwork, type Network, type ReadParameter } from '../engine/network.js';
import { type Operator, type Operators, operatorsOf } from '../engine/operators.js';
import { inference, run } from '../engine/run.js';
import { type Apply, startTape } from '../engine/tape.js';
import type { Engine } from '../engine/tensorflow.js';
import { type Updates, updatesOf, type Variable } from '../engine/variables.js';
import type { Rng } from '../rng.js';

/** What one training step tells. */
export interface StepResult {
  /** Mean loss of the batch, before the update; auxiliary losses times their weights are in it. */
  readonly loss: number;
  /** Pictures whose largest logit is their label's. */
  readonly correct: number;
  /** By parameter path; the caller disposes of them. */
  readonly gradients: Map<string, tf.Tensor>;
}

export interface StepInput {
  /** Value of the cut, or pixels where nothing is frozen: `[N, ...]`. */
  readonly x: tf.Tensor;
  /** Target distribution of each row: `[N, classes]`. */
  readonly targets: tf.Tensor2D;
  /** Class index of each row: `[N]`. */
  readonly labels: tf.Tensor1D;
  /** Of this step: makes the dropout masks. */
  readonly random: Rng;
}

/** What an auxiliary classifier adds to the loss, for the same targets. */
export interface AuxiliaryLoss {
  /** Of its logits. */
  readonly tap: string;
  /** Share of its loss in the whole. */
  readonly weight: number;
}

export interface TrainableNetwork {
  readonly graph: Graph;
  readonly updates: Updates;
  /** Shape of the value that a step takes: that of the cut, or of the input. */
  readonly entryShape: readonly number[];
  /** Parameters with a gradient. */
  readonly trainable: ReadonlyMap<string, Variable>;
  /** Trainable parameters and moving statistics. */
  readonly variables: ReadonlyMap<string, Variable>;
  /** Paths of the variables that `logits` does not depend on: those of auxiliary classifiers. */
  readonly auxiliary: ReadonlySet<string>;
  /** Pixels -> value of the cut (frozen part, inference mode). Without a cut, the pixels themselves. */
  enter(pixels: tf.Tensor): tf.Tensor;
  /** Loss and gradients, batch norm in training mode; moving statistics are updated, parameters are not. */
  step(input: StepInput): StepResult;
  /** Value of the cut -> logits `[N, classes]`, in inference mode. */
  logits(x: tf.Tensor): tf.Tensor2D;
  /** Numbers as they are now, frozen ones included. */
  readonly read: ReadParameter;
  dispose(): void;
}

/**
 * Loads a network for training.
 * @param read gives the starting numbers, and later those of the frozen part again
 * @param auxiliary stand behind the cut
 */
export async function loadTrainable(
  graph: Graph,
  read: ReadParameter,
  engine: Engine,
  cutTap: string | undefined,
  auxiliary: readonly AuxiliaryLoss[] = [],
): Promise<TrainableNetwork> {
  const cut = cutTap === undefined ? undefined : cutAt(graph, cutTap, 'logits');
  const operators = operatorsOf(engine);
  const updates = updatesOf(engine);
  const frozen = cut === undefined ? undefined : await loadNetwork(graph, read, engine, { outputs: [cut.tap] });
  const entry = cut === undefined ? graph.input : cut.node;
  const neededBy = (...taps: string[]): Parameter[] =>
    nodesBetween(
      graph,
      new Set([entry]),
      taps.map((tap) => tapOf(graph, tap)),
    ).flatMap((node) => node.parameters);
  const parameters = neededBy('logits', ...auxiliary.map(({ tap }) => tap));
  const variables = await loadVariables(parameters, read, updates);
  const trainable = new Map(parameters.filter((p) => p.trainable).map((p) => [p.path, variables.get(p.path)!]));
  const kept = new Set(neededBy('logits').map(({ path }) => path));
  return {
    graph,
    updates,
    entryShape: entry.shape,
    trainable,
    variables,
    auxiliary: new Set([...variables.keys()].filter((path) => !kept.has(path))),
    enter: (pixels) => enter(pixels, cut, frozen),
    step: (input) => step(graph, entry, { operators, variables, trainable, auxiliary }, input),
    logits: (x) => logits(graph, entry, operators, variables, x),
    read: async (path) => {
      const variable = variables.get(path);
      return variable === undefined ? read(path) : numbersOf(variable);
    },
    dispose: () => {
      frozen?.dispose();
      for (const variable of variables.values()) variable.dispose();
    },
  };
}

/** The numbers of a variable, in C order. */
export async function numbersOf(variable: Variable): Promise<Float32Array> {
  const value = variable.read();
  const numbers = (await value.data()) as Float32Array;
  value.dispose();
  return numbers;
}

async function loadVariables(
  parameters: readonly Parameter[],
  read: ReadParameter,
  updates: Updates,
): Promise<Map<string, Variable>> {
  const variables = new Map<string, Variable>();
  for (const { path, shape } of parameters) {
    const value = tf.tensor(await read(path), [...shape]);
    variables.set(path, updates.variable(shape, value));
    value.dispose();
  }
  return variables;
}

/**
 * TensorFlow multiplies the one row of a lone picture by a kernel of its own, whose sums differ in the last bit from
 * those of two or more. A lone picture is sent in twice, so that its value does not depend on how an epoch was divided.
 */
function enter(pixels: tf.Tensor, cut: Cut | undefined, frozen: Network | undefined): tf.Tensor {
  if (cut === undefined || frozen === undefined) return tf.clone(pixels);
  const through = (x: tf.Tensor): tf.Tensor => frozen.run(x, [cut.tap]).get(cut.tap)!;
  if (pixels.shape[0] !== 1) return through(pixels);
  return tf.tidy(() => {
    const value = through(tf.concat([pixels, pixels]));
    return tf.slice(value, 0, 1);
  });
}

interface Parts {
  readonly operators: Operators;
  readonly variables: ReadonlyMap<string, Variable>;
  readonly trainable: ReadonlyMap<string, Variable>;
  readonly auxiliary: readonly AuxiliaryLoss[];
}

function step(graph: Graph, entry: Node, parts: Parts, input: StepInput): StepResult {
  const { operators, variables, trainable, auxiliary } = parts;
  const values = new Map([...variables].map(([path, variable]) => [path, variable.read()]));
  const paths = [...trainable.keys()];
  const statistics: { path: string; value: tf.Tensor }[] = [];
  const tape = startTape(paths.map((path) => values.get(path)!));
  const outputs = run(graph, new Map([[entry, input.x]]), ['logits', ...auxiliary.map(({ tap }) => tap)], {
    operators,
    parameters: (path) => values.get(path)!,
    mode: {
      kind: 'training',
      apply: tape.apply,
      random: input.random,
      onStatistics: (node, { mean, variance }) => {
        statistics.push({ path: `${node.path}.mean`, value: mean }, { path: `${node.path}.variance`, value: variance });
      },
    },
  });
  const logits = outputs.get('logits') as tf.Tensor2D;
  const losses = lossesOf(outputs, input.targets, auxiliary, operators, tape.apply);
  const count = logits.shape[0];
  const correct = countCorrect(logits, input.labels);
  const seed = tf.fill([count], 1 / count); // the loss is the mean over the batch
  const gradients = tape.gradients(losses, seed);
  const mean = tf.mean(losses);
  const result: StepResult = {
    loss: mean.dataSync()[0]!,
    correct: correct.dataSync()[0]!,
    gradients: new Map(paths.map((path, i) => [path, gradients[i]!])),
  };
  // The tensors that were read go before anything is written, so that variables are updated in place.
  tf.dispose([mean, correct, seed, losses, ...outputs.values(), ...values.values()]);
  for (const { path, value } of statistics) {
    variables.get(path)!.assign(value);
    value.dispose();
  }
  return result;
}

/** Loss of each picture, `[N]`: that of `logits`, and the auxiliary ones times their weights. */
function lossesOf(
  outputs: ReadonlyMap<string, tf.Tensor>,
  targets: tf.Tensor2D,
  auxiliary: readonly AuxiliaryLoss[],
  operators: Operators,
  apply: Apply,
): tf.Tensor {
  /** Keeps the first result alone. */
  const only = (operator: Operator, inputs: readonly tf.Tensor[]): tf.Tensor => {
    const [result, ...others] = apply(operator, inputs);
    tf.dispose(others);
    return result!;
  };
  const lossOf = (tap: string): tf.Tensor => only(operators.softmaxCrossEntropy, [outputs.get(tap)!, targets]);
  return auxiliary.reduce((sum, { tap, weight }) => {
    const [own, weights] = [lossOf(tap), tf.fill([targets.shape[0]], weight)];
    const weighted = only(operators.multiply, [own, weights]);
    const longer = only(operators.add, [sum, weighted]);
    tf.dispose([sum, own, weights, weighted]);
    return longer;
  }, lossOf('logits'));
}

function logits(
  graph: Graph,
  entry: Node,
  operators: Operators,
  variables: ReadonlyMap<string, Variable>,
  x: tf.Tensor,
): tf.Tensor2D {
  const values = new Map([...variables].map(([path, variable]) => [path, variable.read()]));
  const parameters = (path: string): tf.Tensor => values.get(path)!;
  const outputs = run(graph, new Map([[entry, x]]), ['logits'], { operators, parameters, mode: inference });
  tf.dispose([...values.values()]);
  return outputs.get('logits') as tf.Tensor2D;
}

/** How many rows of the logits `[N, classes]` have their largest value at the label. */
export function countCorrect(logitsOfBatch: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor {
  return tf.tidy(() => tf.sum(tf.cast(tf.equal(tf.argMax(logitsOfBatch, 1), labels), 'int32')));
}
