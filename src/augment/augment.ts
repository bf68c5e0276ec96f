/**
 * Random changes to training pictures. Every one is pure, (picture, generator) -> picture, and every picture has its
 * own generator, named by epoch and path, so that neither order nor the number of workers changes a result.
 */

import { type Rng, rng } from '../rng.js';
import { colourJitter } from './colour.js';
import { erase } from './erase.js';
import { upsideDown } from './flip.js';
import { type Box, channelsOf, type ImageSize, type Picture } from './image.js';
import { inBytes } from './pillow-bytes.js';
import { normaliseInto, type Placed, placed, placeInto, placementOf, stretched, type View } from './pipeline.js';
import { meanColour, type Preprocessing } from './preprocessing.js';
import { randAugment } from './rand-augment.js';
import { type AugmentRecipe, type CropRecipe, variety } from './recipe.js';
import { between, randomSides, TRIES } from './rectangle.js';
import { rotate } from './rotate.js';

/**
 * The generator of one picture in one epoch. It is named by the last folder and the file name, not the whole path, so
 * that a data set can be moved without changing a run.
 */
export function pictureRng(seed: number | string, epoch: number, path: string): Rng {
  return rng(seed).split(`epoch ${epoch}`).split(pictureName(path));
}

/** The part of a path that names a picture's generator: its last folder and the file. */
export const pictureName = (path: string): string => path.split(/[\\/]/).slice(-2).join('/').normalize('NFC');

/** Which view is shown in this epoch of a picture that is only mirrored: the same with and without kept features. */
export function flipView(seed: number | string, epoch: number, path: string, recipe: AugmentRecipe): View {
  return { flip: drawsFlip(pictureRng(seed, epoch, path), recipe) };
}

/** What {@link augmentInto} needs besides the picture. */
export interface AugmentOptions {
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  readonly recipe: AugmentRecipe;
  /** This picture's own, from {@link pictureRng}. */
  readonly generator: Rng;
}

/**
 * Changes a picture at random and writes it into `out[offset ...]` as `[height, width, channels]`, ready for the network.
 * @throws UsageError `BAD_SIZE` for a size of less than one pixel
 */
export function augmentInto(image: Picture, options: AugmentOptions, out: Float32Array, offset: number): void {
  const { preprocessing, size, recipe, generator } = options;
  const where = placedAt(image, options);
  if (isPlacing(recipe)) {
    placeInto(image, where, preprocessing, out, offset);
    return;
  }
  const { randAugment: operations, rotation = 0, jitter, verticalFlip = 0, erasing } = recipe;
  let picture = placed(image, where.placement, preprocessing);
  if (operations) {
    picture = randAugment(inBytes(picture), generator.split('operations'), operations, meanColour(preprocessing));
  }
  if (rotation > 0) picture = rotate(picture, between(generator.split('rotation'), [-rotation, rotation]));
  if (jitter) picture = colourJitter(picture, generator.split('colour'), jitter);
  if (generator.split('upside down').uniform() < verticalFlip) picture = upsideDown(picture);
  const slot = out.subarray(offset, offset + size.height * size.width * channelsOf(image));
  normaliseInto(picture, preprocessing, slot, where.view);
  if (erasing) erase(slot, size, preprocessing, generator.split('erasing'), erasing);
}

/** Whether a recipe changes only which part of a picture is shown, and on which side: {@link placedAt} then says it all. */
export function isPlacing({ crop, ...others }: AugmentRecipe): boolean {
  return variety(others) !== 'endless';
}

/** Which part of a picture of this size is shown, and on which side: drawn before its pixels are known. */
export function placedAt(image: ImageSize, { preprocessing, size, recipe, generator }: AugmentOptions): Placed {
  const view: View = { flip: drawsFlip(generator, recipe) };
  const { crop } = recipe;
  if (crop === undefined) return { placement: placementOf(image, preprocessing, size), view };
  return { placement: stretched(randomBox(image, generator.split('crop'), crop), size), view };
}

/** The first number of a picture's generator decides its flip, whatever else is drawn from its branches. */
function drawsFlip(generator: Rng, { horizontalFlip = 0 }: AugmentRecipe): boolean {
  return generator.uniform() < horizontalFlip;
}

/**
 * torchvision's search for a crop: area uniform, shape log-uniform, ten tries, then the largest central crop with an
 * allowed shape.
 */
export function randomBox(image: ImageSize, generator: Rng, { area: areas, shape: shapes }: CropRecipe): Box {
  const { width, height } = image;
  for (let i = 0; i < TRIES; i++) {
    const [w, h] = randomSides(image, generator, areas, shapes);
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return { x: generator.integer(width - w + 1), y: generator.integer(height - h + 1), width: w, height: h };
  }
  const shape = width / height;
  const w = shape > shapes[1] ? Math.max(1, Math.round(height * shapes[1])) : width;
  const h = shape < shapes[0] ? Math.max(1, Math.round(width / shapes[0])) : height;
  return { x: Math.trunc((width - w) / 2), y: Math.trunc((height - h) / 2), width: w, height: h };
}
