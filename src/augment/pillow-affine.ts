/**
 * Pillow's affine transforms of 8-bit pictures, sampled bilinearly, bit for bit.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Geometry.c (affine_transform, bilinear_filter32RGB)
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/Image.py (rotate, transform)
 */
import { premultiplied, unpremultiplied } from './alpha.js';
import { channelsOf } from './image.js';
import type { BytePicture } from './pillow-bytes.js';

/** From a place in the result to one in the picture: `(a x + b y + c, d x + e y + f)`, in pixels, their centres at 1/2. */
export type Matrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

export const shearX = (by: number): Matrix => [1, by, 0, 0, 1, 0];
export const shearY = (by: number): Matrix => [1, 0, 0, by, 1, 0];
/** Right and down by whole pixels. */
export const translation = (x: number, y: number): Matrix => [1, 0, -x, 0, 1, -y];

/** Counter-clockwise about the centre, by degrees. */
export function turn(degrees: number, { width, height }: BytePicture): Matrix {
  const radians = (-degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(radians), Math.sin(radians)].map((value) => Math.round(value * 1e15) / 1e15);
  const [x, y] = [width / 2, height / 2];
  return [cos!, sin!, -cos! * x - sin! * y + x, -sin!, cos!, sin! * x - cos! * y + y];
}

/**
 * The picture, moved.
 * @param fill what lies outside, 0..255 for each channel
 */
export function affine(picture: BytePicture, matrix: Matrix, fill: readonly number[]): BytePicture {
  if (channelsOf(picture) !== 4) return moved(picture, matrix, fill);
  // Through RGBa, so that what is transparent lends no colour to its neighbours.
  const weighed = moved({ ...picture, data: premultiplied(picture.data) }, matrix, [
    ...premultiplied(Uint8Array.from(fill)),
  ]);
  return { ...weighed, data: unpremultiplied(weighed.data) };
}

function moved(picture: BytePicture, [a, b, c, d, e, f]: Matrix, fill: readonly number[]): BytePicture {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const out = new Uint8Array(data.length);
  const column = (x: number): number => Math.min(Math.max(x, 0), width - 1) * channels;
  let o = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, o += channels) {
      const fromX = a * (x + 0.5) + b * (y + 0.5) + c;
      const fromY = d * (x + 0.5) + e * (y + 0.5) + f;
      if (fromX < 0 || fromX >= width || fromY < 0 || fromY >= height) {
        for (let i = 0; i < channels; i++) out[o + i] = fill[i]!;
        continue;
      }
      const left = Math.floor(fromX - 0.5);
      const top = Math.floor(fromY - 0.5);
      const [u, v] = [fromX - 0.5 - left, fromY - 0.5 - top];
      const [x0, x1] = [column(left), column(left + 1)];
      const above = Math.max(top, 0) * width * channels;
      const below = top + 1 < height ? (top + 1) * width * channels : above;
      for (let i = 0; i < channels; i++) {
        const first = data[above + x0 + i]! + (data[above + x1 + i]! - data[above + x0 + i]!) * u;
        const second = data[below + x0 + i]! + (data[below + x1 + i]! - data[below + x0 + i]!) * u;
        out[o + i] = first + (second - first) * v; // cut off, not rounded
      }
    }
  }
  return { data: out, width, height };
}
