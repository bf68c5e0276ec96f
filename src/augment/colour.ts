/**
 * Hue; brightness, contrast and saturation, as blends of the picture with black, with its mean grey, and with its own grey.
 * A grey picture is its own grey; of an RGBA picture the colours change and alpha does not.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageEnhance.py
 */

import type { Rng } from '../rng.js';
import { channelsOf, type Picture } from './image.js';
import type { JitterRecipe } from './recipe.js';

/** Luma of ITU-R BT.601, as Pillow's conversion to grey has it. */
const LUMA = [0.299, 0.587, 0.114] as const;

/** `picture * factor + degenerate * (1 - factor)`, clipped to 0..255; factor 1 changes nothing. */
type Blend = (picture: Picture, factor: number) => Picture;

export const brightness: Blend = (picture, factor) => blend(picture, factor, 0);

export const contrast: Blend = (picture, factor) => {
  const grey = greys(picture);
  return blend(picture, factor, grey.reduce((sum, value) => sum + value, 0) / grey.length);
};

export const saturation: Blend = (picture, factor) => blend(picture, factor, greys(picture));

/** How much of the chroma a channel lacks, 0 to 1, whose place on the circle is so many sixths away. */
function lacking(sixths: number): number {
  const k = sixths % 6;
  return Math.max(0, Math.min(k, 4 - k, 1));
}

/**
 * Hue turned by a part of its circle, as torchvision's `adjust_hue` turns that of floats: through hue, saturation and value.
 * Grey has none.
 * @param turn -0.5 to 0.5
 * @see https://github.com/pytorch/vision/blob/main/torchvision/transforms/_functional_tensor.py (_rgb2hsv, _hsv2rgb)
 */
export function hue(picture: Picture, turn: number): Picture {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const out = Float32Array.from(data);
  if (channels === 1) return { data: out, width, height };
  // Each channel is written out: with arrays of three, this takes several times as long.
  for (let i = 0; i < data.length; i += channels) {
    const r = data[i]!;
    const g = data[i + 1]!;
    const b = data[i + 2]!;
    const value = Math.max(r, g, b);
    const chroma = value - Math.min(r, g, b);
    if (chroma === 0) continue;
    // In sixths of the circle, from red over green and blue.
    const before = value === r ? (g - b) / chroma : value === g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
    const turned = 6 * ((((before / 6 + turn) % 1) + 1) % 1);
    out[i] = value - chroma * lacking(5 + turned);
    out[i + 1] = value - chroma * lacking(3 + turned);
    out[i + 2] = value - chroma * lacking(1 + turned);
  }
  return { data: out, width, height };
}

/**
 * Brightness, contrast and saturation by factors uniform in 1 ± their strengths and at least 0, hue turned by as much either
 * way, in random order, as torchvision's ColorJitter does; those of strength 0 are left out.
 */
export function colourJitter(picture: Picture, generator: Rng, strengths: JitterRecipe): Picture {
  const steps = generator.shuffle(
    (Object.keys(changes) as (keyof typeof changes)[]).filter((name) => strengths[name] > 0),
  );
  return steps.reduce(
    (changed, name) => changes[name](changed, 1 + strengths[name] * (2 * generator.uniform() - 1)),
    picture,
  );
}

const changes = {
  brightness,
  contrast,
  saturation,
  hue: (picture: Picture, factor: number) => hue(picture, factor - 1),
} as const;

/** The grey of each pixel, not rounded. */
function greys(picture: Picture): Float64Array {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  if (channels === 1) return Float64Array.from(data);
  const out = new Float64Array(width * height);
  for (let p = 0, i = 0; p < out.length; p++, i += channels) {
    out[p] = LUMA[0] * data[i]! + LUMA[1] * data[i + 1]! + LUMA[2] * data[i + 2]!;
  }
  return out;
}

/** @param degenerate one value for all, or one for each pixel */
function blend(picture: Picture, factor: number, degenerate: number | Float64Array): Picture {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const colours = Math.min(channels, 3);
  const out = Float32Array.from(data);
  const rest = 1 - factor;
  for (let p = 0, i = 0; i < data.length; p++, i += channels) {
    const base = (typeof degenerate === 'number' ? degenerate : degenerate[p]!) * rest;
    for (let c = i; c < i + colours; c++) {
      out[c] = Math.min(Math.max(data[c]! * factor + base, 0), 255);
    }
  }
  return { data: out, width, height };
}
