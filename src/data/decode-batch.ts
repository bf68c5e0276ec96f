/** What a worker does: picture files to one block of pixels. Runs as well on the calling thread. */

import { type Memory, reusedMemory } from '../addon.js';
import { type AugmentOptions, augmentInto, isPlacing, pictureRng, placedAt } from '../augment/augment.js';
import { uprightSize } from '../augment/compiled.js';
import type { Channels, ImageSize, Picture } from '../augment/image.js';
import { placeJpegInto, placementIn, preprocessInto, type View } from '../augment/pipeline.js';
import { channelsFor, type Preprocessing } from '../augment/preprocessing.js';
import type { AugmentRecipe } from '../augment/recipe.js';
import { DataError } from '../errors.js';
import { decodeUnless, type JpegFile } from './decode.js';

/** How one network takes pictures. */
export interface Recipe {
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
}

/** Plain data, so that it can be sent to another thread. */
export interface DecodeTask extends Recipe {
  readonly paths: readonly string[];
  /** Of a second network, which is shown the same random changes of the same pictures. */
  readonly second?: Recipe | undefined;
  /** What is random. */
  readonly augment: AugmentRecipe;
  readonly seed: number | string;
  readonly epoch: number;
  /** When given, this view is shown and nothing is random. */
  readonly view: View | undefined;
  /** Stop at the first bad picture, whose fault is then the only one. */
  readonly stopAtFault: boolean;
  /** Shared by all threads; 1 at index 0 means that nobody wants the result any more. */
  readonly cancelled: Int32Array;
  /** Where the pixels go, for as many pictures or more; new memory when absent. */
  readonly memory?: SharedArrayBuffer | undefined;
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
  readonly pixels: Float32Array;
  /** The same pictures for the second network. */
  readonly second?: Float32Array | undefined;
  /** Positions in `paths` of the pictures in `pixels`. */
  readonly kept: readonly number[];
  readonly faults: readonly PictureFault[];
}

/** What is decoded meanwhile, so that the processors are busy while this thread reads files and sees what comes next. */
const DECODED_AHEAD = 2;

/** Decodes and preprocesses; a bad picture is a fault in the result, not a rejection. */
export async function decodeBatch(task: DecodeTask): Promise<DecodeResult> {
  const { paths, second, memory, cancelled } = task;
  const blocks = [
    blockOf(task, paths.length, memory),
    ...(second === undefined ? [] : [blockOf(second, paths.length)]),
  ];
  const kinds = [...new Set(blocks.map(({ channels }) => channels))];
  const kept: number[] = [];
  const faults: PictureFault[] = [];
  const ahead: Promise<DataError | undefined>[] = [];
  // So many pictures are in memory at a time, and the next ones in the same: fresh memory costs as much as a resize.
  const memories = Array.from(
    { length: 1 + DECODED_AHEAD },
    () => new Map(kinds.map((kind) => [kind, reusedMemory()])),
  );
  let started = 0;
  for (let i = 0; i < paths.length; i++) {
    while (started < Math.min(paths.length, i + 1 + DECODED_AHEAD)) {
      const filled = fillSlots(blocks, started, memories[started % memories.length]!, task);
      filled.catch(() => undefined); // its turn to be awaited, and thrown, comes later or never
      ahead.push(filled);
      started++;
    }
    const fault = await ahead.shift()!;
    if (fault) faults.push({ path: paths[i]!, code: fault.code, message: fault.message, hint: fault.hint });
    else kept.push(i);
    if (Atomics.load(cancelled, 0) === 1 || (fault && task.stopAtFault)) break;
  }
  await Promise.all(ahead);
  const [pixels, others] = blocks.map((block) => withoutGaps(block, kept, paths.length));
  return { pixels: pixels!, second: others, kept, faults };
}

/** Pictures as one network takes them. */
interface Block extends Recipe {
  readonly channels: Channels;
  /** Numbers of a picture. */
  readonly slot: number;
  readonly pixels: Float32Array;
}

function blockOf({ preprocessing, size }: Recipe, count: number, memory?: SharedArrayBuffer): Block {
  const channels = channelsFor(preprocessing);
  const slot = size.height * size.width * channels;
  const length = count * slot;
  const pixels = memory === undefined ? new Float32Array(length) : new Float32Array(memory, 0, length);
  return { preprocessing, size, channels, slot, pixels };
}

/** The slots of these pictures, one after the other. */
function withoutGaps({ pixels, slot }: Block, kept: readonly number[], count: number): Float32Array {
  if (kept.length === count) return pixels;
  for (const [to, from] of kept.entries()) pixels.copyWithin(to * slot, from * slot, (from + 1) * slot);
  return pixels.subarray(0, kept.length * slot);
}

/**
 * Decodes a picture into its slot of every block: all of it in the thread pool of the process where that is possible, else
 * only decoded there and the rest done here.
 * @param memories by number of channels, of those that the blocks have
 */
async function fillSlots(
  blocks: readonly Block[],
  index: number,
  memories: ReadonlyMap<Channels, Memory>,
  task: DecodeTask,
): Promise<DataError | undefined> {
  const path = task.paths[index]!;
  try {
    const decoding = [...memories].map(
      async ([kind, memory]) =>
        [kind, await decodeUnless((jpeg) => fillSlotWith(jpeg, blocks, index, task), path, kind, memory)] as const,
    );
    const decoded = new Map(await Promise.all(decoding));
    for (const block of blocks) {
      const picture = decoded.get(block.channels);
      if (picture) fillSlot(block, index, picture, path, task);
    }
    return undefined;
  } catch (thrown) {
    if (thrown instanceof DataError) return thrown;
    throw thrown;
  }
}

/** What is random about a picture is named by seed, epoch and path: every network is shown the same of it. */
function optionsOf(
  { preprocessing, size }: Recipe,
  path: string,
  { seed, epoch, augment }: DecodeTask,
): AugmentOptions {
  return { preprocessing, size, recipe: augment, generator: pictureRng(seed, epoch, path) };
}

function fillSlot(block: Block, index: number, picture: Picture, path: string, task: DecodeTask): void {
  const { preprocessing, size, slot, pixels } = block;
  const offset = index * slot;
  if (task.view) preprocessInto(picture, preprocessing, size, pixels, offset, task.view);
  else augmentInto(picture, optionsOf(block, path, task), pixels, offset);
}

/** Of one network, where no change needs the pixels: undefined for others. */
function fillSlotWith(
  jpeg: JpegFile,
  blocks: readonly Block[],
  index: number,
  task: DecodeTask,
): Promise<boolean> | undefined {
  const { view, augment, paths } = task;
  const [block, ...others] = blocks;
  if (!block || others.length > 0 || block.channels !== 3 || jpeg.channels !== 3) return undefined;
  if (!view && !isPlacing(augment)) return undefined;
  const { preprocessing, size, pixels, slot } = block;
  const upright = uprightSize(jpeg, jpeg.orientation);
  const placed = view
    ? { placement: placementIn(view, upright, preprocessing, size), view }
    : placedAt(upright, optionsOf(block, paths[index]!, task));
  return placeJpegInto(jpeg, placed, preprocessing, pixels.subarray(index * slot, (index + 1) * slot));
}
