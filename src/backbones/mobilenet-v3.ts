/**
 * MobileNet v3. Howard et al.: Searching for MobileNetV3, 2019, tables 1 and 2.
 * @see https://arxiv.org/abs/1905.02244
 *
 *   keras        TensorFlow's SAME padding, epsilon 1e-3; the model's own rescaling is preprocessing here: -1 to 1
 *   keras_notop  the same without the layers after the pool, as Keras publishes it for other classes
 *   slim         as keras, 1001 classes; its gates have 0.16667 for 1 / 6
 *   torch        torchvision's: symmetric padding, epsilon 1e-3
 *   timm         timm's tf_mobilenetv3: Google's weights, so SAME padding and epsilon 1e-3
 *   timm_native  timm's mobilenetv3: symmetric padding, epsilon 1e-5; the same names
 *
 * The minimalistic networks have 3x3 kernels, relu, and no squeeze and excitation throughout.
 */
import { slimInceptionPreprocessing, tfPreprocessing, torchPreprocessing } from '../augment/preprocessing.js';
import type { Node, Parameter, Scope } from '../engine/graph.js';
import {
  activation,
  add,
  around,
  batchNorm,
  channels,
  conv2d,
  dense,
  depthwiseConv2d,
  globalAveragePool,
  scaleChannels,
} from '../engine/layers.js';
import type { ActivationName, Padding } from '../engine/operations.js';
import type { Backbone, Layout, OwnerNames, Published, Reference } from './backbone.js';
import {
  type Download,
  type KnownOfFile,
  kerasApplications,
  mobilenetArchive,
  timmHub,
  torchvisionFile,
} from './download.js';
import { makeDivisible, pointwise, timmBlock } from './mobilenet.js';

type Row = readonly [kernel: 3 | 5, exp: number, out: number, se: 'SE' | '-', nl: 'RE' | 'HS', s: 1 | 2];

/** Howard 2019, table 1: the bottlenecks, and the units of the last hidden layer. */
const large = {
  blocks: [
    [3, 16, 16, '-', 'RE', 1],
    [3, 64, 24, '-', 'RE', 2],
    [3, 72, 24, '-', 'RE', 1],
    [5, 72, 40, 'SE', 'RE', 2],
    [5, 120, 40, 'SE', 'RE', 1],
    [5, 120, 40, 'SE', 'RE', 1],
    [3, 240, 80, '-', 'HS', 2],
    [3, 200, 80, '-', 'HS', 1],
    [3, 184, 80, '-', 'HS', 1],
    [3, 184, 80, '-', 'HS', 1],
    [3, 480, 112, 'SE', 'HS', 1],
    [3, 672, 112, 'SE', 'HS', 1],
    [5, 672, 160, 'SE', 'HS', 2],
    [5, 960, 160, 'SE', 'HS', 1],
    [5, 960, 160, 'SE', 'HS', 1],
  ] as readonly Row[],
  hidden: 1280,
};

/** Howard 2019, table 2. */
const small = {
  blocks: [
    [3, 16, 16, 'SE', 'RE', 2],
    [3, 72, 24, '-', 'RE', 2],
    [3, 88, 24, '-', 'RE', 1],
    [5, 96, 40, 'SE', 'HS', 2],
    [5, 240, 40, 'SE', 'HS', 1],
    [5, 240, 40, 'SE', 'HS', 1],
    [5, 120, 48, 'SE', 'HS', 1],
    [5, 144, 48, 'SE', 'HS', 1],
    [5, 288, 96, 'SE', 'HS', 2],
    [5, 576, 96, 'SE', 'HS', 1],
    [5, 576, 96, 'SE', 'HS', 1],
  ] as readonly Row[],
  hidden: 1024,
};

/** The same network of 3x3 kernels and relu. */
const minimalistic = ({ blocks, hidden }: typeof large): typeof large => ({
  blocks: blocks.map(([, exp, out, , , s]) => [3, exp, out, '-', 'RE', s]),
  hidden,
});

/** A table, its width multiplier, and what Keras and timm call it. */
const variants = {
  'mobilenet_v3_large_1.0': { ...large, alpha: 1, keras: 'large_224_1.0', timm: 'large_100' },
  'mobilenet_v3_large_0.75': { ...large, alpha: 0.75, keras: 'large_224_0.75', timm: 'large_075' },
  mobilenet_v3_large_minimalistic: {
    ...minimalistic(large),
    alpha: 1,
    keras: 'large_minimalistic_224_1.0',
    timm: 'large_minimal_100',
  },
  'mobilenet_v3_small_1.0': { ...small, alpha: 1, keras: 'small_224_1.0', timm: 'small_100' },
  'mobilenet_v3_small_0.75': { ...small, alpha: 0.75, keras: 'small_224_0.75', timm: 'small_075' },
  mobilenet_v3_small_minimalistic: {
    ...minimalistic(small),
    alpha: 1,
    keras: 'small_minimalistic_224_1.0',
    timm: 'small_minimal_100',
  },
} as const;

type Name = keyof typeof variants;
type Variant = (typeof variants)[Name];

interface Config {
  readonly epsilon: number;
  readonly momentum: number;
  /** Padding of the strided convolutions with a kernel of that size. */
  stridedPadding(kernel: number): Padding;
  /** Whether the hidden layer after the pool belongs to the network. */
  readonly hidden?: boolean;
}

const same = (): Padding => 'same';
const symmetric = (kernel: number): Padding => around((kernel - 1) / 2);

// keras.applications.mobilenet_v3: BatchNormalization(epsilon=1e-3, momentum=.999); imagenet_utils.correct_pad adds
// k // 2 on both sides, one less before an even length: with stride 2 that is SAME for every size and kernel
const keras: Config = { epsilon: 1e-3, momentum: 0.999, stridedPadding: same };
const kerasNoTop: Config = { ...keras, hidden: false };
// slim mobilenet.training_scope: bn_decay=.997, batch_norm's epsilon .001
const slim: Config = { epsilon: 1e-3, momentum: 0.997, stridedPadding: same };
// torchvision.models.mobilenetv3: BatchNorm2d(eps=.001, momentum=.01), padding (k - 1) // 2
const torch: Config = { epsilon: 1e-3, momentum: 0.99, stridedPadding: symmetric };
// timm tf_mobilenetv3_*: bn_eps=BN_EPS_TF_DEFAULT, pad_type='same', BatchNorm2d's default momentum
const timm: Config = { epsilon: 1e-3, momentum: 0.9, stridedPadding: same };
// timm mobilenetv3_*: BatchNorm2d's defaults
const timmNative: Config = { epsilon: 1e-5, momentum: 0.9, stridedPadding: symmetric };

const nonlinearity = (nl: Row[4]): ActivationName => (nl === 'HS' ? 'hard_swish' : 'relu');

function squeezeExcite(s: Scope, x: Node): Node {
  const [squeeze, excite] = [s.at('squeeze'), s.at('excite')];
  const reduced = makeDivisible(channels(x) / 4); // Howard 2019, section 5.3: 1/4 of the expansion
  const hidden = dense(squeeze.at('dense'), globalAveragePool(squeeze, x), reduced);
  const gate = dense(excite.at('dense'), activation(squeeze, hidden, 'relu'), channels(x));
  return scaleChannels(s, x, activation(excite, gate, 'hard_sigmoid'));
}

interface Bottleneck {
  readonly row: Row;
  /** Channels of the expansion, and those that come out. */
  readonly expanded: number;
  readonly out: number;
}

function bottleneck(s: Scope, x: Node, { row, expanded, out }: Bottleneck, c: Config): Node {
  const [kernel, , , se, nl, stride] = row;
  const norm = (at: Scope, y: Node) => batchNorm(at.at('norm'), y, c);
  const normActivate = (at: Scope, y: Node) => activation(at, norm(at, y), nonlinearity(nl));
  const [expand, depthwise, project] = [s.at('expand'), s.at('depthwise'), s.at('project')];
  const padding = stride === 1 ? 'same' : c.stridedPadding(kernel);
  let y = expanded === channels(x) ? x : normActivate(expand, conv2d(expand.at('conv'), x, expanded, 1));
  y = normActivate(depthwise, depthwiseConv2d(depthwise.at('conv'), y, kernel, { stride, padding }));
  if (se === 'SE') y = squeezeExcite(s, y);
  y = norm(project, conv2d(project.at('conv'), y, out, 1)); // linear bottleneck: no activation
  return stride === 1 && channels(x) === out ? add(s, x, y) : y;
}

function mobilenetV3(s: Scope, x: Node, { blocks, hidden, alpha }: Variant, c: Config): Node {
  const outer = nonlinearity(blocks.at(-1)![4]); // before and after the bottlenecks
  const normActivate = (at: Scope, y: Node) => activation(at, batchNorm(at.at('norm'), y, c), outer);
  const stem = s.at('stem');
  const options = { stride: 2, padding: c.stridedPadding(3) };
  let y = stem.tap(normActivate(stem, conv2d(stem.at('conv'), x, makeDivisible(16 * alpha), 3, options)));
  blocks.forEach((row, i) => {
    const block = s.at(`block${i}`);
    const [, exp, width] = row;
    const expansion = exp / (blocks[i - 1]?.[2] ?? 16); // of the narrowed input: keras' _inverted_res_block
    const expanded = makeDivisible(channels(y) * expansion);
    y = block.endBlock(bottleneck(block, y, { row, expanded, out: makeDivisible(width * alpha) }, c));
  });
  const top = s.at('top');
  y = top.tap(normActivate(top, conv2d(top.at('conv'), y, makeDivisible(6 * channels(y)), 1)));
  y = globalAveragePool(s.at('pool'), y);
  if (c.hidden === false) return y;
  const last = s.at('hidden'); // never narrower, as in v2
  return activation(last, dense(last.at('dense'), y, hidden), outer);
}

// ---- names in published files ----------------------------------------------------------------------------------

/** The parts of `block3.expand.conv` and `block3.squeeze.dense`. */
function partsOf(path: string) {
  const match = /^block(\d+)\.(expand|depthwise|squeeze|excite|project)\.(conv|norm|dense)$/.exec(path);
  if (match === null) return undefined;
  const unit = match[2] as 'expand' | 'depthwise' | 'squeeze' | 'excite' | 'project';
  return { block: Number(match[1]), unit, kind: match[3] as 'conv' | 'norm' | 'dense' };
}

type Parts = NonNullable<ReturnType<typeof partsOf>>;

/** `expanded_conv_3/squeeze_excite/Conv_1`: slim's names, which Keras took over. */
function expandedConv({ block, unit, kind }: Parts): string {
  const layer = { squeeze: 'squeeze_excite/Conv', excite: 'squeeze_excite/Conv_1' }[unit as string] ?? unit;
  return `expanded_conv${block === 0 ? '' : `_${block}`}/${layer}${kind === 'norm' ? '/BatchNorm' : ''}`;
}

/** Keras 2's names, which are those of the published files, and Keras 3's. */
const kerasNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': ['Conv', 'conv'],
    'stem.norm': ['Conv/BatchNorm', 'conv_bn'],
    'top.conv': ['Conv_1', 'conv_1'],
    'top.norm': ['Conv_1/BatchNorm', 'conv_1_bn'],
    'hidden.dense': ['Conv_2', 'conv_2'],
    classifier: ['Logits', 'logits'],
  }[path];
  const p = partsOf(path);
  if (p === undefined) return fixed ?? [];
  const name = expandedConv(p);
  return [name, name.replace('BatchNorm', 'bn').replaceAll('/', '_').replace('excite_Conv', 'excite_conv')];
};

const slimNames: OwnerNames = (path) => {
  const fixed = {
    'stem.conv': 'Conv',
    'stem.norm': 'Conv/BatchNorm',
    'top.conv': 'Conv_1',
    'top.norm': 'Conv_1/BatchNorm',
    'hidden.dense': 'Conv_2',
    classifier: 'Logits/Conv2d_1c_1x1',
  }[path];
  const p = partsOf(path);
  if (p !== undefined) return [`MobilenetV3/${expandedConv(p)}`];
  return fixed === undefined ? [] : [`MobilenetV3/${fixed}`];
};

/** slim mobilenet_v3.squeeze_excite: gating_fn=lambda x: tf.nn.relu6(x+3)*0.16667 */
const SLIM_SIXTH = 0.16667;

/** The projection after a gate is linear, so that it can make up for the difference of slim's gate from ours. */
const slimLayouts =
  ({ blocks }: Variant) =>
  ({ path, shape }: Parameter): readonly Layout[] | undefined => {
    const block = /^block(\d+)\.project\.conv\.kernel$/.exec(path)?.[1];
    if (block === undefined || blocks[Number(block)]![3] === '-') return undefined;
    const adaptation = `times ${(6 * SLIM_SIXTH).toFixed(5)}, since slim's gates are relu6(x + 3) * ${SLIM_SIXTH}`;
    return [{ shape, factor: 6 * SLIM_SIXTH, adaptation }];
  };

/** torchvision numbers what stands in a Sequential: a unit that a block lacks makes the later ones move up. */
const torchvisionNames =
  ({ blocks }: Variant): OwnerNames =>
  (path) => {
    const end = `features.${blocks.length + 1}`;
    const fixed = {
      'stem.conv': 'features.0.0',
      'stem.norm': 'features.0.1',
      'top.conv': `${end}.0`,
      'top.norm': `${end}.1`,
      'hidden.dense': 'classifier.0',
      classifier: 'classifier.3',
    }[path];
    const p = partsOf(path);
    if (p === undefined) return fixed === undefined ? [] : [fixed];
    const units = ['expand', 'depthwise', 'squeeze', 'project'];
    const absent = [p.block === 0 ? ['expand'] : [], blocks[p.block]![3] === 'SE' ? [] : ['squeeze']].flat();
    const position = units.filter((unit) => !absent.includes(unit)).indexOf(p.unit === 'excite' ? 'squeeze' : p.unit);
    const layer = { squeeze: 'fc1', excite: 'fc2' }[p.unit as string] ?? (p.kind === 'norm' ? '1' : '0');
    return [`features.${p.block + 1}.block.${position}.${layer}`];
  };

/** timm's first block has no expansion, so that its other layers move up. */
const timmNames =
  ({ blocks }: Variant): OwnerNames =>
  (path) => {
    const widths = blocks.map(([, , out]) => out);
    const stages = Number(timmBlock(widths, blocks.length - 1).split('.')[1]) + 1;
    const fixed = {
      'stem.conv': 'conv_stem',
      'stem.norm': 'bn1',
      'top.conv': `blocks.${stages}.0.conv`,
      'top.norm': `blocks.${stages}.0.bn1`,
      'hidden.dense': 'conv_head',
      classifier: 'classifier',
    }[path];
    const p = partsOf(path);
    if (p === undefined) return fixed === undefined ? [] : [fixed];
    const first = p.block === 0;
    const layer = {
      expand: { conv: 'conv_pw', norm: 'bn1' },
      depthwise: { conv: 'conv_dw', norm: first ? 'bn1' : 'bn2' },
      squeeze: { dense: 'se.conv_reduce' },
      excite: { dense: 'se.conv_expand' },
      project: { conv: first ? 'conv_pw' : 'conv_pwl', norm: first ? 'bn2' : 'bn3' },
    }[p.unit] as Partial<Record<Parts['kind'], string>>;
    return [`${timmBlock(widths, p.block)}.${layer[p.kind]}`];
  };

// ---- published -------------------------------------------------------------------------------------------------

const kerasPath = 'mobilenet_v3/weights_mobilenet_v3';
const kerasFiles = `storage.googleapis.com/tensorflow/keras-applications/${kerasPath}`;

/** WEIGHTS_HASHES of keras.applications.mobilenet_v3: with the top, and without. */
const kerasHashes: Record<Name, readonly [top: string, noTop: string]> = {
  'mobilenet_v3_large_1.0': ['59e551e166be033d707958cf9e29a6a7', '07fb09a5933dd0c8eaafa16978110389'],
  'mobilenet_v3_large_0.75': ['765b44a33ad4005b3ac83185abf1d0eb', '40af19a13ebea4e2ee0c676887f69a2e'],
  mobilenet_v3_large_minimalistic: ['675e7b876c45c57e9e63e6d90a36599c', 'ec5221f64a2f6d1ef965a614bdae7973'],
  'mobilenet_v3_small_1.0': ['8768d4c2e7dee89b9d02b2d03d65d862', 'd3e8ec802a04aa4fc771ee12a9a9b836'],
  'mobilenet_v3_small_0.75': ['cb65d4e5be93758266aa0a7f2c6708b7', 'ebdb5cc8e0b497cd13a7c275d475c819'],
  mobilenet_v3_small_minimalistic: ['99cd97fb2fcdad2bf028eb838de69e37', 'cde8136e733e811080d9fcd8a252f7e4'],
};

const slimFiles = 'storage.googleapis.com/mobilenet_v3/checkpoints/v3';

// timm tf_mobilenetv3_*: bilinear, crop_pct .875, inception mean and std; mobilenetv3_*: bicubic, ImageNet's
const timmPreprocessing = { ...torchPreprocessing, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
const timmNativePreprocessing = { ...torchPreprocessing, kernel: 'pil_bicubic' } as const;

/** Steps of training in the names of the averaged weights: tensornets, translations/mobilenetv3.py. */
const slimSteps: Record<Name, number> = {
  'mobilenet_v3_large_1.0': 540_000,
  'mobilenet_v3_large_0.75': 220_000,
  mobilenet_v3_large_minimalistic: 342_500,
  'mobilenet_v3_small_1.0': 388_500,
  'mobilenet_v3_small_0.75': 497_500,
  mobilenet_v3_small_minimalistic: 498_000,
};

/** Open Model Zoo, models/public/mobilenet-v3-small-1.0-224-tf/model.yml. */
const slimKnown: Partial<Record<Name, KnownOfFile>> = {
  'mobilenet_v3_small_1.0': {
    bytes: 113_230_261,
    sha256: 'e60ad9f450f892ae56f8b9122ffc750d88940d9e6b63f6dc70649179fb3a9065',
  },
};

const torchFiles: Partial<Record<Name, Download>> = {
  'mobilenet_v3_large_1.0': torchvisionFile('mobilenet_v3_large-8738ca79.pth', 21.114),
  'mobilenet_v3_small_1.0': torchvisionFile('mobilenet_v3_small-047dcff4.pth', 9.829),
};

/** The networks that timm trained itself, and the names of its recipes; it has no weights for large 0.75. */
const nativeRecipes: Partial<Record<Name, string>> = {
  'mobilenet_v3_large_1.0': 'ra_in1k',
  'mobilenet_v3_small_1.0': 'lamb_in1k',
  'mobilenet_v3_small_0.75': 'lamb_in1k',
};

/** `width`: what Keras and slim have for it, `1.0` of the minimalistic networks too. */
const widthOf = ({ alpha }: Variant): string => (alpha === 1 ? '1.0' : String(alpha));

function slimReference(name: Name, variant: Variant): Reference {
  const definition = `V3_${/large|small/.exec(name)![0]}${name.endsWith('minimalistic') ? '_minimalistic' : ''}`;
  return {
    call: 'mobilenet_v3.mobilenet',
    imports: ['from nets.mobilenet import mobilenet_v3'],
    scope: 'mobilenet_v3.training_scope(is_training=False)',
    arguments:
      `conv_defs=mobilenet_v3.${definition.toUpperCase()}, depth_multiplier=${widthOf(variant)}, ` +
      `finegrain_classification_mode=${variant.alpha < 1 ? 'True' : 'False'}`,
  };
}

const timmReference = (model: string): Reference => ({
  call: 'timm.create_model',
  arguments: `'${model}'`,
  rank: pointwise('squeeze', 'excite', 'hidden'),
});

function published(name: Name): Published[] {
  const variant = variants[name];
  const fromKeras = {
    call: `keras.applications.MobileNetV3${name.includes('large') ? 'Large' : 'Small'}`,
    arguments: name.endsWith('minimalistic') ? 'minimalistic=True' : `alpha=${widthOf(variant)}`,
    pixels: {},
  };
  const at = (c: Config) => (s: Scope, x: Node) => mobilenetV3(s, x, variant, c);
  const top = ['hidden.dense', 'classifier']; // after the pool, as Keras' include_top counts
  const slimName = `${variant.keras.replace('_minimalistic', '-minimalistic')}_float`;
  const entries: Published[] = [
    {
      source: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: tfPreprocessing,
      reference: { ...fromKeras, rank: pointwise('squeeze', 'excite', 'hidden', 'classifier') },
      top,
      download: kerasApplications(`${kerasPath}_${variant.keras}_float.h5`, kerasHashes[name][0]),
      origin: `${kerasFiles}_${variant.keras}_float.h5`,
      license: 'Apache-2.0',
      build: at(keras),
    },
    {
      source: 'keras_notop',
      variantOf: 'keras',
      dialect: 'keras',
      classes: 1000,
      ownerNames: kerasNames,
      preprocessing: tfPreprocessing,
      reference: {
        ...fromKeras,
        arguments: `${fromKeras.arguments}, include_top=False, pooling='avg'`,
        topless: true,
        rank: pointwise('squeeze', 'excite'),
      },
      download: kerasApplications(`${kerasPath}_${variant.keras}_float_no_top_v2.h5`, kerasHashes[name][1]),
      origin: `${kerasFiles}_${variant.keras}_float_no_top_v2.h5`,
      license: 'Apache-2.0',
      build: at(kerasNoTop),
    },
    {
      source: 'slim',
      dialect: 'slim',
      classes: 1001,
      ownerNames: slimNames,
      layouts: slimLayouts(variant),
      preprocessing: slimInceptionPreprocessing,
      reference: slimReference(name, variant),
      top,
      download: mobilenetArchive(3, `v3-${slimName}.tgz`, {
        member: `v3-${slimName}/ema/model-${slimSteps[name]}`,
        ...slimKnown[name],
      }),
      origin: `${slimFiles}-${slimName}.tgz`,
      license: 'Apache-2.0',
      build: at(slim),
    },
    {
      source: 'timm',
      variantOf: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: timmNames(variant),
      preprocessing: timmPreprocessing,
      reference: timmReference(`tf_mobilenetv3_${variant.timm}`),
      top,
      download: timmHub(`tf_mobilenetv3_${variant.timm}.in1k`),
      origin: `huggingface.co/timm/tf_mobilenetv3_${variant.timm}.in1k`,
      license: 'Apache-2.0',
      build: at(timm),
    },
  ];
  const recipe = nativeRecipes[name];
  if (recipe !== undefined) {
    entries.push({
      source: 'timm_native',
      variantOf: 'torch',
      dialect: 'torch',
      classes: 1000,
      ownerNames: timmNames(variant),
      preprocessing: timmNativePreprocessing,
      reference: timmReference(`mobilenetv3_${variant.timm}`),
      top,
      download: timmHub(`mobilenetv3_${variant.timm}.${recipe}`),
      origin: `huggingface.co/timm/mobilenetv3_${variant.timm}.${recipe}`,
      license: 'Apache-2.0',
      build: at(timmNative),
    });
  }
  const torchFile = torchFiles[name];
  if (torchFile === undefined) return entries;
  const torchvision: Published = {
    source: 'torch',
    dialect: 'torch',
    classes: 1000,
    ownerNames: torchvisionNames(variant),
    preprocessing: torchPreprocessing,
    reference: { call: `torchvision.models.${name.replace('_1.0', '')}`, rank: pointwise('squeeze', 'excite') },
    top,
    download: torchFile,
    origin: `torchvision.models.${name.replace('_1.0', '')}, IMAGENET1K_V1`,
    license: 'BSD-3-Clause',
    build: at(torch),
  };
  return entries.toSpliced(3, 0, torchvision);
}

export const mobilenetsV3: readonly Backbone[] = (Object.keys(variants) as Name[]).map((name) => ({
  name,
  family: 'mobilenet_v3',
  aliases: name.endsWith('_1.0') ? [name.replace('_1.0', '')] : [],
  inputSize: 224,
  published: published(name),
}));
