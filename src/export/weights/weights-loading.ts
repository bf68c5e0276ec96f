/** How a program in Python loads exported weights: the lines that do it, for one network in one dialect. */
import { describePreprocessing, type Preprocessing } from '../../augment/preprocessing.js';
import type { Published, Reference } from '../../backbones/index.js';
import { type Graph, type Node, ownerOf } from '../../engine/graph.js';
import { writtenOwner } from '../../weights/plan/write-plan.js';
import {
  endsInClassifier,
  type HeadLayer,
  headLayers,
  headOwner,
  headText,
  type NetworkToWrite,
} from './weights-network.js';

/** What is needed to use the file. */
export interface Loading {
  /** Lines of Python that make `model` (slim: `x`, `logits` and `session`) with the weights; none where no code is published. */
  readonly python: readonly string[];
  /** What the network takes, in a sentence. */
  readonly input: string;
  /** What it gives, in a sentence. */
  readonly output: string;
}

/** What the lines are made of. */
interface Parts {
  readonly network: NetworkToWrite;
  readonly published: Published;
  readonly reference: Reference;
  readonly graph: Graph;
  readonly layers: readonly HeadLayer[];
  readonly file: string;
  /** Whether the network itself normalises pixels. */
  readonly takesPixels: boolean;
}

/** @param file what the lines load: a file's name, or what the names of a checkpoint's files begin with */
export function loadingOf(network: NetworkToWrite, published: Published, graph: Graph, file: string): Loading {
  const { reference, dialect } = published;
  const layers = headLayers(network, published, graph);
  const takesPixels = reference !== undefined && normalisesItself(network, published);
  const parts = { network, published, graph, layers, file, takesPixels };
  return {
    python: reference === undefined ? [] : lines[dialect]({ ...parts, reference }),
    input: inputText(network, dialect, takesPixels),
    output: outputText(network, published),
  };
}

/** Whether the publisher's network can do the preprocessing, which holds for the pictures it was published for. */
function normalisesItself(
  { channels, preprocessing }: NetworkToWrite,
  { reference, preprocessing: own }: Published,
): boolean {
  if (reference?.pixels === undefined) return false;
  if (reference.pixels.layer !== undefined) return true; // by numbers that are in the file
  const range = ({ scale, mean, std, channelOrder }: Preprocessing) => JSON.stringify([scale, mean, std, channelOrder]);
  return channels === 3 && range(preprocessing) === range(own);
}

function inputText({ size, channels, preprocessing }: NetworkToWrite, dialect: string, takesPixels: boolean): string {
  const { height, width } = size;
  const sides = dialect === 'torch' ? [channels, height, width] : [height, width, channels];
  const shape = `float32 [N, ${sides.join(', ')}]`;
  if (!takesPixels) return `${shape}. From a picture to it: ${describePreprocessing(preprocessing, size)}`;
  const raw = {
    ...preprocessing,
    scale: 1,
    mean: preprocessing.mean.map(() => 0),
    std: preprocessing.std.map(() => 1),
  };
  const [way] = describePreprocessing(raw, size).split(/, x\.$/);
  return `${shape}, pixels of 0 to 255, which the network normalises itself. From a picture to it: ${way}.`;
}

function outputText(network: NetworkToWrite, published: Published): string {
  const { classes, hidden, labels } = network;
  if (classes === undefined) return 'The numbers before a classifier, which these weights have not.';
  const names = labels === undefined ? '' : ', in the order of class_indices.json';
  const which = endsInClassifier(network, published)
    ? "The publisher's own classifier holds the trained one"
    : `On the publisher's network come ${headText({ hidden })}`;
  return `${classes} logits${names}. ${which}.`;
}

const lines: Readonly<Record<Published['dialect'], (parts: Parts) => string[]>> = {
  keras: kerasLines,
  slim: slimLines,
  torch: torchLines,
  flax: flaxLines,
};

const list = (...items: readonly (string | undefined | false)[]): string =>
  items.filter((item) => item !== undefined && item !== false).join(', ');

function kerasLines({ network, published, reference, layers, file, takesPixels }: Parts): string[] {
  const { classes, size, channels } = network;
  const own = layers.length === 0 && classes !== undefined;
  const applications = reference.call.startsWith('keras.applications.');
  const call = `${reference.call}(${list(
    'weights=None',
    reference.arguments,
    own && `classes=${classes}`,
    own && applications && 'classifier_activation=None', // logits; a softmax by default
    reference.pixels !== undefined &&
      reference.pixels.layer === undefined &&
      !takesPixels &&
      'include_preprocessing=False',
    `input_shape=(${size.height}, ${size.width}, ${channels})`,
  )})`;
  const load = `model.load_weights("${file}")`;
  const imports = ['import keras', ...(reference.imports ?? [])];
  // keras_applications has no argument for it
  const logits = applications ? [] : ['model.layers[-1].activation = keras.activations.linear'];
  if (own) return [...imports, `model = ${call}`, load, ...logits];
  const before =
    reference.topless === true
      ? ['x = base.output']
      : ['top = [layer for layer in base.layers if layer.weights][-1]', 'x = keras.layers.Flatten()(top.input)'];
  const dense = layers.map((layer) => {
    const activation = layer.isLast ? '' : ', activation="relu"';
    return `x = keras.layers.Dense(${layer.units}${activation}, name="${headOwner(layer, published)}")(x)`;
  });
  return [...imports, `base = ${call}`, ...before, ...dense, 'model = keras.Model(base.input, x)', load];
}

function slimLines({ network, reference, layers, file }: Parts): string[] {
  const { classes, size, channels } = network;
  const own = layers.length === 0 && classes !== undefined;
  const result = own ? 'logits' : 'net';
  const dense = layers.map(({ name, units, isLast }) => {
    const activation = isLast ? ', activation_fn=None' : '';
    return `${isLast ? 'logits' : 'net'} = slim.fully_connected(net, ${units}${activation}, scope="head/${name}")`;
  });
  return [
    'import tensorflow as tf',
    'import tf_slim as slim',
    ...(reference.imports ?? []),
    'tf.compat.v1.disable_eager_execution()',
    `x = tf.compat.v1.placeholder(tf.float32, [None, ${size.height}, ${size.width}, ${channels}])`,
    `with slim.arg_scope(${reference.scope}):`,
    `    ${result}, ends = ${reference.call}(x, ${list(`num_classes=${own ? classes : 'None'}`, reference.arguments)})`,
    ...(layers.length > 0 ? ['net = slim.flatten(net)'] : []),
    ...dense,
    'session = tf.compat.v1.Session()',
    `tf.compat.v1.train.Saver().restore(session, "${file}")`,
  ];
}

function torchLines(parts: Parts): string[] {
  const { network, published, reference, graph, layers, file } = parts;
  const { classes, size, channels, backbone } = network;
  const timm = reference.call.startsWith('timm.');
  const { settings = {} } = reference;
  const isOther = size.height !== backbone.inputSize || size.width !== backbone.inputSize;
  const side = size.height === size.width ? `${size.height}` : `(${size.height}, ${size.width})`;
  const count = layers.length > 0 ? undefined : classes;
  const call = `${reference.call}(${list(
    reference.arguments,
    count !== undefined && `num_classes=${count}`,
    timm && channels !== 3 && `in_chans=${channels}`,
    settings.size !== undefined && isOther && `${settings.size}=${side}`,
    settings.auxiliary !== undefined &&
      `${settings.auxiliary}=${network.parts.auxiliary === undefined ? 'False' : 'True'}`,
    network.parts.representation === true && `${settings.representation}=${published.representation}`,
  )})`;
  const classifier = attribute(writtenOwner(published, 'classifier')!);
  const dense = layers.flatMap(({ name, inputs, units, isLast }) => [
    `    ("${name}", torch.nn.Linear(${inputs}, ${units})),`,
    ...(isLast ? [] : [`    ("relu_${name}", torch.nn.ReLU()),`]),
  ]);
  return [
    ...(layers.length > 0 ? ['from collections import OrderedDict'] : []),
    'import torch',
    timm ? 'import timm' : 'import torchvision',
    'from safetensors.torch import load_file',
    `model = ${call}`,
    ...(timm || channels === 3 ? [] : [firstConvolution(published, graph, channels)]),
    ...(dense.length > 0 ? [`${classifier} = torch.nn.Sequential(OrderedDict([`, ...dense, ']))'] : []),
    ...(classes === undefined ? [`${classifier} = torch.nn.Identity()`] : []),
    `model.load_state_dict(load_file("${file}"))`,
    'model.eval()',
  ];
}

/** `classifier.1` -> `model.classifier[1]`. */
const attribute = (path: string): string =>
  path.split('.').reduce((at, part) => (/^\d+$/.test(part) ? `${at}[${part}]` : `${at}.${part}`), 'model');

/** torchvision's networks take pictures of three channels. */
function firstConvolution(published: Published, graph: Graph, channels: number): string {
  const node = graph.nodes.find((each): each is Node => each.inputs[0] === graph.input && each.parameters.length > 0)!;
  const [kernel] = node.parameters;
  const owner = writtenOwner(published, ownerOf(kernel!.path))!;
  const [height, , , filters] = kernel!.shape as readonly [number, number, number, number];
  const { strides, padding } = node.operation as Extract<Node['operation'], { kind: 'conv2d' }>;
  const around = typeof padding === 'object' ? padding.top : padding === 'same' ? (height - 1) / 2 : 0;
  const bias = node.parameters.length > 1 ? 'True' : 'False';
  const options = `stride=${strides[0]}, padding=${around}, bias=${bias}`;
  return `${attribute(owner)} = torch.nn.Conv2d(${channels}, ${filters}, ${height}, ${options})`;
}

function flaxLines({ network, published, reference, layers, file }: Parts): string[] {
  const { classes, parts } = network;
  const config = reference.arguments!.replace(/^\*\*/, '');
  const widened = `**{**${config}, "${reference.settings!.representation}": ${published.representation}}`;
  const configured = parts.representation === true ? widened : reference.arguments!;
  const own = layers.length === 0 ? (classes ?? 'None') : 'None';
  const dense = layers.flatMap(({ name, isLast }) => {
    const sum = `y @ params["head"]["${name}"]["kernel"] + params["head"]["${name}"]["bias"]`;
    return [`    y = ${isLast ? sum : `jax.nn.relu(${sum})`}`];
  });
  return [
    ...(layers.length > 0 ? ['import jax'] : []),
    'from vit_jax import checkpoint, models',
    'from vit_jax.configs import models as models_config',
    `params = checkpoint.load("${file}")`,
    `model = ${reference.call}(num_classes=${own}, ${configured})`,
    'def logits(x):',
    '    y = model.apply({"params": params}, x, train=False)',
    ...dense,
    '    return y',
  ];
}
