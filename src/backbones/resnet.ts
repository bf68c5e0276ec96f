/**
 * ResNet. He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, table 1.
 * @see https://arxiv.org/abs/1512.03385
 * ResNeXt, whose 3x3 convolutions have groups. Xie, Girshick, Dollar, Tu, He: Aggregated Residual Transformations for
 * Deep Neural Networks, 2016, table 1.
 * @see https://arxiv.org/abs/1611.05431
 *
 * One name, several functions:
 *   keras     convolutions with bias, epsilon 1.001e-5, stride in a block's first 1x1;
 *             its ResNeXt has no bias and the stride in the 3x3
 *   keras_v1  resnet50 as Keras published it until 2018, with epsilon 1e-3 and other names
 *   slim      no bias, epsilon 1e-5, stride in the 3x3 of a stage's LAST block, whose shortcut is a 1x1 max pool
 *   torch     "v1.5": no bias, epsilon 1e-5, stride in the 3x3 of a stage's first block
 *   notes     v1.5 with TensorFlow's SAME padding throughout, and epsilon 1.001e-5 in the shortcuts
 */
import {
  caffePreprocessing,
  kerasTorchPreprocessing,
  type Preprocessing,
  slimVggPreprocessing,
  torchPreprocessing,
} from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import { activation, add, around, batchNorm, channels, conv2d, globalAveragePool, maxPool } from '../engine/layers.js';
import type { Padding } from '../engine/operations.js';
import type { Backbone, Published, Reference } from './backbone.js';
import { type Download, kerasApplications, kerasRelease, slimArchive, timmHub, torchvisionFile } from './download.js';
import { kerasGroupedLayouts, kerasNames, kerasV1Names, notesNames, slimNames, torchNames } from './resnet-names.js';

type Publisher = 'keras' | 'keras_v1' | 'slim' | 'torch' | 'notes';

interface Variant {
  readonly block: 'basic' | 'bottleneck';
  readonly depths: readonly number[];
  /** Groups of a bottleneck's 3x3. */
  readonly cardinality: number;
  /** Channels of one group in the first stage; a stage has twice those of the stage before. */
  readonly baseWidth: number;
  /** In the order of preference. */
  readonly sources: readonly Publisher[];
}

const basic = { block: 'basic', cardinality: 1, baseWidth: 64 } as const;
const bottlenecks = { block: 'bottleneck', cardinality: 1, baseWidth: 64 } as const;
const groups32x4 = { block: 'bottleneck', cardinality: 32, baseWidth: 4 } as const;
const groups32x8 = { block: 'bottleneck', cardinality: 32, baseWidth: 8 } as const;

/** He 2015, table 1; Xie 2016, table 1, and torchvision for 32x8d. */
const variants = {
  resnet18: { ...basic, depths: [2, 2, 2, 2], sources: ['torch'] },
  resnet34: { ...basic, depths: [3, 4, 6, 3], sources: ['torch', 'notes'] },
  resnet50: { ...bottlenecks, depths: [3, 4, 6, 3], sources: ['keras', 'torch', 'slim', 'keras_v1', 'notes'] },
  resnet101: { ...bottlenecks, depths: [3, 4, 23, 3], sources: ['keras', 'torch', 'slim', 'notes'] },
  resnet152: { ...bottlenecks, depths: [3, 8, 36, 3], sources: ['keras', 'torch', 'slim'] },
  resnext50_32x4d: { ...groups32x4, depths: [3, 4, 6, 3], sources: ['torch', 'keras'] },
  resnext101_32x4d: { ...groups32x4, depths: [3, 4, 23, 3], sources: ['torch', 'keras'] },
  resnext101_32x8d: { ...groups32x8, depths: [3, 4, 23, 3], sources: ['torch'] },
} as const satisfies Record<string, Variant>;

interface Config {
  readonly bias: boolean;
  readonly epsilon: number;
  /** Of the batch norm after a projection. */
  readonly shortcutEpsilon: number;
  readonly momentum: number;
  /** The convolution of a bottleneck that takes the stride. */
  readonly strideAt: 'reduce' | 'conv';
  /** The block of a stage that takes the stride: the first one of stages 2 to 4, or the last one of stages 1 to 3. */
  readonly strideIn: 'first' | 'last';
  readonly convPadding: 'same' | 'symmetric';
  readonly poolPadding: Padding;
  readonly initializer: Initializer;
  /** Which summand of a block comes first: Keras orders its layers by that. */
  readonly firstSummand: 'shortcut' | 'residual';
}

// keras.applications.resnet: BatchNormalization(epsilon=1.001e-5), the rest by the defaults of Keras' layers
const keras: Config = {
  bias: true,
  epsilon: 1.001e-5,
  shortcutEpsilon: 1.001e-5,
  momentum: 0.99,
  strideAt: 'reduce',
  strideIn: 'first',
  convPadding: 'symmetric',
  poolPadding: around(1),
  initializer: { kind: 'glorot_uniform' },
  firstSummand: 'shortcut',
};
// keras_applications 1.0.8 resnet_common.block3: use_bias=False, strides in the DepthwiseConv2D
const kerasNext: Config = { ...keras, bias: false, strideAt: 'conv' };
// keras_applications 1.0.4 resnet50: BatchNormalization with the layer's default epsilon, add([x, shortcut])
const kerasV1: Config = { ...keras, epsilon: 1e-3, shortcutEpsilon: 1e-3, firstSummand: 'residual' };
// torchvision.models.resnet: BatchNorm2d(eps=1e-5, momentum=.1), where torch's momentum is the share of the new value;
// kaiming_normal_(mode='fan_out')
const torch: Config = {
  bias: false,
  epsilon: 1e-5,
  shortcutEpsilon: 1e-5,
  momentum: 0.9,
  strideAt: 'conv',
  strideIn: 'first',
  convPadding: 'symmetric',
  poolPadding: around(1),
  initializer: { kind: 'he_normal_fan_out' },
  firstSummand: 'shortcut',
};
// tf_slim.nets.resnet_utils.resnet_arg_scope: batch_norm_epsilon=1e-5, batch_norm_decay=.997, variance_scaling_initializer
// (factor 2, fan in); conv2d_same pads symmetrically where a convolution is strided; max_pool2d SAME
const slim: Config = {
  ...torch,
  momentum: 0.997,
  strideIn: 'last',
  poolPadding: 'same',
  initializer: { kind: 'variance_scaling', scale: 2, mode: 'fan_in', distribution: 'truncated_normal' },
};
// Keras layers: padding "SAME", BatchNormalization(momentum=.9, epsilon=1e-5), in the shortcut epsilon=1.001e-5
const notes: Config = {
  ...torch,
  shortcutEpsilon: 1.001e-5,
  convPadding: 'same',
  poolPadding: 'same',
  initializer: { kind: 'glorot_uniform' },
};

type Network = Config & Variant;

interface ConvOptions {
  readonly stride?: number;
  readonly groups?: number;
  readonly epsilon?: number;
}

function convNorm(s: Scope, x: Node, filters: number, size: number, c: Config, options: ConvOptions = {}): Node {
  const { stride = 1, groups = 1, epsilon = c.epsilon } = options;
  const padding = size === 1 ? 'valid' : c.convPadding === 'same' ? 'same' : around((size - 1) / 2);
  const { bias, initializer, momentum } = c;
  const y = conv2d(s.at('conv'), x, filters, size, { stride, groups, padding, bias, initializer });
  return batchNorm(s.at('norm'), y, { epsilon, momentum });
}

function convNormRelu(s: Scope, x: Node, filters: number, size: number, c: Config, options?: ConvOptions): Node {
  return activation(s, convNorm(s, x, filters, size, c, options), 'relu');
}

function basicBlock(s: Scope, x: Node, planes: number, stride: number, c: Config): Node {
  let y = convNormRelu(s.at('first'), x, planes, 3, c, { stride });
  y = convNorm(s.at('second'), y, planes, 3, c);
  return sum(s, shortcut(s.at('shortcut'), x, planes, stride, c), y, c);
}

function bottleneck(s: Scope, x: Node, planes: number, stride: number, c: Network): Node {
  const width = (planes / 64) * c.baseWidth * c.cardinality;
  const out = 4 * planes; // expansion 4
  let y = convNormRelu(s.at('reduce'), x, width, 1, c, { stride: c.strideAt === 'reduce' ? stride : 1 });
  y = convNormRelu(s.at('conv3x3'), y, width, 3, c, {
    stride: c.strideAt === 'conv' ? stride : 1,
    groups: c.cardinality,
  });
  y = convNorm(s.at('expand'), y, out, 1, c);
  return sum(s, shortcut(s.at('shortcut'), x, out, stride, c), y, c);
}

function sum(s: Scope, x: Node, residual: Node, { firstSummand }: Config): Node {
  const summands = firstSummand === 'shortcut' ? ([x, residual] as const) : ([residual, x] as const);
  return activation(s, add(s, ...summands), 'relu');
}

function shortcut(s: Scope, x: Node, out: number, stride: number, c: Config): Node {
  if (channels(x) !== out) return convNorm(s, x, out, 1, c, { stride, epsilon: c.shortcutEpsilon });
  return stride === 1 ? x : maxPool(s, x, 1, { stride, padding: 'valid' }); // tf_slim resnet_utils.subsample
}

function resnet(s: Scope, x: Node, c: Network): Node {
  const block = c.block === 'basic' ? basicBlock : bottleneck;
  let y = convNormRelu(s.at('stem'), x, 64, 7, c, { stride: 2 });
  s.at('stem').tap(y);
  y = s.at('stem.pool').tap(maxPool(s.at('stem.pool'), y, 3, { stride: 2, padding: c.poolPadding }));
  c.depths.forEach((depth, stage) => {
    const at = s.at(`stage${stage + 1}`);
    for (let i = 1; i <= depth; i++) {
      const strided = c.strideIn === 'first' ? stage > 0 && i === 1 : stage < 3 && i === depth;
      const here = at.at(`block${i}`);
      y = here.endBlock(block(here, y, 64 * 2 ** stage, strided ? 2 : 1, c));
    }
    at.tap(y);
  });
  return globalAveragePool(s.at('pool'), y);
}

// ---- published -------------------------------------------------------------------------------------------------

/** RGB minus 123.68, 116.78, 103.94, as slim; stretched to the size. */
const notesPreprocessing: Preprocessing = {
  ...slimVggPreprocessing,
  resize: { rule: 'stretch' },
  kernel: 'tf_bilinear',
  crop: 'none',
};

/** keras.applications of TensorFlow has no ResNeXt; the package that published it takes Keras as its arguments. */
const kerasNextReference = (layers: string): Reference => ({
  call: `resnext.ResNeXt${layers}`,
  imports: ['from keras_applications import resnext'],
  arguments: 'backend=keras.backend, layers=keras.layers, models=keras.models, utils=keras.utils',
  leaf: ({ path }) => (path.endsWith('.conv3x3.conv.kernel') ? 'depthwise_kernel' : undefined),
});

/** WEIGHTS_HASHES of keras.applications.resnet and of keras_applications 1.0.8, resnet_common; with the top. */
const kerasHashes: Readonly<Record<string, string>> = {
  resnet50: '2cb95161c43110f7111970584f804107',
  resnet101: 'f1aeb4b969a6efcfb50fad2f0c20cfc5',
  resnet152: '100835be76be38e30d865e96f2aaae62',
  resnext50_32x4d: '67a5b30d522ed92f75a1f16eef299d1a',
  resnext101_32x4d: '34fb605428fcc7aa4d62f44404c11509',
};

function kerasDownload(name: keyof typeof variants, layers: string): Download {
  const file = (model: string): string => `${model}_weights_tf_dim_ordering_tf_kernels.h5`;
  const hash = kerasHashes[name]!;
  return variants[name].cardinality > 1
    ? kerasRelease('keras-team/keras-applications/resnet', file(`resnext${layers}`), hash)
    : kerasApplications(`resnet/${file(name)}`, hash);
}

const torchFiles: Readonly<Record<keyof typeof variants, Download>> = {
  resnet18: torchvisionFile('resnet18-f37072fd.pth', 44.661),
  resnet34: torchvisionFile('resnet34-b627a593.pth', 83.275),
  resnet50: torchvisionFile('resnet50-0676ba61.pth', 97.781),
  resnet101: torchvisionFile('resnet101-63fe2227.pth', 170.511),
  resnet152: torchvisionFile('resnet152-394f9c45.pth', 230.434),
  resnext50_32x4d: torchvisionFile('resnext50_32x4d-7cdf4587.pth', 95.789),
  resnext101_32x4d: timmHub('resnext101_32x4d.gluon_in1k'),
  resnext101_32x8d: torchvisionFile('resnext101_32x8d-8ba56ff5.pth', 339.586),
};

function published(name: keyof typeof variants, source: Publisher): Published {
  const variant: Variant = variants[name];
  const next = variant.cardinality > 1;
  const at = (c: Config) => (s: Scope, x: Node) => resnet(s, x, { ...variant, ...c });
  const layers = /\d+/.exec(name)![0];
  const common = { source, classes: 1000 };
  switch (source) {
    case 'keras':
      return {
        ...common,
        dialect: 'keras',
        ownerNames: next ? kerasNames('probs', 'predictions') : kerasNames('predictions', 'probs'),
        ...(next ? { layouts: kerasGroupedLayouts(variant.cardinality) } : {}),
        // block3 of keras_applications after 1.0.8 sums a group's channels by a fixed 1x1 kernel, which files then hold
        setAside: next ? [/_2_gconv\/kernel$/] : [],
        preprocessing: next ? kerasTorchPreprocessing : caffePreprocessing,
        reference: next ? kerasNextReference(layers) : { call: `keras.applications.ResNet${layers}` },
        download: kerasDownload(name, layers),
        origin: next
          ? `github.com/keras-team/keras-applications/releases/tag/resnet, resnext${layers}_weights_tf_dim_ordering_tf_kernels.h5`
          : `storage.googleapis.com/tensorflow/keras-applications/resnet/${name}_weights_tf_dim_ordering_tf_kernels.h5`,
        license: next ? 'BSD-3-Clause (converted from Saining Xie et al.)' : 'MIT (converted from Kaiming He et al.)',
        build: at(next ? kerasNext : keras),
      };
    case 'keras_v1':
      return {
        ...common,
        variantOf: 'keras',
        dialect: 'keras',
        ownerNames: kerasV1Names,
        preprocessing: caffePreprocessing,
        download: kerasRelease(
          'fchollet/deep-learning-models/v0.2',
          `${name}_weights_tf_dim_ordering_tf_kernels.h5`,
          'a7b3fe01876f51b976af0dea6bc144eb', // keras_applications 1.0.8, resnet50
        ),
        origin: `github.com/fchollet/deep-learning-models, ${name}_weights_tf_dim_ordering_tf_kernels.h5`,
        license: 'MIT (converted from Kaiming He et al.)',
        build: at(kerasV1),
      };
    case 'slim':
      return {
        ...common,
        dialect: 'slim',
        ownerNames: slimNames(`resnet_v1_${layers}`),
        preprocessing: slimVggPreprocessing,
        reference: {
          call: `resnet_v1.resnet_v1_${layers}`,
          imports: ['from tf_slim.nets import resnet_v1'],
          scope: 'resnet_v1.resnet_arg_scope()',
          arguments: 'is_training=False',
        },
        download: slimArchive(`resnet_v1_${layers}_2016_08_28.tar.gz`, { member: `resnet_v1_${layers}.ckpt` }),
        origin: `download.tensorflow.org/models/resnet_v1_${layers}_2016_08_28.tar.gz`,
        license: 'Apache-2.0',
        build: at(slim),
      };
    case 'notes':
      return {
        ...common,
        dialect: 'keras',
        ownerNames: notesNames(variant.depths, variant.block),
        submodels: /^block\d$/,
        preprocessing: notesPreprocessing,
        origin: `save_weights() of the notes' ${name}; nobody publishes a file`,
        license: 'of whoever trained it',
        build: at(notes),
      };
    case 'torch': {
      const timm = name === 'resnext101_32x4d'; // torchvision has no such network
      return {
        ...common,
        dialect: 'torch',
        ownerNames: torchNames,
        // timm resnext101_32x4d.gluon_in1k: bicubic, crop_pct .875, ImageNet mean and std
        preprocessing: timm ? { ...torchPreprocessing, kernel: 'pil_bicubic' } : torchPreprocessing,
        reference: timm
          ? { call: 'timm.create_model', arguments: `'${name}'` }
          : { call: `torchvision.models.${name}` },
        download: torchFiles[name],
        origin: timm ? `huggingface.co/timm/${name}.gluon_in1k` : `torchvision.models.${name}, IMAGENET1K_V1`,
        license: timm ? 'Apache-2.0' : 'BSD-3-Clause',
        build: at(torch),
      };
    }
  }
}

export const resnets: readonly Backbone[] = (Object.keys(variants) as (keyof typeof variants)[]).map((name) => ({
  name,
  family: variants[name].cardinality > 1 ? 'resnext' : 'resnet',
  aliases: [],
  inputSize: 224,
  published: variants[name].sources.map((source) => published(name, source)),
}));
