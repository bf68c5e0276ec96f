/** What a worker does: picture files to one block of pixels. Runs as well on the calling thread. */

import { type Augmentation, augmentInto, pictureRng } from '../augment/augment.js';
import type { Channels, ImageSize, Picture } from '../augment/image.js';
import { preprocessInto, type View } from '../augment/pipeline.js';
import { channelsFor, type Preprocessing } from '../augment/preprocessing.js';
import { DataError } from '../errors.js';
import { decodeImage } from './decode.js';

/** Plain data, so that it can be sent to another thread. */
export interface DecodeTask {
  readonly paths: readonly string[];
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly augmentation: Augmentation;
  readonly seed: number | string;
  readonly epoch: number;
  /** When given, this view is shown and nothing is random. */
  readonly view: View | undefined;
  /** Stop at the first bad picture, whose fault is then the only one. */
  readonly stopAtFault: boolean;
  /** Shared by all threads; 1 at index 0 means that nobody wants the result any more. */
  readonly cancelled: Int32Array;
  /** File of the addon that the calling thread uses, for threads of their own. */
  readonly addon?: string | undefined;
}

/** Why a picture could not be read; an error's class does not survive the way between threads, so its parts do. */
export interface PictureFault {
  readonly path: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
}

export interface DecodeResult {
  /** `[kept.length, height, width, channels]`, without gaps where pictures were bad. */
  readonly pixels: Float32Array<ArrayBuffer>;
  /** Positions in `paths` of the pictures in `pixels`. */
  readonly kept: readonly number[];
  readonly faults: readonly PictureFault[];
}

/** Decoding takes about twice the time of resizing, 2.0 against 0.9 to 1.9 ms for 500x400 to 224: two keep the thread busy. */
const DECODED_AHEAD = 2;

/** Decodes and preprocesses; a bad picture is a fault in the result, not a rejection. */
export async function decodeBatch(task: DecodeTask): Promise<DecodeResult> {
  const { paths, preprocessing, size, cancelled } = task;
  const channels = channelsFor(preprocessing);
  const slot = size.height * size.width * channels;
  const pixels = new Float32Array(paths.length * slot);
  const kept: number[] = [];
  const faults: PictureFault[] = [];
  // Decoding runs in the thread pool of the process, so the next pictures decode while this one is resized.
  const ahead: Promise<Picture | DataError>[] = [];
  let started = 0;
  for (let i = 0; i < paths.length; i++) {
    while (started < Math.min(paths.length, i + 1 + DECODED_AHEAD)) {
      ahead.push(decodeOrFault(paths[started++]!, channels));
    }
    const path = paths[i]!;
    const picture = await ahead.shift()!;
    const stop = Atomics.load(cancelled, 0) === 1 || (picture instanceof DataError && task.stopAtFault);
    if (picture instanceof DataError) {
      faults.push({ path, code: picture.code, message: picture.message, hint: picture.hint });
    } else {
      const offset = kept.length * slot;
      if (task.view) preprocessInto(picture, preprocessing, size, pixels, offset, task.view);
      else {
        const generator = pictureRng(task.seed, task.epoch, path);
        augmentInto(picture, { preprocessing, size, augmentation: task.augmentation, generator }, pixels, offset);
      }
      kept.push(i);
    }
    if (stop) break;
  }
  await Promise.all(ahead);
  return { pixels: kept.length === paths.length ? pixels : pixels.slice(0, kept.length * slot), kept, faults };
}

async function decodeOrFault(path: string, channels: Channels): Promise<Picture | DataError> {
  try {
    return await decodeImage(path, channels);
  } catch (thrown) {
    if (thrown instanceof DataError) return thrown;
    throw thrown;
  }
}
