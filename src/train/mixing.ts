/**
 * Mixup and cutmix: every picture of a batch is mixed with the one before it, the first with the last, and so is what
 * its label says. Done to what the network is given, before its frozen part.
 *
 * - mixup: `share * picture + (1 - share) * partner`.
 * - cutmix: a rectangle of `1 - share` of the area, its centre anywhere, is the partner's; cut at the edges, and the share
 *   then is what is left of the picture.
 *
 * `share` is drawn from Beta(alpha, alpha), once a batch; where both are on, a batch has either with probability 1/2.
 * @see Zhang et al. 2018, https://arxiv.org/abs/1710.09412, and Yun et al. 2019, https://arxiv.org/abs/1905.04899
 * @see torchvision.transforms.v2 MixUp and CutMix, whose partners and rectangles these are; timm mixes so too, but for
 *   partners from the other end of the batch
 */
import type { ImageSize } from '../augment/image.js';
import { type Rng, rng } from '../rng.js';
import { smoothedTargets } from './targets.js';

/** Which of both are done, with the alpha of each, above 0. */
export interface MixingRecipe {
  readonly mixup?: number | undefined;
  readonly cutmix?: number | undefined;
}

/** What a run mixes, and what its targets are before they are mixed. */
export interface Mixing extends MixingRecipe {
  readonly classes: number;
  readonly labelSmoothing: number;
}

/** What was drawn for a batch; sizes of networks do not matter to it. */
export interface Mix {
  readonly kind: 'mixup' | 'cutmix';
  /** Of each picture itself, 0 to 1. */
  readonly share: number;
  /** Of the rectangle, as fractions of width and height, below 1. */
  readonly centre: readonly [number, number];
}

/** Pictures of a batch for one network: `[N, H, W, C]`. */
export interface MixedPixels {
  readonly pixels: Float32Array;
  readonly size: ImageSize;
}

/** What a batch is trained on instead of its labels. */
export interface MixedLabels {
  /** `[N, classes]`, each row sums to one. */
  readonly targets: Float32Array;
  /** `[N]`, of each picture the class of its larger part. */
  readonly labels: Int32Array;
}

/** Of one step, counted from 0 in its epoch. */
export function drawMix({ mixup, cutmix }: MixingRecipe, seed: number, epoch: number, step: number): Mix {
  const random = rng(seed).split(`epoch ${epoch}`).split('mixing').split(step);
  const kind = cutmix === undefined || (mixup !== undefined && random.uniform() < 0.5) ? 'mixup' : 'cutmix';
  const alpha = (kind === 'mixup' ? mixup : cutmix)!;
  const draws: Rng = random.split(kind);
  return { kind, share: draws.beta(alpha, alpha), centre: [draws.uniform(), draws.uniform()] };
}

/**
 * Mixes pictures where they are.
 * @returns the share of each picture that is left
 */
export function mixPixels(mix: Mix, { pixels, size }: MixedPixels, count: number): number {
  return mix.kind === 'mixup' ? blend(pixels, count, mix.share) : paste(pixels, count, size, mix);
}

function blend(pixels: Float32Array, count: number, share: number): number {
  const length = pixels.length / count;
  const last = pixels.slice((count - 1) * length);
  for (let i = count - 1; i >= 0; i--) {
    const [own, partner] = [i * length, (i - 1) * length];
    // Two loops: a choice of arrays inside takes twice the time.
    if (i === 0) for (let p = 0; p < length; p++) pixels[p] = share * pixels[p]! + (1 - share) * last[p]!;
    else
      for (let p = 0; p < length; p++) pixels[own + p] = share * pixels[own + p]! + (1 - share) * pixels[partner + p]!;
  }
  return share;
}

function paste(pixels: Float32Array, count: number, size: ImageSize, mix: Mix): number {
  const { left, top, right, bottom } = rectangleOf(mix, size);
  const length = pixels.length / count;
  const channels = length / (size.height * size.width);
  const last = pixels.slice((count - 1) * length);
  for (let i = count - 1; i >= 0; i--) {
    const partner = i === 0 ? last : pixels.subarray((i - 1) * length, i * length);
    for (let y = top; y < bottom; y++) {
      const row = y * size.width;
      pixels.set(
        partner.subarray((row + left) * channels, (row + right) * channels),
        i * length + (row + left) * channels,
      );
    }
  }
  return 1 - ((right - left) * (bottom - top)) / (size.height * size.width);
}

/** In pixels; right and bottom are outside. */
function rectangleOf({ share, centre }: Mix, { height, width }: ImageSize) {
  const half = 0.5 * Math.sqrt(1 - share);
  const along = (length: number, at: number): readonly [number, number] => {
    const middle = Math.floor(at * length);
    const reach = Math.floor(half * length);
    return [Math.max(middle - reach, 0), Math.min(middle + reach, length)];
  };
  const [[left, right], [top, bottom]] = [along(width, centre[0]), along(height, centre[1])];
  return { left, top, right, bottom };
}

/** Mixes labels as their pictures were; they are smoothed before, which gives the same as afterwards. */
export function mixLabels(labels: Int32Array, share: number, { classes, labelSmoothing }: Mixing): MixedLabels {
  const count = labels.length;
  const partner = (i: number): number => (i + count - 1) % count;
  const plain = smoothedTargets(labels, classes, labelSmoothing);
  const targets = plain.map((value, at) => {
    const [i, c] = [Math.floor(at / classes), at % classes];
    return share * value + (1 - share) * plain[partner(i) * classes + c]!;
  });
  return { targets, labels: share < 0.5 ? labels.map((_, i) => labels[partner(i)]!) : labels };
}
