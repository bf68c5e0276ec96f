/**
 * Compiled code for pictures. The native engine's set-up builds it and the engine offers it as it loads; `augment` and
 * `data` use it where it is there, and give the same bits by JavaScript and sharp where it is not.
 */

import { createRequire } from 'node:module';

/** The functions of `pictures.node`. Its source (`engine/setup/pictures-source.ts`) checks no bounds: callers do. */
export interface PicturesAddon {
  /**
   * Decodes a JPEG on the process' thread pool and turns it upright.
   * @param file unchanged until the promise is settled
   * @param orientation EXIF's, 1 to 8
   * @param out of the picture's size: one or three bytes a pixel, as the file has them
   * @returns whether it did; where the decoder gives up, or the picture has another size, `out` holds nothing of use
   */
  decodeJpeg(file: Uint8Array, orientation: number, out: Uint8Array): Promise<boolean>;
  /** Both passes of Pillow's resize of RGB bytes. */
  pillow(...its: [data: Uint8Array, ...resize: PillowResize, out: Uint8Array]): void;
  /** TensorFlow's bilinear resize of RGB bytes. */
  lerp(...its: [data: Uint8Array, ...resize: LerpResize, out: Float32Array]): void;
  /** RGB bytes through a table of 256 values for each channel. @param way width, height, three sources, flip */
  lookUp(data: Uint8Array, way: Int32Array, tables: Float32Array, out: Float32Array): void;
  /** `(value * scale - shift) / spread` of RGB floats. @param numbers scale, three shifts, three spreads */
  standardise(data: Float32Array, way: Int32Array, numbers: Float64Array, out: Float32Array): void;
  /**
   * {@link decodeJpeg} of an RGB picture, {@link pillow} and {@link lookUp} at once, on the process' thread pool. Everything
   * but `file` and `out` may change meanwhile.
   * @param stored width, height and EXIF's orientation
   * @returns as {@link decodeJpeg}
   */
  jpegByPillow(
    ...its: [
      file: Uint8Array,
      ...resize: PillowResize,
      stored: Int32Array,
      way: Int32Array,
      tables: Float32Array,
      out: Float32Array,
    ]
  ): Promise<boolean>;
  /** The same by {@link lerp} and {@link standardise}. */
  jpegByLerp(
    ...its: [
      file: Uint8Array,
      ...resize: LerpResize,
      stored: Int32Array,
      way: Int32Array,
      numbers: Float64Array,
      out: Float32Array,
    ]
  ): Promise<boolean>;
}

/** `geometry`: origin, stride, width, first row, rows, taps of columns and of rows. */
export type PillowResize = readonly [
  geometry: Int32Array,
  columnStarts: Int32Array,
  columnCounts: Int32Array,
  columnWeights: Int32Array,
  rowStarts: Int32Array,
  rowCounts: Int32Array,
  rowWeights: Int32Array,
];

/** `geometry`: origin, stride, width. */
export type LerpResize = readonly [
  geometry: Int32Array,
  left: Int32Array,
  right: Int32Array,
  across: Float32Array,
  above: Int32Array,
  below: Int32Array,
  down: Float32Array,
];

/** Gives so many bytes, whatever is in them. */
export type Memory = (bytes: number) => Uint8Array<ArrayBuffer>;

/** New each time. */
export const newMemory: Memory = (bytes) => new Uint8Array(bytes);

/**
 * The same each time, or larger: what was written there before is lost. Fresh memory for a picture costs as much as its
 * resize, half of it for the collection of what becomes garbage.
 */
export function reusedMemory(): Memory {
  let block = newMemory(0);
  return (bytes) => {
    if (block.length < bytes) block = newMemory(bytes);
    return block.subarray(0, bytes);
  };
}

/** Of this thread; each thread has its own. */
let used: { readonly file: string; readonly addon: PicturesAddon } | undefined;

/**
 * Loads the addon into this thread, or stops using it. Nothing but time depends on it.
 * @throws Error of Node where the file is not an addon for this platform
 */
export function usePicturesAddon(file: string | undefined): void {
  if (file === used?.file) return;
  used = file === undefined ? undefined : { file, addon: createRequire(file)(file) as PicturesAddon };
}

/** What this thread uses. */
export const picturesAddon = (): PicturesAddon | undefined => used?.addon;

/** Its file, for {@link usePicturesAddon} on another thread. */
export const picturesAddonFile = (): string | undefined => used?.file;
