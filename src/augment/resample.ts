/**
 * Resizing, written again from the reference implementations' arithmetic, so that a picture becomes the very numbers
 * a network was trained on: bit for bit Pillow's for bytes, and TensorFlow's float32 for its two bilinear samplings.
 *
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/image/resize_bilinear_op.cc
 */

import { type Memory, newMemory } from '../addon.js';
import { UsageError } from '../errors.js';
import { premultiplied, unpremultiplied } from './alpha.js';
import { type Axes, compiledPillow } from './compiled.js';
import { type Box, channelsOf, type ImageSize, type Picture } from './image.js';
import type { ResizeKernel } from './preprocessing.js';
import { pillowAxis, pillowHorizontal, pillowVertical, toFixedPoint } from './resample-pillow.js';
import { lerpPlane, tensorflowAxis } from './resample-tensorflow.js';

/**
 * The picture, or the part of it inside `box`, resized to `width` x `height` pixels.
 *
 * The box is cut out first, as torchvision's and slim's crops do: no pixel outside it has any weight. Pillow's kernels
 * keep the kind of data (bytes stay bytes, rounded between the two passes as Pillow does) and, for bytes with an alpha
 * channel, weigh colours by it; TensorFlow's give float32 and treat alpha as any other channel.
 *
 * @throws UsageError `BAD_SIZE` for a size that is not a whole number above 0, or a box outside the picture
 */
export function resample(image: Picture, kernel: ResizeKernel, width: number, height: number, box?: Box): Picture {
  return resampleWindow(image, kernel, { height, width }, { x: 0, y: 0, width, height }, box);
}

/** A resize and a crop in one: `box` of a picture becomes `scaled` pixels, of which `window` is wanted. */
export interface Placement {
  readonly scaled: ImageSize;
  readonly window: Box;
  readonly box: Box;
  /** Where the window comes to lie in a larger picture of one colour; it is the whole picture when absent. */
  readonly within?: { readonly x: number; readonly y: number; readonly size: ImageSize };
}

/**
 * For each pixel of both sides of a placement's window, where in a picture of this size it comes from.
 * @throws UsageError `BAD_SIZE` for a size that is not a whole number above 0, or a box outside the picture
 */
export function axesOf(image: ImageSize, kernel: ResizeKernel, { scaled, window, box }: Placement): Axes {
  checkInside('the source box', box, image);
  checkInside('the window', window, scaled);
  const horizontal = { inSize: box.width, outSize: scaled.width, start: window.x, count: window.width };
  const vertical = { inSize: box.height, outSize: scaled.height, start: window.y, count: window.height };
  return kernel === 'pil_bilinear' || kernel === 'pil_bicubic'
    ? { by: 'pillow', columns: pillowAxis(kernel, horizontal), rows: pillowAxis(kernel, vertical), fixed: toFixedPoint }
    : { by: 'tensorflow', columns: tensorflowAxis(kernel, horizontal), rows: tensorflowAxis(kernel, vertical) };
}

/**
 * The part `window` of what {@link resample} would give, without computing the rest: a resize and a crop in one.
 *
 * @param size of the whole resized picture
 * @param window inside that size
 * @param box of the source picture, all of it when absent
 * @param memory may hold the result
 * @throws UsageError `BAD_SIZE`
 */
export function resampleWindow(
  image: Picture,
  kernel: ResizeKernel,
  size: ImageSize,
  window: Box,
  box: Box = wholeOf(image),
  memory: Memory = newMemory,
): Picture {
  const axes = axesOf(image, kernel, { scaled: size, window, box });
  const channels = channelsOf(image);
  const source = { data: image.data, channels, stride: image.width * channels, box };
  if (axes.by === 'tensorflow') {
    const data = lerpPlane(source, axes.columns, axes.rows, memory);
    return { data, width: window.width, height: window.height };
  }

  // Horizontal first, over only the rows that the vertical pass will read.
  const { columns, rows, fixed } = axes;
  const compiled = compiledPillow(source, columns, rows, fixed, memory);
  if (compiled) return { data: compiled, width: window.width, height: window.height };
  const firstRow = rows.starts[0]!;
  const lastRow = rows.starts[window.height - 1]! + rows.counts[window.height - 1]!;
  // Pillow hands on a picture that has its size already, and does not go through RGBa.
  const transparent = channels === 4 && !(size.width === box.width && size.height === box.height);
  const weighed = transparent && image.data instanceof Uint8Array ? premultiplied(image.data) : image.data;
  const between = pillowHorizontal({ ...source, data: weighed }, firstRow, lastRow, columns);
  const resized = pillowVertical(between, window.width * channels, firstRow, rows);
  const data = transparent && resized instanceof Uint8Array ? unpremultiplied(resized) : resized;
  return { data, width: window.width, height: window.height };
}

/** All of a picture. */
export function wholeOf({ width, height }: ImageSize): Box {
  return { x: 0, y: 0, width, height };
}

function checkInside(what: string, box: Box, size: ImageSize): void {
  const whole = [box.x, box.y, box.width, box.height].every((value) => Number.isInteger(value) && value >= 0);
  const inside = box.x + box.width <= size.width && box.y + box.height <= size.height;
  if (whole && inside && box.width > 0 && box.height > 0) return;
  throw new UsageError({
    code: 'BAD_SIZE',
    message:
      `${what} ${box.width}x${box.height} at (${box.x}, ${box.y}) is not a rectangle of whole pixels ` +
      `inside ${size.width}x${size.height}`,
    hint: 'give sizes in whole pixels, at least 1, inside the picture',
  });
}
