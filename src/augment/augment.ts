/**
 * Random changes to training pictures. Every one is pure, (picture, generator) -> picture, and every picture has its
 * own generator, named by epoch and path, so that neither order nor the number of workers changes a result.
 */

import { type Rng, rng } from '../rng.js';
import { colourJitter } from './colour.js';
import { type Box, channelsOf, type ImageSize, type Picture } from './image.js';
import { normaliseInto, plainView, preprocessInto, type View } from './pipeline.js';
import type { Preprocessing, ResizeKernel } from './preprocessing.js';
import { resample } from './resample.js';
import { rotate } from './rotate.js';

/**
 * - `none`: the preprocessing record only.
 * - `flip`: mirrored left to right with probability 1/2. Two views, so a frozen network's output can be kept for both.
 * - `standard`: a random part of the picture, 35 to 100 % of its area, stretched to the size; then `flip`.
 * - `strong`: `standard`, then turned by up to 15 degrees, then brightness, contrast and saturation changed by up to 20 %;
 *   grey pictures have no saturation, and alpha is no colour.
 */
export const augmentations = ['none', 'flip', 'standard', 'strong'] as const;

export type Augmentation = (typeof augmentations)[number];

/**
 * Area of the random crop, as a fraction of the picture. torchvision's RandomResizedCrop has (0.08, 1), made for the
 * 1.28 million pictures of ImageNet and 90 epochs; on a few hundred pictures and a few epochs a crop of 8 % is more
 * often background than object, so the lower end is 0.35.
 * @see https://pytorch.org/vision/stable/generated/torchvision.transforms.RandomResizedCrop.html
 */
const CROP_AREA = [0.35, 1] as const;
/** Width / height of the random crop: torchvision's default. */
const CROP_SHAPE = [3 / 4, 4 / 3] as const;
/** Tries before the fallback: torchvision's. */
const CROP_TRIES = 10;
/** Degrees either way. */
const ROTATION_DEGREES = 15;
/** Brightness, contrast and saturation factors lie in 1 ± this. */
const JITTER = 0.2;

/**
 * The generator of one picture in one epoch. It is named by the last folder and the file name, not the whole path, so
 * that a data set can be moved without changing a run.
 */
export function pictureRng(seed: number | string, epoch: number, path: string): Rng {
  return rng(seed).split(`epoch ${epoch}`).split(pictureName(path));
}

/** The part of a path that names a picture's generator: its last folder and the file. */
export const pictureName = (path: string): string => path.split(/[\\/]/).slice(-2).join('/').normalize('NFC');

/** Which view `flip` shows of this picture in this epoch: the same with and without kept features. */
export function flipView(seed: number | string, epoch: number, path: string): View {
  return { flip: drawsFlip(pictureRng(seed, epoch, path)) };
}

/** What {@link augmentInto} needs besides the picture. */
export interface AugmentOptions {
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly augmentation: Augmentation;
  /** This picture's own, from {@link pictureRng}. */
  readonly generator: Rng;
}

/**
 * Changes a picture at random and writes it into `out[offset ...]` as `[height, width, channels]`, ready for the network.
 * @throws UsageError `BAD_SIZE` for a size of less than one pixel
 */
export function augmentInto(image: Picture, options: AugmentOptions, out: Float32Array, offset: number): void {
  const { preprocessing, size, augmentation, generator } = options;
  if (augmentation === 'none' || augmentation === 'flip') {
    const view = augmentation === 'flip' ? { flip: drawsFlip(generator) } : plainView;
    preprocessInto(image, preprocessing, size, out, offset, view);
    return;
  }
  let picture = randomResizedCrop(image, generator.split('crop'), size, preprocessing.kernel);
  if (augmentation === 'strong') {
    const degrees = between(generator.split('rotation'), -ROTATION_DEGREES, ROTATION_DEGREES);
    picture = colourJitter(rotate(picture, degrees), generator.split('colour'), JITTER);
  }
  const slot = out.subarray(offset, offset + size.height * size.width * channelsOf(image));
  normaliseInto(picture, preprocessing, slot, { flip: drawsFlip(generator) });
}

/** The first number of a picture's generator decides its flip, whatever else is drawn from its branches. */
function drawsFlip(generator: Rng): boolean {
  return generator.uniform() < 0.5;
}

/** A random part of the picture, stretched to `size` with the network's own resize. */
export function randomResizedCrop(image: Picture, generator: Rng, size: ImageSize, kernel: ResizeKernel): Picture {
  return resample(image, kernel, size.width, size.height, randomBox(image, generator));
}

/**
 * torchvision's search for a crop: area uniform, shape log-uniform, ten tries, then the largest central crop with an
 * allowed shape.
 */
export function randomBox({ width, height }: ImageSize, generator: Rng): Box {
  for (let i = 0; i < CROP_TRIES; i++) {
    const area = width * height * between(generator, CROP_AREA[0], CROP_AREA[1]);
    const shape = Math.exp(between(generator, Math.log(CROP_SHAPE[0]), Math.log(CROP_SHAPE[1])));
    const w = Math.round(Math.sqrt(area * shape));
    const h = Math.round(Math.sqrt(area / shape));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return { x: generator.integer(width - w + 1), y: generator.integer(height - h + 1), width: w, height: h };
  }
  const shape = width / height;
  const w = shape > CROP_SHAPE[1] ? Math.max(1, Math.round(height * CROP_SHAPE[1])) : width;
  const h = shape < CROP_SHAPE[0] ? Math.max(1, Math.round(width / CROP_SHAPE[0])) : height;
  return { x: Math.trunc((width - w) / 2), y: Math.trunc((height - h) / 2), width: w, height: h };
}

function between(generator: Rng, low: number, high: number): number {
  return low + (high - low) * generator.uniform();
}
