/**
 * VGG. Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014, table 1.
 * @see https://arxiv.org/abs/1409.1556
 *
 * One stack of 3x3 convolutions, and five publishers of it:
 *   keras        columns D and E: flattened grids of 7x7, no dropout
 *   keras_notop  the same convolutions alone, whose grid is averaged
 *   slim         its dense layers are convolutions, of which the first has a kernel of 7x7
 *   torch        a pool that adapts to 7x7 cells, so that any size will do; the `_bn` networks are torchvision's alone
 *   notes        a tutorial's network, trained by its readers: initialisers of its own, dropout before the dense layers
 */
import {
  caffePreprocessing,
  slimVggPreprocessing,
  torchPreprocessing,
  unitPreprocessing,
} from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  adaptiveAveragePool,
  batchNorm,
  conv2d,
  dense,
  dropout,
  flatten,
  globalAveragePool,
  maxPool,
} from '../engine/layers.js';
import type { Pair } from '../engine/operations.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import { kerasApplications, slimArchive, torchvisionFile } from './download.js';

/** 3x3 convolutions of each stage; Simonyan 2014, table 1, columns A, B, D and E. */
const depths = {
  vgg11: [1, 1, 2, 2, 2],
  vgg13: [2, 2, 2, 2, 2],
  vgg16: [2, 2, 3, 3, 3],
  vgg19: [2, 2, 4, 4, 4],
} as const;
type Name = keyof typeof depths;

const filters = [64, 128, 256, 512, 512]; // of each stage; table 1
const units = 4096; // of FC-4096, twice; table 1
const grid: Pair = [7, 7];

interface Config {
  /** Batch normalisation between a convolution and its activation. */
  readonly norm?: { readonly epsilon: number; readonly momentum: number };
  /** How the last grid becomes what follows it: an average alone, or the dense layers of table 1. */
  readonly grid: 'flattened' | 'adapted' | 'averaged';
  /** Half of the values are dropped before or after both dense layers; section 3.1. */
  readonly dropout?: 'before' | 'after';
  readonly conv: Initializer;
  readonly dense: Initializer;
}

const glorot: Initializer = { kind: 'glorot_uniform' };

// keras.applications.vgg16 and vgg19: the layers' own initialisers
const keras: Config = { grid: 'flattened', conv: glorot, dense: glorot };
// tf_slim.nets.vgg: vgg_arg_scope leaves layers.conv2d its initialiser; dropout_keep_prob=.5 after fc6 and fc7
const slim: Config = { ...keras, dropout: 'after' };
// torchvision.models.vgg: kaiming_normal_(mode="fan_out"), normal_(0, .01); Dropout(.5) after both activations
const torch: Config = {
  grid: 'adapted',
  dropout: 'after',
  conv: { kind: 'he_normal_fan_out' },
  dense: { kind: 'normal', deviation: 0.01 },
};
// torch.nn.BatchNorm2d's defaults: eps=1e-5, momentum=.1, which is the share of the new value
const torchNorm: Config = { ...torch, norm: { epsilon: 1e-5, momentum: 0.9 } };
// The notes' CONV_KERNEL_INITIALIZER and DENSE_KERNEL_INITIALIZER; Dropout(.5) before both
const notes: Config = {
  grid: 'flattened',
  dropout: 'before',
  conv: { kind: 'variance_scaling', scale: 2, mode: 'fan_out', distribution: 'truncated_normal' },
  dense: { kind: 'variance_scaling', scale: 1 / 3, mode: 'fan_out', distribution: 'uniform' },
};

function vgg(s: Scope, x: Node, depth: readonly number[], c: Config): Node {
  let y = x;
  depth.forEach((convolutions, stage) => {
    const at = s.at(`stage${stage + 1}`);
    for (let i = 1; i <= convolutions; i++) {
      const [conv, norm] = [at.at(`conv${i}`), at.at(`norm${i}`)];
      y = conv2d(conv, y, filters[stage]!, 3, { bias: true, initializer: c.conv });
      y = activation(conv, c.norm === undefined ? y : batchNorm(norm, y, c.norm), 'relu');
    }
    y = at.endBlock(maxPool(at, y, 2, { stride: 2, padding: 'valid' }));
  });
  if (c.grid === 'averaged') return globalAveragePool(s.at('pool'), y);
  y = flatten(s.at('flat'), c.grid === 'adapted' ? adaptiveAveragePool(s.at('pool'), y, grid) : y, grid);
  for (const at of [s.at('fc1'), s.at('fc2')]) {
    const drop = (when: Config['dropout'], z: Node): Node => (c.dropout === when ? dropout(at, z, 0.5) : z);
    const z = activation(at, dense(at, drop('before', y), units, { initializer: c.dense }), 'relu');
    y = at.endBlock(drop('after', z));
  }
  return y;
}

// ---- names in published files ----------------------------------------------------------------------------------

const tops = ['fc1', 'fc2', 'classifier'];

/** The parts of `stage3.conv2`, and its place among all convolutions, from 0. */
function partsOf(path: string, depth: readonly number[]) {
  const match = /^stage(\d)\.(conv|norm)(\d)$/.exec(path);
  if (match === null) return undefined;
  const [stage, index] = [Number(match[1]), Number(match[3])];
  const before = depth.slice(0, stage - 1).reduce((a, b) => a + b, 0);
  return { stage, index, kind: match[2] as 'conv' | 'norm', place: before + index - 1 };
}

const kerasNames =
  (name: Name): OwnerNames =>
  (path) => {
    const p = partsOf(path, depths[name]);
    if (p !== undefined) return [`block${p.stage}_conv${p.index}`];
    return tops.includes(path) ? [path === 'classifier' ? 'predictions' : path] : [];
  };

const slimNames =
  (name: Name): OwnerNames =>
  (path) => {
    const root = name.replace('vgg', 'vgg_');
    const p = partsOf(path, depths[name]);
    if (p !== undefined) return [`${root}/conv${p.stage}/conv${p.stage}_${p.index}`];
    return tops.includes(path) ? [`${root}/fc${6 + tops.indexOf(path)}`] : [];
  };

/**
 * torchvision numbers what stands in a Sequential: convolution, norm, activation, ..., and a pool a stage. timm took its
 * weights over, the dense layers as convolutions with names.
 */
const torchNames =
  (name: Name, c: Config): OwnerNames =>
  (path) => {
    const p = partsOf(path, depths[name]);
    if (p === undefined) {
      const [place, timm] = [tops.indexOf(path), ['pre_logits.fc1', 'pre_logits.fc2', 'head.fc']];
      return place < 0 ? [] : [`classifier.${3 * place}`, timm[place]!];
    }
    const first = p.place * (c.norm === undefined ? 2 : 3) + p.stage - 1;
    return [`features.${first + (p.kind === 'norm' ? 1 : 0)}`];
  };

/**
 * Keras counts layers without a name; the convolutions stand in a Sequential called `feature`, which a checkpoint of
 * TensorFlow 2 does not tell.
 */
const countedNames =
  (name: Name): OwnerNames =>
  (path) => {
    const counted = (kind: string, place: number): string => (place === 0 ? kind : `${kind}_${place}`);
    const p = partsOf(path, depths[name]);
    if (p !== undefined) return [`feature/${counted('conv2d', p.place)}`, counted('conv2d', p.place)];
    return tops.includes(path) ? [counted('dense', tops.indexOf(path))] : [];
  };

// ---- published -------------------------------------------------------------------------------------------------

/** `file_hash` in keras.applications.vgg16 and vgg19: with the top, and without. */
const kerasHashes: Partial<Record<Name, readonly [top: string, noTop: string]>> = {
  vgg16: ['64373286793e3c8b2b4e3219cbf3544b', '6d6bbae143d832006294945121d1f1fc'],
  vgg19: ['cbe5617147190e668d6c5d5026f83318', '253f8cb515780f3b799900260a226db6'],
};

/** File and `_file_size` of torchvision's weights. */
const torchFiles: Readonly<Record<string, readonly [file: string, mebibytes: number]>> = {
  vgg11: ['vgg11-8a719046.pth', 506.84],
  vgg13: ['vgg13-19584684.pth', 507.545],
  vgg16: ['vgg16-397923af.pth', 527.796],
  vgg19: ['vgg19-dcbb9e9d.pth', 548.051],
  vgg11_bn: ['vgg11_bn-6002323d.pth', 506.881],
  vgg13_bn: ['vgg13_bn-abd245e5.pth', 507.59],
  vgg16_bn: ['vgg16_bn-6c64b313.pth', 527.866],
  vgg19_bn: ['vgg19_bn-c79401a0.pth', 548.143],
};

function torchPublished(name: Name, variant: string, c: Config): Published {
  return {
    source: 'torch',
    dialect: 'torch',
    classes: 1000,
    ownerNames: torchNames(name, c),
    preprocessing: torchPreprocessing,
    reference: { call: `torchvision.models.${variant}` },
    top: tops,
    download: torchvisionFile(...torchFiles[variant]!),
    origin: `torchvision.models.${variant}, IMAGENET1K_V1`,
    license: 'BSD-3-Clause',
    build: (s, x) => vgg(s, x, depths[name], c),
  };
}

function published(name: Name): Published[] {
  const at = (c: Config) => (s: Scope, x: Node) => vgg(s, x, depths[name], c);
  const path = `${name}/${name}_weights_tf_dim_ordering_tf_kernels`;
  const files = `storage.googleapis.com/tensorflow/keras-applications/${path}`;
  const hashes = kerasHashes[name] ?? [];
  const model = `keras.applications.${name.toUpperCase()}`;
  const fromKeras = {
    dialect: 'keras',
    classes: 1000,
    ownerNames: kerasNames(name),
    preprocessing: caffePreprocessing,
    license: 'CC-BY-4.0 (converted from Karen Simonyan and Andrew Zisserman)',
  } as const;
  const others: Published[] = [
    {
      ...fromKeras,
      source: 'keras',
      reference: { call: model },
      top: tops,
      download: kerasApplications(`${path}.h5`, hashes[0]),
      origin: `${files}.h5`,
      build: at(keras),
    },
    {
      ...fromKeras,
      source: 'keras_notop',
      variantOf: 'keras',
      reference: { call: model, arguments: "include_top=False, pooling='avg'", topless: true },
      download: kerasApplications(`${path}_notop.h5`, hashes[1]),
      origin: `${files}_notop.h5`,
      build: at({ ...keras, grid: 'averaged' }),
    },
    {
      source: 'slim',
      dialect: 'slim',
      classes: 1000,
      ownerNames: slimNames(name),
      setAside: [/^vgg_\d+\/mean_rgb$/], // beside the weights in the published checkpoints
      preprocessing: slimVggPreprocessing,
      reference: {
        call: `vgg.${name.replace('vgg', 'vgg_')}`,
        imports: ['from tf_slim.nets import vgg'],
        scope: 'vgg.vgg_arg_scope()',
        arguments: 'is_training=False',
      },
      top: tops,
      download: slimArchive(`${name.replace('vgg', 'vgg_')}_2016_08_28.tar.gz`, {
        member: `${name.replace('vgg', 'vgg_')}.ckpt`,
      }),
      origin: `download.tensorflow.org/models/${name.replace('vgg', 'vgg_')}_2016_08_28.tar.gz`,
      license: 'CC-BY-4.0 (converted from Karen Simonyan and Andrew Zisserman)',
      build: at(slim),
    },
  ];
  return [
    ...(name === 'vgg16' || name === 'vgg19' ? others : []), // those that Simonyan and Zisserman released
    torchPublished(name, name, torch),
    {
      source: 'notes',
      dialect: 'keras',
      classes: 1000,
      ownerNames: countedNames(name),
      counted: true,
      submodels: /^feature$/,
      preprocessing: unitPreprocessing,
      top: tops,
      origin: `save_weights of a Keras model vgg("${name}")`,
      license: 'of whoever trained it',
      build: at(notes),
    },
  ];
}

const described = { family: 'vgg', aliases: [], inputSize: 224 } as const;
const names = Object.keys(depths) as Name[];

export const vggs: readonly Backbone[] = [
  ...names.map((name): Backbone => ({ ...described, name, published: published(name) })),
  ...names.map((name): Backbone => {
    const variant = `${name}_bn`;
    return { ...described, name: variant, published: [torchPublished(name, variant, torchNorm)] };
  }),
];
