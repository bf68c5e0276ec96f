/**
 * Brightness, contrast and saturation, as blends of the picture with black, with its mean grey, and with its own grey.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageEnhance.py
 */

import type { Rng } from '../rng.js';
import type { RgbImage } from './image.js';

/** Luma of ITU-R BT.601, as Pillow's conversion to grey has it. */
const LUMA = [0.299, 0.587, 0.114] as const;

/** `picture * factor + degenerate * (1 - factor)`, clipped to 0..255; factor 1 changes nothing. */
type Blend = (image: RgbImage, factor: number) => RgbImage;

export const brightness: Blend = (image, factor) => blend(image, factor, () => 0);

export const contrast: Blend = (image, factor) => {
  const { data } = image;
  let sum = 0;
  for (let i = 0; i < data.length; i += 3) sum += grey(data, i);
  const mean = sum / (data.length / 3);
  return blend(image, factor, () => mean);
};

export const saturation: Blend = (image, factor) => blend(image, factor, grey);

/**
 * Brightness, contrast and saturation by factors uniform in 1 ± `strength`, in random order, as torchvision's
 * ColorJitter does.
 * @param strength 0..1
 */
export function colourJitter(image: RgbImage, generator: Rng, strength: number): RgbImage {
  const steps = generator.shuffle([brightness, contrast, saturation]);
  return steps.reduce((picture, step) => step(picture, 1 + strength * (2 * generator.uniform() - 1)), image);
}

function grey(data: RgbImage['data'], i: number): number {
  return LUMA[0] * data[i]! + LUMA[1] * data[i + 1]! + LUMA[2] * data[i + 2]!;
}

function blend(
  { data, width, height }: RgbImage,
  factor: number,
  degenerate: (data: RgbImage['data'], i: number) => number,
): RgbImage {
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i += 3) {
    const base = degenerate(data, i) * (1 - factor);
    for (let c = i; c < i + 3; c++) {
      out[c] = Math.min(Math.max(data[c]! * factor + base, 0), 255);
    }
  }
  return { data: out, width, height };
}
