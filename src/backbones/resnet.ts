/**
 * ResNet. He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, table 1.
 * @see https://arxiv.org/abs/1512.03385
 *
 * Four publishers, four functions of one name:
 *   keras     convolutions with bias, epsilon 1.001e-5, stride in a block's first 1x1
 *   keras_v1  the same network as Keras published it until 2018, with epsilon 1e-3 and other names
 *   slim      no bias, epsilon 1e-5, stride in the 3x3 of a stage's LAST block, whose shortcut is a 1x1 max pool
 *   torch     "v1.5": no bias, epsilon 1e-5, stride in the 3x3 of a stage's first block
 */
import { caffePreprocessing, slimVggPreprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import { activation, add, around, batchNorm, channels, conv2d, globalAveragePool, maxPool } from '../engine/layers.js';
import type { Padding } from '../engine/operations.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';

const depths = { resnet50: [3, 4, 6, 3] } as const; // He 2015, table 1, 50-layer column

interface Config {
  readonly depths: readonly number[];
  readonly bias: boolean;
  readonly epsilon: number;
  readonly momentum: number;
  /** The convolution of a bottleneck that takes the stride. */
  readonly strideAt: 'reduce' | 'conv';
  /** The block of a stage that takes the stride: the first one of stages 2 to 4, or the last one of stages 1 to 3. */
  readonly strideIn: 'first' | 'last';
  readonly poolPadding: Padding;
}

// keras.applications.resnet: BatchNormalization(epsilon=1.001e-5), momentum the layer's default .99
const keras = {
  bias: true,
  epsilon: 1.001e-5,
  momentum: 0.99,
  strideAt: 'reduce',
  strideIn: 'first',
  poolPadding: around(1),
} as const;
// keras_applications 1.0.4 resnet50: BatchNormalization with the layer's default epsilon
const kerasV1 = { ...keras, epsilon: 1e-3 } as const;
// tf_slim.nets.resnet_utils.resnet_arg_scope: batch_norm_epsilon=1e-5, batch_norm_decay=.997; max_pool2d SAME
const slim = {
  bias: false,
  epsilon: 1e-5,
  momentum: 0.997,
  strideAt: 'conv',
  strideIn: 'last',
  poolPadding: 'same',
} as const;
// torchvision.models.resnet: BatchNorm2d(eps=1e-5, momentum=.1), where torch's momentum is the share of the new value
const torch = {
  bias: false,
  epsilon: 1e-5,
  momentum: 0.9,
  strideAt: 'conv',
  strideIn: 'first',
  poolPadding: around(1),
} as const;

function convNorm(s: Scope, x: Node, filters: number, size: number, c: Config, stride = 1): Node {
  const padding = size === 1 ? 'valid' : around((size - 1) / 2);
  const y = conv2d(s.at('conv'), x, filters, size, { stride, padding, bias: c.bias });
  return batchNorm(s.at('norm'), y, c);
}

function convNormRelu(s: Scope, x: Node, filters: number, size: number, c: Config, stride = 1): Node {
  return activation(s, convNorm(s, x, filters, size, c, stride), 'relu');
}

function bottleneck(s: Scope, x: Node, planes: number, stride: number, c: Config): Node {
  const out = 4 * planes; // expansion 4
  let y = convNormRelu(s.at('reduce'), x, planes, 1, c, c.strideAt === 'reduce' ? stride : 1);
  y = convNormRelu(s.at('conv3x3'), y, planes, 3, c, c.strideAt === 'conv' ? stride : 1);
  y = convNorm(s.at('expand'), y, out, 1, c);
  return activation(s, add(s, shortcut(s.at('shortcut'), x, out, stride, c), y), 'relu');
}

function shortcut(s: Scope, x: Node, out: number, stride: number, c: Config): Node {
  if (channels(x) !== out) return convNorm(s, x, out, 1, c, stride);
  return stride === 1 ? x : maxPool(s, x, 1, { stride, padding: 'valid' }); // tf_slim resnet_utils.subsample
}

function resnet(s: Scope, x: Node, c: Config): Node {
  let y = convNormRelu(s.at('stem'), x, 64, 7, c, 2);
  s.at('stem').tap(y);
  y = s.at('stem.pool').tap(maxPool(s.at('stem.pool'), y, 3, { stride: 2, padding: c.poolPadding }));
  c.depths.forEach((depth, stage) => {
    const at = s.at(`stage${stage + 1}`);
    for (let block = 1; block <= depth; block++) {
      const strided = c.strideIn === 'first' ? stage > 0 && block === 1 : stage < 3 && block === depth;
      const here = at.at(`block${block}`);
      y = here.endBlock(bottleneck(here, y, 64 * 2 ** stage, strided ? 2 : 1, c));
    }
    at.tap(y);
  });
  return globalAveragePool(s.at('pool'), y);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `stage2.block1.reduce.conv`. */
function partsOf(path: string) {
  const match = /^stage(\d)\.block(\d+)\.(reduce|conv3x3|expand|shortcut)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const [, stage, block, unit, kind] = match;
  return { stage: Number(stage), block: Number(block), unit: unit as Unit, kind: kind as 'conv' | 'norm' };
}
type Unit = 'reduce' | 'conv3x3' | 'expand' | 'shortcut';

const kerasNames: OwnerNames = (path) => {
  const fixed = { 'stem.conv': ['conv1_conv'], 'stem.norm': ['conv1_bn'], classifier: ['predictions', 'probs'] }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const index = { shortcut: 0, reduce: 1, conv3x3: 2, expand: 3 }[p.unit];
  return [`conv${p.stage + 1}_block${p.block}_${index}_${p.kind === 'conv' ? 'conv' : 'bn'}`];
};

const kerasV1Names: OwnerNames = (path) => {
  const fixed = { 'stem.conv': ['conv1'], 'stem.norm': ['bn_conv1'], classifier: ['fc1000'] }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const branch = { shortcut: '1', reduce: '2a', conv3x3: '2b', expand: '2c' }[p.unit];
  const block = String.fromCharCode('a'.charCodeAt(0) + p.block - 1);
  return [`${p.kind === 'conv' ? 'res' : 'bn'}${p.stage + 1}${block}_branch${branch}`];
};

const slimNames =
  (root: string): OwnerNames =>
  (path) => {
    const fixed = {
      'stem.conv': `${root}/conv1`,
      'stem.norm': `${root}/conv1/BatchNorm`,
      classifier: `${root}/logits`,
    }[path];
    const p = partsOf(path);
    if (p === undefined) return fixed === undefined ? [] : [fixed];
    const unit = { shortcut: 'shortcut', reduce: 'conv1', conv3x3: 'conv2', expand: 'conv3' }[p.unit];
    const conv = `${root}/block${p.stage}/unit_${p.block}/bottleneck_v1/${unit}`;
    return [p.kind === 'conv' ? conv : `${conv}/BatchNorm`];
  };

const torchNames: OwnerNames = (path) => {
  const fixed = { 'stem.conv': ['conv1'], 'stem.norm': ['bn1'], classifier: ['fc'] }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const block = `layer${p.stage}.${p.block - 1}`;
  if (p.unit === 'shortcut') return [`${block}.downsample.${p.kind === 'conv' ? 0 : 1}`];
  const index = { reduce: 1, conv3x3: 2, expand: 3 }[p.unit];
  return [`${block}.${p.kind === 'conv' ? 'conv' : 'bn'}${index}`];
};

// ---- published -------------------------------------------------------------------------------------------------

function published(name: keyof typeof depths): Published[] {
  const at = (c: Omit<Config, 'depths'>) => (s: Scope, x: Node) => resnet(s, x, { ...c, depths: depths[name] });
  const layers = name.slice('resnet'.length);
  return [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: caffePreprocessing,
      origin: `storage.googleapis.com/tensorflow/keras-applications/resnet/${name}_weights_tf_dim_ordering_tf_kernels.h5`,
      license: 'MIT (converted from Kaiming He et al.)',
      build: at(keras),
    },
    {
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      preprocessing: torchPreprocessing,
      origin: `torchvision.models.${name}, IMAGENET1K_V1`,
      license: 'BSD-3-Clause',
      build: at(torch),
    },
    {
      source: 'slim',
      dialect: 'slim',
      classes: 1000,
      ownerNames: slimNames(`resnet_v1_${layers}`),
      preprocessing: slimVggPreprocessing,
      origin: `download.tensorflow.org/models/resnet_v1_${layers}_2016_08_28.tar.gz`,
      license: 'Apache-2.0',
      build: at(slim),
    },
    {
      source: 'keras_v1',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasV1Names,
      preprocessing: caffePreprocessing,
      origin: `github.com/fchollet/deep-learning-models, ${name}_weights_tf_dim_ordering_tf_kernels.h5`,
      license: 'MIT (converted from Kaiming He et al.)',
      build: at(kerasV1),
    },
  ];
}

export const resnets: readonly Backbone[] = (Object.keys(depths) as (keyof typeof depths)[]).map((name) => ({
  name,
  family: 'resnet',
  aliases: [],
  inputSize: 224,
  published: published(name),
}));
