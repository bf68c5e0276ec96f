/** Pictures as the trained part of the network takes them: what comes out of the frozen part, or pixels without one. */
import * as tf from '@tensorflow/tfjs-core';
import type { Preprocessing } from '../../augment/preprocessing.js';
import { type AugmentRecipe, recipes } from '../../augment/recipe.js';
import { batches, type ImageSize, type Recipe, type Sample } from '../../data/index.js';
import { drawMix, type Mix, type MixedLabels, type Mixing, mixLabels, mixPixels } from '../mixing.js';
import { orderOf, type Sampler } from '../sampling.js';
import type { FrozenNetwork, TrainableNetwork } from '../trainable.js';

/** Some pictures as the trained part of the network takes them. */
export interface Entries {
  /** `[count, ...entry shape]`; the consumer disposes of it before it asks for the next. */
  readonly x: tf.Tensor;
  /** Class indices; where pictures were mixed, of the larger part of each. */
  readonly labels: Int32Array;
  /** Where pictures were mixed, what is wanted of each instead of its label: `[count, classes]`, rows sum to one. */
  readonly targets?: Float32Array;
  /** Positions of the pictures in the samples. */
  readonly indices: Int32Array;
  /**
   * What was decoded for them, where it was, and mixed: `[count, H, W, C]` for the network, and for
   * {@link Shuffled.second}.
   */
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
  /** What is random about training pictures. */
  readonly augment: AugmentRecipe;
  /** Mixes the pictures of each training batch; none are when absent. */
  readonly mixing?: Mixing | undefined;
  /** Which pictures an epoch shows; every one once when absent. */
  readonly sampler?: Sampler | undefined;
  readonly seed: number;
  readonly skipBadImages: boolean;
  readonly onBadImage: (path: string, reason: string) => void;
  /** Threads that decode, and batches ahead of the consumer; as the loader has them when absent. */
  readonly workers?: number;
  readonly prefetch?: number;
}

/** Decodes pictures anew in every epoch and sends them through the frozen part. */
export function entriesFromDisk(
  samples: readonly Sample[],
  options: EntryOptions & { readonly frozen: FrozenNetwork },
): EntrySource {
  const { network, frozen, augment, mixing, seed, ...rest } = options;
  return {
    async *epoch(kind) {
      const shuffled = kind !== 'in order';
      const loaded = batches(samples, {
        ...rest,
        lend: true,
        seed,
        augment: shuffled ? augment : recipes.none,
        epoch: shuffled ? kind.shuffled : 0,
        ...(shuffled ? { order: orderOf(samples, options, kind.shuffled), second: kind.second } : {}),
      });
      let step = 0;
      for await (const { pixels: own, second: others, labels, indices, count, waitedMs } of loaded) {
        const mixed =
          shuffled && mixing
            ? mixBatch(
                { own, others, labels, count },
                drawMix(mixing, seed, kind.shuffled, step++),
                options,
                kind.second,
              )
            : { labels };
        const x = tf.tidy(() => frozen.enter(tf.tensor(own, [count, ...network.graph.input.shape])));
        yield { x, ...mixed, indices, count, waitedMs, pixels: { own, second: others } };
      }
    },
  };
}

interface DecodedBatch {
  readonly own: Float32Array;
  readonly others: Float32Array | undefined;
  readonly labels: Int32Array;
  readonly count: number;
}

/** Mixes pictures where they are, those of a second network in the same way. */
function mixBatch(
  { own, others, labels, count }: DecodedBatch,
  mix: Mix,
  { size, mixing }: EntryOptions,
  second: Recipe | undefined,
): MixedLabels {
  const share = mixPixels(mix, { pixels: own, size }, count);
  if (others !== undefined) mixPixels(mix, { pixels: others, size: second!.size }, count);
  return mixLabels(labels, share, mixing!);
}
