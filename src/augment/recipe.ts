/**
 * What is random about training pictures, as plain data: it travels to the threads that decode, and names what is kept.
 * What is absent is not done.
 */

/** A random part of the picture, stretched to the network's size. */
export interface CropRecipe {
  /** Least and largest area of the part, as fractions of the picture's, above 0 to 1. */
  readonly area: readonly [number, number];
  /** Least and largest width / height of the part. */
  readonly shape: readonly [number, number];
}

/** Colour changes: factors lie in 1 ± each, at least 0; hue turns by up to this part of the circle. */
export interface JitterRecipe {
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  /** 0 to 0.5. */
  readonly hue: number;
}

/** A rectangle of the picture that is erased, after everything else. */
export interface ErasingRecipe {
  /** That a picture has one. */
  readonly probability: number;
  /** `zero`: what the network takes as zero; `noise`: each value of a pixel uniform in 0..255. */
  readonly fill: 'zero' | 'noise';
}

/** {@link randAugment}: how many operations, and how strong, 0 to 30. */
export interface RandAugmentRecipe {
  readonly operations: number;
  readonly magnitude: number;
}

/** Every random change, in the order in which they are done. */
export interface AugmentRecipe {
  /** Otherwise the picture is resized and cropped as the preprocessing record says. */
  readonly crop?: CropRecipe;
  readonly randAugment?: RandAugmentRecipe;
  /** Degrees either way, 0 to 180. */
  readonly rotation?: number;
  readonly jitter?: JitterRecipe;
  /** Probability that the picture is mirrored upside down. */
  readonly verticalFlip?: number;
  /** Probability that the picture is mirrored left to right. */
  readonly horizontalFlip?: number;
  readonly erasing?: ErasingRecipe;
}

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
 * Area: torchvision's RandomResizedCrop has (0.08, 1), made for the 1.28 million pictures of ImageNet and 90 epochs; on a
 * few hundred pictures and a few epochs a crop of 8 % is more often background than object, so the lower end is 0.35.
 * Shape: torchvision's.
 * @see https://pytorch.org/vision/stable/generated/torchvision.transforms.RandomResizedCrop.html
 */
export const standardCrop: CropRecipe = { area: [0.35, 1], shape: [3 / 4, 4 / 3] };

const flip: AugmentRecipe = { horizontalFlip: 0.5 };
const standard: AugmentRecipe = { ...flip, crop: standardCrop };

/** The presets. */
export const recipes: Readonly<Record<Augmentation, AugmentRecipe>> = {
  none: {},
  flip,
  standard,
  strong: { ...standard, rotation: 15, jitter: { brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0 } },
};

/** A preset by its name, or a recipe as it is. */
export const recipeOf = (augment: Augmentation | AugmentRecipe): AugmentRecipe =>
  typeof augment === 'string' ? recipes[augment] : augment;

/** One text for each recipe: a preset's name where it is one. Rows that are kept are called by it. */
export function recipeName(recipe: AugmentRecipe): string {
  const text = canonical(recipe);
  return augmentations.find((name) => canonical(recipes[name]) === text) ?? text;
}

/** Fields in one order, without those that do nothing. */
function canonical(recipe: AugmentRecipe): string {
  const done = Object.entries(recipe).filter(([, value]) => value !== undefined && value !== 0);
  return JSON.stringify(Object.fromEntries(done.sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** What epochs show of a picture: always the same, one of two mirrorings, or something else each time. */
export function variety(recipe: AugmentRecipe): 'one' | 'mirrored' | 'endless' {
  const { horizontalFlip = 0, ...rest } = recipe;
  if (canonical(rest) !== '{}') return 'endless';
  return horizontalFlip === 0 ? 'one' : 'mirrored';
}
