/**
 * ConvNeXt. Liu et al.: A ConvNet for the 2020s, 2022, figure 4 and section 3.
 * @see https://arxiv.org/abs/2201.03545
 *
 * One function everywhere. Keras starts from other numbers and drops no path; its file's normalisation of the picture
 * is preprocessing here.
 */
import { kerasTorchPreprocessing, type Preprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  add,
  channels,
  conv2d,
  dense,
  depthwiseConv2d,
  dropPath,
  globalAveragePool,
  layerNorm,
  layerScale,
} from '../engine/layers.js';
import type { Backbone, OwnerNames, Published } from './backbone.js';
import { kerasApplications, torchvisionFile } from './download.js';

/**
 * Depths: Liu 2022, section 3. The rate of the last block's path to be dropped, growing linearly from 0: table 5.
 * Pixels of the short side that torchvision crops 224 out of: `transforms` of its weights.
 */
const variants = {
  convnext_tiny: { depths: [3, 3, 9, 3], dropPath: 0.1, resize: 236 },
  convnext_small: { depths: [3, 3, 27, 3], dropPath: 0.4, resize: 230 },
} as const;
type Name = keyof typeof variants;

const widths = [96, 192, 384, 768] as const; // C of tiny and small: Liu 2022, section 3

/** The same in every implementation: layer norms' epsilon, and where layer scale starts (Liu 2022, table 5). */
const norm = { epsilon: 1e-6 } as const;
const LAYER_SCALE = 1e-6;

interface Config {
  readonly depths: readonly number[];
  readonly dropPath: number;
  readonly initializer: Initializer;
}

// keras.applications.convnext: the default of Keras' layers, and drop_path_rate=0.0
const keras = { initializer: { kind: 'glorot_uniform' }, dropPath: 0 } as const;
// torchvision.models.convnext: trunc_normal_(std=0.02), whose cut at -2 and 2 is a hundred deviations away
const torch = { initializer: { kind: 'normal', deviation: 0.02 } } as const;

function block(s: Scope, x: Node, dropRate: number, { initializer }: Config): Node {
  let y = depthwiseConv2d(s.at('depthwise'), x, 7, { bias: true, initializer });
  y = layerNorm(s.at('norm'), y, norm);
  y = activation(s, dense(s.at('expand'), y, 4 * channels(x), { initializer }), 'gelu');
  y = dense(s.at('project'), y, channels(x), { initializer });
  y = layerScale(s.at('scale'), y, LAYER_SCALE);
  return add(s, x, dropPath(s, y, dropRate));
}

function convnext(s: Scope, x: Node, c: Config): Node {
  const patches = (at: Scope, y: Node, filters: number, size: number) =>
    conv2d(at.at('conv'), y, filters, size, {
      stride: size,
      padding: 'valid',
      bias: true,
      initializer: c.initializer,
    });
  const blocks = c.depths.reduce((a, b) => a + b);
  const stem = s.at('stem');
  let y = stem.tap(layerNorm(stem.at('norm'), patches(stem, x, widths[0], 4), norm));
  let index = 0;
  c.depths.forEach((depth, i) => {
    const stage = s.at(`stage${i + 1}`);
    if (i > 0) {
      const downsample = stage.at('downsample');
      y = downsample.tap(patches(downsample, layerNorm(downsample.at('norm'), y, norm), widths[i]!, 2));
    }
    for (let n = 1; n <= depth; n++) {
      const at = stage.at(`block${n}`);
      y = at.endBlock(block(at, y, (c.dropPath * index++) / (blocks - 1), c));
    }
    stage.tap(y);
  });
  return layerNorm(s.at('norm'), globalAveragePool(s.at('pool'), y), norm);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `stage2.block1.expand` and of `stage2.downsample.conv`. */
function partsOf(path: string) {
  const block = /^stage(\d)\.block(\d+)\.(depthwise|norm|expand|project|scale)$/.exec(path);
  if (block !== null) {
    return { kind: 'block', stage: Number(block[1]) - 1, block: Number(block[2]) - 1, layer: block[3]! } as const;
  }
  const downsample = /^stage(\d)\.downsample\.(norm|conv)$/.exec(path);
  if (downsample === null) return undefined;
  return { kind: 'downsample', stage: Number(downsample[1]) - 1, layer: downsample[2] as 'norm' | 'conv' } as const;
}

/**
 * Stem and downsampling are models of their own in the published one, which its file groups their layers by; a checkpoint
 * of TensorFlow 2 has the names of the layers alone.
 */
const kerasNames =
  (model: string): OwnerNames =>
  (path) => {
    const p = partsOf(path);
    if (p?.kind === 'downsample') {
      const layer = `${model}_downsampling_${p.layer === 'norm' ? 'layernorm' : 'conv'}_${p.stage - 1}`;
      return [`${model}_downsampling_block_${p.stage - 1}/${layer}`, layer];
    }
    if (p?.kind === 'block') {
      const layer = {
        depthwise: 'depthwise_conv',
        norm: 'layernorm',
        expand: 'pointwise_conv_1',
        project: 'pointwise_conv_2',
        scale: 'layer_scale',
      }[p.layer];
      return [`${model}_stage_${p.stage}_block_${p.block}_${layer}`];
    }
    const fixed = {
      'stem.conv': [`${model}_stem/${model}_stem_conv`, `${model}_stem_conv`],
      'stem.norm': [`${model}_stem/${model}_stem_layernorm`, `${model}_stem_layernorm`],
      norm: [`${model}_head_layernorm`, 'layer_normalization'], // the second in files without the classifier
      classifier: [`${model}_head_dense`],
    }[path];
    return fixed ?? [];
  };

/** Names by torchvision, by timm, and by the authors' own code. */
const torchNames: OwnerNames = (path) => {
  const p = partsOf(path);
  if (p?.kind === 'downsample') {
    const index = { norm: 0, conv: 1 }[p.layer];
    const { stage } = p;
    return [
      `features.${2 * stage}.${index}`,
      `stages.${stage}.downsample.${index}`,
      `downsample_layers.${stage}.${index}`,
    ];
  }
  if (p?.kind === 'block') {
    const layers = {
      depthwise: ['.block.0', '.conv_dw', '.dwconv'],
      norm: ['.block.2', '.norm', '.norm'],
      expand: ['.block.3', '.mlp.fc1', '.pwconv1'],
      project: ['.block.5', '.mlp.fc2', '.pwconv2'],
      scale: ['', '', ''], // a parameter of the block itself
    }[p.layer]!;
    const blocks = [
      `features.${2 * p.stage + 1}.${p.block}`,
      `stages.${p.stage}.blocks.${p.block}`,
      `stages.${p.stage}.${p.block}`,
    ];
    return blocks.map((block, i) => `${block}${layers[i]}`);
  }
  const fixed = {
    'stem.conv': ['features.0.0', 'stem.0', 'downsample_layers.0.0'],
    'stem.norm': ['features.0.1', 'stem.1', 'downsample_layers.0.1'],
    norm: ['classifier.0', 'head.norm', 'norm'],
    classifier: ['classifier.2', 'head.fc', 'head'],
  }[path];
  return fixed ?? [];
};

// ---- published -------------------------------------------------------------------------------------------------

/** WEIGHTS_HASHES of keras.applications.convnext, with the top; file and `_file_size` of torchvision's weights. */
const files: Record<Name, { readonly keras: string; readonly torch: readonly [file: string, mebibytes: number] }> = {
  convnext_tiny: {
    keras: '8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff',
    torch: ['convnext_tiny-983f1562.pth', 109.119],
  },
  convnext_small: {
    keras: 'ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c',
    torch: ['convnext_small-0c510722.pth', 191.703],
  },
};

function published(name: Name): Published[] {
  const at = (c: Omit<Config, 'depths' | 'dropPath'>) => (s: Scope, x: Node) =>
    convnext(s, x, { ...variants[name], ...c });
  const cropped: Preprocessing = {
    ...torchPreprocessing,
    resize: { rule: 'short_side', ratio: variants[name].resize / 224 },
  };
  return [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames(name),
      submodels: /^convnext_\w+_(stem|downsampling_block_\d)$/,
      // a Conv2D with one group a channel
      layouts: ({ role, shape: [height, width, filters] }) =>
        role === 'depthwise.kernel' ? [{ shape: [height!, width!, 1, filters!] }] : undefined,
      // The layer Normalization of the published model, which has no weights: mean and variance of torch's record
      preprocessing: kerasTorchPreprocessing,
      reference: {
        call: `keras.applications.ConvNeXt${name === 'convnext_tiny' ? 'Tiny' : 'Small'}`,
        pixels: {},
        leaf: ({ role }) => (role === 'depthwise.kernel' ? 'kernel' : undefined),
      },
      download: kerasApplications(`convnext/${name}.h5`, files[name].keras),
      origin: `storage.googleapis.com/tensorflow/keras-applications/convnext/${name}.h5`,
      license: 'Apache-2.0 (converted from Meta AI)',
      build: at(keras),
    },
    {
      source: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: torchNames,
      preprocessing: cropped,
      reference: {
        call: `torchvision.models.${name}`,
        leaf: ({ role }) => (role === 'layer_scale' ? 'layer_scale' : undefined),
        rank: ({ role }) => (role === 'layer_scale' ? 3 : undefined),
      },
      download: torchvisionFile(...files[name].torch),
      origin: `torchvision.models.${name}, IMAGENET1K_V1`,
      license: 'BSD-3-Clause',
      build: at(torch),
    },
  ];
}

export const convnexts: readonly Backbone[] = (Object.keys(variants) as Name[]).map((name) => ({
  name,
  family: 'convnext',
  aliases: [],
  inputSize: 224,
  published: published(name),
}));
