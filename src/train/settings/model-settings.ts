/** Settings of what is trained: pictures, network, strategy. */
import { channels, choice, flag, imageSize, real, share, text, whole } from './kinds.js';
import type { SettingTable } from './setting.js';

const batchNormModes: typeof import('../../engine/run.js').batchNormModes = ['train', 'eval'];
const loraTargets: typeof import('../../engine/lora.js').loraTargets = ['qv', 'qkv', 'qkvo'];

/** In the order of the help. */
export const modelSettings = {
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
} as const satisfies Partial<SettingTable>;
