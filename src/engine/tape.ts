/**
 * Reverse-mode differentiation over {@link Operator}s. What a gradient needs is kept until it was used and freed at
 * once, activations and their gradients alike, so the peak is what the forward pass leaves behind.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Operator } from './operator.js';

/** Runs operators; a recording one remembers them. Gives every output; the caller disposes of them. */
export type Apply = (operator: Operator, inputs: readonly tf.Tensor[]) => tf.Tensor[];

/** Runs operators and remembers nothing. */
export const applyOnly: Apply = (operator, inputs) => tf.tidy(() => operator.forward(inputs));

interface Entry {
  readonly operator: Operator;
  /** Tensor identities: the tensors themselves may be gone by the time of the backward pass. */
  readonly inputIds: readonly number[];
  readonly outputId: number;
  /** Sparse: only what the backward pass looks at. */
  readonly inputs: readonly tf.Tensor[];
  readonly outputs: readonly tf.Tensor[];
}

export interface Tape {
  readonly apply: Apply;
  /**
   * Gradients of `sum(seed * y)` with respect to the watched tensors, by their position; the tape is spent. A watched
   * tensor that `y` does not depend on has a gradient of zeros.
   */
  gradients(y: tf.Tensor, seed: tf.Tensor): tf.Tensor[];
}

/** Starts recording what depends on the given tensors. */
export function startTape(watched: readonly tf.Tensor[]): Tape {
  const tracked = new Set(watched.map((tensor) => tensor.id));
  const entries: Entry[] = [];
  return {
    apply: (operator, inputs) => {
      const outputs = applyOnly(operator, inputs);
      const wanted = inputs.map((input) => tracked.has(input.id));
      if (!wanted.includes(true)) return outputs;
      tracked.add(outputs[0]!.id);
      const saves = operator.savesFor?.(wanted) ?? operator.saves;
      entries.push({
        operator,
        inputIds: inputs.map((input) => input.id),
        outputId: outputs[0]!.id,
        inputs: pick(inputs, saves.inputs),
        outputs: pick(outputs, saves.outputs),
      });
      return outputs;
    },
    gradients: (y, seed) => {
      const found = new Map<number, tf.Tensor>([[y.id, tf.keep(tf.clone(seed))]]);
      for (let entry = entries.pop(); entry !== undefined; entry = entries.pop()) backward(entry, tracked, found);
      return watched.map((tensor) => {
        const gradient = found.get(tensor.id);
        return gradient ?? tf.zerosLike(tensor);
      });
    },
  };
}

/** Clones share their numbers with the original, and outlive it. */
function pick(tensors: readonly tf.Tensor[], positions: readonly number[]): tf.Tensor[] {
  const picked: tf.Tensor[] = new Array(tensors.length);
  for (const position of positions) picked[position] = tf.keep(tf.clone(tensors[position]!));
  return picked;
}

function backward(entry: Entry, tracked: ReadonlySet<number>, found: Map<number, tf.Tensor>): void {
  const { operator, inputIds, outputId, inputs, outputs } = entry;
  const dy = found.get(outputId);
  if (dy !== undefined) {
    const wanted = inputIds.map((id) => tracked.has(id));
    tf.tidy(() => {
      const gradients = operator.backward({ dy, inputs, outputs }, wanted);
      inputIds.forEach((id, i) => {
        if (!wanted[i]) return;
        const sofar = found.get(id);
        const gradient = gradients[i]!;
        found.set(id, tf.keep(sofar === undefined ? gradient : tf.add(sofar, gradient)));
        sofar?.dispose();
      });
    });
    found.delete(outputId);
    dy.dispose();
  }
  for (const tensor of [...inputs, ...outputs]) tensor?.dispose();
}
