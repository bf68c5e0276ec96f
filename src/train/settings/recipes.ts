/** Recipes: sets of settings that are known to work, by name. Any setting that is given overrides one of them. */
import { closest } from 'fastest-levenshtein';
import { UsageError } from '../../errors.js';
import type { GivenSettings } from './settings.js';
import { settings } from './table.js';

/** What a recipe may depend on. */
export interface RecipeFacts {
  readonly trainPictures: number;
}

export interface Recipe {
  /** In a line. */
  readonly summary: string;
  /** Where its numbers come from. */
  readonly source: string;
  readonly settings: GivenSettings | ((facts: RecipeFacts) => GivenSettings);
}

const NOTES = "the notes' own training script";

export const recipes: Readonly<Record<string, Recipe>> = {
  'notes-resnet50': {
    summary: 'a frozen backbone under a hidden layer of 1024 units',
    source: `${NOTES} of ResNet: Dropout 0.5, Dense 1024 ReLU, Dropout 0.5, Dense; Adam 2e-4, batch 16, 20 epochs`,
    settings: {
      backbone: 'resnet50',
      freeze: 'backbone',
      head: 'mlp:1024',
      headDropout: 0.5,
      optimizer: 'adam',
      lr: 2e-4,
      schedule: 'constant',
      batchSize: 16,
      epochs: 20,
      augment: 'flip',
    },
  },
  'notes-vgg': {
    summary: 'everything is trained, at one low rate',
    source: `${NOTES} of VGG: two layers of 4096 under Dropout 0.5, Adam 1e-4, batch 32, 10 epochs`,
    settings: {
      backbone: 'vgg16',
      freeze: 'none',
      optimizer: 'adam',
      lr: 1e-4,
      schedule: 'constant',
      batchSize: 32,
      epochs: 10,
      augment: 'flip',
    },
  },
};

/** @throws UNKNOWN_RECIPE */
export function findRecipe(name: string): Recipe {
  const recipe = recipes[name];
  if (recipe !== undefined) return recipe;
  const names = Object.keys(recipes);
  throw new UsageError({
    code: 'UNKNOWN_RECIPE',
    message: `there is no recipe "${name}"`,
    hint: `did you mean ${closest(name, names)}? There are: ${names.join(', ')}`,
  });
}

/** The settings of a recipe. @param given beside it: which pictures they are */
export async function settingsOf(recipe: Recipe, given: GivenSettings): Promise<GivenSettings> {
  if (typeof recipe.settings !== 'function') return recipe.settings;
  const { listPictures } = await import('../pictures.js');
  const { data = 'data', manifest, valSplit = settings.valSplit.default!, seed = settings.seed.default! } = given;
  const { train } = listPictures({ data, manifest, valSplit, seed });
  return recipe.settings({ trainPictures: train.length });
}

/**
 * Settings with others below them: what cannot stand beside a setting of the upper ones is left out of the lower ones.
 */
export function layered(lower: GivenSettings, upper: GivenSettings): GivenSettings {
  const given = Object.keys(upper) as (keyof GivenSettings)[];
  const excluded = new Set(given.flatMap((key) => settings[key].conflicts ?? []));
  const beside = ([key]: [string, unknown]): boolean =>
    !excluded.has(key as keyof GivenSettings) &&
    !settings[key as keyof GivenSettings].conflicts?.some((other) => given.includes(other));
  return { ...Object.fromEntries(Object.entries(lower).filter(beside)), ...upper };
}
