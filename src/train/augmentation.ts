/** Settings of augmentation: from flags to the record of what is random about pictures, and to how batches are mixed. */
import {
  type AugmentRecipe,
  type ErasingRecipe,
  type JitterRecipe,
  type RandAugmentRecipe,
  recipeOf,
  standardCrop,
  variety,
} from '../augment/recipe.js';
import type { Mixing } from './mixing.js';
import { numbersIn } from './settings/kinds.js';
import type { FinetuneSettings } from './settings/settings.js';
import { settings as table } from './settings/table.js';

/** What lies over a preset, each in the place of the preset's own. */
const changes = ['cropArea', 'hflip', 'vflip', 'rotate', 'colorJitter', 'randAugment', 'erase', 'eraseFill'] as const;

type Changes = Pick<FinetuneSettings, (typeof changes)[number]>;

/** What is random about training pictures: the preset, with what was named besides in the place of its own. */
export function recipeFor(settings: Pick<FinetuneSettings, 'augment'> & Changes): AugmentRecipe {
  const { cropArea, hflip, vflip, rotate, colorJitter, randAugment, erase, eraseFill = 'zero' } = settings;
  const preset = recipeOf(settings.augment);
  const [least, most] = cropArea === undefined ? [] : numbersIn(cropArea);
  const crop = cropArea === undefined ? preset.crop : { area: [least!, most!] as const, shape: standardCrop.shape };
  const operations = randAugment === undefined ? preset.randAugment : operationsOf(randAugment);
  const jitter = colorJitter === undefined ? preset.jitter : jitterOf(colorJitter);
  const erasing: ErasingRecipe | undefined =
    erase === undefined ? preset.erasing : { probability: erase, fill: eraseFill };
  const [rotation = 0, horizontalFlip = 0, verticalFlip = 0] = [
    rotate ?? preset.rotation,
    hflip ?? preset.horizontalFlip,
    vflip ?? preset.verticalFlip,
  ];
  // What does nothing is left out: a run without random views keeps the frozen part's output.
  return {
    ...(crop && { crop }),
    ...(operations && operations.operations > 0 && { randAugment: operations }),
    ...(rotation > 0 && { rotation }),
    ...(jitter && Object.values(jitter).some((strength) => strength > 0) && { jitter }),
    ...(horizontalFlip > 0 && { horizontalFlip }),
    ...(verticalFlip > 0 && { verticalFlip }),
    ...(erasing && erasing.probability > 0 && { erasing }),
  };
}

function operationsOf(text: string): RandAugmentRecipe {
  const [operations, magnitude] = numbersIn(text);
  return { operations: operations!, magnitude: magnitude! };
}

/** One strength for all but hue, as timm has it; or each its own. */
function jitterOf(text: string): JitterRecipe {
  const [brightness, contrast = brightness, saturation = brightness, hue = 0] = numbersIn(text);
  return { brightness: brightness!, contrast: contrast!, saturation: saturation!, hue };
}

/** How training batches are mixed; undefined where they are not. */
export function mixingFor(
  { mixup = 0, cutmix = 0, labelSmoothing }: Pick<FinetuneSettings, 'mixup' | 'cutmix' | 'labelSmoothing'>,
  classes: number,
): Mixing | undefined {
  if (mixup === 0 && cutmix === 0) return undefined;
  return { ...(mixup > 0 && { mixup }), ...(cutmix > 0 && { cutmix }), classes, labelSmoothing };
}

type Augmenting = Pick<FinetuneSettings, 'augment' | 'mixup' | 'cutmix' | 'fit'> & Changes;

/** The preset and what was named besides, for people: `standard, rand-augment 2,9, mixup 0.2`. */
export function augmentationWords(settings: Augmenting): string {
  const named = ([...changes, 'mixup', 'cutmix', 'fit'] as const).flatMap((key) =>
    settings[key] === undefined ? [] : [`${table[key].flag} ${settings[key]}`],
  );
  return [settings.augment, ...named].join(', ');
}

/** The flags by which every epoch shows other pictures; none where epochs show one or two views of each. */
export function endlessFlags(settings: Augmenting): string[] {
  const mixed = (['mixup', 'cutmix'] as const).filter((key) => (settings[key] ?? 0) > 0);
  if (mixed.length > 0) return mixed.map((key) => `--${table[key].flag}`);
  if (variety(recipeFor(settings)) !== 'endless') return [];
  if (variety(recipeOf(settings.augment)) === 'endless') return [`--augment ${settings.augment}`];
  return changes.filter((key) => settings[key] !== undefined).map((key) => `--${table[key].flag}`);
}
