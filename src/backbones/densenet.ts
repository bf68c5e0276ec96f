/**
 * DenseNet. Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, 2016, table 1 (DenseNet-BC).
 * @see https://arxiv.org/abs/1608.06993
 *
 *   keras  epsilon 1.001e-5
 *   torch  epsilon 1e-5
 */
import { kerasTorchPreprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  around,
  averagePool,
  batchNorm,
  channels,
  concat,
  conv2d,
  globalAveragePool,
  maxPool,
} from '../engine/layers.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import { kerasApplications, torchvisionFile } from './download.js';

const depths = { densenet121: [6, 12, 24, 16] } as const; // Huang 2016, table 1
type Name = keyof typeof depths;

const GROWTH = 32; // k of table 1; the 1x1 of a layer gives 4k, and a transition halves the channels (section 3)

interface Config {
  readonly depths: readonly number[];
  readonly epsilon: number;
  readonly momentum: number;
  readonly initializer: Initializer;
}

// keras.applications.densenet: BatchNormalization(epsilon=1.001e-5), the other values the layers' defaults
const keras = { epsilon: 1.001e-5, momentum: 0.99, initializer: { kind: 'glorot_uniform' } } as const;
// torchvision.models.densenet: BatchNorm2d's defaults, kaiming_normal_
const torch = {
  epsilon: 1e-5,
  momentum: 0.9,
  initializer: { kind: 'variance_scaling', scale: 2, mode: 'fan_in', distribution: 'normal' },
} as const;

const normRelu = (s: Scope, x: Node, c: Config): Node => activation(s, batchNorm(s.at('norm'), x, c), 'relu');

function normReluConv(s: Scope, x: Node, filters: number, size: number, c: Config): Node {
  return conv2d(s.at('conv'), normRelu(s, x, c), filters, size, { initializer: c.initializer });
}

/** A dense layer of the paper: its input with k more channels. */
function denseLayer(s: Scope, x: Node, c: Config): Node {
  const y = normReluConv(s.at('reduce'), x, 4 * GROWTH, 1, c);
  return concat(s, [x, normReluConv(s.at('grow'), y, GROWTH, 3, c)]);
}

function densenet(s: Scope, x: Node, c: Config): Node {
  const stem = s.at('stem');
  let y = conv2d(stem.at('conv'), x, 64, 7, { stride: 2, padding: around(3), initializer: c.initializer });
  y = stem.tap(normRelu(stem, y, c));
  y = s.at('stem.pool').tap(maxPool(s.at('stem.pool'), y, 3, { stride: 2, padding: around(1) }));
  c.depths.forEach((depth, i) => {
    const stage = s.at(`stage${i + 1}`);
    for (let n = 1; n <= depth; n++) {
      const at = stage.at(`block${n}`);
      y = at.endBlock(denseLayer(at, y, c));
    }
    stage.tap(y);
    if (i === c.depths.length - 1) return;
    const transition = s.at(`transition${i + 1}`);
    y = normReluConv(transition, y, channels(y) / 2, 1, c);
    y = transition.tap(averagePool(transition, y, 2, { stride: 2, padding: 'valid' }));
  });
  y = s.at('top').tap(normRelu(s.at('top'), y, c));
  return globalAveragePool(s.at('pool'), y);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `stage2.block1.reduce.conv` and of `transition1.conv`. */
function partsOf(path: string) {
  const match = /^(?:stage(\d)\.block(\d+)\.(reduce|grow)|transition(\d))\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const [, stage, block, unit, transition, kind] = match;
  const layer = kind as 'conv' | 'norm';
  if (transition !== undefined) return { transition: Number(transition), layer } as const;
  return { stage: Number(stage), block: Number(block), unit: unit as 'reduce' | 'grow', layer } as const;
}

const kerasNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['conv1/conv', 'conv1_conv'], // of Keras 2, and of Keras 3
    'stem.norm': ['conv1/bn', 'conv1_bn'],
    'top.norm': ['bn'],
    classifier: ['predictions', 'fc1000'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const kind = p.layer === 'conv' ? 'conv' : 'bn';
  if (p.transition !== undefined) return [`pool${p.transition + 1}_${kind}`];
  const index = { reduce: 0, grow: 1 }[p.unit] + (p.layer === 'conv' ? 1 : 0);
  return [`conv${p.stage + 1}_block${p.block}_${index}_${kind}`];
};

/** Files from before 2018, the published one among them, have a point before a dense layer's numbers. */
const torchNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['features.conv0'],
    'stem.norm': ['features.norm0'],
    'top.norm': ['features.norm5'],
    classifier: ['classifier'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  if (p.transition !== undefined) return [`features.transition${p.transition}.${p.layer}`];
  const at = `features.denseblock${p.stage}.denselayer${p.block}`;
  const index = { reduce: 1, grow: 2 }[p.unit];
  return [`${at}.${p.layer}${index}`, `${at}.${p.layer}.${index}`];
};

// ---- published -------------------------------------------------------------------------------------------------

function published(name: Name): Published[] {
  const at = (c: Omit<Config, 'depths'>) => (s: Scope, x: Node) => densenet(s, x, { ...c, depths: depths[name] });
  return [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: kerasTorchPreprocessing,
      reference: { call: `keras.applications.${name.replace('densenet', 'DenseNet')}` },
      download: kerasApplications(
        `densenet/${name}_weights_tf_dim_ordering_tf_kernels.h5`,
        '9d60b8095a5708f2dcce2bca79d332c7', // keras.applications.densenet.DenseNet
      ),
      origin: `storage.googleapis.com/tensorflow/keras-applications/densenet/${name}_weights_tf_dim_ordering_tf_kernels.h5`,
      license: 'BSD-3-Clause (converted from torchvision)',
      build: at(keras),
    },
    {
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      preprocessing: torchPreprocessing,
      reference: { call: `torchvision.models.${name}` },
      download: torchvisionFile('densenet121-a639ec97.pth', 30.845),
      origin: `torchvision.models.${name}, IMAGENET1K_V1`,
      license: 'BSD-3-Clause',
      build: at(torch),
    },
  ];
}

export const densenets: readonly Backbone[] = (Object.keys(depths) as Name[]).map((name) => ({
  name,
  family: 'densenet',
  aliases: [],
  inputSize: 224,
  published: published(name),
}));
