/**
 * A picture in memory: interleaved, row after row, 0..255; grey, RGB or RGBA, as {@link channelsOf} counts.
 *
 * `Uint8Array` is what the decoder gives and what Pillow's kernels keep; `Float32Array` (still 0..255) is what
 * TensorFlow's bilinear kernels give, because they do not round.
 */
export interface Picture {
  /** `[height, width, channels]`, interleaved. */
  readonly data: Uint8Array | Float32Array;
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
}

/** Values a pixel has: grey, RGB, or RGB and alpha. */
export type Channels = 1 | 3 | 4;

/** Every {@link Channels}. */
export const channelCounts: readonly Channels[] = [1, 3, 4];

/** Values a pixel of this picture has. */
export function channelsOf({ data, width, height }: Picture): Channels {
  return (data.length / (width * height)) as Channels;
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

/**
 * Grey of a colour in bytes, as Pillow's `convert('L')` rounds it: .299, .587 and .114 in 16 bits.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Convert.c (L24)
 */
export function luma(r: number, g: number, b: number): number {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}
