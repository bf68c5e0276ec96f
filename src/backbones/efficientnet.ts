/**
 * EfficientNet. Tan and Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019, table 1.
 * @see https://arxiv.org/abs/1905.11946
 *
 *   keras  TensorFlow's SAME padding, epsilon 1e-3; the file's normalisation of the picture is preprocessing here
 *   torch  torchvision's, and timm's of the same name: symmetric padding, epsilon 1e-5
 *   timm   timm's tf_efficientnet, Google's weights: as keras, under timm's names
 */
import { kerasTorchPreprocessing, type Preprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  add,
  around,
  batchNorm,
  channels,
  conv2d,
  dense,
  depthwiseConv2d,
  dropPath,
  globalAveragePool,
  scaleChannels,
} from '../engine/layers.js';
import type { Padding } from '../engine/operations.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import { kerasEfficientnet, timmHub, torchvisionFile } from './download.js';
import { makeDivisible, pointwise } from './mobilenet.js';

/** Factors of table 1's channels and layers, and the resolution: params_dict of Google's efficientnet_builder. */
const variants = {
  efficientnet_b0: { width: 1.0, depth: 1.0, inputSize: 224 },
  efficientnet_b1: { width: 1.0, depth: 1.1, inputSize: 240 },
  efficientnet_b2: { width: 1.1, depth: 1.2, inputSize: 260 },
  efficientnet_b3: { width: 1.2, depth: 1.4, inputSize: 300 },
} as const;
type Name = keyof typeof variants;

/** Tan and Le 2019, table 1: expansion t, kernel k, channels c, layers n, stride s of the first. */
const stages: readonly (readonly [t: number, k: number, c: number, n: number, s: number])[] = [
  [1, 3, 16, 1, 1],
  [6, 3, 24, 2, 2],
  [6, 5, 40, 2, 2],
  [6, 3, 80, 3, 2],
  [6, 5, 112, 3, 1],
  [6, 5, 192, 4, 2],
  [6, 3, 320, 1, 1],
];

/** Of the last block, growing linearly from 0: drop_connect_rate of Google's efficientnet_builder. */
const DROP_PATH = 0.2;

/** What sources differ in. */
interface Rules {
  readonly epsilon: number;
  readonly momentum: number;
  readonly initializer: Initializer;
  /** Of a strided convolution with a kernel of `size`. */
  stridedPadding(size: number): Padding;
}

interface Config extends Rules {
  readonly width: number;
  readonly depth: number;
}

// keras.applications.efficientnet: CONV_KERNEL_INITIALIZER; BatchNormalization's defaults; correct_pad equals SAME
const keras: Rules = {
  epsilon: 1e-3,
  momentum: 0.99,
  initializer: { kind: 'variance_scaling', scale: 2, mode: 'fan_out', distribution: 'truncated_normal' },
  stridedPadding: () => 'same',
};
// torchvision.models.efficientnet: BatchNorm2d's defaults, padding (k - 1) // 2, kaiming_normal_(mode="fan_out")
const torch: Rules = {
  epsilon: 1e-5,
  momentum: 0.9,
  initializer: { kind: 'he_normal_fan_out' },
  stridedPadding: (size) => around((size - 1) / 2),
};
// timm.models.efficientnet: tf_efficientnet_b0 sets bn_eps to BN_EPS_TF_DEFAULT and pad_type to "same"
const timm: Rules = { ...torch, epsilon: 1e-3, stridedPadding: () => 'same' };

function normSwish(s: Scope, x: Node, c: Config): Node {
  return activation(s, batchNorm(s.at('norm'), x, c), 'swish');
}

function convNormSwish(s: Scope, x: Node, filters: number, size: number, stride: number, c: Config): Node {
  const padding = stride === 1 ? 'same' : c.stridedPadding(size);
  return normSwish(s, conv2d(s.at('conv'), x, filters, size, { stride, padding, initializer: c.initializer }), c);
}

/** Hu et al. 2017, https://arxiv.org/abs/1709.01507, with a quarter of the block's input channels in the middle. */
function squeezeExcite(s: Scope, x: Node, squeezed: number, c: Config): Node {
  const options = { initializer: c.initializer };
  let y = globalAveragePool(s, x);
  y = activation(s, dense(s.at('reduce'), y, squeezed, options), 'swish');
  y = activation(s, dense(s.at('expand'), y, channels(x), options), 'sigmoid');
  return scaleChannels(s, x, y);
}

/** MBConv: an inverted residual with squeeze and excitation. */
function block(
  s: Scope,
  x: Node,
  [t, k, out, stride]: readonly [t: number, k: number, out: number, stride: number],
  dropRate: number,
  c: Config,
): Node {
  const { initializer } = c;
  const depthwise = s.at('depthwise');
  let y = t === 1 ? x : convNormSwish(s.at('expand'), x, t * channels(x), 1, 1, c);
  const padding = stride === 1 ? 'same' : c.stridedPadding(k);
  y = normSwish(depthwise, depthwiseConv2d(depthwise.at('conv'), y, k, { stride, padding, initializer }), c);
  y = squeezeExcite(s.at('excite'), y, channels(x) / 4, c);
  y = batchNorm(s.at('project.norm'), conv2d(s.at('project.conv'), y, out, 1, { initializer }), c);
  if (stride !== 1 || channels(x) !== out) return y;
  return add(s, x, dropRate === 0 ? y : dropPath(s, y, dropRate));
}

function efficientnet(s: Scope, x: Node, c: Config): Node {
  const filters = (base: number) => makeDivisible(base * c.width);
  const repeats = stages.map(([, , , n]) => Math.ceil(n * c.depth));
  const blocks = repeats.reduce((a, b) => a + b);
  let y = s.at('stem').tap(convNormSwish(s.at('stem'), x, filters(32), 3, 2, c));
  let index = 0;
  stages.forEach(([t, k, out, , stride], i) => {
    const stage = s.at(`stage${i + 1}`);
    for (let n = 1; n <= repeats[i]!; n++) {
      const at = stage.at(`block${n}`);
      const shape = [t, k, filters(out), n === 1 ? stride : 1] as const;
      y = at.endBlock(block(at, y, shape, (DROP_PATH * index++) / blocks, c));
    }
    stage.tap(y);
  });
  y = s.at('top').tap(convNormSwish(s.at('top'), y, filters(1280), 1, 1, c));
  return globalAveragePool(s.at('pool'), y);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `stage2.block1.depthwise.conv`. */
function partsOf(path: string) {
  const match = /^stage(\d)\.block(\d+)\.(expand|depthwise|excite|project)\.(\w+)$/.exec(path);
  if (match === null) return undefined;
  const [, stage, block, unit, layer] = match;
  return { stage: Number(stage), block: Number(block), unit: unit as Unit, layer: layer! };
}
type Unit = 'expand' | 'depthwise' | 'excite' | 'project';
type Parts = NonNullable<ReturnType<typeof partsOf>>;

const kerasNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['stem_conv'],
    'stem.norm': ['stem_bn'],
    'top.conv': ['top_conv'],
    'top.norm': ['top_bn'],
    classifier: ['predictions', 'probs'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const layer = {
    expand: { conv: 'expand_conv', norm: 'expand_bn' },
    depthwise: { conv: 'dwconv', norm: 'bn' },
    excite: { reduce: 'se_reduce', expand: 'se_expand' },
    project: { conv: 'project_conv', norm: 'project_bn' },
  }[p.unit] as Record<string, string>;
  return [`block${p.stage}${String.fromCharCode('a'.charCodeAt(0) + p.block - 1)}_${layer[p.layer]}`];
};

/** The blocks of stage 1 have no expansion, so that their other units move up. */
const positionOf = ({ stage, unit }: Parts): number =>
  ({ expand: 0, depthwise: 1, excite: 2, project: 3 })[unit] - (stage === 1 ? 1 : 0);

function torchvisionName(p: Parts): string {
  const leaf = { conv: '0', norm: '1', reduce: 'fc1', expand: 'fc2' }[p.layer];
  return `features.${p.stage}.${p.block - 1}.block.${positionOf(p)}.${leaf}`;
}

function timmName(p: Parts): string {
  const at = `blocks.${p.stage - 1}.${p.block - 1}`;
  if (p.unit === 'excite') return `${at}.se.conv_${p.layer}`;
  const position = { expand: 1, depthwise: 2, project: 3 }[p.unit] - (p.stage === 1 ? 1 : 0);
  const conv = { expand: 'conv_pw', depthwise: 'conv_dw', project: p.stage === 1 ? 'conv_pw' : 'conv_pwl' }[p.unit];
  return `${at}.${p.layer === 'conv' ? conv : `bn${position}`}`;
}

const torchNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['features.0.0', 'conv_stem'],
    'stem.norm': ['features.0.1', 'bn1'],
    'top.conv': ['features.8.0', 'conv_head'],
    'top.norm': ['features.8.1', 'bn2'],
    classifier: ['classifier.1', 'classifier'],
  }[path];
  const p = partsOf(path);
  return p === undefined ? (fixed ?? []) : [torchvisionName(p), timmName(p)];
};

const timmNames: OwnerNames = (path) => torchNames(path).slice(1);

// ---- published -------------------------------------------------------------------------------------------------

/** `resize` and `crop` are pixels: those of torchvision's `transforms` and of timm's `default_cfgs`. */
const cropped = (resize: number, crop: number): Preprocessing => ({
  ...torchPreprocessing,
  resize: { rule: 'short_side', ratio: resize / crop },
  kernel: 'pil_bicubic',
});

const torchCrops: Record<Name, Preprocessing> = {
  efficientnet_b0: cropped(256, 224),
  efficientnet_b1: cropped(256, 240),
  efficientnet_b2: cropped(288, 288),
  efficientnet_b3: cropped(320, 300),
};

/** timm resizes to the crop's size by crop_pct, .875 .882 .89 .904, rounded down. */
const timmCrops: Record<Name, Preprocessing> = {
  efficientnet_b0: cropped(256, 224),
  efficientnet_b1: cropped(272, 240),
  efficientnet_b2: cropped(292, 260),
  efficientnet_b3: cropped(331, 300),
};

const gates = pointwise('excite'); // 1x1 convolutions everywhere

/** WEIGHTS_HASHES of keras.applications.efficientnet, with the top; file and `_file_size` of torchvision's weights. */
const files: Record<Name, { readonly keras: string; readonly torch: readonly [file: string, mebibytes: number] }> = {
  efficientnet_b0: {
    keras: '902e53a9f72be733fc0bcb005b3ebbac',
    torch: ['efficientnet_b0_rwightman-7f5810bc.pth', 20.451],
  },
  efficientnet_b1: {
    keras: '1d254153d4ab51201f1646940f018540',
    torch: ['efficientnet_b1_rwightman-bac287d4.pth', 30.134],
  },
  efficientnet_b2: {
    keras: 'b15cce36ff4dcbd00b6dd88e7857a6ad',
    torch: ['efficientnet_b2_rwightman-c35c1473.pth', 35.174],
  },
  efficientnet_b3: {
    keras: 'ffd1fdc53d0ce67064dc6a9c7960ede0',
    torch: ['efficientnet_b3_rwightman-b3899882.pth', 47.184],
  },
};

function published(name: Name): Published[] {
  const at = (c: Rules) => (s: Scope, x: Node) => efficientnet(s, x, { ...c, ...variants[name] });
  return [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      // Layers of the published model: Rescaling(1 / 255), Normalization, Rescaling(1 / sqrt(std)). The file's mean is
      // ImageNet's and its "variance" ImageNet's standard deviation, which is why the last one divides by its root.
      // https://github.com/tensorflow/tensorflow/issues/49930
      setAside: [/^normalization(_\d+)?\/(mean|variance|count)$/],
      preprocessing: kerasTorchPreprocessing,
      reference: {
        call: `keras.applications.EfficientNet${name.slice(-2).toUpperCase()}`,
        pixels: { layer: 'normalization' },
        rank: gates,
      },
      download: kerasEfficientnet(`${name.replace('_', '')}.h5`, files[name].keras),
      origin: `storage.googleapis.com/keras-applications/${name.replace('_', '')}.h5`,
      license: 'Apache-2.0',
      build: at(keras),
    },
    {
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      preprocessing: torchCrops[name],
      reference: { call: `torchvision.models.${name}`, rank: gates },
      download: torchvisionFile(...files[name].torch),
      origin: `torchvision.models.${name}, IMAGENET1K_V1`,
      license: 'BSD-3-Clause',
      build: at(torch),
    },
    {
      source: 'timm',
      variantOf: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: timmNames,
      preprocessing: timmCrops[name],
      reference: { call: 'timm.create_model', arguments: `'tf_${name}'`, rank: gates },
      download: timmHub(`tf_${name}.in1k`),
      origin: `huggingface.co/timm/tf_${name}.in1k`,
      license: 'Apache-2.0',
      build: at(timm),
    },
  ];
}

export const efficientnets: readonly Backbone[] = (Object.keys(variants) as Name[]).map((name) => ({
  name,
  family: 'efficientnet',
  aliases: [],
  inputSize: variants[name].inputSize,
  published: published(name),
}));
