/** A network with its numbers, ready for inference. */
import * as tf from '@tensorflow/tfjs-core';
import { foldGraph, type ReadParameter } from './fold.js';
import { type Graph, type Node, nodesBetween, tapOf } from './graph.js';
import { operatorsOf } from './operators.js';
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
}

/** Reads a network's parameters one after the other and keeps them as constants of the engine. */
export async function loadNetwork(
  original: Graph,
  read: ReadParameter,
  engine: Engine,
  { outputs, fold = true }: LoadOptions,
): Promise<Network> {
  const folded = fold ? foldGraph(original) : { graph: original, read: (r: ReadParameter) => r };
  const { graph } = folded;
  const needed = nodesBetween(
    graph,
    new Set(),
    outputs.map((name) => tapOf(graph, name)),
  );
  const values = await loadConstants(needed, folded.read(read));
  const operators = operatorsOf(engine);
  const parameters = (path: string): tf.Tensor => values.get(path)!;
  return {
    graph,
    run: (x, taps) => run(graph, new Map([[graph.input, x]]), taps, { operators, parameters, mode: inference }),
    dispose: () => {
      tf.dispose([...values.values()]);
      values.clear();
    },
  };
}

async function loadConstants(nodes: readonly Node[], read: ReadParameter): Promise<Map<string, tf.Tensor>> {
  const values = new Map<string, tf.Tensor>();
  for (const node of nodes) {
    for (const { path, shape } of node.parameters) values.set(path, tf.tensor(await read(path), [...shape]));
  }
  return values;
}
