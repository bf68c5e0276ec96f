/** What ResNet's and ResNeXt's layers are called in published files. */
import type { Parameter } from '../engine/graph.js';
import type { Layout, OwnerNames } from './backbone.js';

/** A block's convolutions, by the number that all publishers give them; 0 is the projection of the shortcut. */
const numbers = { shortcut: 0, reduce: 1, conv3x3: 2, expand: 3, first: 1, second: 2 } as const;

/** The parts of `stage2.block1.reduce.conv`. */
function partsOf(path: string) {
  const match = /^stage(\d)\.block(\d+)\.(reduce|conv3x3|expand|first|second|shortcut)\.(conv|norm)$/.exec(path);
  if (match === null) return undefined;
  const [, stage, block, unit, kind] = match;
  const number = numbers[unit as keyof typeof numbers];
  return { stage: Number(stage), block: Number(block), number, kind: kind as 'conv' | 'norm' };
}

type Parts = NonNullable<ReturnType<typeof partsOf>>;

/** Names of the layers outside the blocks, and a rule for those inside. */
const names =
  (fixed: Readonly<Record<string, readonly string[]>>, inBlock: (parts: Parts) => readonly string[]): OwnerNames =>
  (path) => {
    const parts = partsOf(path);
    return parts === undefined ? (fixed[path] ?? []) : inBlock(parts);
  };

/** @param top what the classifier is called, in today's code first */
export const kerasNames = (...top: readonly string[]): OwnerNames =>
  names(
    { 'stem.conv': ['conv1_conv'], 'stem.norm': ['conv1_bn'], classifier: top },
    ({ stage, block, number, kind }) => [`conv${stage + 1}_block${block}_${number}_${kind === 'conv' ? 'conv' : 'bn'}`],
  );

export const kerasV1Names: OwnerNames = names(
  { 'stem.conv': ['conv1'], 'stem.norm': ['bn_conv1'], classifier: ['fc1000'] },
  ({ stage, block, number, kind }) => {
    const letter = String.fromCharCode('a'.charCodeAt(0) + block - 1);
    const branch = ['1', '2a', '2b', '2c'][number]!;
    return [`${kind === 'conv' ? 'res' : 'bn'}${stage + 1}${letter}_branch${branch}`];
  },
);

/** @param root the network's scope: `resnet_v1_50` */
export const slimNames = (root: string): OwnerNames =>
  names(
    { 'stem.conv': [`${root}/conv1`], 'stem.norm': [`${root}/conv1/BatchNorm`], classifier: [`${root}/logits`] },
    ({ stage, block, number, kind }) => {
      const unit = number === 0 ? 'shortcut' : `conv${number}`;
      const conv = `${root}/block${stage}/unit_${block}/bottleneck_v1/${unit}`;
      return [kind === 'conv' ? conv : `${conv}/BatchNorm`];
    },
  );

export const torchNames: OwnerNames = names(
  { 'stem.conv': ['conv1'], 'stem.norm': ['bn1'], classifier: ['fc'] },
  ({ stage, block, number, kind }) => {
    const at = `layer${stage}.${block - 1}`;
    if (number === 0) return [`${at}.downsample.${kind === 'conv' ? 0 : 1}`];
    return [`${at}.${kind === 'conv' ? 'conv' : 'bn'}${number}`];
  },
);

/**
 * Stages are Keras models of blocks. The layers of a basic block have no names of their own, so that Keras numbers them
 * through the network. A projection is called after its stage alone by TensorFlow 2.15, and after its unit by older ones.
 * In a checkpoint of TensorFlow 2 units of several stages have the same names, so that objects tell them apart.
 * @param depths blocks in each stage
 */
export const notesNames = (depths: readonly number[], kindOfBlock: 'basic' | 'bottleneck'): OwnerNames =>
  names(
    {
      'stem.conv': ['conv1', weighted(0)],
      'stem.norm': ['conv1/BatchNorm', weighted(1)],
      classifier: ['logits', weighted(6)],
    },
    (parts) => {
      const { stage, block, number, kind } = parts;
      const [at, unit] = [`block${stage}`, `block${stage}/unit_${block}`];
      if (number === 0) {
        const projection = kind === 'conv' ? 'conv1' : 'BatchNorm';
        return [`${at}/${projection}`, `${unit}/shortcut/${projection}`, notesObject(parts)];
      }
      if (kindOfBlock === 'bottleneck') {
        return [`${unit}/conv${number}${kind === 'conv' ? '' : '/BatchNorm'}`, notesObject(parts)];
      }
      const blocksBefore = depths.slice(0, stage - 1).reduce((a, b) => a + b, 0) + block - 1;
      const index = 2 * blocksBefore + number - 1;
      const layer = kind === 'conv' ? 'conv2d' : 'batch_normalization';
      return [`${unit}/${layer}${index === 0 ? '' : `_${index}`}`, notesObject(parts)];
    },
  );

/** Where a Keras model keeps the layer that is the n-th of those with weights, from 0: Model._trackable_children. */
const weighted = (n: number): string => `layer_with_weights-${n}`;

/** The attributes that lead to a layer of a block: the stages stand behind the stem's two layers. */
function notesObject({ stage, block, number, kind }: Parts): string {
  const unit = `${weighted(stage + 1)}/${weighted(block - 1)}`;
  if (number === 0) return `${unit}/downsample/${weighted(kind === 'conv' ? 0 : 1)}`;
  return `${unit}/${kind === 'conv' ? 'conv' : 'bn'}${number}`;
}

/**
 * Keras wrote a grouped convolution as a depthwise one that gives each channel as many outputs as a group has channels,
 * and a sum over the channels of a group: its kernel `[h, w, groups * in, out]` is `[h, w, in, groups * out]` here.
 * @see https://github.com/keras-team/keras-applications/blob/1.0.8/keras_applications/resnet_common.py (block3)
 */
export const kerasGroupedLayouts =
  (groups: number) =>
  ({ path, shape }: Parameter): readonly Layout[] | undefined => {
    if (!path.endsWith('.conv3x3.conv.kernel')) return undefined;
    const [height, width, inputs, filters] = shape as readonly [number, number, number, number];
    return [
      {
        shape: [height, width, filters, inputs],
        view: [height, width, groups, inputs, inputs],
        permutation: [0, 1, 3, 2, 4],
        adaptation: 'depthwise convolution and sums read as a grouped convolution',
      },
    ];
  };
