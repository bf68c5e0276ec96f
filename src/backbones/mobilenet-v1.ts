/**
 * MobileNet v1. Howard et al.: MobileNets, 2017, table 1; the width multiplier alpha is section 3.3.
 * @see https://arxiv.org/abs/1704.04861
 *
 *   keras  zero padding ((0,1),(0,1)) before each strided depthwise convolution, epsilon 1e-3
 *   slim   SAME padding, epsilon 1e-3, 1001 classes
 *   torch  timm's mobilenetv1_100: symmetric padding, epsilon 1e-5
 *   tfjs   slim's, with the batch norms folded into the convolutions
 */
import {
  slimInceptionPreprocessing,
  tfjsPreprocessing,
  tfPreprocessing,
  torchPreprocessing,
} from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import { activation, around, batchNorm, conv2d, depthwiseConv2d, globalAveragePool } from '../engine/layers.js';
import type { Padding } from '../engine/operations.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import { type KnownOfFile, kerasApplications, slimArchive, timmHub } from './download.js';
import { timmBlock } from './mobilenet.js';

const widths = ['1.0', '0.75', '0.5', '0.25'] as const; // Howard 2017, table 6

/** Output channels and stride of the 13 depthwise separable blocks: Howard 2017, table 1. */
const blocks: readonly (readonly [filters: number, stride: number])[] = [
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [1024, 2],
  [1024, 1],
];

interface Config {
  /** Batch norms are part of the convolutions, which have a bias instead. */
  readonly folded?: boolean;
  readonly epsilon: number;
  readonly momentum: number;
  readonly stemPadding: Padding;
  /** Padding of the strided depthwise convolutions. */
  readonly stridedPadding: Padding;
}

const bottomRight: Padding = { top: 0, bottom: 1, left: 0, right: 1 };

// keras.applications.mobilenet: BatchNormalization() with the layer's defaults; ZeroPadding2D(((0, 1), (0, 1)))
const keras: Config = { epsilon: 1e-3, momentum: 0.99, stemPadding: 'same', stridedPadding: bottomRight };
// slim mobilenet_v1_arg_scope: batch_norm_decay=.9997, batch_norm_epsilon=.001
const slim: Config = { epsilon: 1e-3, momentum: 0.9997, stemPadding: 'same', stridedPadding: 'same' };
// @tensorflow-models/mobilenet: TensorFlow Hub's modules of slim's checkpoints, frozen
const tfjs: Config = { ...slim, folded: true };
// timm efficientnet builder: BatchNorm2d's defaults, padding k // 2
const torch: Config = { epsilon: 1e-5, momentum: 0.9, stemPadding: around(1), stridedPadding: around(1) };

function mobilenetV1(s: Scope, x: Node, alpha: number, c: Config): Node {
  const bias = c.folded === true;
  const normRelu6 = (at: Scope, y: Node) => activation(at, bias ? y : batchNorm(at.at('norm'), y, c), 'relu6');
  const wide = (filters: number) => Math.trunc(filters * alpha);
  const stem = s.at('stem');
  const conv = conv2d(stem.at('conv'), x, wide(32), 3, { stride: 2, padding: c.stemPadding, bias });
  let y = stem.tap(normRelu6(stem, conv));
  blocks.forEach(([filters, stride], i) => {
    const block = s.at(`block${i + 1}`);
    const [depthwise, pointwise] = [block.at('depthwise'), block.at('pointwise')];
    const padding = stride === 1 ? 'same' : c.stridedPadding;
    y = normRelu6(depthwise, depthwiseConv2d(depthwise.at('conv'), y, 3, { stride, padding, bias }));
    y = block.endBlock(normRelu6(pointwise, conv2d(pointwise.at('conv'), y, wide(filters), 1, { bias })));
  });
  return globalAveragePool(s.at('pool'), y);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `block3.pointwise.conv`. */
function partsOf(path: string) {
  const match = /^block(\d+)\.(depthwise|pointwise)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  return { block: Number(match[1]), unit: match[2] as 'depthwise' | 'pointwise', kind: match[3] as 'conv' | 'norm' };
}

const kerasNames: OwnerNames = (path) => {
  const fixed = { 'stem.conv': ['conv1'], 'stem.norm': ['conv1_bn'], classifier: ['conv_preds'] }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  return [`conv_${p.unit === 'depthwise' ? 'dw' : 'pw'}_${p.block}${p.kind === 'norm' ? '_bn' : ''}`];
};

const slimNames: OwnerNames = (path) => {
  const fixed = { 'stem.conv': 'Conv2d_0', 'stem.norm': 'Conv2d_0/BatchNorm', classifier: 'Logits/Conv2d_1c_1x1' }[
    path
  ];
  const p = partsOf(path);
  if (p === undefined) return fixed === undefined ? [] : [`MobilenetV1/${fixed}`];
  return [`MobilenetV1/Conv2d_${p.block}_${p.unit}${p.kind === 'norm' ? '/BatchNorm' : ''}`];
};

const torchNames: OwnerNames = (path) => {
  const fixed = { 'stem.conv': ['conv_stem'], 'stem.norm': ['bn1'], classifier: ['classifier'] }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const block = timmBlock(
    blocks.map(([filters]) => filters),
    p.block - 1,
  );
  const leaf = { depthwise: { conv: 'conv_dw', norm: 'bn1' }, pointwise: { conv: 'conv_pw', norm: 'bn2' } }[p.unit][
    p.kind
  ];
  return [`${block}.${leaf}`];
};

// ---- published -------------------------------------------------------------------------------------------------

/** Howard 2017, section 3.4: the same network, trained on pictures of other sizes too. */
const resolutions = ', also 192, 160 and 128 for 224';

/** Of 1.0: TensorFlow's workspace2.bzl, and Open Model Zoo, models/public/mobilenet-v1-*; of 0.5: the latter. */
const slimFiles: Partial<Record<(typeof widths)[number], KnownOfFile>> = {
  '1.0': { bytes: 94_321_559, sha256: '2fadeabb9968ec6833bee903900dda6e61b3947200535874ce2fe42a8493abc0' },
  '0.5': { bytes: 29_969_407, sha256: '98cf7a39552f73920cb99617cfa9b88d5732a87abf9ec14f7cc7f3ade1db0aaa' },
};

function published(width: (typeof widths)[number]): Published[] {
  const at = (c: Config) => (s: Scope, x: Node) => mobilenetV1(s, x, Number(width), c);
  const kerasWidth = { '1.0': '1_0', '0.75': '7_5', '0.5': '5_0', '0.25': '2_5' }[width];
  const entries: Published[] = [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: tfPreprocessing,
      reference: {
        call: 'keras.applications.MobileNet',
        arguments: `alpha=${width}`,
        rank: ({ path }) => (path === 'classifier.kernel' ? 4 : undefined),
      },
      download: kerasApplications(`mobilenet/mobilenet_${kerasWidth}_224_tf.h5`),
      origin: `storage.googleapis.com/tensorflow/keras-applications/mobilenet/mobilenet_${kerasWidth}_224_tf.h5${resolutions}`,
      license: 'Apache-2.0',
      build: at(keras),
    },
    {
      source: 'slim',
      dialect: 'slim',
      classes: 1001,
      ownerNames: slimNames,
      preprocessing: slimInceptionPreprocessing,
      reference: {
        call: 'mobilenet_v1.mobilenet_v1',
        imports: ['from nets import mobilenet_v1'],
        scope: 'mobilenet_v1.mobilenet_v1_arg_scope(is_training=False)',
        arguments: `depth_multiplier=${width}, is_training=False`,
      },
      download: slimArchive(`mobilenet_v1_2018_08_02/mobilenet_v1_${width}_224.tgz`, {
        member: `mobilenet_v1_${width}_224.ckpt`,
        ...slimFiles[width],
      }),
      origin: `download.tensorflow.org/models/mobilenet_v1_2018_08_02/mobilenet_v1_${width}_224.tgz${resolutions}`,
      license: 'Apache-2.0',
      build: at(slim),
    },
    {
      source: 'tfjs',
      dialect: 'slim',
      classes: 1001,
      ownerNames: slimNames,
      preprocessing: tfjsPreprocessing,
      packaged: { version: 1, alpha: Number(width) },
      origin: `npm @tensorflow-models/mobilenet, version 1, alpha ${Number(width)}`,
      license: 'Apache-2.0',
      build: at(tfjs),
    },
  ];
  if (width === '1.0') {
    entries.push({
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      // timm mobilenetv1_100.ra4_e3600_r224_in1k: bicubic, crop_pct .875, inception mean and std
      preprocessing: { ...torchPreprocessing, kernel: 'pil_bicubic', mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
      reference: { call: 'timm.create_model', arguments: "'mobilenetv1_100'" },
      download: timmHub('mobilenetv1_100.ra4_e3600_r224_in1k'),
      origin: 'huggingface.co/timm/mobilenetv1_100.ra4_e3600_r224_in1k',
      license: 'Apache-2.0',
      build: at(torch),
    });
  }
  return entries;
}

export const mobilenetsV1: readonly Backbone[] = widths.map((width) => ({
  name: `mobilenet_v1_${width}`,
  family: 'mobilenet_v1',
  aliases: width === '1.0' ? ['mobilenet_v1', 'mobilenet'] : [],
  inputSize: 224,
  published: published(width),
}));
