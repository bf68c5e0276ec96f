/**
 * MobileNet v2. Sandler et al.: Inverted Residuals and Linear Bottlenecks, 2018, table 2.
 * @see https://arxiv.org/abs/1801.04381
 *
 *   keras  TensorFlow's SAME padding, epsilon 1e-3
 *   slim   the same, 1001 classes
 *   torch  torchvision's (width 1.0) and timm's (all but 1.3): symmetric padding, epsilon 1e-5
 *   tfjs   slim's, with the batch norms folded into the convolutions
 */
import {
  slimInceptionPreprocessing,
  tfjsPreprocessing,
  tfPreprocessing,
  torchPreprocessing,
} from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import {
  activation,
  add,
  around,
  batchNorm,
  channels,
  conv2d,
  depthwiseConv2d,
  globalAveragePool,
} from '../engine/layers.js';
import type { Padding } from '../engine/operations.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import {
  type Download,
  type KnownOfFile,
  kerasApplications,
  mobilenetArchive,
  timmHub,
  torchvisionFile,
} from './download.js';
import { makeDivisible, timmBlock } from './mobilenet.js';

const widths = ['1.0', '1.4', '1.3', '0.75', '0.5', '0.35'] as const; // those that Keras and slim publish

/** Sandler 2018, table 2: expansion t, channels c, repeats n, stride s of the first. */
const stages: readonly (readonly [t: number, c: number, n: number, s: number])[] = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
];

interface Config {
  /** Batch norms are part of the convolutions, which have a bias instead. */
  readonly folded?: boolean;
  readonly epsilon: number;
  readonly momentum: number;
  /** Padding of the strided 3x3 convolutions. */
  readonly stridedPadding: Padding;
}

// keras.applications.mobilenet_v2: BatchNormalization(epsilon=1e-3, momentum=.999); correct_pad equals SAME for k = 3
const keras: Config = { epsilon: 1e-3, momentum: 0.999, stridedPadding: 'same' };
// slim mobilenet.training_scope: bn_decay=.997, epsilon .001
const slim: Config = { epsilon: 1e-3, momentum: 0.997, stridedPadding: 'same' };
// @tensorflow-models/mobilenet: TensorFlow Hub's modules of slim's checkpoints, frozen
const tfjs: Config = { ...slim, folded: true };
// torchvision.models.mobilenetv2 and timm: BatchNorm2d's defaults, padding (k - 1) // 2
const torch: Config = { epsilon: 1e-5, momentum: 0.9, stridedPadding: around(1) };

interface Units {
  readonly norm: (at: Scope, y: Node) => Node;
  readonly normRelu6: (at: Scope, y: Node) => Node;
}

function invertedResidual(s: Scope, x: Node, t: number, out: number, stride: number, c: Config, u: Units): Node {
  const [expand, depthwise, project] = [s.at('expand'), s.at('depthwise'), s.at('project')];
  const bias = c.folded === true;
  let y = t === 1 ? x : u.normRelu6(expand, conv2d(expand.at('conv'), x, t * channels(x), 1, { bias }));
  const padding = stride === 1 ? 'same' : c.stridedPadding;
  y = u.normRelu6(depthwise, depthwiseConv2d(depthwise.at('conv'), y, 3, { stride, padding, bias }));
  y = u.norm(project, conv2d(project.at('conv'), y, out, 1, { bias })); // linear bottleneck: no activation
  return stride === 1 && channels(x) === out ? add(s, x, y) : y;
}

function mobilenetV2(s: Scope, x: Node, alpha: number, c: Config): Node {
  const bias = c.folded === true;
  const norm: Units['norm'] = (at, y) => (bias ? y : batchNorm(at.at('norm'), y, c));
  const normRelu6: Units['normRelu6'] = (at, y) => activation(at, norm(at, y), 'relu6');
  const stem = s.at('stem');
  const options = { stride: 2, padding: c.stridedPadding, bias };
  const conv = conv2d(stem.at('conv'), x, makeDivisible(32 * alpha), 3, options);
  let y = stem.tap(normRelu6(stem, conv));
  let index = 0;
  for (const [t, filters, repeats, stride] of stages) {
    for (let repeat = 0; repeat < repeats; repeat++) {
      const block = s.at(`block${index++}`);
      const out = makeDivisible(filters * alpha);
      y = block.endBlock(invertedResidual(block, y, t, out, repeat === 0 ? stride : 1, c, { norm, normRelu6 }));
    }
  }
  const top = s.at('top');
  const last = alpha > 1 ? makeDivisible(1280 * alpha) : 1280; // never narrower: Sandler 2018, section 6.1
  y = top.tap(normRelu6(top, conv2d(top.at('conv'), y, last, 1, { bias })));
  return globalAveragePool(s.at('pool'), y);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `block3.expand.conv`. */
function partsOf(path: string) {
  const match = /^block(\d+)\.(expand|depthwise|project)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const unit = match[2] as 'expand' | 'depthwise' | 'project';
  return { block: Number(match[1]), unit, kind: match[3] as 'conv' | 'norm' };
}

const kerasNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['Conv1'],
    'stem.norm': ['bn_Conv1'],
    'top.conv': ['Conv_1'],
    'top.norm': ['Conv_1_bn'],
    classifier: ['predictions', 'Logits'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  return [`${p.block === 0 ? 'expanded_conv' : `block_${p.block}`}_${p.unit}${p.kind === 'norm' ? '_BN' : ''}`];
};

const slimNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': 'Conv',
    'stem.norm': 'Conv/BatchNorm',
    'top.conv': 'Conv_1',
    'top.norm': 'Conv_1/BatchNorm',
    classifier: 'Logits/Conv2d_1c_1x1',
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed === undefined ? [] : [`MobilenetV2/${fixed}`];
  const block = p.block === 0 ? 'expanded_conv' : `expanded_conv_${p.block}`;
  return [`MobilenetV2/${block}/${p.unit}${p.kind === 'norm' ? '/BatchNorm' : ''}`];
};

/** torchvision numbers what stands in a Sequential; timm groups the blocks into the paper's stages. */
const torchNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['features.0.0', 'conv_stem'],
    'stem.norm': ['features.0.1', 'bn1'],
    'top.conv': ['features.18.0', 'conv_head'],
    'top.norm': ['features.18.1', 'bn2'],
    classifier: ['classifier.1', 'classifier'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  return [torchvisionName(p), timmName(p)];
};

type Parts = NonNullable<ReturnType<typeof partsOf>>;

/** Block 0 has no expansion, so that its other units move up. */
const positionOf = (block: number, unit: Parts['unit']): number =>
  ({ expand: 0, depthwise: 1, project: 2 })[unit] - (block === 0 ? 1 : 0);

function torchvisionName({ block, unit, kind }: Parts): string {
  const position = positionOf(block, unit);
  const inner = unit === 'project' ? position + (kind === 'norm' ? 1 : 0) : `${position}.${kind === 'norm' ? 1 : 0}`;
  return `features.${block + 1}.conv.${inner}`;
}

function timmName({ block, unit, kind }: Parts): string {
  const widths = stages.flatMap(([, c, n]) => Array.from({ length: n }, () => c));
  const position = positionOf(block, unit);
  const conv = unit === 'depthwise' ? 'conv_dw' : block === 0 || unit === 'expand' ? 'conv_pw' : 'conv_pwl';
  return `${timmBlock(widths, block)}.${kind === 'conv' ? conv : `bn${position + 1}`}`;
}

// ---- published -------------------------------------------------------------------------------------------------

/** What timm has beside torchvision's 1.0; there are no weights of 0.75 and 0.35. */
const timmOrigins: Partial<Record<(typeof widths)[number], string>> = {
  '1.4': 'huggingface.co/timm/mobilenetv2_140.ra_in1k',
  '0.75': 'timm mobilenetv2_075, untrained',
  '0.5': 'huggingface.co/timm/mobilenetv2_050.lamb_in1k',
  '0.35': 'timm mobilenetv2_035, untrained',
};

/** Those of @tensorflow-models/mobilenet, version 2; the others are TensorFlow Hub's, in the same form. */
const packagedWidths: ReadonlySet<string> = new Set(['1.0', '0.75', '0.5']);

/** Open Model Zoo, models/public/mobilenet-v2-*-224/model.yml. */
const slimFiles: Partial<Record<(typeof widths)[number], KnownOfFile>> = {
  '1.0': { bytes: 78_306_834, sha256: '318084bc1b63d6d7b854553e09cdf77078b1c0168be27c59a0d44253b5ed49dc' },
  '1.4': { bytes: 135_977_516 },
};

const torchFiles: Partial<Record<(typeof widths)[number], Download>> = {
  '1.0': torchvisionFile('mobilenet_v2-b0353104.pth', 13.555),
  '1.4': timmHub('mobilenetv2_140.ra_in1k'),
  '0.5': timmHub('mobilenetv2_050.lamb_in1k'),
};

function published(width: (typeof widths)[number]): Published[] {
  const at = (c: Config) => (s: Scope, x: Node) => mobilenetV2(s, x, Number(width), c);
  // Sandler 2018, section 6.1: the widths up to 1 were trained on pictures of other sizes too
  const resolutions = Number(width) > 1 ? '' : ', also 192, 160, 128 and 96 for 224';
  const entries: Published[] = [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: tfPreprocessing,
      reference: { call: 'keras.applications.MobileNetV2', arguments: `alpha=${width}` },
      download: kerasApplications(`mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_${width}_224.h5`),
      origin: `storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_${width}_224.h5${resolutions}`,
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
        call: 'mobilenet_v2.mobilenet',
        imports: ['from nets.mobilenet import mobilenet_v2'],
        scope: 'mobilenet_v2.training_scope(is_training=False)',
        // narrower networks keep their last layer at 1280, as published checkpoints do
        arguments: `depth_multiplier=${width}, finegrain_classification_mode=${Number(width) < 1 ? 'True' : 'False'}`,
      },
      download: mobilenetArchive(2, `mobilenet_v2_${width}_224.tgz`, {
        member: `mobilenet_v2_${width}_224.ckpt`,
        ...slimFiles[width],
      }),
      origin: `storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_${width}_224.tgz${resolutions}`,
      license: 'Apache-2.0',
      build: at(slim),
    },
  ];
  const isPackaged = packagedWidths.has(width);
  entries.push({
    source: 'tfjs',
    dialect: 'slim',
    classes: 1001,
    ownerNames: slimNames,
    preprocessing: tfjsPreprocessing,
    ...(isPackaged ? { packaged: { version: 2, alpha: Number(width) } } : {}),
    origin: isPackaged
      ? `npm @tensorflow-models/mobilenet, version 2, alpha ${Number(width)}`
      : `tfhub.dev/google/tfjs-model/imagenet/mobilenet_v2_${Math.round(100 * Number(width))
          .toString()
          .padStart(3, '0')}_224`,
    license: 'Apache-2.0',
    build: at(tfjs),
  });
  const timm = timmOrigins[width];
  const download = torchFiles[width];
  if (width === '1.0' || timm !== undefined) {
    entries.push({
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      // timm mobilenetv2_*: bicubic, crop_pct .875, ImageNet mean and std
      preprocessing: timm === undefined ? torchPreprocessing : { ...torchPreprocessing, kernel: 'pil_bicubic' },
      reference:
        timm === undefined
          ? { call: 'torchvision.models.mobilenet_v2' }
          : {
              call: 'timm.create_model',
              arguments: `'mobilenetv2_${String(Math.round(100 * Number(width))).padStart(3, '0')}'`,
              naming: 1,
            },
      ...(download === undefined ? {} : { download }),
      origin: timm ?? 'torchvision.models.mobilenet_v2, IMAGENET1K_V1',
      license: timm === undefined ? 'BSD-3-Clause' : 'Apache-2.0',
      build: at(torch),
    });
  }
  return entries;
}

export const mobilenetsV2: readonly Backbone[] = widths.map((width) => ({
  name: `mobilenet_v2_${width}`,
  family: 'mobilenet_v2',
  aliases: width === '1.0' ? ['mobilenet_v2'] : [],
  inputSize: 224,
  published: published(width),
}));
