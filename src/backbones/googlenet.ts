/**
 * GoogLeNet, Inception v1. Szegedy et al.: Going Deeper with Convolutions, 2014, table 1 and section 5.
 * @see https://arxiv.org/abs/1409.4842
 *
 *   torch  batch norm (epsilon 1e-3), a 3x3 in the place of the 5x5, pools that round up, the last one 2x2
 *   slim   batch norm without gamma, a 3x3 in the place of the 5x5, TensorFlow's SAME padding, the last pool 2x2
 *   notes  as in the paper: biases and no norm, a true 5x5, every strided pool 3x3; SAME padding
 *
 * Local response normalisation, which the paper has around the second and third convolution, is in none of them.
 */
import {
  type Preprocessing,
  slimInceptionPreprocessing,
  tfPreprocessing,
  torchPreprocessing,
} from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  adaptiveAveragePool,
  around,
  averagePool,
  type BatchNormOptions,
  batchNorm,
  concat,
  conv2d,
  dense,
  dropout,
  flatten,
  globalAveragePool,
  maxPool,
} from '../engine/layers.js';
import { ceilPadding, type Padding, type Pair } from '../engine/operations.js';
import type { Auxiliary, Backbone, OwnerNames, Published } from './backbone.js';
import { slimArchive, torchvisionFile } from './download.js';

type Row = readonly [c1: number, r3: number, c3: number, r5: number, c5: number, pool: number];

/** Szegedy 2014, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. */
const modules = {
  '3a': [64, 96, 128, 16, 32, 32],
  '3b': [128, 128, 192, 32, 96, 64],
  '4a': [192, 96, 208, 16, 48, 64],
  '4b': [160, 112, 224, 24, 64, 64],
  '4c': [128, 128, 256, 24, 64, 64],
  '4d': [112, 144, 288, 32, 64, 64],
  '4e': [256, 160, 320, 32, 128, 128],
  '5a': [256, 160, 320, 32, 128, 128],
  '5b': [384, 192, 384, 48, 128, 128],
} as const satisfies Record<string, Row>;

interface Config {
  /** Batch norm after every convolution; without one, convolutions have biases. */
  readonly norm: BatchNormOptions | undefined;
  readonly initializer: Initializer;
  readonly stemPadding: Padding;
  /** Side of the larger kernel of a module, 5 in the paper. */
  readonly large: 3 | 5;
  /** Side of the last max pool, 3 in the paper. */
  readonly lastPool: 2 | 3;
  /** Padding of the strided max pools. */
  readonly poolPadding: (picture: Pair, size: number) => Padding;
  /** To the grid of 4x4 that an auxiliary classifier stands on. */
  readonly auxiliaryPool: (s: Scope, x: Node) => Node;
  /** Dropout of an auxiliary classifier before its first and its second dense layer, 0 and .7 in the paper. */
  readonly auxiliaryDropout: readonly [number, number];
}

const grid: Pair = [4, 4]; // Szegedy 2014, section 5: 4x4x512 at 4a, 4x4x528 at 4d

// torchvision.models.googlenet: BatchNorm2d(eps=.001), momentum its default; MaxPool2d(ceil_mode=True); trunc_normal_
// (std=.01, a=-2, b=2), which cuts at 200 deviations; InceptionAux: adaptive_avg_pool2d, one dropout
const torch: Config = {
  norm: { epsilon: 1e-3, momentum: 0.9 },
  initializer: { kind: 'normal', deviation: 0.01 },
  stemPadding: around(3),
  large: 3, // https://github.com/pytorch/vision/issues/906
  lastPool: 2,
  poolPadding: (picture, size) => ceilPadding(picture, size, 2),
  auxiliaryPool: (s, x) => adaptiveAveragePool(s, x, grid),
  auxiliaryDropout: [0, 0.7],
};
// tf_slim.nets.inception_v1: inception_v1_arg_scope has epsilon .001 and decay .9997, and batch_norm's own default is
// scale=False; trunc_normal(.01). It has no auxiliary classifiers.
const slim: Config = {
  ...torch,
  norm: { epsilon: 1e-3, momentum: 0.9997, scale: false },
  initializer: { kind: 'truncated_normal', deviation: 0.01 },
  stemPadding: 'same',
  poolPadding: () => 'same',
};
// Keras layers: padding "SAME", the initialisers of Conv2D and Dense; AvgPool2D(5, strides=3) and Dropout(.5) twice
const notes: Config = {
  norm: undefined,
  initializer: { kind: 'glorot_uniform' },
  stemPadding: 'same',
  large: 5,
  lastPool: 3,
  poolPadding: () => 'same',
  auxiliaryPool: (s, x) => averagePool(s, x, 5, { stride: 3, padding: 'valid' }),
  auxiliaryDropout: [0.5, 0.5],
};

interface Unit {
  readonly stride?: number;
  readonly padding?: Padding;
}

function convRelu(s: Scope, x: Node, filters: number, size: number, c: Config, unit: Unit = {}): Node {
  const { norm, initializer } = c;
  const y = conv2d(s.at('conv'), x, filters, size, { ...unit, initializer, bias: norm === undefined });
  return activation(s, norm === undefined ? y : batchNorm(s.at('norm'), y, norm), 'relu');
}

function inception(s: Scope, x: Node, [c1, r3, c3, r5, c5, pool]: Row, c: Config): Node {
  const branch1 = convRelu(s.at('conv1x1'), x, c1, 1, c);
  const branch2 = convRelu(s.at('conv3x3'), convRelu(s.at('reduce3x3'), x, r3, 1, c), c3, 3, c);
  const branch3 = convRelu(s.at('conv5x5'), convRelu(s.at('reduce5x5'), x, r5, 1, c), c5, c.large, c);
  const pooled = maxPool(s.at('pool'), x, 3, { stride: 1, padding: 'same' });
  const branch4 = convRelu(s.at('project'), pooled, pool, 1, c);
  return concat(s, [branch1, branch2, branch3, branch4]);
}

function googlenet(s: Scope, x: Node, c: Config): Node {
  const pool = (at: Scope, y: Node, size = 3): Node => {
    const [height, width] = y.shape as readonly [number, number, number];
    return maxPool(at, y, size, { stride: 2, padding: c.poolPadding([height, width], size) });
  };
  const block = (y: Node, name: keyof typeof modules): Node => {
    const at = s.at(`inception${name}`);
    return at.endBlock(inception(at, y, modules[name], c));
  };
  const [conv1, conv2, conv3] = [s.at('stem.conv1'), s.at('stem.conv2'), s.at('stem.conv3')];
  let y = conv1.tap(convRelu(conv1, x, 64, 7, c, { stride: 2, padding: c.stemPadding }));
  y = s.at('stem.pool1').tap(pool(s.at('stem.pool1'), y));
  y = conv3.tap(convRelu(conv3, convRelu(conv2, y, 64, 1, c), 192, 3, c));
  y = s.at('stem').tap(pool(s.at('stem.pool2'), y));
  y = block(block(y, '3a'), '3b');
  y = s.at('pool3').tap(pool(s.at('pool3'), y));
  for (const name of ['4a', '4b', '4c', '4d', '4e'] as const) y = block(y, name);
  y = s.at('pool4').tap(pool(s.at('pool4'), y, c.lastPool));
  y = block(block(y, '5a'), '5b');
  return globalAveragePool(s.at('pool'), y);
}

// ---- auxiliary classifiers -------------------------------------------------------------------------------------

function auxiliaryClassifier(s: Scope, x: Node, classes: number, c: Config): Node {
  const { initializer, auxiliaryDropout } = c;
  const drop = (at: Scope, y: Node, rate: number): Node => (rate > 0 ? dropout(at, y, rate) : y);
  const [hidden, logits] = [s.at('hidden'), s.at('logits')];
  const reduced = convRelu(s.at('reduce'), c.auxiliaryPool(s.at('pool'), x), 128, 1, c);
  let y = drop(hidden, flatten(s.at('flat'), reduced, grid), auxiliaryDropout[0]);
  y = activation(hidden, dense(hidden, y, 1024, { initializer }), 'relu');
  return dense(logits, drop(logits, y, auxiliaryDropout[1]), classes, { initializer });
}

/** Szegedy 2014, section 5: on 4a and 4d, their losses added with a weight of .3. */
const auxiliary = (c: Config): readonly Auxiliary[] =>
  (['inception4a', 'inception4d'] as const).map((tap, i) => ({
    name: `aux${i + 1}`,
    tap,
    weight: 0.3,
    build: (s, x, classes) => auxiliaryClassifier(s, x, classes, c),
  }));

// ---- names in published files ----------------------------------------------------------------------------------

/** The convolutions of a module, in the order in which every publisher makes them. */
const units = ['conv1x1', 'reduce3x3', 'conv3x3', 'reduce5x5', 'conv5x5', 'project'] as const;

/** The parts of `inception4a.reduce3x3.conv`. */
function partsOf(path: string) {
  const match = /^inception(\d)([a-e])\.(\w+)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const [, stage, letter, unit, kind] = match as unknown as [string, string, string, (typeof units)[number], string];
  return { stage, letter, unit, isNorm: kind === 'norm' };
}

const torchNames: OwnerNames = (path) => {
  const p = partsOf(path);
  if (p !== undefined) {
    const branch = {
      conv1x1: 'branch1',
      reduce3x3: 'branch2.0',
      conv3x3: 'branch2.1',
      reduce5x5: 'branch3.0',
      conv5x5: 'branch3.1',
      project: 'branch4.1',
    }[p.unit];
    return [`inception${p.stage}${p.letter}.${branch}.${p.isNorm ? 'bn' : 'conv'}`];
  }
  // stem.conv1.norm -> conv1.bn; aux1.reduce.conv -> aux1.conv.conv; aux1.hidden -> aux1.fc1
  const renamed = path
    .replace(/^stem\./, '')
    .replace(/\.norm$/, '.bn')
    .replace('.reduce.', '.conv.');
  return [
    renamed
      .replace(/^classifier$/, 'fc')
      .replace(/\.hidden$/, '.fc1')
      .replace(/\.logits$/, '.fc2'),
  ];
};

const slimNames: OwnerNames = (path) => {
  if (path === 'classifier') return ['InceptionV1/Logits/Conv2d_0c_1x1'];
  const stem = /^stem\.conv(\d)\./.exec(path);
  const layer =
    stem === null ? slimLayer(path) : ['Conv2d_1a_7x7', 'Conv2d_2b_1x1', 'Conv2d_2c_3x3'][Number(stem[1]) - 1];
  return layer === undefined ? [] : [`InceptionV1/${layer}${path.endsWith('.norm') ? '/BatchNorm' : ''}`];
};

function slimLayer(path: string): string | undefined {
  const p = partsOf(path);
  if (p === undefined) return undefined;
  const next = String.fromCharCode(p.letter.charCodeAt(0) + 1); // slim's Mixed_3a is the pool before 3a
  // Where the others have 0b, 5a has 0a once: published checkpoints keep the slip.
  const large = p.stage === '5' && p.letter === 'a' ? 'Conv2d_0a_3x3' : 'Conv2d_0b_3x3';
  const layer = {
    conv1x1: 'Branch_0/Conv2d_0a_1x1',
    reduce3x3: 'Branch_1/Conv2d_0a_1x1',
    conv3x3: 'Branch_1/Conv2d_0b_3x3',
    reduce5x5: 'Branch_2/Conv2d_0a_1x1',
    conv5x5: `Branch_2/${large}`,
    project: 'Branch_3/Conv2d_0b_1x1',
  }[p.unit];
  return `Mixed_${p.stage}${next}/${layer}`;
}

/** Counted in each layer, see `Published.counted`: the first `conv2d_12` of a module is its `conv2d`. */
const notesNames: OwnerNames = (path) => {
  const nth = (base: string, n: number): string => (n === 0 ? base : `${base}_${n}`);
  if (path === 'classifier') return ['output_dense'];
  const stem = /^stem\.conv(\d)\.conv$/.exec(path);
  if (stem !== null) return [nth('conv2d', Number(stem[1]) - 1)]; // conv2d_1 to conv2d_3 in the code
  const aux = /^aux(\d)\.(reduce\.conv|hidden|logits)$/.exec(path);
  if (aux !== null) {
    return [`aux_${aux[1]}/${{ 'reduce.conv': 'conv2d', hidden: 'dense', logits: 'dense_1' }[aux[2]!]}`];
  }
  const p = partsOf(path);
  return p === undefined ? [] : [`inception_${p.stage}${p.letter}/${nth('conv2d', units.indexOf(p.unit))}`];
};

// ---- published -------------------------------------------------------------------------------------------------

/**
 * The weights were converted from slim's and want its range: torchvision normalises by ImageNet's mean and deviation
 * and then takes that back, `transform_input`: x * std / .5 + (mean - .5) / .5. Together they are (x - .5) / .5.
 */
const torchInceptionPreprocessing: Preprocessing = {
  ...torchPreprocessing,
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
};

const at = (c: Config) => (s: Scope, x: Node) => googlenet(s, x, c);

const published: readonly Published[] = [
  {
    source: 'torch',
    dialect: 'torch',
    classes: 1000,
    ownerNames: torchNames,
    preprocessing: torchInceptionPreprocessing,
    reference: {
      call: 'torchvision.models.googlenet',
      arguments: 'init_weights=False',
      settings: { auxiliary: 'aux_logits' },
    },
    auxiliary: auxiliary(torch),
    download: torchvisionFile('googlenet-1378be20.pth', 49.731),
    origin: 'torchvision.models.googlenet, IMAGENET1K_V1',
    license: 'BSD-3-Clause',
    build: at(torch),
  },
  {
    source: 'slim',
    dialect: 'slim',
    classes: 1001,
    ownerNames: slimNames,
    preprocessing: slimInceptionPreprocessing,
    reference: {
      call: 'inception_v1.inception_v1',
      imports: ['from tf_slim.nets import inception_v1'],
      scope: 'inception_v1.inception_v1_arg_scope()',
      arguments: 'is_training=False',
    },
    // Size and hash: Open Model Zoo, models/public/googlenet-v1-tf/model.yml
    download: slimArchive('inception_v1_2016_08_28.tar.gz', {
      member: 'inception_v1.ckpt',
      bytes: 24_642_554,
      sha256: '7a620c430fcaba8f8f716241f5148c4c47c035cce4e49ef02cfbe6cd1adf96a6',
    }),
    origin: 'download.tensorflow.org/models/inception_v1_2016_08_28.tar.gz',
    license: 'Apache-2.0',
    build: at(slim),
  },
  {
    source: 'notes',
    dialect: 'keras',
    classes: 1000,
    ownerNames: notesNames,
    counted: true,
    submodels: /^(inception|aux)_\w+$/,
    preprocessing: tfPreprocessing,
    auxiliary: auxiliary(notes),
    origin: "save_weights() of the notes' GoogLeNet; nobody publishes a file",
    license: 'of whoever trained it',
    build: at(notes),
  },
];

export const googlenets: readonly Backbone[] = [
  { name: 'googlenet', family: 'googlenet', aliases: ['inception_v1'], inputSize: 224, published },
];
