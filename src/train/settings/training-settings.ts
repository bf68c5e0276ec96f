/** Settings of how it is trained: epochs, optimiser, schedule, loss. */
import { scheduleNames } from '../schedule.js';
import { choice, epochsOfFalls, flag, real, share, text, whole } from './kinds.js';
import type { SettingTable } from './setting.js';

const optimizers: typeof import('../optimizers.js').optimizerNames = [
  'adam',
  'adamw',
  'sgd',
  'rmsprop',
  'lion',
  'lamb',
];
const samplers: typeof import('../sampling.js').samplers = ['shuffle', 'balanced'];
/** Hinton et al. 2015: see `distill.ts`. */
export const distillation: typeof import('../distill.js').distillationDefaults = { weight: 0.9, temperature: 2 };

/** In the order of the help. */
export const trainingSettings = {
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
    help: 'highest learning rate; `tl lr-find` suggests one',
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
    kind: epochsOfFalls,
    help: 'with --schedule step, epochs from one fall of the learning rate to the next, or E1,E2,... after which it falls',
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
} as const satisfies Partial<SettingTable>;
