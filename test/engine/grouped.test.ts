/** Convolutions in groups where TensorFlow has no kernels for their gradients: this file's process is without oneDNN. */
import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { operatorsOf } from '../../src/engine/operators.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { pixels, worst } from './support/parameters.js';

process.env.TF_ENABLE_ONEDNN_OPTS = '0'; // TensorFlow reads it as it loads, which is in the test

test.each([
  ['same', 1, 3],
  ['valid', 2, 3],
  [{ top: 2, bottom: 0, left: 1, right: 3 }, 2, 6],
] as const)('padding %o, stride %i, %i groups: as composed of tfjs operations', async (padding, stride, groups) => {
  const engine = await loadEngine({ engine: 'tensorflow', device: 'cpu' });
  const before = tf.memory().numTensors;
  const x = tf.tensor(pixels([2, 9, 7, 6], 1), [2, 9, 7, 6]);
  const kernel = tf.tensor(pixels([3, 3, 6 / groups, 12], 2), [3, 3, 6 / groups, 12]);
  const [ours, theirs] = [engine, { ...engine, native: undefined }].map((each) =>
    tf.tidy(() => {
      const operator = operatorsOf(each).conv2d({ strides: [stride, stride], padding }, groups);
      const outputs = operator.forward([x, kernel]);
      const dy = tf.tensor(pixels(outputs[0]!.shape, 3), outputs[0]!.shape);
      const gradients = operator.backward({ dy, inputs: [x, kernel], outputs }, [true, true]);
      return [outputs[0]!, gradients[0]!, gradients[1]!].map((tensor) => tensor.dataSync());
    }),
  );
  ours!.forEach((values, i) => {
    expect(worst(values, theirs![i]!)).toBeLessThan(1e-5);
  });
  tf.dispose([x, kernel]);
  expect(tf.memory().numTensors).toBe(before);
});

test('its kernels do refuse them', async () => {
  const { native } = await loadEngine({ engine: 'tensorflow', device: 'cpu' });
  const attributes = [
    native!.typeAttribute('T', 'float32'),
    native!.intListAttribute('strides', [1, 1, 1, 1]),
    native!.intListAttribute('dilations', [1, 1, 1, 1]),
    native!.stringAttribute('data_format', 'NHWC'),
    native!.stringAttribute('padding', 'VALID'),
  ];
  const inputs = [tf.tensor1d([1, 1, 1, 2], 'int32'), tf.ones([1, 1, 1, 2]), tf.ones([1, 1, 1, 2])];
  expect(() => native!.execute('Conv2DBackpropInput', attributes, inputs)).toThrow(/grouped convolutions/);
  tf.dispose(inputs);
});
