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

const NOTES = "the notes' training script";

export const recipes: Readonly<Record<string, Recipe>> = {
  'notes-resnet50': {
    summary: 'a frozen ResNet-50 under a hidden layer of 1024 units',
    source: `${NOTES} of ResNet: Dropout 0.5, Dense 1024 ReLU, Dropout 0.5, Dense; Adam 2e-4, batch 16, 20 epochs`,
    settings: {
      backbone: 'resnet50',
      ...{ freeze: 'backbone', head: 'mlp:1024', headDropout: 0.5 },
      ...{ optimizer: 'adam', lr: 2e-4, schedule: 'constant', batchSize: 16, epochs: 20, augment: 'flip' },
    },
  },
  'notes-vgg': {
    summary: "VGG-16's convolutions are frozen, its dense layers trained with a new classifier",
    source: `${NOTES} of VGG, Adam 1e-4, batch 32, 10 epochs; its fine_train_vgg16.py freezes the convolutions`,
    settings: {
      backbone: 'vgg16',
      freeze: 'until:stage5',
      ...{ optimizer: 'adam', lr: 1e-4, schedule: 'constant', batchSize: 32, epochs: 10, augment: 'flip' },
    },
  },
  'notes-googlenet': {
    summary: 'all of GoogLeNet, its auxiliary classifiers counting 0.3 each in the loss',
    source: 'train.py of GoogLeNet in the code that the notes point to: Adam 3e-4, batch 32, 30 epochs',
    settings: {
      backbone: 'googlenet',
      ...{ freeze: 'none', auxiliary: 'on' },
      ...{ optimizer: 'adam', lr: 3e-4, schedule: 'constant', batchSize: 32, epochs: 30, augment: 'flip' },
    },
  },
  'notes-vit': {
    summary: 'a new classifier on a frozen ViT-B/16',
    source:
      'train.py of the vision transformer in the code that the notes point to: SGD 1e-3 with momentum 0.9, falling along ' +
      'a cosine to a hundredth, weight decay 1e-4, batch 8, 10 epochs',
    settings: {
      backbone: 'vit_b16',
      freeze: 'backbone',
      ...{ optimizer: 'sgd', momentum: 0.9, lr: 1e-3, schedule: 'cosine', minLr: 1e-5, weightDecay: 1e-4 },
      ...{ batchSize: 8, epochs: 10, augment: 'flip' },
    },
  },
  'keras-guide': {
    summary: 'the head alone for 20 epochs, then everything for 10 at a very low rate, batch norms in inference mode',
    source: 'https://keras.io/guides/transfer_learning/: Adam 1e-3, then 1e-5; Dropout 0.2 before the classifier',
    settings: {
      ...{ freeze: 'none', twoStage: 20, epochs: 30, batchNorm: 'eval', headDropout: 0.2 },
      ...{ optimizer: 'adam', lr: 1e-3, unfreezeLr: 1e-5, schedule: 'constant', augment: 'flip' },
    },
  },
  fastai: {
    summary: 'the head alone for an epoch, then everything, earlier layers at lower rates, one cycle each',
    source:
      "https://docs.fast.ai/callback.schedule.html: fine_tune's defaults, base_lr 2e-3 and half of that after one frozen " +
      'epoch, the first layers at a hundredth; weight decay 0.01, rotation by 10 degrees, lighting 0.2. fastai has three ' +
      'groups of layers, here the rate falls by 0.75 a block, to a hundredth over the 16 of ResNet-50; 5 epochs of ' +
      'fine-tuning are in its tutorials',
    settings: {
      ...{ freeze: 'none', twoStage: 1, epochs: 6, layerDecay: 0.75 },
      ...{ optimizer: 'adamw', weightDecay: 0.01, lr: 2e-3, unfreezeLr: 1e-3, schedule: 'one-cycle' },
      ...{ augment: 'standard', rotate: 10, colorJitter: '0.2,0.2,0' },
    },
  },
  vit: {
    summary: "everything by SGD in batches of 512, as Google's vision transformers were fine-tuned",
    source:
      'https://arxiv.org/abs/2010.11929, appendix B.1.1, table 4, and vit_jax/configs/common.py: SGD 0.03 with momentum 0.9 ' +
      'in batches of 512, gradients clipped to 1, cosine, 384x384; 500 steps for small data sets, 10,000 for others, and ' +
      'the warm-up the twentieth of them that it is of 10,000',
    settings: (facts) => {
      const { epochs, ...batches } = inBatchesOf512(facts, facts.trainPictures < SMALL ? 500 : 10_000);
      return {
        ...{ freeze: 'none', inputSize: 384, ...batches, epochs, warmupEpochs: epochs / 20 },
        ...{ optimizer: 'sgd', momentum: 0.9, weightDecay: 0, lr: 0.03, schedule: 'cosine', clipNorm: 1 },
        ...{ augment: 'standard' },
      };
    },
  },
  'bit-hyperrule': {
    summary: 'everything by SGD in batches of 512, for as many steps as the number of pictures asks for',
    source:
      'https://arxiv.org/abs/1912.11370, section 3.3, and bit_hyperrule.py beside it: SGD 3e-3 with momentum 0.9, 500 steps ' +
      'below 20,000 pictures, 10,000 below 500,000, else 20,000, a tenth of the rate after three of them, mixup 0.1 from ' +
      '20,000 pictures on, 480x480 cut from 512x512',
    settings: (facts) => {
      const [warmup, ...falls] = stepsOfHyperRule(facts);
      const { epochs, ...batches } = inBatchesOf512(facts, falls.pop()!);
      const inEpochs = (steps: number): number => (steps * epochs) / totalSteps(facts, epochs);
      return {
        ...{ freeze: 'none', inputSize: 480, ...batches, epochs, warmupEpochs: inEpochs(warmup!) },
        ...{ optimizer: 'sgd', momentum: 0.9, lr: 3e-3, schedule: 'step', stepEpochs: falls.map(inEpochs).join(',') },
        ...{ augment: 'flip', cropArea: '0.88,1' }, // 480 of 512 on both sides are 0.88 of the area
        ...(facts.trainPictures < SMALL ? {} : { mixup: 0.1 }),
      };
    },
  },
};

/** Pictures below which both call a data set small. */
const SMALL = 20_000;

/** bit_hyperrule.py: the end of the warm-up, three falls of the rate, and the end of the run, in steps. */
function stepsOfHyperRule({ trainPictures }: RecipeFacts): number[] {
  if (trainPictures < SMALL) return [100, 200, 300, 400, 500];
  return trainPictures < 500_000 ? [500, 3000, 6000, 9000, 10_000] : [500, 6000, 12_000, 18_000, 20_000];
}

/** What a step of 512 pictures is made of, so that it fits into the memory of a small machine. */
const PART = 16;

const totalSteps = ({ trainPictures }: RecipeFacts, epochs: number): number =>
  epochs * Math.ceil(Math.ceil(trainPictures / PART) / (512 / PART));

/** Batches, and the epochs that such a number of steps takes at the least. */
function inBatchesOf512(facts: RecipeFacts, steps: number) {
  return { batchSize: PART, accumulate: 512 / PART, epochs: Math.ceil(steps / totalSteps(facts, 1)) };
}

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
