/** Settings of what training shows of pictures. */
import { choice, numbers, real } from './kinds.js';
import type { SettingTable } from './setting.js';

const fits: typeof import('../../augment/preprocessing.js').fits = ['crop', 'pad', 'stretch'];
const augmentations: typeof import('../../augment/recipe.js').augmentations = ['none', 'flip', 'standard', 'strong'];

/** In the order of the help. */
export const augmentationSettings = {
  augment: {
    flag: 'augment',
    kind: choice(augmentations, '<how>'),
    help: 'random changes to training pictures',
    default: 'flip',
    section: 'Augmentation',
  },
  cropArea: {
    flag: 'crop-area',
    kind: numbers(
      '<min,max>',
      'two fractions such as 0.35,1, the smaller first',
      ([least, most, ...others]) => others.length === 0 && least! > 0 && least! <= most! && most! <= 1,
    ),
    help: 'show a random part of this area, as fractions of the picture, with sides of 3:4 to 4:3',
    stated: '0.35,1 with standard and strong, else no random part',
    section: 'Augmentation',
  },
  hflip: {
    flag: 'hflip',
    kind: real({ atLeast: 0, atMost: 1 }, '<p>'),
    help: 'how often a picture is mirrored left to right',
    stated: '0.5, 0 with none',
    section: 'Augmentation',
  },
  vflip: {
    flag: 'vflip',
    kind: real({ atLeast: 0, atMost: 1 }, '<p>'),
    help: 'how often a picture is mirrored upside down',
    stated: '0',
    section: 'Augmentation',
  },
  rotate: {
    flag: 'rotate',
    kind: real({ atLeast: 0, atMost: 180 }, '<degrees>'),
    help: 'turn pictures by up to so much either way; what comes in is the picture mirrored at its edge',
    stated: '15 with strong, else 0',
    section: 'Augmentation',
  },
  colorJitter: {
    flag: 'color-jitter',
    kind: numbers(
      '<b[,c,s[,h]]>',
      'one number, or three or four such as 0.4,0.4,0.4,0.1, of 0 to 1 and the fourth to 0.5',
      (values) =>
        [1, 3, 4].includes(values.length) && values.every((value, i) => value >= 0 && value <= (i === 3 ? 0.5 : 1)),
    ),
    help: 'change brightness, contrast and saturation by up to this share, and hue by this part of its circle',
    stated: '0.2 with strong, else 0',
    section: 'Augmentation',
  },
  randAugment: {
    flag: 'rand-augment',
    kind: numbers(
      '<n,m>',
      'whole numbers of operations and of their magnitude, 0 to 30, such as 2,9',
      ([n, m, ...others]) =>
        others.length === 0 && Number.isInteger(n) && n! >= 0 && Number.isInteger(m) && m! >= 0 && m! <= 30,
    ),
    help: "N of RandAugment's operations one after another, of magnitude M, 0 to 30, as torchvision counts it",
    section: 'Augmentation',
  },
  erase: {
    flag: 'erase',
    kind: real({ atLeast: 0, atMost: 1 }, '<p>'),
    help: 'how often a rectangle of 2 to 33 % of a picture is erased',
    stated: '0',
    section: 'Augmentation',
  },
  eraseFill: {
    flag: 'erase-fill',
    kind: choice(['zero', 'noise'], '<what>'),
    help: 'what is there instead: what the network takes as zero, or random pixels',
    stated: 'zero',
    section: 'Augmentation',
    needs: 'erase',
  },
  mixup: {
    flag: 'mixup',
    kind: real({ atLeast: 0 }, '<alpha>'),
    help: 'blend each picture, and its label, with another of the batch, by a share of Beta(alpha, alpha); 0.2 is usual',
    stated: '0, off',
    section: 'Augmentation',
  },
  cutmix: {
    flag: 'cutmix',
    kind: real({ atLeast: 0 }, '<alpha>'),
    help: 'put a rectangle of another picture of the batch into each, likewise; 1 is usual; with --mixup, a batch has either',
    stated: '0, off',
    section: 'Augmentation',
  },
  fit: {
    flag: 'fit',
    kind: choice(fits, '<how>'),
    help: 'how a picture of another shape gets into the input, in training without a random part and in the model: crop to the middle, pad with the mean colour, or stretch',
    stated: "the network's own way",
    section: 'Augmentation',
  },
} as const satisfies Partial<SettingTable>;
