/** A network with its numbers, ready for inference. */
import * as tf from '@tensorflow/tfjs-core';
import { type BatchFunction, compileBatches } from './compile.js';
import { foldGraph, type ReadParameter } from './fold.js';
import { type Graph, type Node, nodesBetween, type Parameter, tapOf } from './graph.js';
import { operatorsOf } from './operators.js';
import { type Precision, requirePrecision } from './precision.js';
import { inference, run } from './run.js';
import type { Engine } from './tensorflow.js';

export type { ReadParameter } from './fold.js';

export interface Network {
  /** With batch norms, layer scales and kernel standardisation folded away where asked for. */
  readonly graph: Graph;
  /** Pixels `[N, H, W, C]` -> the taps, `[N, ...]` each. The caller disposes of them. */
  run(x: tf.Tensor, taps: readonly string[]): Map<string, tf.Tensor>;
  dispose(): void;
}

export interface LoadOptions {
  /** The taps that will be asked for: parameters that none of them needs are not loaded. */
  readonly outputs: readonly string[];
  /** Fold what can be folded into kernels: the same function, faster, and rounded differently in the last digits. */
  readonly fold?: boolean;
  /** Compile it for the sizes of batches that come: worth its second for many pictures, not for a few. */
  readonly compiled?: boolean;
  /** bfloat16 is always compiled. */
  readonly precision?: Precision;
}

/**
 * Reads a network's parameters one after the other and keeps them as constants of the engine.
 * @throws PRECISION_UNSUPPORTED
 */
export async function loadNetwork(
  original: Graph,
  read: ReadParameter,
  engine: Engine,
  { outputs, fold = true, precision = 'float32', compiled = false }: LoadOptions,
): Promise<Network> {
  requirePrecision(precision, engine);
  const isCompiled = compiled || precision !== 'float32';
  const folded = fold ? foldGraph(original) : { graph: original, read: (r: ReadParameter) => r };
  const { graph } = folded;
  const needed = nodesBetween(
    graph,
    new Set(),
    outputs.map((name) => tapOf(graph, name)),
  );
  const values = await loadConstants(needed, folded.read(read));
  const operators = operatorsOf(engine);
  const paths = [...values.keys()];
  const runOn = (x: tf.Tensor, constants: readonly tf.Tensor[], taps: readonly string[]): Map<string, tf.Tensor> => {
    const byPath = new Map(paths.map((path, i) => [path, constants[i]!]));
    const parameters = (path: string): tf.Tensor => byPath.get(path)!;
    return run(graph, new Map([[graph.input, x]]), taps, { operators, parameters, mode: inference });
  };
  const functions = new Map<string, BatchFunction>(); // by the taps that are asked for
  return {
    graph,
    run: (x, taps) => {
      const constants = [...values.values()];
      if (!isCompiled) return runOn(x, constants, taps);
      const key = JSON.stringify(taps);
      const compiledTaps =
        functions.get(key) ?? compileBatches(engine, (...given) => [...runOn(...given, taps).values()], precision);
      functions.set(key, compiledTaps);
      const results = compiledTaps.run(x, constants);
      return new Map(taps.map((tap, i) => [tap, results[i]!]));
    },
    dispose: () => {
      for (const each of functions.values()) each.dispose();
      tf.dispose([...values.values()]);
      values.clear();
    },
  };
}

/** While one parameter is folded, so many more are read: Node has four threads for that (UV_THREADPOOL_SIZE). */
const READ_AHEAD = 4;

async function loadConstants(nodes: readonly Node[], read: ReadParameter): Promise<Map<string, tf.Tensor>> {
  const values = new Map<string, tf.Tensor>();
  const parameters = nodes.flatMap((node) => node.parameters);
  for await (const { path, value } of tensorsOf(parameters, read)) values.set(path, value);
  return values;
}

/** Parameters as tensors, which the consumer disposes of, one after the other. */
export async function* tensorsOf(
  parameters: readonly Parameter[],
  read: ReadParameter,
): AsyncGenerator<{ readonly path: string; readonly value: tf.Tensor }, void, void> {
  const ahead: Promise<Float32Array>[] = [];
  let started = 0;
  const startReading = (): void => {
    const next = parameters[started++];
    if (next === undefined) return;
    const numbers = read(next.path);
    numbers.catch(() => undefined); // thrown when its turn comes
    ahead.push(numbers);
  };
  try {
    for (let i = 0; i < READ_AHEAD; i++) startReading();
    for (const { path, shape } of parameters) {
      yield { path, value: tf.tensor(await ahead.shift()!, [...shape]) };
      startReading();
    }
  } finally {
    await Promise.allSettled(ahead); // whoever closes the file does so when nothing reads it
  }
}
