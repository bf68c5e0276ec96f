/**
 * Every setting of a run, once: its flag, its values, its default and what the help says. The command line, `--config`
 * files, recipes, `--print-args`, the checks and what a program may leave out are all made from this. It is read for
 * `tl --help`, so it loads nothing of the training: the few names that belong to heavier files are written here again,
 * and the compiler compares them.
 */
import { cachePlaces, rowPrecisions } from '../features/places.js';
import { samplers } from '../sampling.js';
import { scheduleNames } from '../schedule.js';
import { channels, choice, flag, imageSize, type Kind, numbers, real, share, text, whole } from './kinds.js';
import type { FinetuneSettings } from './settings.js';

/** One setting. */
export interface Setting<T> {
  /** Without its dashes, `batch-size`. */
  readonly flag: string;
  readonly kind: Kind<T>;
  readonly help: string;
  /** What holds unless told otherwise; where there is none, the setting may be absent. */
  readonly default?: T;
  /** The default in words, where the value alone would not tell it. */
  readonly stated?: string;
  /** The heading it stands under in the help. */
  readonly section: Section;
  /** Settings that cannot stand beside it. */
  readonly conflicts?: readonly (keyof FinetuneSettings)[];
  /** A setting that has no meaning without another one. */
  readonly needs?: keyof FinetuneSettings;
}

export type Section = 'Data' | 'Network' | 'Strategy' | 'Training' | 'Loss' | 'Augmentation' | 'Computation';

type Table = { readonly [K in keyof FinetuneSettings]-?: Setting<NonNullable<FinetuneSettings[K]>> };

const fits: typeof import('../../augment/preprocessing.js').fits = ['crop', 'pad', 'stretch'];
const augmentations: typeof import('../../augment/augment.js').augmentations = ['none', 'flip', 'standard', 'strong'];
const optimizers: typeof import('../optimizers.js').optimizerNames = [
  'adam',
  'adamw',
  'sgd',
  'rmsprop',
  'lion',
  'lamb',
];
const batchNormModes: typeof import('../../engine/run.js').batchNormModes = ['train', 'eval'];
const loraTargets: typeof import('../../engine/lora.js').loraTargets = ['qv', 'qkv', 'qkvo'];
const precisions: typeof import('../../engine/precision.js').precisions = ['float32', 'bfloat16'];
/** Hinton et al. 2015: see `distill.ts`. */
export const distillation: typeof import('../distill.js').distillationDefaults = { weight: 0.9, temperature: 2 };

/** In the order of the help. */
export const settings: Table = {
  data: {
    flag: 'data',
    kind: text('<dir>'),
    help: 'DIR/train/<class>/* with DIR/val/<class>/*, or DIR/<class>/* split by --val-split',
    stated: 'data',
    section: 'Data',
  },
  manifest: {
    flag: 'manifest',
    kind: text('<file.csv>'),
    help: 'path,label[,split] instead of folders',
    section: 'Data',
    conflicts: ['data'],
  },
  valSplit: {
    flag: 'val-split',
    kind: share(),
    help: 'share of the pictures that validates, where no val folder is there',
    default: 0.2,
    section: 'Data',
  },
  skipBadImages: {
    flag: 'skip-bad-images',
    kind: flag,
    help: 'leave damaged pictures out, and list them',
    default: false,
    section: 'Data',
  },

  backbone: {
    flag: 'backbone',
    kind: text('<name>'),
    help: 'a network of `tl backbones`; required',
    section: 'Network',
  },
  source: {
    flag: 'source',
    kind: text('<source>'),
    help: 'which published variant',
    stated: 'that of the imported weights',
    section: 'Network',
  },
  weights: {
    flag: 'weights',
    kind: text('<weights>'),
    help: 'auto (imported weights), a file, or none to train from scratch',
    default: 'auto',
    section: 'Network',
  },
  inputSize: {
    flag: 'input-size',
    kind: imageSize,
    help: 'N, or HxW for height and width',
    stated: 'as published',
    section: 'Network',
  },
  channels: {
    flag: 'channels',
    kind: channels,
    help: 'of the pictures: 1 grey, 3 RGB, 4 RGBA',
    stated: 'those that the weights were trained on',
    section: 'Network',
  },
  head: {
    flag: 'head',
    kind: text('<head>'),
    help: 'linear, or mlp:UNITS[,UNITS...] with hidden layers',
    default: 'linear',
    section: 'Network',
  },
  headDropout: {
    flag: 'head-dropout',
    kind: share('<rate>'),
    help: 'share of values dropped before each dense layer of the head',
    default: 0,
    section: 'Network',
  },

  freeze: {
    flag: 'freeze',
    kind: text('<what>'),
    help: 'backbone, none, last:N (train the last N blocks) or until:TAP',
    default: 'backbone',
    stated: 'backbone; none with --two-stage and --gradual',
    section: 'Strategy',
  },
  twoStage: {
    flag: 'two-stage',
    kind: whole(1, undefined, '<epochs>'),
    help: 'train the head alone for so many of the epochs, then what --freeze leaves, at a lower rate',
    section: 'Strategy',
    conflicts: ['gradual'],
  },
  unfreezeLr: {
    flag: 'unfreeze-lr',
    kind: real({ above: 0 }, '<rate>'),
    help: 'highest learning rate of the second stage',
    stated: 'a tenth of --lr',
    section: 'Strategy',
    needs: 'twoStage',
  },
  gradual: {
    flag: 'gradual',
    kind: whole(1, undefined, '<epochs>'),
    help: 'begin with the head alone, and unfreeze one more stage after every so many epochs, until --freeze is reached',
    section: 'Strategy',
  },
  batchNorm: {
    flag: 'bn',
    kind: choice(batchNormModes, '<mode>'),
    help: 'batch norms of the trained part: train by the statistics of the batch, or eval by those they came with',
    stated: 'train',
    section: 'Strategy',
  },
  layerDecay: {
    flag: 'layer-decay',
    kind: real({ above: 0, atMost: 1 }, '<factor>'),
    help: 'a block trains at this share of the rate of the block behind it, the head at the whole; 0.65 to 0.9 are usual',
    stated: '1',
    section: 'Strategy',
  },
  lora: {
    flag: 'lora',
    kind: text('<rank[,alpha]>'),
    help: 'train low-rank adapters on the attention of a frozen transformer, merged into the model; 8 is usual',
    section: 'Strategy',
    conflicts: ['twoStage', 'gradual'],
  },
  loraTargets: {
    flag: 'lora-targets',
    kind: choice(loraTargets, '<targets>'),
    help: 'which projections have adapters: queries, keys, values, out',
    stated: 'qv',
    section: 'Strategy',
    needs: 'lora',
  },

  epochs: { flag: 'epochs', kind: whole(1), help: 'times through the pictures', default: 20, section: 'Training' },
  batchSize: {
    flag: 'batch-size',
    kind: whole(1),
    help: 'pictures in a step',
    default: 16, // the notes' recipe
    section: 'Training',
  },
  patience: {
    flag: 'patience',
    kind: whole(1, undefined, '<epochs>'),
    help: 'end the run after so many epochs without a better model',
    stated: 'never',
    section: 'Training',
  },
  lr: {
    flag: 'lr',
    kind: real({ above: 0 }, '<rate>'),
    help: 'highest learning rate',
    stated: '0.001 for a head alone, else 0.0001; ten times that with sgd and lamb, a fifth with lion',
    section: 'Training',
  },
  optimizer: {
    flag: 'optimizer',
    kind: choice(optimizers),
    help: 'how steps are taken',
    default: 'adam',
    section: 'Training',
  },
  schedule: {
    flag: 'schedule',
    kind: choice(scheduleNames),
    help: 'of the learning rate',
    default: 'cosine',
    section: 'Training',
  },
  warmupEpochs: {
    flag: 'warmup',
    kind: real({ atLeast: 0 }, '<epochs>'),
    help: 'epochs in which the learning rate rises; 30 % of the run where this is 0 with --schedule one-cycle',
    default: 0,
    section: 'Training',
  },
  stepEpochs: {
    flag: 'step-epochs',
    kind: real({ above: 0 }, '<epochs>'),
    help: 'with --schedule step, epochs from one fall of the learning rate to the next',
    stated: 'a third of the run',
    section: 'Training',
  },
  stepGamma: {
    flag: 'step-gamma',
    kind: real({ above: 0, below: 1 }, '<factor>'),
    help: 'with --schedule step, what a fall multiplies the learning rate by',
    stated: '0.1',
    section: 'Training',
  },
  minLr: {
    flag: 'min-lr',
    kind: real({ atLeast: 0 }, '<rate>'),
    help: 'with --schedule cosine, the learning rate it ends at',
    stated: '0',
    section: 'Training',
  },
  momentum: {
    flag: 'momentum',
    kind: share(),
    help: 'of sgd and rmsprop',
    stated: '0.9 with sgd, 0 with rmsprop',
    section: 'Training',
  },
  nesterov: { flag: 'nesterov', kind: flag, help: "Nesterov's momentum, of sgd", section: 'Training' },
  weightDecay: {
    flag: 'weight-decay',
    kind: real({ atLeast: 0 }, '<rate>'),
    help: 'pulls kernels towards 0; biases, norms, tokens and positions are left alone',
    default: 0,
    stated: '0; 0.01 with adamw',
    section: 'Training',
  },
  clipNorm: {
    flag: 'clip-norm',
    kind: real({ above: 0 }, '<norm>'),
    help: 'shorten the gradients of an update where all of them together are longer than this',
    section: 'Training',
  },
  accumulate: {
    flag: 'accumulate',
    kind: whole(1),
    help: 'batches that make one update, as one batch of all their pictures would but for batch norms',
    stated: '1',
    section: 'Training',
  },
  ema: {
    flag: 'ema',
    kind: real({ above: 0, below: 1 }, '<decay>'),
    help: 'validate and keep moving averages of the weights, of which an update keeps this share; 0.999 is usual',
    section: 'Training',
  },

  labelSmoothing: {
    flag: 'label-smoothing',
    kind: share(),
    help: 'of the training loss',
    default: 0,
    section: 'Loss',
  },
  focal: {
    flag: 'focal',
    kind: real({ atLeast: 0 }, '<gamma>'),
    help: 'the focal loss: pictures that are well classified count less, the more so the larger gamma is; 2 is usual',
    section: 'Loss',
  },
  classWeights: {
    flag: 'class-weights',
    kind: text('<balanced|file>'),
    help: 'how much classes count in the training loss: balanced by their pictures, or as a JSON or CSV file says',
    section: 'Loss',
  },
  sampler: {
    flag: 'sampler',
    kind: choice(samplers),
    help: 'balanced draws as many pictures of every class, those of small ones more than once',
    stated: 'shuffle',
    section: 'Loss',
  },
  dropPath: {
    flag: 'drop-path',
    kind: share('<rate>'),
    help: "how often a step leaves the last block's branch out, growing from 0 in the first",
    stated: "the network's own",
    section: 'Loss',
  },
  auxiliary: {
    flag: 'auxiliary',
    kind: choice(['on', 'off'], '<on|off>'),
    help: 'let the auxiliary classifiers of GoogLeNet take part in the training loss',
    default: 'on',
    section: 'Loss',
  },
  teacher: {
    flag: 'teacher',
    kind: text('<dir>'),
    help: 'learn the logits of this model or run folder too, trained for the same classes',
    section: 'Loss',
  },
  distillWeight: {
    flag: 'distill-weight',
    kind: real({ atLeast: 0, atMost: 1 }, '<share>'),
    help: "of the teacher's part in the training loss, against the labels'",
    stated: `${distillation.weight}`,
    section: 'Loss',
    needs: 'teacher',
  },
  temperature: {
    flag: 'temperature',
    kind: real({ above: 0 }, '<t>'),
    help: "divides both networks' logits in the teacher's part",
    stated: `${distillation.temperature}`,
    section: 'Loss',
    needs: 'teacher',
  },

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

  seed: { flag: 'seed', kind: whole(0), help: 'of everything random', default: 0, section: 'Computation' },
  precision: {
    flag: 'precision',
    kind: choice(precisions, '<type>'),
    help: 'what convolutions and matrix products compute in; bfloat16 takes less time',
    default: 'float32',
    section: 'Computation',
  },
  recompute: {
    flag: 'recompute',
    kind: flag,
    help: 'run trained blocks again for their gradients, instead of keeping them: slower, less memory',
    default: false,
    section: 'Computation',
  },
  cache: {
    flag: 'cache',
    kind: choice(cachePlaces, '<where>'),
    help: "keep the frozen part's output, and a teacher's: auto and disk in TL_HOME/features, where later runs find it, or in memory",
    default: 'auto',
    section: 'Computation',
  },
  cachePrecision: {
    flag: 'cache-precision',
    kind: choice(rowPrecisions, '<type>'),
    help: 'numbers that it is kept in; float16 takes half the room',
    default: 'float32',
    section: 'Computation',
  },
  cacheViews: {
    flag: 'cache-views',
    kind: whole(1),
    help: 'with --augment standard or strong, keep N random views of each picture, which epochs show in turn',
    section: 'Computation',
  },
  deterministic: {
    flag: 'deterministic',
    kind: flag,
    help: 'refuse whatever may give other bits another time: same seed and threads, same run; costs nothing on a processor',
    default: false,
    section: 'Computation',
  },
  tensorboard: {
    flag: 'tensorboard',
    kind: flag,
    help: "write the history as TensorBoard's files too, to tensorboard/ in the run folder",
    default: false,
    section: 'Computation',
  },
};

/** A setting with the name that `args.json` and programs have for it. */
export interface NamedSetting extends Setting<unknown> {
  readonly key: keyof FinetuneSettings;
}

/** All of them, in the order of the help. */
export const settingList: readonly NamedSetting[] = Object.entries(settings).map(([key, setting]) => ({
  ...(setting as Setting<unknown>),
  key: key as keyof FinetuneSettings,
}));
