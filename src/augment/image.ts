/**
 * A picture in memory: interleaved RGB, row after row, 0..255.
 *
 * `Uint8Array` is what the decoder gives and what Pillow's kernels keep; `Float32Array` (still 0..255) is what
 * TensorFlow's bilinear kernels give, because they do not round.
 */
export interface RgbImage {
  /** `[height, width, 3]`, interleaved. */
  readonly data: Uint8Array | Float32Array;
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
}

/** Height and width in pixels, in that order, as tensors have them. */
export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

/** A rectangle of whole pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Values a pixel has in {@link RgbImage}. */
export const RGB_CHANNELS = 3;
