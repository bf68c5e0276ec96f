/**
 * Random erasing: a rectangle of what the network is given says nothing. The search for it is torchvision's: area uniform,
 * shape log-uniform, ten tries, and nothing is erased where none fits.
 * @see Zhong et al. 2017, https://arxiv.org/abs/1708.04896
 * @see https://github.com/pytorch/vision/blob/main/torchvision/transforms/transforms.py (RandomErasing)
 */
import type { Rng } from '../rng.js';
import type { Box, ImageSize } from './image.js';
import type { Preprocessing } from './preprocessing.js';
import type { ErasingRecipe } from './recipe.js';
import { randomSides, TRIES } from './rectangle.js';

/** As a fraction of the picture's: torchvision's `scale`. */
const AREA = [0.02, 0.33] as const;
/** Height / width: torchvision's `ratio`. */
const SHAPE = [0.3, 3.3] as const;

/**
 * Erases a rectangle, or none, where the numbers are.
 * @param values one picture as the network takes it, `[height, width, channels]`
 */
export function erase(
  values: Float32Array,
  size: ImageSize,
  { scale, mean, std }: Preprocessing,
  generator: Rng,
  { probability, fill }: ErasingRecipe,
): void {
  if (!(generator.uniform() < probability)) return;
  const box = erasedBox(size, generator);
  if (box === undefined) return;
  const channels = mean.length;
  const noise = generator.split('noise');
  for (let y = box.y; y < box.y + box.height; y++) {
    const from = (y * size.width + box.x) * channels;
    const to = from + box.width * channels;
    if (fill === 'zero') values.fill(0, from, to);
    else
      for (let i = from; i < to; i++) {
        const c = i % channels;
        values[i] = (255 * noise.uniform() * scale - mean[c]!) / std[c]!;
      }
  }
}

/** The rectangle, never as high or as wide as the picture; undefined where none of the tries fits. */
export function erasedBox(size: ImageSize, generator: Rng): Box | undefined {
  const { height, width } = size;
  for (let i = 0; i < TRIES; i++) {
    const [h, w] = randomSides(size, generator, AREA, SHAPE);
    if (h >= height || w >= width) continue;
    return { y: generator.integer(height - h + 1), x: generator.integer(width - w + 1), width: w, height: h };
  }
  return undefined;
}
