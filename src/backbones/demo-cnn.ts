/**
 * The network of TensorFlow's quickstart for experts: one convolution and two dense layers for handwritten digits.
 * @see https://www.tensorflow.org/tutorials/quickstart/advanced
 *
 * Its one source is what its readers train: a subclass of keras.Model with layers called conv1, d1 and d2, which files
 * nevertheless know by the names that Keras counts.
 */
import { unitPreprocessing, withChannels } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';
import { activation, conv2d, dense, flatten } from '../engine/layers.js';
import type { Backbone, OwnerNames } from './backbone.js';

const initializer = { kind: 'glorot_uniform' } as const; // the default of Keras' layers

function demoCnn(s: Scope, x: Node): Node {
  const [conv, fc] = [s.at('conv1'), s.at('fc1')];
  let y = activation(conv, conv2d(conv, x, 32, 3, { padding: 'valid', bias: true, initializer }), 'relu');
  y = flatten(s.at('flat'), conv.endBlock(y), [26, 26]); // [26, 26, 32] of a digit of 28x28
  return fc.endBlock(activation(fc, dense(fc, y, 128, { initializer }), 'relu'));
}

const countedNames: OwnerNames = (path) => {
  const name = { conv1: 'conv2d', fc1: 'dense', classifier: 'dense_1' }[path];
  return name === undefined ? [] : [name];
};

export const demoCnns: readonly Backbone[] = [
  {
    name: 'demo_cnn',
    family: 'demo_cnn',
    aliases: [],
    inputSize: 28,
    published: [
      {
        source: 'notes',
        dialect: 'keras',
        classes: 10,
        channels: 1,
        ownerNames: countedNames,
        counted: true,
        preprocessing: withChannels(unitPreprocessing, 1),
        top: ['fc1', 'classifier'],
        origin: 'save_weights of the Keras model of tensorflow.org/tutorials/quickstart/advanced',
        license: 'of whoever trained it',
        build: demoCnn,
      },
    ],
  },
];
