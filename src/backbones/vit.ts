/**
 * Vision Transformer. Dosovitskiy et al.: An Image Is Worth 16x16 Words, 2020, table 1 and section 3.1.
 * @see https://arxiv.org/abs/2010.11929
 * Ti and S: Steiner et al.: How to Train Your ViT?, 2021, table 2. https://arxiv.org/abs/2106.10270
 *
 * One name, several functions:
 *   flax   Google's: GELU in its tanh form. Files of ImageNet-21k have a dense tanh layer before the classifier
 *   torch  torchvision's, and timm's where torchvision has none: exact GELU. timm's hybrid has other epsilons
 *   timm   the same function as torchvision's with other names, trained on pictures of another range
 */
import { type Preprocessing, tfPreprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Places, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import {
  activation,
  add,
  attention,
  channels,
  classToken,
  conv2d,
  dense,
  dropPath,
  layerNorm,
  positionEmbedding,
  reshape,
  takeToken,
} from '../engine/layers.js';
import type { ActivationName } from '../engine/operations.js';
import { UsageError } from '../errors.js';
import type { Backbone, Published } from './backbone.js';
import { timmHub, torchvisionFile, visionTransformers } from './download.js';
import { flaxNames, fusedProjections, timmNames, torchvisionLeaf, torchvisionNames } from './vit-names.js';
import { hybridResnet, RESNET_STRIDE, type ResnetConfig } from './vit-resnet.js';

interface Variant {
  /** Height and width of a patch; of the hybrid, whose patches are places of its ResNet, those of a place. */
  readonly patch: number;
  readonly layers: number;
  /** Length D of a token. */
  readonly width: number;
  readonly heads: number;
  readonly hybrid?: boolean;
}

/** Dosovitskiy 2020, table 1; Steiner 2021, table 2. The MLP is always four times as wide as a token. */
const variants = {
  vit_ti16: { patch: 16, layers: 12, width: 192, heads: 3 },
  vit_s16: { patch: 16, layers: 12, width: 384, heads: 6 },
  vit_b16: { patch: 16, layers: 12, width: 768, heads: 12 },
  vit_b32: { patch: 32, layers: 12, width: 768, heads: 12 },
  vit_l16: { patch: 16, layers: 24, width: 1024, heads: 16 },
  vit_l32: { patch: 32, layers: 24, width: 1024, heads: 16 },
  vit_h14: { patch: 14, layers: 32, width: 1280, heads: 16 },
  r50_vit_b16: { patch: RESNET_STRIDE, layers: 12, width: 768, heads: 12, hybrid: true },
} as const satisfies Record<string, Variant>;
type Name = keyof typeof variants;

const norm = { epsilon: 1e-6 } as const; // the same in every implementation

interface Config {
  readonly gelu: ActivationName;
  /** How the position embedding is brought to another grid. */
  readonly resampling: Places['resampling'];
  readonly resnet: ResnetConfig;
  readonly initializers: {
    readonly patches: Initializer;
    readonly token: Initializer;
    readonly position: Initializer;
    /** To queries, keys and values. */
    readonly projections: Initializer;
    readonly out: Initializer;
    readonly mlp: Initializer;
    readonly mlpBias: Initializer;
  };
}

const truncated: Initializer = { kind: 'truncated_normal', deviation: 0.02 };
const zeros: Initializer = { kind: 'zeros' };
const glorot: Initializer = { kind: 'glorot_uniform' };
const lecun: Initializer = { kind: 'variance_scaling', scale: 1, mode: 'fan_in', distribution: 'truncated_normal' };
/** torch.nn.Linear and Conv2d: kaiming_uniform_(a=sqrt(5)), so a limit of 1 / sqrt(fan in). */
const torchDefault: Initializer = { kind: 'variance_scaling', scale: 1 / 3, mode: 'fan_in', distribution: 'uniform' };

// vit_jax/models_vit.py: nn.gelu(x), whose default is the tanh form; kernels xavier_uniform, biases of the MLP normal
// (stddev=1e-6). vit_jax/models_resnet.py: weight_standardize(eps=1e-5) and flax' GroupNorm, epsilon 1e-6.
// vit_jax/checkpoint.py, load_pretrained: scipy.ndimage.zoom(order=1)
const flax: Config = {
  gelu: 'gelu_tanh',
  resampling: 'linear_corners',
  resnet: { standardization: { epsilon: 1e-5, addedTo: 'deviation' }, epsilon: 1e-6, initializer: lecun },
  initializers: {
    patches: lecun,
    token: zeros,
    position: { kind: 'normal', deviation: 0.02 },
    projections: glorot,
    out: glorot,
    mlp: glorot,
    mlpBias: { kind: 'normal', deviation: 1e-6 },
  },
};
// torchvision.models.vision_transformer: torch.nn.MultiheadAttention draws queries, keys and values as one kernel of
// [D, 3 D] by xavier_uniform_, a variance of 1 / (2 D); interpolate_embeddings: mode="bicubic", align_corners=True
const torchvision: Config = {
  ...flax,
  gelu: 'gelu',
  resampling: 'bicubic_corners',
  initializers: {
    ...flax.initializers,
    projections: { kind: 'variance_scaling', scale: 1 / 2, mode: 'fan_in', distribution: 'uniform' },
    out: torchDefault,
  },
};
// timm.models.vision_transformer, init_weights_vit_timm: trunc_normal_(std=.02) and zeros; PatchEmbed keeps torch's own.
// timm.models.vision_transformer_hybrid: StdConv2dSame(eps=1e-8), GroupNormAct(eps=1e-5)
const timm: Config = {
  gelu: 'gelu',
  resampling: 'bicubic_antialias',
  resnet: {
    standardization: { epsilon: 1e-8, addedTo: 'variance' },
    epsilon: 1e-5,
    initializer: { kind: 'he_normal_fan_out' },
  },
  initializers: {
    patches: torchDefault,
    token: { kind: 'normal', deviation: 1e-6 },
    position: truncated,
    projections: truncated,
    out: truncated,
    mlp: truncated,
    mlpBias: zeros,
  },
};

/** `[H, W, C] -> [1 + T, D]`: a linear projection of every patch, the class token, and where each patch lies. */
function embed(s: Scope, x: Node, patch: number, width: number, { resampling, initializers }: Config): Node {
  const at = s.at('patch_embedding');
  const projected = conv2d(at, x, width, patch, {
    stride: patch,
    padding: 'valid',
    bias: true,
    initializer: initializers.patches,
  });
  const [rows, columns] = projected.shape as readonly [number, number, number];
  let y = reshape(at, projected, [rows * columns, width]);
  y = classToken(s.at('class_token'), y, initializers.token);
  const places = { grid: [rows, columns], resampling } as const;
  return positionEmbedding(s.at('position_embedding'), y, places, initializers.position);
}

function selfAttention(s: Scope, x: Node, heads: number, { initializers }: Config): Node {
  const width = channels(x);
  const split = [heads, width / heads]; // as flax keeps it
  const project = (name: string): Node =>
    dense(s.at(name), x, width, {
      initializer: initializers.projections,
      unflattened: { kernel: [width, ...split], bias: split },
    });
  const y = attention(s, project('query'), project('key'), project('value'), heads);
  return dense(s.at('out'), y, width, {
    initializer: initializers.out,
    unflattened: { kernel: [...split, width] },
  });
}

function mlp(s: Scope, x: Node, { gelu, initializers }: Config): Node {
  const options = { initializer: initializers.mlp, biasInitializer: initializers.mlpBias };
  const y = activation(s, dense(s.at('expand'), x, 4 * channels(x), options), gelu);
  return dense(s.at('project'), y, channels(x), options);
}

/** Dosovitskiy 2020, equations 2 and 3. Every path can be dropped, and none is unless a run asks for it. */
function encoderBlock(s: Scope, x: Node, heads: number, c: Config): Node {
  const [attend, transform] = [s.at('attention'), s.at('mlp')];
  const branch = (at: Scope, y: Node): Node => dropPath(at, y, 0);
  const y = add(attend, x, branch(attend, selfAttention(attend, layerNorm(attend.at('norm'), x, norm), heads, c)));
  return add(transform, y, branch(transform, mlp(transform, layerNorm(transform.at('norm'), y, norm), c)));
}

function vit(s: Scope, x: Node, { patch, layers, width, heads, hybrid = false }: Variant, c: Config): Node {
  assertWholePatches(x, patch);
  const picture = hybrid ? hybridResnet(s, x, c.resnet) : x;
  let y = s.at('embedding').tap(embed(s, picture, hybrid ? 1 : patch, width, c));
  for (let layer = 1; layer <= layers; layer++) {
    const block = s.at(`block${layer}`);
    y = block.endBlock(encoderBlock(block, y, heads, c));
  }
  return layerNorm(s.at('norm'), takeToken(s.at('norm'), y, 0), norm); // equation 4
}

/** @throws INPUT_SIZE with the next sizes that do */
function assertWholePatches(x: Node, patch: number): void {
  const [height, width] = x.shape as readonly [number, number, number];
  const whole = (length: number): string => {
    const below = Math.floor(length / patch) * patch;
    if (below === length) return `${length}`;
    return below === 0 ? `${patch}` : `${below} or ${below + patch}`;
  };
  if (height % patch === 0 && width % patch === 0) return;
  throw new UsageError({
    code: 'INPUT_SIZE',
    message: `a picture of ${height}x${width} cannot be divided into patches of ${patch}x${patch}`,
    hint:
      height === width
        ? `give a height and width of ${whole(height)}`
        : `give a height of ${whole(height)} and a width of ${whole(width)}`,
  });
}

// ---- published -------------------------------------------------------------------------------------------------

/** timm's weights, and what its `default_cfgs` say of their classes. */
const timmWeights: Record<Name, string> = {
  vit_ti16: 'vit_tiny_patch16_224.augreg_in21k_ft_in1k',
  vit_s16: 'vit_small_patch16_224.augreg_in21k_ft_in1k',
  vit_b16: 'vit_base_patch16_224.augreg_in21k_ft_in1k',
  vit_b32: 'vit_base_patch32_224.augreg_in21k_ft_in1k',
  vit_l16: 'vit_large_patch16_224.augreg_in21k_ft_in1k',
  vit_l32: 'vit_large_patch32_384.orig_in21k_ft_in1k',
  vit_h14: 'vit_huge_patch14_224.orig_in21k',
  r50_vit_b16: 'vit_base_r50_s16_384.orig_in21k_ft_in1k',
};

/** What timm calls the networks; weights of other sizes and origins fit the same ones. */
const timmNetworks: Record<Name, string> = {
  vit_ti16: 'vit_tiny_patch16_224',
  vit_s16: 'vit_small_patch16_224',
  vit_b16: 'vit_base_patch16_224',
  vit_b32: 'vit_base_patch32_224',
  vit_l16: 'vit_large_patch16_224',
  vit_l32: 'vit_large_patch32_224',
  vit_h14: 'vit_huge_patch14_224',
  r50_vit_b16: 'vit_base_r50_s16_224',
};

/** vit_jax/configs/models.py, MODEL_CONFIGS. */
const jaxNames: Record<Name, string> = {
  vit_ti16: 'ViT-Ti_16',
  vit_s16: 'ViT-S_16',
  vit_b16: 'ViT-B_16',
  vit_b32: 'ViT-B_32',
  vit_l16: 'ViT-L_16',
  vit_l32: 'ViT-L_32',
  vit_h14: 'ViT-H_14',
  r50_vit_b16: 'R50+ViT-B_16',
};

/** How Google tuned Ti and S for ImageNet: the `url` of timm's augreg_in21k_ft_in1k. */
const augregTuning = 'imagenet2012-steps_20k-lr_0.03-res_224';

/** Google's: `imagenet21k` with the representation layer, `imagenet21k+imagenet2012` without; of Ti and S, `augreg`. */
const flaxWeights: Record<Name, string> = {
  vit_ti16: `augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--${augregTuning}.npz`,
  vit_s16: `augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--${augregTuning}.npz`,
  vit_b16: 'imagenet21k/ViT-B_16.npz',
  vit_b32: 'imagenet21k/ViT-B_32.npz',
  vit_l16: 'imagenet21k/ViT-L_16.npz',
  vit_l32: 'imagenet21k/ViT-L_32.npz',
  vit_h14: 'imagenet21k/ViT-H_14.npz',
  r50_vit_b16: 'imagenet21k/R50%2BViT-B_16.npz',
};

/** File and `_file_size` of torchvision's weights. */
const torchvisionFiles: Partial<Record<Name, readonly [file: string, mebibytes: number]>> = {
  vit_b16: ['vit_b_16-c867db91.pth', 330.285],
  vit_b32: ['vit_b_32-d86f8d99.pth', 336.604],
  vit_l16: ['vit_l_16-852ce7e3.pth', 1161.023],
  vit_l32: ['vit_l_32-c7638314.pth', 1169.449],
  vit_h14: ['vit_h_14_lc_swag-c1eb923e.pth', 2411.209],
};

/** torchvision's own: `transforms` of its weights. */
const torchvisionPreprocessing: Partial<Record<Name, Preprocessing>> = {
  vit_b16: torchPreprocessing,
  vit_b32: torchPreprocessing,
  vit_l16: { ...torchPreprocessing, resize: { rule: 'short_side', ratio: 242 / 224 } },
  vit_l32: torchPreprocessing,
  // SWAG weights with a linear classifier: Resize(224), bicubic
  vit_h14: { ...torchPreprocessing, resize: { rule: 'short_side', ratio: 1 }, kernel: 'pil_bicubic' },
};

/** timm's `_cfg`: crop_pct .9, so Resize(int(224 / .9)), bicubic, IMAGENET_INCEPTION_MEAN and _STD. */
const timmPreprocessing: Preprocessing = {
  ...torchPreprocessing,
  resize: { rule: 'short_side', ratio: 248 / 224 },
  kernel: 'pil_bicubic',
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
};

function published(name: Name): Published[] {
  const variant: Variant = variants[name];
  const at = (c: Config) => (s: Scope, x: Node) => vit(s, x, variant, c);
  const common = {
    classes: 1000,
    // Dosovitskiy 2020, section 3.1: a hidden layer at pre-training; Steiner 2021 has none
    ...(name === 'vit_ti16' || name === 'vit_s16' ? {} : { representation: variant.width }),
  };
  const torchvisions = torchvisionPreprocessing[name];
  const entries: Published[] = [
    {
      ...common,
      source: 'flax',
      dialect: 'flax',
      ownerNames: flaxNames,
      preprocessing: tfPreprocessing, // vit_jax/input_pipeline.py: tf.image.resize, (x - 127.5) / 127.5
      reference: {
        call: 'models.VisionTransformer',
        arguments: `**models_config.MODEL_CONFIGS['${jaxNames[name]}']`,
        settings: { representation: 'representation_size' },
        // group norms of the hybrid, as its published file has them
        rank: ({ role, path }) => (role.startsWith('norm.') && /^st(em|age\d)\./.test(path) ? 4 : undefined),
      },
      download: visionTransformers(flaxWeights[name]),
      origin: `storage.googleapis.com/vit_models/${flaxWeights[name]}`,
      license: 'Apache-2.0',
      build: at(flax),
    },
    {
      ...common,
      ...(torchvisions === undefined ? { source: 'torch' } : { source: 'timm', variantOf: 'torch' }),
      dialect: 'torch',
      ownerNames: timmNames,
      part: fusedProjections,
      preprocessing: timmPreprocessing,
      reference: {
        call: 'timm.create_model',
        arguments: `'${timmNetworks[name]}'`,
        settings: { size: 'img_size' },
      },
      download: timmHub(timmWeights[name]),
      origin: `huggingface.co/timm/${timmWeights[name]}`,
      license: 'Apache-2.0',
      build: at(timm),
    },
  ];
  if (torchvisions !== undefined) {
    const swag = name === 'vit_h14';
    const [, size, patch] = /^vit_(\w)(\d+)$/.exec(name)!;
    entries.push({
      ...common,
      source: 'torch',
      dialect: 'torch',
      ownerNames: torchvisionNames,
      part: fusedProjections,
      preprocessing: torchvisions,
      reference: {
        call: `torchvision.models.vit_${size}_${patch}`,
        settings: { size: 'image_size', representation: 'representation_size' },
        leaf: torchvisionLeaf,
      },
      download: torchvisionFile(...torchvisionFiles[name]!),
      origin: `torchvision.models.vit_${size}_${patch}, ${swag ? 'IMAGENET1K_SWAG_LINEAR_V1' : 'IMAGENET1K_V1'}`,
      license: swag ? 'CC-BY-NC-4.0' : 'BSD-3-Clause',
      build: at(torchvision),
    });
  }
  return entries;
}

export const vits: readonly Backbone[] = (Object.keys(variants) as Name[]).map((name) => ({
  name,
  family: 'vit',
  aliases: [],
  inputSize: 224,
  published: published(name),
}));
