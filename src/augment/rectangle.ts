/** Random rectangles as torchvision draws them, for crops and for erasing. */
import type { Rng } from '../rng.js';
import type { ImageSize } from './image.js';

/** How often torchvision draws before it gives up. */
export const TRIES = 10;

/** Least and largest. */
export type Range = readonly [number, number];

export const between = (generator: Rng, [low, high]: Range): number => low + (high - low) * generator.uniform();

/**
 * Two sides, in pixels, of an area uniform in a range of fractions of a picture's, and a ratio of the first to the second
 * that is log-uniform in another.
 */
export function randomSides(
  { width, height }: ImageSize,
  generator: Rng,
  areas: Range,
  ratios: Range,
): [number, number] {
  const area = width * height * between(generator, areas);
  const ratio = Math.exp(between(generator, [Math.log(ratios[0]), Math.log(ratios[1])]));
  return [Math.round(Math.sqrt(area * ratio)), Math.round(Math.sqrt(area / ratio))];
}
