/**
 * A network in training: everything after the cut as variables; the frozen part as constants that run outside the
 * gradient tape, loaded where it is asked for.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type BatchFunction, type Compiled, compile, compileBatches, compilerOf, filledUp } from '../engine/compile.js';
import { cutAt, type Graph, nodesBetween, type Parameter, tapOf } from '../engine/graph.js';
import { drawMask, maskNeedOf } from '../engine/masks.js';
import { loadNetwork, type Network, type ReadParameter, tensorsOf } from '../engine/network.js';
import { operatorsOf } from '../engine/operators.js';
import { type Precision, requirePrecision } from '../engine/precision.js';
import { afterOf } from '../engine/recompute.js';
import { type BatchNormMode, inference, run } from '../engine/run.js';
import type { Engine } from '../engine/tensorflow.js';
import { type Updates, updatesOf, type Variable } from '../engine/variables.js';
import type { Rng } from '../rng.js';
import type { AuxiliaryLoss, Distillation, LabelLoss } from './losses.js';
import { maskedNodes, type StepNetwork, type StepOutputs, statisticsOf, stepOf } from './step.js';

export type { AuxiliaryLoss } from './losses.js';
export { countCorrect } from './step.js';

/** What one training step tells. */
export interface StepResult {
  /** Mean loss of the batch, before the update; auxiliary losses times their weights are in it. */
  readonly loss: number;
  /** Where a teacher takes part: the mean cross-entropy with the targets, and the mean divergence from the teacher. */
  readonly parts?: LossParts | undefined;
  /** Pictures whose largest logit is their label's. */
  readonly correct: number;
  /** By parameter path; the caller disposes of them. */
  readonly gradients: Map<string, tf.Tensor>;
}

/** What the loss is made of under distillation, means over pictures. */
export interface LossParts {
  readonly hard: number;
  readonly soft: number;
}

export interface StepInput {
  /** Value of the cut, or pixels where nothing is frozen: `[N, ...]`. */
  readonly x: tf.Tensor;
  /** Target distribution of each row: `[N, classes]`. */
  readonly targets: tf.Tensor2D;
  /** Class index of each row: `[N]`. */
  readonly labels: tf.Tensor1D;
  /** How much each row's label counts, where {@link TrainableOptions.labelLoss} is weighted: `[N]`. */
  readonly weights?: tf.Tensor1D | undefined;
  /** The teacher's logits, where one takes part: `[N, classes]`. */
  readonly teacher?: tf.Tensor | undefined;
  /** Of this step: makes the dropout masks. */
  readonly random: Rng;
}

/** How a network is loaded for training. */
export interface TrainableOptions {
  /** Everything up to and with this tap is frozen; undefined: nothing is. */
  readonly cut?: string | undefined;
  /** They stand behind the cut. */
  readonly auxiliary?: readonly AuxiliaryLoss[];
  /** How the labels' part of the loss is taken; as plain cross-entropy when absent. */
  readonly labelLoss?: LabelLoss | undefined;
  /** How a teacher takes part in the loss, whose logits every step is then given. */
  readonly distillation?: Distillation | undefined;
  /**
   * Which parameters behind the cut are trained; all when absent. The others are constants: they have no gradient and
   * nothing in an optimiser. Where a batch norm is among them, `batchNorm` has to be `eval`.
   */
  readonly trains?: ((path: string) => boolean) | undefined;
  /** Which statistics batch norms behind the cut normalise by; `train` when absent. */
  readonly batchNorm?: BatchNormMode | undefined;
  readonly precision?: Precision;
  /** Run blocks a second time where their gradients are taken, instead of keeping what these need: slower, in less memory. */
  readonly recompute?: boolean;
}

/** The frozen part with its numbers. */
export interface FrozenNetwork {
  /** Pixels `[N, H, W, C]` -> value of the cut `[N, ...]`, in inference mode. Without a cut, the pixels themselves. */
  enter(pixels: tf.Tensor): tf.Tensor;
  dispose(): void;
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
  /** Loads the frozen part, which nothing else here needs: where what it gives is kept, it need not be in memory. */
  loadFrozen(): Promise<FrozenNetwork>;
  /** Loss and gradients; moving statistics are updated, parameters are not. */
  step(input: StepInput): StepResult;
  /**
   * Value of the cut -> logits `[N, classes]`, in inference mode.
   * @param from other numbers for all of {@link TrainableNetwork.variables}, by path
   */
  logits(x: tf.Tensor, from?: ReadonlyMap<string, Variable>): tf.Tensor2D;
  /** Numbers as they are now, frozen ones included. */
  readonly read: ReadParameter;
  dispose(): void;
}

/**
 * Loads a network for training.
 * @param read gives the starting numbers, and later those of the frozen part again
 * @throws PRECISION_UNSUPPORTED
 */
export async function loadTrainable(
  graph: Graph,
  read: ReadParameter,
  engine: Engine,
  options: TrainableOptions = {},
): Promise<TrainableNetwork> {
  const { cut: cutTap, auxiliary = [], distillation, precision = 'float32', recompute = false } = options;
  const { trains = () => true, batchNorm = 'train', labelLoss = {} } = options;
  requirePrecision(precision, engine);
  const cut = cutTap === undefined ? undefined : cutAt(graph, cutTap, 'logits');
  const operators = operatorsOf(engine);
  const updates = updatesOf(engine);
  const entry = cut === undefined ? graph.input : cut.node;
  const neededBy = (...taps: string[]): Parameter[] =>
    nodesBetween(
      graph,
      new Set([entry]),
      taps.map((tap) => tapOf(graph, tap)),
    ).flatMap((node) => node.parameters);
  const parameters = neededBy('logits', ...auxiliary.map(({ tap }) => tap));
  const { variables, constants } = await loadValues(parameters, read, updates, trains);
  const trainable = new Map(
    parameters.filter((p) => p.trainable && trains(p.path)).map((p) => [p.path, variables.get(p.path)!]),
  );
  const kept = new Set(neededBy('logits').map(({ path }) => path));
  const paths = parameters.map(({ path }) => path);
  const readAll = (from: ReadonlyMap<string, Variable> = variables): tf.Tensor[] =>
    paths.map((path) => from.get(path)?.read() ?? tf.clone(constants.get(path)!));
  const network: StepNetwork = {
    graph,
    entry,
    operators,
    auxiliary,
    distillation,
    labelLoss,
    paths,
    trainable: [...trainable.keys()],
    batchNorm,
    recompute: recompute ? afterOf(engine) : undefined,
  };
  const how = { engine, precision };
  const stepper = startStepper(network, variables, readAll, how);
  const classify = classifierBehind(network, how);
  return {
    graph,
    updates,
    entryShape: entry.shape,
    trainable,
    variables,
    auxiliary: new Set(paths.filter((path) => !kept.has(path))),
    loadFrozen: async () => {
      if (cut === undefined) return { enter: (pixels) => tf.clone(pixels), dispose: () => {} };
      return upTo(cut.tap, await loadNetwork(graph, read, engine, { outputs: [cut.tap], compiled: true, precision }));
    },
    step: stepper.step,
    logits: (x, from) => {
      const values = readAll(from);
      const result = classify.run(x, values);
      tf.dispose(values);
      return result[0] as tf.Tensor2D;
    },
    read: async (path) => {
      const variable = variables.get(path);
      return variable === undefined ? read(path) : numbersOf(variable);
    },
    dispose: () => {
      stepper.dispose();
      classify.dispose();
      for (const variable of variables.values()) variable.dispose();
      tf.dispose([...constants.values()]);
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

interface Values {
  readonly variables: Map<string, Variable>;
  /** Of parameters that could have a gradient, and are not trained. */
  readonly constants: Map<string, tf.Tensor>;
}

async function loadValues(
  parameters: readonly Parameter[],
  read: ReadParameter,
  updates: Updates,
  trains: (path: string) => boolean,
): Promise<Values> {
  const frozen = new Set(
    parameters.filter(({ path, trainable }) => trainable && !trains(path)).map(({ path }) => path),
  );
  const [variables, constants] = [new Map<string, Variable>(), new Map<string, tf.Tensor>()];
  for await (const { path, value } of tensorsOf(parameters, read)) {
    if (frozen.has(path)) constants.set(path, value);
    else {
      variables.set(path, updates.variable(value.shape, value));
      value.dispose();
    }
  }
  return { variables, constants };
}

/**
 * TensorFlow multiplies the one row of a lone picture by a kernel of its own, whose sums differ in the last bit from
 * those of two or more. A lone picture is sent in with another, so that its value does not depend on how an epoch was
 * divided.
 */
export function upTo(tap: string, network: Network): FrozenNetwork {
  const through = (x: tf.Tensor): tf.Tensor => network.run(x, [tap]).get(tap)!;
  return {
    enter: (pixels) => (pixels.shape[0] === 1 ? filledUp(pixels, 2, (x) => [through(x)])[0]! : through(pixels)),
    dispose: () => network.dispose(),
  };
}

/** With what, and in what, a network computes. */
interface Computing {
  readonly engine: Engine;
  readonly precision: Precision;
}

/** Runs steps and updates the moving statistics; on TensorFlow's engine it compiles one for each size of a batch. */
function startStepper(
  network: StepNetwork,
  variables: ReadonlyMap<string, Variable>,
  readAll: () => tf.Tensor[],
  { engine, precision }: Computing,
): { step(input: StepInput): StepResult; dispose(): void } {
  const native = compilerOf(engine);
  const [statistics, masked] = [statisticsOf(network), maskedNodes(network)];
  const isTaught = network.distillation !== undefined;
  const isWeighted = network.labelLoss?.weighted === true;
  const compiled = new Map<number, Compiled>();
  /** All tensors of a step in one list, and back. */
  const work = (tensors: readonly tf.Tensor[]): tf.Tensor[] => {
    const [x, targets, labels, ...rest] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
    const weights = isWeighted ? rest.shift() : undefined;
    const teacher = isTaught ? rest.shift() : undefined;
    const [parameters, masks] = [rest.slice(0, network.paths.length), rest.slice(network.paths.length)];
    const outputs = stepOf(network, { x, targets, labels, weights, teacher, parameters, masks });
    const { loss, parts, correct, gradients, statistics: fresh } = outputs;
    return [loss, correct, ...(parts === undefined ? [] : [parts.hard, parts.soft]), ...gradients, ...fresh];
  };
  const results = (tensors: readonly tf.Tensor[]): StepOutputs => {
    const [loss, correct, ...others] = tensors as [tf.Tensor, tf.Tensor, ...tf.Tensor[]];
    const parts = isTaught ? { hard: others[0]!, soft: others[1]! } : undefined;
    const rest = isTaught ? others.slice(2) : others;
    const count = network.trainable.length;
    return { loss, parts, correct, gradients: rest.slice(0, count), statistics: rest.slice(count) };
  };
  const runStep = (count: number, inputs: readonly tf.Tensor[]): tf.Tensor[] => {
    if (native === undefined) return work(inputs);
    const graph = compiled.get(count) ?? compile(native, inputs, () => work(inputs), precision);
    compiled.set(count, graph);
    return graph.run(inputs);
  };
  return {
    step: ({ x, targets, labels, weights, teacher, random }) => {
      const count = x.shape[0]!;
      const masks = masked.map((node) => drawMask(maskNeedOf(node, count)!, random));
      const values = readAll();
      const others = [weights, teacher].filter((each) => each !== undefined);
      const outputs = results(runStep(count, [x, targets, labels, ...others, ...values, ...masks]));
      const { parts } = outputs;
      const result: StepResult = {
        loss: outputs.loss.dataSync()[0]!,
        parts: parts && { hard: parts.hard.dataSync()[0]!, soft: parts.soft.dataSync()[0]! },
        correct: outputs.correct.dataSync()[0]!,
        gradients: new Map(network.trainable.map((path, i) => [path, outputs.gradients[i]!])),
      };
      // The tensors that were read go before anything is written, so that variables are updated in place.
      tf.dispose([outputs.loss, outputs.correct, ...(parts === undefined ? [] : [parts.hard, parts.soft])]);
      tf.dispose([...values, ...masks]);
      statistics.forEach((path, i) => {
        variables.get(path)!.assign(outputs.statistics[i]!);
        outputs.statistics[i]!.dispose();
      });
      return result;
    },
    dispose: () => {
      for (const graph of compiled.values()) graph.dispose();
    },
  };
}

/** Value of the entry and the parameters -> logits, in inference mode. */
function classifierBehind(
  { graph, entry, operators, paths }: StepNetwork,
  { engine, precision }: Computing,
): BatchFunction {
  return compileBatches(
    engine,
    (x, parameters) => {
      const values = new Map(paths.map((path, i) => [path, parameters[i]!]));
      const given = new Map([[entry, x]]);
      const mode = inference;
      return [
        run(graph, given, ['logits'], { operators, parameters: (path) => values.get(path)!, mode }).get('logits')!,
      ];
    },
    precision,
  );
}
