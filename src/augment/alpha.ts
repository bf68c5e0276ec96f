/**
 * Colours times alpha and back, in Pillow's integers: its resize goes through the mode RGBa, so that what is transparent
 * lends no colour to its neighbours.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Convert.c (rgbA2rgba, rgba2rgbA)
 */

/** `a * b / 255` rounded (ImagingUtils.h, MULDIV255). */
export function times255(a: number, b: number): number {
  const product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

/** RGBA with its colours times alpha. */
export function premultiplied(rgba: Uint8Array): Uint8Array {
  const out = rgba.slice();
  for (let i = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3]!;
    if (alpha === 255) continue;
    for (let c = i; c < i + 3; c++) out[c] = times255(rgba[c]!, alpha);
  }
  return out;
}

/** RGBA whose colours were multiplied by alpha, with its colours as they were, but for rounding. */
export function unpremultiplied(rgba: Uint8Array): Uint8Array {
  const out = rgba.slice();
  for (let i = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3]!;
    if (alpha === 0 || alpha === 255) continue;
    for (let c = i; c < i + 3; c++) out[c] = Math.min(255, Math.trunc((255 * rgba[c]!) / alpha));
  }
  return out;
}
