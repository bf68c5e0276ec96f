/** What the vision transformers' layers are called in published files. */

import { ownerOf } from '../engine/graph.js';
import type { OwnerNames, Part, Reference } from './backbone.js';

/** The parts of `block1.attention.query`, blocks counted from 0 as every publisher does. */
function partsOf(path: string) {
  const match = /^block(\d+)\.(attention|mlp)\.(\w+)$/.exec(path);
  if (match === null) return undefined;
  return { block: Number(match[1]) - 1, layer: `${match[2]}.${match[3]}` };
}

/** The parts of `stage1.block1.reduce.conv`, of the hybrid's ResNet. */
function unitOf(path: string) {
  const match = /^stage(\d)\.block(\d+)\.(reduce|conv3x3|expand|shortcut)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const place = { reduce: 1, conv3x3: 2, expand: 3, shortcut: undefined }[match[3]!];
  return { stage: Number(match[1]), block: Number(match[2]), place, kind: match[4] as 'conv' | 'norm' };
}

/**
 * Google's files were written by a flax that counted all layers of a block together; today's counts those of each kind.
 * @see flax.training.checkpoints.convert_pre_linen
 */
export const flaxNames: OwnerNames = (path) => {
  const p = partsOf(path);
  if (p !== undefined) {
    const layers = {
      'attention.norm': ['LayerNorm_0'],
      'mlp.norm': ['LayerNorm_2', 'LayerNorm_1'],
      'mlp.expand': ['MlpBlock_3/Dense_0', 'MlpBlock_0/Dense_0'],
      'mlp.project': ['MlpBlock_3/Dense_1', 'MlpBlock_0/Dense_1'],
    }[p.layer];
    const projection = p.layer.replace('attention.', '');
    const names = layers ?? [1, 0].map((n) => `MultiHeadDotProductAttention_${n}/${projection}`);
    return names.map((name) => `Transformer/encoderblock_${p.block}/${name}`);
  }
  const unit = unitOf(path);
  if (unit !== undefined) {
    const { stage, block, place = '_proj', kind } = unit;
    return [`block${stage}/unit${block}/${kind === 'conv' ? 'conv' : 'gn'}${place}`];
  }
  if (path === 'position_embedding') return ['Transformer/posembed_input', '']; // the second in big_vision's files
  return fixed(path, {
    'stem.conv': 'conv_root',
    'stem.norm': 'gn_root',
    patch_embedding: 'embedding',
    class_token: '',
    norm: 'Transformer/encoder_norm',
    representation: 'pre_logits',
    classifier: 'head',
  });
};

export const timmNames: OwnerNames = (path) => {
  const p = partsOf(path);
  if (p !== undefined) {
    const layer = {
      'attention.norm': 'norm1',
      'attention.out': 'attn.proj',
      'mlp.norm': 'norm2',
      'mlp.expand': 'mlp.fc1',
      'mlp.project': 'mlp.fc2',
    }[p.layer];
    return [`blocks.${p.block}.${layer ?? 'attn.qkv'}`];
  }
  const unit = unitOf(path);
  if (unit !== undefined) {
    const { stage, block, place, kind } = unit;
    const layer = place === undefined ? `downsample.${kind}` : `${kind}${place}`;
    return [`patch_embed.backbone.stages.${stage - 1}.blocks.${block - 1}.${layer}`];
  }
  return fixed(path, {
    'stem.conv': 'patch_embed.backbone.stem.conv',
    'stem.norm': 'patch_embed.backbone.stem.norm',
    patch_embedding: 'patch_embed.proj',
    class_token: '',
    position_embedding: '',
    norm: 'norm',
    representation: 'pre_logits.fc', // of files until timm 0.6
    classifier: 'head',
  });
};

/** The dense layers of an MLP are numbered in their Sequential; before torchvision 0.13 they had names. */
export const torchvisionNames: OwnerNames = (path) => {
  const p = partsOf(path);
  if (p !== undefined) {
    const layers = {
      'attention.norm': ['ln_1'],
      'attention.out': ['self_attention.out_proj'],
      'mlp.norm': ['ln_2'],
      'mlp.expand': ['mlp.0', 'mlp.linear_1'],
      'mlp.project': ['mlp.3', 'mlp.linear_2'],
    }[p.layer] ?? ['self_attention'];
    return layers.map((layer) => `encoder.layers.encoder_layer_${p.block}.${layer}`);
  }
  return fixed(path, {
    patch_embedding: 'conv_proj',
    class_token: '',
    position_embedding: 'encoder',
    norm: 'encoder.ln',
    representation: 'heads.pre_logits',
    classifier: 'heads.head',
  });
};

/** torch.nn.MultiheadAttention joins its projections as `in_proj_weight`; the tokens are not called as timm does. */
export const torchvisionLeaf: NonNullable<Reference['leaf']> = ({ path, role }) => {
  if (role === 'class_token') return 'class_token';
  if (role === 'position_embedding') return 'pos_embedding';
  if (fusedProjections(ownerOf(path)) === undefined) return undefined;
  return role === 'bias' ? 'in_proj_bias' : 'in_proj_weight';
};

const fixed = (path: string, names: Readonly<Record<string, string>>): string[] => {
  const name = names[path];
  return name === undefined ? [] : [name];
};

/** PyTorch keeps the projections to queries, keys and values as one tensor, in that order. */
export function fusedProjections(path: string): Part | undefined {
  const index = ['query', 'key', 'value'].findIndex((each) => path.endsWith(`.attention.${each}`));
  return index < 0 ? undefined : { index, of: 3 };
}
