/** The file that each worker thread runs; the package names it `#decode-worker`. */

import { move, transferableSymbol, valueSymbol } from 'piscina';
import { usePicturesAddon } from '../addon.js';
import { useOneThreadPerPicture } from './decode.js';
import { type DecodeTask, decodeBatch } from './decode-batch.js';

useOneThreadPerPicture();

let last: Promise<unknown> = Promise.resolve();

/**
 * One task after the other: two are sent ahead, so that this thread goes on while the main thread is busy, but half of
 * each at a time would make both late.
 */
export default function work(task: DecodeTask): Promise<unknown> {
  usePicturesAddon(task.addon);
  const result = last.then(() => decodeBatch(task));
  last = result.catch(() => undefined);
  // The pixels change owner instead of being copied; what is shared needs neither.
  return result.then((value) => {
    const blocks = [value.pixels, ...(value.second === undefined ? [] : [value.second])];
    const buffers = blocks.map(({ buffer }) => buffer).filter((buffer) => buffer instanceof ArrayBuffer);
    return move({ [transferableSymbol]: buffers, [valueSymbol]: value });
  });
}
