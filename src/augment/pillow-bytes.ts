/**
 * Pillow's changes of light and colour to 8-bit pictures, bit for bit: `ImageEnhance` and `ImageOps`. Alpha is left as it
 * is, and a grey picture has no colour.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageEnhance.py
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageOps.py
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Blend.c
 */
import { channelsOf, luma, type Picture } from './image.js';

/** A picture of bytes. */
export interface BytePicture extends Picture {
  readonly data: Uint8Array;
}

/** The picture in bytes: what is none yet is rounded. */
export function inBytes({ data, width, height }: Picture): BytePicture {
  return {
    data: data instanceof Uint8Array ? data : new Uint8Array(Uint8ClampedArray.from(data).buffer),
    width,
    height,
  };
}

/** `degenerate + factor * (picture - degenerate)`, in float32, cut off and clipped. */
function blended(picture: BytePicture, degenerate: (i: number) => number, factor: number): BytePicture {
  const { data } = picture;
  const [channels, alpha] = [channelsOf(picture), Math.fround(factor)];
  const colours = Math.min(channels, 3);
  const out = data.slice();
  for (let i = 0; i < data.length; i += channels) {
    for (let c = i; c < i + colours; c++) {
      const from = degenerate(c);
      const value = Math.fround(from + Math.fround(alpha * (data[c]! - from)));
      out[c] = Math.min(Math.max(value, 0), 255);
    }
  }
  return { ...picture, data: out };
}

/** The grey of each pixel, as `convert('L')` rounds it. */
function greys(picture: BytePicture): Uint8Array {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  if (channels === 1) return data;
  const out = new Uint8Array(width * height);
  for (let p = 0, i = 0; p < out.length; p++, i += channels) {
    out[p] = luma(data[i]!, data[i + 1]!, data[i + 2]!);
  }
  return out;
}

/** Factor 0 is black, 1 the picture. */
export const brightened = (picture: BytePicture, factor: number): BytePicture => blended(picture, () => 0, factor);

/** Factor 0 is the picture's mean grey, 1 the picture. */
export function contrasted(picture: BytePicture, factor: number): BytePicture {
  const grey = greys(picture);
  const mean = Math.trunc(grey.reduce((a, b) => a + b, 0) / grey.length + 0.5);
  return blended(picture, () => mean, factor);
}

/** Factor 0 is grey, 1 the picture. */
export function coloured(picture: BytePicture, factor: number): BytePicture {
  const channels = channelsOf(picture);
  if (channels === 1) return picture;
  const grey = greys(picture);
  return blended(picture, (i) => grey[Math.floor(i / channels)]!, factor);
}

/** Factor 0 is smoothed over 3x3 pixels, 1 the picture, 2 sharpened. */
export function sharpened(picture: BytePicture, factor: number): BytePicture {
  const smooth = smoothed(picture);
  return blended(picture, (i) => smooth[i]!, factor);
}

/** `ImageFilter.SMOOTH`: the pixel five times, its eight neighbours once; edges are left as they are. */
function smoothed(picture: BytePicture): Uint8Array {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const out = data.slice();
  const row = width * channels;
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * row + channels; i < (y + 1) * row - channels; i++) {
      let sum = 4 * data[i]!;
      for (let from = i - row; from <= i + row; from += row) {
        sum += data[from - channels]! + data[from]! + data[from + channels]!;
      }
      out[i] = sum / 13 + 0.5;
    }
  }
  return out;
}

/** Each channel's bytes looked up in a table of its own; alpha is no colour. */
function mapped(picture: BytePicture, tableOf: (histogram: readonly number[]) => ArrayLike<number>): BytePicture {
  const { data } = picture;
  const channels = channelsOf(picture);
  const out = data.slice();
  for (let c = 0; c < Math.min(channels, 3); c++) {
    const histogram = new Array<number>(256).fill(0);
    for (let i = c; i < data.length; i += channels) histogram[data[i]!]!++;
    const table = tableOf(histogram);
    for (let i = c; i < data.length; i += channels) out[i] = table[data[i]!]!;
  }
  return { ...picture, data: out };
}

const bytes = (of: (value: number) => number): Uint8ClampedArray =>
  Uint8ClampedArray.from({ length: 256 }, (_, value) => Math.trunc(of(value)));

/** The darkest value of each channel becomes 0, the lightest 255. */
export const autoContrasted = (picture: BytePicture): BytePicture =>
  mapped(picture, (histogram) => {
    const low = histogram.findIndex((count) => count > 0);
    const high = histogram.findLastIndex((count) => count > 0);
    if (high <= low) return bytes((value) => value);
    const scale = 255 / (high - low);
    return bytes((value) => value * scale + -low * scale);
  });

/** Each channel's values evenly spread. */
export const equalized = (picture: BytePicture): BytePicture =>
  mapped(picture, (histogram) => {
    const last = histogram.findLast((count) => count > 0)!;
    const step = Math.floor((histogram.reduce((a, b) => a + b, 0) - last) / 255);
    if (step === 0) return bytes((value) => value);
    let below = Math.floor(step / 2);
    return bytes((value) => {
      const level = Math.floor(below / step);
      below += histogram[value]!;
      return level;
    });
  });

/** Only so many of the highest bits of each value. */
export const posterized = (picture: BytePicture, bits: number): BytePicture =>
  mapped(picture, () => bytes((value) => value & -(2 ** (8 - bits))));

/** Values from the threshold on are turned over. */
export const solarized = (picture: BytePicture, threshold: number): BytePicture =>
  mapped(picture, () => bytes((value) => (value < threshold ? value : 255 - value)));
