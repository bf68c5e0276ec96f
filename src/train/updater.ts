/** From the gradients of batches to updates: several batches may make one, and its gradients may be clipped. */
import * as tf from '@tensorflow/tfjs-core';
import type { Clipper } from '../engine/global-norm.js';
import type { Averages } from './averages.js';
import type { Optimizer } from './optimizers.js';

export interface UpdaterOptions {
  readonly optimizer: Optimizer;
  /** Batches that make one update, from 1; 1 when absent. */
  readonly accumulate?: number | undefined;
  /** Cuts the gradients of an update back; they are not when absent. */
  readonly clipper?: Clipper | undefined;
  /** Follow the weights after every update. */
  readonly averages?: Averages | undefined;
}

export interface Updater {
  /**
   * Takes in the mean gradients of a batch, which it disposes of, and does the update that a group of batches makes.
   * Means over pictures of all of them: as many batches as `accumulate` give what one batch of all their pictures gives,
   * but for batch norms, which normalise and move their statistics by each batch.
   * @param count pictures of the batch
   */
  take(gradients: ReadonlyMap<string, tf.Tensor>, count: number, lr: number): void;
  /** Does the update of a group that is not full: the last of an epoch. */
  finish(lr: number): void;
  /** Forgets a group that is not full. */
  dispose(): void;
}

/** Batches taken in since the last update. */
interface Group {
  /** Sum of the gradients, each times its pictures over those of the first batch. */
  sums: ReadonlyMap<string, tf.Tensor>;
  readonly first: number;
  pictures: number;
  batches: number;
}

export function updaterOf({ optimizer, accumulate = 1, clipper, averages }: UpdaterOptions): Updater {
  let group: Group | undefined;
  const dispose = (): void => {
    tf.dispose([...(group?.sums.values() ?? [])]);
    group = undefined;
  };
  const apply = (gradients: ReadonlyMap<string, tf.Tensor>, lr: number): void => {
    const clipped = clipper?.clip([...gradients.values()]);
    const applied =
      clipped === undefined ? gradients : new Map([...gradients.keys()].map((path, i) => [path, clipped[i]!]));
    optimizer.apply(applied, lr);
    tf.dispose(clipped ?? []);
    averages?.update(optimizer.steps);
  };
  const finish = (lr: number): void => {
    if (group === undefined) return;
    const share = group.first / group.pictures;
    if (share !== 1) group.sums = changed(group.sums, (sum) => tf.mul(sum, share));
    apply(group.sums, lr);
    dispose();
  };
  return {
    finish,
    dispose,
    take: (gradients, count, lr) => {
      if (group === undefined) group = { sums: gradients, first: count, pictures: count, batches: 1 };
      else {
        const weight = count / group.first;
        group.sums = changed(group.sums, (sum, path) => {
          const gradient = gradients.get(path)!;
          return weight === 1 ? tf.add(sum, gradient) : tf.add(sum, tf.mul(gradient, weight));
        });
        tf.dispose([...gradients.values()]);
        group.pictures += count;
        group.batches++;
      }
      if (group.batches >= accumulate) finish(lr);
    },
  };
}

/** New tensors in the place of those given, one after the other, so that both are never there in whole. */
function changed(
  tensors: ReadonlyMap<string, tf.Tensor>,
  change: (tensor: tf.Tensor, path: string) => tf.Tensor,
): Map<string, tf.Tensor> {
  const fresh = new Map<string, tf.Tensor>();
  for (const [path, tensor] of tensors) {
    fresh.set(
      path,
      tf.tidy(() => change(tensor, path)),
    );
    tensor.dispose();
  }
  return fresh;
}
