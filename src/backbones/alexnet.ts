/**
 * AlexNet. Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012,
 * section 3.5; without its local response normalisation and its two groups, as everybody builds it today.
 * @see https://papers.nips.cc/paper/4824
 *
 *   alexnet_v1  half the paper's width, 2048 units twice: a tutorial's network, trained by its readers
 *   alexnet_v2  the same convolutions, 1024 and 128 units
 *   alexnet     torchvision's, which is that of Krizhevsky 2014 ("One weird trick"), arXiv:1404.5997: 64 filters first;
 *               its pool adapts to 6x6 cells, so that any picture of 63 pixels or more will do
 */
import { type Preprocessing, torchPreprocessing, unitPreprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import { activation, adaptiveAveragePool, around, conv2d, dense, dropout, flatten, maxPool } from '../engine/layers.js';
import type { Padding, Pair } from '../engine/operations.js';
import type { Backbone, DialectName, OwnerNames, Reference, Source } from './backbone.js';
import { type Download, torchvisionFile } from './download.js';

/** Kernel size, stride and pool of the five convolutions; the paper's section 3.5. */
const convolutions: readonly (readonly [size: number, stride: number, pooled: boolean])[] = [
  [11, 4, true],
  [5, 1, true],
  [3, 1, false],
  [3, 1, false],
  [3, 1, true],
];

interface Config {
  readonly filters: readonly number[];
  readonly units: readonly number[];
  /** Of the 11x11 convolution; the others keep the size of their picture. */
  readonly stemPadding: Padding;
  /** Whether any grid becomes one of 6x6 before it is flattened. */
  readonly adaptive: boolean;
  /** Share of values dropped before either dense layer. */
  readonly dropout: number;
  readonly initializer: Initializer;
}

// The notes' network: ZeroPadding2D(((1, 2), (1, 2))) and a VALID convolution; Dropout(.2); Keras' own initialisers
const v1: Config = {
  filters: [48, 128, 192, 192, 128],
  units: [2048, 2048],
  stemPadding: { top: 1, bottom: 2, left: 1, right: 2 },
  adaptive: false,
  dropout: 0.2,
  initializer: { kind: 'glorot_uniform' },
};
const v2: Config = { ...v1, units: [1024, 128] };
// torchvision.models.alexnet; torch.nn's layers start uniform within 1 / sqrt(fan in), which has a variance of 1/3 of that
const torch: Config = {
  filters: [64, 192, 384, 256, 256],
  units: [4096, 4096],
  stemPadding: around(2),
  adaptive: true,
  dropout: 0.5,
  initializer: { kind: 'variance_scaling', scale: 1 / 3, mode: 'fan_in', distribution: 'uniform' },
};

const grid: Pair = [6, 6];

function alexnet(s: Scope, x: Node, c: Config): Node {
  const { initializer } = c;
  let y = x;
  convolutions.forEach(([size, stride, pooled], i) => {
    const at = s.at(`conv${i + 1}`);
    const padding = i === 0 ? c.stemPadding : 'same';
    y = activation(at, conv2d(at, y, c.filters[i]!, size, { stride, padding, bias: true, initializer }), 'relu');
    y = at.endBlock(pooled ? maxPool(at, y, 3, { stride: 2, padding: 'valid' }) : y); // overlapping: section 3.4
  });
  y = flatten(s.at('flat'), c.adaptive ? adaptiveAveragePool(s.at('pool'), y, grid) : y, grid);
  c.units.forEach((units, i) => {
    const at = s.at(`fc${i + 1}`);
    y = at.endBlock(activation(at, dense(at, dropout(at, y, c.dropout), units, { initializer }), 'relu'));
  });
  return y;
}

// ---- names in published files ----------------------------------------------------------------------------------

const layers = ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc1', 'fc2', 'classifier'] as const;

/** Keras counts layers without a name, each kind apart. */
const countedNames: OwnerNames = (path) => {
  const index = layers.indexOf(path as (typeof layers)[number]);
  if (index < 0) return [];
  const [kind, place] = index < 5 ? ['conv2d', index] : ['dense', index - 5];
  return [place === 0 ? kind : `${kind}_${place}`];
};

/** Their places in torchvision's two Sequentials, between activations, pools and dropouts. */
const torchNames: OwnerNames = (path) => {
  const index = layers.indexOf(path as (typeof layers)[number]);
  if (index < 0) return [];
  return [index < 5 ? `features.${[0, 3, 6, 8, 10][index]}` : `classifier.${[1, 4, 6][index - 5]}`];
};

// ---- published -------------------------------------------------------------------------------------------------

interface Row {
  readonly config: Config;
  readonly source: Source;
  readonly dialect: DialectName;
  readonly ownerNames: OwnerNames;
  readonly counted?: boolean;
  readonly preprocessing: Preprocessing;
  readonly reference?: Reference;
  readonly download?: Download;
  readonly origin: string;
  readonly license: string;
}

const notes = {
  source: 'notes',
  dialect: 'keras',
  ownerNames: countedNames,
  counted: true,
  preprocessing: unitPreprocessing,
  license: 'of whoever trained it',
} as const;

const rows: Readonly<Record<string, Row>> = {
  alexnet_v1: {
    ...notes,
    config: v1,
    origin: 'save_weights of a Keras model AlexNet_v1, half width, Dense 2048 and 2048',
  },
  alexnet_v2: {
    ...notes,
    config: v2,
    origin: 'save_weights of a Keras model AlexNet_v2, half width, Dense 1024 and 128',
  },
  alexnet: {
    config: torch,
    source: 'torch',
    dialect: 'torch',
    ownerNames: torchNames,
    preprocessing: torchPreprocessing,
    reference: { call: 'torchvision.models.alexnet' },
    download: torchvisionFile('alexnet-owt-7be5be79.pth', 233.087),
    origin: 'torchvision.models.alexnet, IMAGENET1K_V1',
    license: 'BSD-3-Clause',
  },
};

export const alexnets: readonly Backbone[] = Object.entries(rows).map(([name, { config, ...row }]) => ({
  name,
  family: 'alexnet',
  aliases: [],
  inputSize: 224,
  published: [
    {
      ...row,
      classes: 1000,
      top: ['fc1', 'fc2', 'classifier'],
      build: (s: Scope, x: Node) => alexnet(s, x, config),
    },
  ],
}));
