/** Pictures as the trained part of the network takes them: what comes out of the frozen part, or pixels without one. */
import * as tf from '@tensorflow/tfjs-core';
import type { Preprocessing } from '../../augment/preprocessing.js';
import type { Augmentation, AugmentRecipe } from '../../augment/recipe.js';
import { batches, type ImageSize, type Recipe, type Sample } from '../../data/index.js';
import { rng } from '../../rng.js';
import type { FrozenNetwork, TrainableNetwork } from '../trainable.js';

/** Some pictures as the trained part of the network takes them. */
export interface Entries {
  /** `[count, ...entry shape]`; the consumer disposes of it before it asks for the next. */
  readonly x: tf.Tensor;
  readonly labels: Int32Array;
  /** Positions of the pictures in the samples. */
  readonly indices: Int32Array;
  /** What was decoded for them, where it was: `[count, H, W, C]` for the network, and for {@link Shuffled.second}. */
  readonly pixels?: { readonly own: Float32Array; readonly second: Float32Array | undefined };
  /** A teacher's logits `[count, classes]`, where one takes part; the consumer disposes of them too. */
  readonly teacher?: tf.Tensor;
  readonly count: number;
  /** How long the consumer waited for the pictures: for decoding, or for rows to be read. */
  readonly waitedMs: number;
}

/** An epoch of training. */
export interface Shuffled {
  /** Its number, from 1. */
  readonly shuffled: number;
  /** A second network that is shown the same, where pictures are decoded. */
  readonly second?: Recipe | undefined;
}

/** Pictures that can be gone through again and again. */
export interface EntrySource {
  /** One epoch: shuffled and augmented by seed and epoch, or in order and plain. */
  epoch(kind: Shuffled | 'in order'): AsyncGenerator<Entries, void, void>;
}

export interface EntryOptions {
  readonly network: Pick<TrainableNetwork, 'graph' | 'entryShape'>;
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly batchSize: number;
  /** What is random about the pictures: a preset's name, or a recipe. */
  readonly augment: Augmentation | AugmentRecipe;
  readonly seed: number;
  readonly skipBadImages: boolean;
  readonly onBadImage: (path: string, reason: string) => void;
}

/** Decodes pictures anew in every epoch and sends them through the frozen part. */
export function entriesFromDisk(
  samples: readonly Sample[],
  options: EntryOptions & { readonly frozen: FrozenNetwork },
): EntrySource {
  const { network, frozen, augment, seed, ...rest } = options;
  return {
    async *epoch(kind) {
      const shuffled = kind !== 'in order';
      const loaded = batches(samples, {
        ...rest,
        seed,
        augment: shuffled ? augment : 'none',
        epoch: shuffled ? kind.shuffled : 0,
        ...(shuffled ? { shuffle: orderOf(seed, kind.shuffled), second: kind.second } : {}),
      });
      for await (const { pixels: own, second: others, labels, indices, count, waitedMs } of loaded) {
        const x = tf.tidy(() => frozen.enter(tf.tensor(own, [count, ...network.graph.input.shape])));
        yield { x, labels, indices, count, waitedMs, pixels: { own, second: others } };
      }
    },
  };
}

/** The order of an epoch's pictures. */
export const orderOf = (seed: number, epoch: number) => rng(seed).split(`epoch ${epoch}`).split('order');
