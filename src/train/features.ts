/**
 * The frozen part's output for every picture, computed once and kept, so that later epochs cost only what is trained.
 * Pictures come in the batches of {@link batches}, whether from disk or from what is kept.
 */
import { freemem } from 'node:os';
import * as tf from '@tensorflow/tfjs-core';
import { type Augmentation, flipView } from '../augment/augment.js';
import type { Preprocessing } from '../augment/preprocessing.js';
import { batches, type ImageSize, type Sample } from '../data/index.js';
import { rng } from '../rng.js';
import type { TrainableNetwork } from './trainable.js';

/** Some pictures as the trained part of the network takes them. */
export interface Entries {
  /** `[count, ...entry shape]`; the consumer disposes of it. */
  readonly x: tf.Tensor;
  readonly labels: Int32Array;
  readonly count: number;
}

/** Pictures that can be gone through again and again. */
export interface EntrySource {
  /** Pictures that can be read, as far as is known. */
  readonly pictures: number;
  /** One epoch: shuffled and augmented by seed and epoch, or in order and plain. */
  epoch(kind: { readonly shuffled: number } | 'in order'): AsyncGenerator<Entries, void, void>;
}

export interface EntryOptions {
  readonly network: TrainableNetwork;
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly batchSize: number;
  readonly augment: Augmentation;
  readonly seed: number;
  readonly skipBadImages: boolean;
  readonly onBadImage: (path: string, reason: string) => void;
}

/** Decodes pictures anew in every epoch and sends them through the frozen part. */
export function entriesFromDisk(samples: readonly Sample[], options: EntryOptions): EntrySource {
  const { network, augment, seed, ...rest } = options;
  return {
    pictures: samples.length,
    async *epoch(kind) {
      const shuffled = kind !== 'in order';
      const loaded = batches(samples, {
        ...rest,
        seed,
        augment: shuffled ? augment : 'none',
        epoch: shuffled ? kind.shuffled : 0,
        ...(shuffled ? { shuffle: orderOf(seed, kind.shuffled) } : {}),
      });
      for await (const { pixels, labels, count } of loaded)
        yield { x: enter(network, pixels, count, false), labels, count };
    },
  };
}

/** The order of an epoch's pictures. */
const orderOf = (seed: number, epoch: number) => rng(seed).split(`epoch ${epoch}`).split('order');

/** Pixels, mirrored or as they are, through the frozen part. */
function enter(network: TrainableNetwork, pixels: Float32Array, count: number, mirrored: boolean): tf.Tensor {
  return tf.tidy(() => {
    const x = tf.tensor(pixels, [count, ...network.graph.input.shape]);
    return network.enter(mirrored ? tf.reverse(x, 2) : x);
  });
}

/** Bytes that keeping the frozen part's output takes, for every view of every picture. */
export function bytesToKeep(pictures: number, network: TrainableNetwork, augment: Augmentation): number {
  const views = augment === 'flip' ? 2 : 1;
  return pictures * views * network.entryShape.reduce((a, b) => a * b, 1) * Float32Array.BYTES_PER_ELEMENT;
}

/** Whether so many bytes may be kept: half of what is free, so that training itself still fits. */
export function fitsInMemory(bytes: number): boolean {
  return bytes <= freemem() / 2;
}

/**
 * Goes through the pictures once and keeps what comes out of the frozen part, for the mirrored picture too where epochs
 * may show it. `augment` must be `none` or `flip`; epochs then show the same pictures, in the same order and the same
 * view, as without keeping.
 * @param onProgress gets the pictures done and all of them; false stops
 */
export async function keepEntries(
  samples: readonly Sample[],
  options: EntryOptions,
  onProgress: (done: number, total: number) => boolean,
): Promise<EntrySource> {
  const { network, augment, seed, batchSize, ...rest } = options;
  const length = network.entryShape.reduce((a, b) => a * b, 1);
  const views = augment === 'flip' ? 2 : 1; // plain, mirrored
  const kept = Array.from({ length: views }, () => new Float32Array(samples.length * length));
  const present = new Uint8Array(samples.length);
  let done = 0;
  for await (const batch of batches(samples, { ...rest, batchSize, seed, augment: 'none', epoch: 0 })) {
    const { pixels, indices, count } = batch;
    for (let view = 0; view < views; view++) {
      const entered = enter(network, pixels, count, view === 1);
      const values = (await entered.data()) as Float32Array;
      entered.dispose();
      indices.forEach((position, i) => {
        kept[view]!.set(values.subarray(i * length, (i + 1) * length), position * length);
        present[position] = 1;
      });
    }
    done += count;
    if (!onProgress(done, samples.length)) break;
  }
  return {
    pictures: present.reduce((a, b) => a + b, 0),
    async *epoch(kind) {
      const everything = samples.map((_, i) => i);
      const order = kind === 'in order' ? everything : orderOf(seed, kind.shuffled).shuffle(everything);
      for (let start = 0; start < order.length; start += batchSize) {
        const chosen = order.slice(start, start + batchSize).filter((i) => present[i] === 1);
        if (chosen.length === 0) continue;
        const values = new Float32Array(chosen.length * length);
        chosen.forEach((position, i) => {
          const flipped =
            kind !== 'in order' && augment === 'flip' && flipView(seed, kind.shuffled, samples[position]!.path).flip;
          const from = kept[flipped ? 1 : 0]!;
          values.set(from.subarray(position * length, (position + 1) * length), i * length);
        });
        yield {
          x: tf.tensor(values, [chosen.length, ...network.entryShape]),
          labels: Int32Array.from(chosen, (position) => samples[position]!.label),
          count: chosen.length,
        };
      }
    },
  };
}
