/**
 * RandAugment as torchvision has it: some of fourteen operations after one another, each as strong as the others. With
 * two of torchvision's own parameters set: sampled bilinearly, as its training scripts do, and what comes in from outside
 * has the mean colour, as timm does, where the default is black.
 * @see Cubuk et al. 2020, https://arxiv.org/abs/1909.13719
 * @see https://github.com/pytorch/vision/blob/main/torchvision/transforms/autoaugment.py (RandAugment, _apply_op)
 */
import type { Rng } from '../rng.js';
import type { ImageSize } from './image.js';
import { affine, shearX, shearY, translation, turn } from './pillow-affine.js';
import {
  autoContrasted,
  type BytePicture,
  brightened,
  coloured,
  contrasted,
  equalized,
  posterized,
  sharpened,
  solarized,
} from './pillow-bytes.js';
import type { RandAugmentRecipe } from './recipe.js';

/** The highest magnitude: torchvision has 31 bins, from 0. */
export const MOST_MAGNITUDE = 30;

/** One of the operations. */
export interface Operation {
  /** What the magnitude 0 to {@link MOST_MAGNITUDE}, as a share of it, means for a picture of this size. */
  readonly magnitude: (share: number, size: ImageSize) => number;
  /** Whether it is done the other way round half of the time. */
  readonly signed: boolean;
  readonly apply: (picture: BytePicture, magnitude: number, fill: readonly number[]) => BytePicture;
}

/** Geometry: slopes up to 0.3, shifts up to 150 / 331 of a side, turns up to 30 degrees. */
const moving = (magnitude: Operation['magnitude'], apply: Operation['apply']): Operation => ({
  magnitude,
  signed: true,
  apply,
});

/** Light and colour: factors in 1 ± 0.9. */
const enhancing = (enhance: (picture: BytePicture, factor: number) => BytePicture): Operation => ({
  magnitude: (share) => 0.9 * share,
  signed: true,
  apply: (picture, magnitude) => enhance(picture, 1 + magnitude),
});

const fixed = (change: (picture: BytePicture) => BytePicture): Operation => ({
  magnitude: () => 0,
  signed: false,
  apply: change,
});

/** By torchvision's names and in its order. */
export const operations: Readonly<Record<string, Operation>> = {
  Identity: fixed((picture) => picture),
  ShearX: moving(
    (share) => 0.3 * share,
    (picture, by, fill) => affine(picture, shearX(by), fill),
  ),
  ShearY: moving(
    (share) => 0.3 * share,
    (picture, by, fill) => affine(picture, shearY(by), fill),
  ),
  TranslateX: moving(
    (share, { width }) => (150 / 331) * width * share,
    (picture, by, fill) => affine(picture, translation(Math.trunc(by), 0), fill),
  ),
  TranslateY: moving(
    (share, { height }) => (150 / 331) * height * share,
    (picture, by, fill) => affine(picture, translation(0, Math.trunc(by)), fill),
  ),
  Rotate: moving(
    (share) => 30 * share,
    (picture, degrees, fill) => (degrees === 0 ? picture : affine(picture, turn(degrees, picture), fill)),
  ),
  Brightness: enhancing(brightened),
  Color: enhancing(coloured),
  Contrast: enhancing(contrasted),
  Sharpness: enhancing(sharpened),
  Posterize: {
    magnitude: (share) => 8 - Math.round(4 * share),
    signed: false,
    apply: posterized,
  },
  Solarize: { magnitude: (share) => 255 - 255 * share, signed: false, apply: solarized },
  AutoContrast: fixed(autoContrasted),
  Equalize: fixed(equalized),
};

const names = Object.keys(operations);

/**
 * @param fill what comes in from outside, 0..255 for each channel
 */
export function randAugment(
  picture: BytePicture,
  generator: Rng,
  recipe: RandAugmentRecipe,
  fill: readonly number[],
): BytePicture {
  let changed = picture;
  for (let i = 0; i < recipe.operations; i++) {
    const { magnitude, signed, apply } = operations[names[generator.integer(names.length)]!]!;
    const value = magnitude(recipe.magnitude / MOST_MAGNITUDE, changed);
    changed = apply(changed, signed && generator.integer(2) === 1 ? -value : value, fill);
  }
  return changed;
}
