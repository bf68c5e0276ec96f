/** Networks as stock layers: every kind of node, names, what goes on training, and what is refused. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { type LayersModel, loadLayersModel } from '@tensorflow/tfjs-layers';
import { describe, expect, test } from 'vitest';
import { presets } from '../../src/augment/preprocessing.js';
import type { Node, Scope } from '../../src/engine/graph.js';
import {
  activation,
  add,
  around,
  averagePool,
  batchNorm,
  concat,
  conv2d,
  dense,
  depthwiseConv2d,
  dropout,
  dropPath,
  globalAveragePool,
  groupNorm,
  layerNorm,
  layerScale,
  maxPool,
  reshape,
  scaleChannels,
} from '../../src/engine/layers.js';
import type { ActivationName } from '../../src/engine/operations.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { type ExportOptions, type ExportReport, exportModel } from '../../src/export/export.js';
import type { ExportableModel } from '../../src/export/format.js';
import { openH5 } from '../../src/weights/keras/h5.js';
import { temporary } from '../weights/support/temporary.js';
import { picturesOf, publishedModel, randomModel, smallModel } from './models.js';
import { picturesFor } from './stock.js';

let count = 0;

async function write(
  model: ExportableModel,
  format: 'keras' | 'tfjs-layers',
  more: Partial<ExportOptions> = {},
): Promise<ExportReport> {
  const validation = more.withPreprocessing === true ? undefined : picturesOf(picturesFor(model, 3));
  const options = { format, out: temporary(String(++count)), validation, ...more };
  return exportModel(model, options, await loadEngine());
}

const norm = { epsilon: 1e-3, momentum: 0.99 };

/** A picture's channels weighed by themselves, as squeeze and excitation does. */
function gated(s: Scope, x: Node, name: ActivationName): Node {
  const gate = dense(s.at('gate'), globalAveragePool(s.at('squeeze'), x), x.shape[2]!);
  return scaleChannels(s, x, activation(s.at('gated'), gate, name));
}

const start = (s: Scope, x: Node, filters = 8): Node => conv2d(s.at('start'), x, filters, 3, { bias: true });
const positive = (s: Scope, x: Node, filters = 8): Node => activation(s.at('start'), start(s, x, filters), 'relu');

const activated =
  (name: ActivationName) =>
  (s: Scope, x: Node): Node =>
    activation(s.at('a'), start(s, x), name);

const nodes: Readonly<Record<string, (s: Scope, x: Node) => Node>> = {
  'a padded convolution': (s, x) => conv2d(s.at('c'), x, 6, 5, { stride: 2, padding: around(2) }),
  'a convolution of SAME on an even length': (s, x) => conv2d(s.at('c'), x, 6, 3, { stride: 2, padding: 'same' }),
  'a convolution that is no square': (s, x) => conv2d(s.at('c'), x, 6, [1, 3], { padding: 'valid' }),
  'a depthwise convolution': (s, x) => depthwiseConv2d(s.at('d'), start(s, x), 3, { stride: 2, padding: around(1) }),
  'norms before and after': (s, x) => batchNorm(s.at('after'), start(s, batchNorm(s.at('before'), x, norm)), norm),
  'a norm without gamma': (s, x) => batchNorm(s.at('n'), start(s, x), { ...norm, scale: false }),
  'a layer norm': (s, x) => layerNorm(s.at('n'), start(s, x), { epsilon: 1e-6 }),
  'a layer scale': (s, x) => layerScale(s.at('scale'), activation(s.at('a'), start(s, x), 'tanh'), 0.5),
  'a max pool with padding': (s, x) => maxPool(s.at('p'), positive(s, x), 3, { stride: 2, padding: around(1) }),
  'a max pool of SAME': (s, x) => maxPool(s.at('p'), start(s, x), 3, { stride: 2, padding: 'same' }),
  'an average pool of SAME': (s, x) => averagePool(s.at('p'), start(s, x), 3, { stride: 2, padding: 'same' }),
  'a sum and a join': (s, x) => {
    const y = start(s, x, 3);
    return concat(s.at('both'), [add(s.at('sum'), x, y), y]);
  },
  'a picture in rows': (s, x) => reshape(s.at('r'), start(s, x), [8, 10, 12]),
  'dropout and drop path': (s, x) => dropPath(s.at('path'), dropout(s.at('values'), start(s, x), 0.5), 0.2),
  'dense layers on places': (s, x) => dense(s.at('d'), activation(s.at('a'), dense(s.at('e'), x, 9), 'gelu'), 4),
  ...Object.fromEntries(
    (['relu6', 'swish', 'hard_sigmoid', 'hard_swish', 'gelu', 'gelu_tanh', 'sigmoid', 'tanh'] as const).map(
      (name) => [name, activated(name)] as const,
    ),
  ),
  'a gate': (s, x) => gated(s, start(s, x), 'sigmoid'),
  'a hard gate': (s, x) => gated(s, start(s, x), 'hard_sigmoid'),
};

/** All nodes, a few in a model: each one on the picture itself, and what comes of them side by side. */
function together(names: readonly string[]): ExportableModel {
  return smallModel([10, 12], (s, x) => {
    const pooled = names.map((name, i) => {
      const y = nodes[name]!(s.at(`part${i}`), x);
      return reshape(s.at(`row${i}`), globalAveragePool(s.at(`mean${i}`), y), [1, 1, y.shape[2]!]);
    });
    return concat(s.at('all'), pooled);
  });
}

describe.each(['keras', 'tfjs-layers'] as const)('%s', (format) => {
  test('every kind of node computes the same', async () => {
    const report = await write(together(Object.keys(nodes)), format);
    expect(report.check).toMatchObject({ pictures: 3, agreement: 1 });
    expect(report.check.maxDifference).toBeLessThan(2e-6);
    expect(report.check.runtime).toMatch(/tfjs 4\.22\.0 wasm/);
  });

  test('a network with gates does too', async () => {
    const model = randomModel('mobilenet_v3_small_0.75', 'keras', { height: 32, width: 48 }, 6);
    expect((await write(model, format)).check.maxDifference).toBeLessThan(3e-5);
  });

  test.each(['caffe', 'torch'] as const)('it normalises pixels by itself: %s', async (preset) => {
    const model = smallModel([9, 11], (s, x) => activation(s.at('a'), conv2d(s.at('c'), x, 4, 3), 'tanh'));
    const record = { ...model.record, preprocessing: presets[preset] };
    const report = await write({ ...model, record }, format, { withPreprocessing: true });
    expect(report.input).toBe('pixels');
    expect(report.check.maxDifference).toBeLessThan(1e-5);
  });

  test('what no stock layer says is refused by its name', async () => {
    const negative = smallModel([8, 8], (s, x) =>
      maxPool(s.at('p'), start(s, x), 3, { stride: 2, padding: around(1) }),
    );
    await expect(write(negative, format)).rejects.toMatchObject({
      code: 'EXPORT_UNSUPPORTED',
      message: expect.stringMatching(/^p\.max_pool \(max_pool\): .*negative/),
      hint: expect.stringContaining('--format saved-model'),
    });
    const groups = smallModel([8, 8], (s, x) => groupNorm(s.at('n'), start(s, x), { groups: 2, epsilon: 1e-5 }));
    await expect(write(groups, format)).rejects.toThrow(/^n \(group_norm\)/);
    const tokens = randomModel('vit_ti16', 'torch', { height: 32, width: 32 }, 3);
    await expect(write(tokens, format)).rejects.toThrow(/^class_token \(class_token\)/);
  });
});

test('groups are for Keras alone', async () => {
  const grouped = (): ExportableModel =>
    smallModel([8, 9], (s, x) => conv2d(s.at('g'), start(s, x), 12, 3, { groups: 4, stride: 2 }));
  expect((await write(grouped(), 'keras')).check.maxDifference).toBeLessThan(2e-6);
  await expect(write(grouped(), 'tfjs-layers')).rejects.toThrow(/^g \(conv2d\): is a convolution in 4 groups/);
});

test('a Keras file has the names of Keras, its classes and its preprocessing, and reads back bit for bit', async () => {
  const model = publishedModel('mobilenet_v2_0.35', 'keras', 64, 5);
  const { out } = await write(model, 'keras');
  const source = await openH5(join(out, 'model.h5'));
  try {
    expect(source.metadata).toMatchObject({ layout: 'keras-model', keras_version: '2.15.0', backend: 'tensorflow' });
    const named = { Conv1: 'stem.conv.kernel', block_3_depthwise: 'block3.depthwise.conv.kernel' };
    for (const [layer, path] of Object.entries(named)) {
      const leaf = layer === 'Conv1' ? 'kernel' : 'depthwise_kernel';
      expect(await source.read(`${layer}/${leaf}`)).toEqual(await model.read(path));
    }
    expect(await source.read('bn_Conv1/moving_variance')).toEqual(await model.read('stem.norm.variance'));
    const { config } = JSON.parse(source.metadata.model_config!) as {
      config: { layers: { name: string; class_name: string; config: { trainable?: boolean } }[] };
    };
    expect(config.layers.filter(({ name }) => name.includes('/'))).toEqual([]);
    const trained = config.layers.filter((layer) => layer.config.trainable === true).map(({ name }) => name);
    expect(trained).toEqual(['head.logits.dropout', 'head.logits', 'probabilities']);
  } finally {
    await source.close();
  }
  const bytes = readFileSync(join(out, 'model.h5')).toString('latin1');
  expect(bytes).toContain(JSON.stringify(model.record.classes));
  expect(bytes).toContain('"rule":"stretch"');
});

test('layers stand in the order of Keras, by which it loads their weights', async () => {
  const branches = smallModel([8, 8], (s, x) => {
    const short = conv2d(s.at('short'), x, 4, 1);
    const long = conv2d(s.at('last'), conv2d(s.at('middle'), conv2d(s.at('first'), x, 4, 3), 4, 3), 4, 3);
    return concat(s.at('both'), [short, long, conv2d(s.at('other'), x, 4, 3)]);
  });
  const { out } = await write(branches, 'keras');
  const source = await openH5(join(out, 'model.h5'));
  await source.close();
  const owners = source.tensors.map(({ name }) => name.slice(0, name.lastIndexOf('/')));
  // model.layers of Keras 2.15 and 3.8, those with weights
  expect([...new Set(owners)]).toEqual(['first', 'middle', 'short', 'last', 'other', 'classifier']);
});

test('a long configuration, beyond the 64 KiB of an HDF5 header', async () => {
  const { out } = await write(randomModel('densenet121', 'keras', { height: 32, width: 32 }, 3), 'keras');
  const source = await openH5(join(out, 'model.h5'));
  await source.close();
  expect(source.metadata.model_config!.length).toBeGreaterThan(100_000);
});

describe('a layers model of TensorFlow.js', () => {
  async function load(out: string): Promise<LayersModel> {
    await loadEngine({ engine: 'cpu' });
    const { weightsManifest, ...json } = JSON.parse(readFileSync(join(out, 'model.json'), 'utf8'));
    const [{ paths, weights }] = weightsManifest;
    const files = paths.map((path: string) => readFileSync(join(out, path)));
    const weightData = Uint8Array.from(Buffer.concat(files)).buffer;
    return loadLayersModel({ load: async () => ({ ...json, weightSpecs: weights, weightData }) });
  }

  test('goes on training: the head learns, and nothing else changes', async () => {
    const model = randomModel('mobilenet_v2_0.35', 'keras', { height: 32, width: 32 }, 3);
    const { out } = await write(model, 'tfjs-layers');
    const layers = await load(out);
    const numbers = () => layers.layers.map((layer) => layer.getWeights().map((w) => Array.from(w.dataSync())));
    const before = numbers();
    layers.compile({ optimizer: tf.train.adam(0.002), loss: 'categoricalCrossentropy' });
    const x = tf.tensor4d(picturesFor(model, 6).data, [6, 32, 32, 3]);
    const y = tf.oneHot(tf.tensor1d([0, 1, 2, 0, 1, 2], 'int32'), 3);
    const { history } = await layers.fit(x, y, { epochs: 15, batchSize: 6, verbose: 0 });
    const losses = history.loss as number[];
    expect(losses.at(-1)).toBeLessThan(0.8 * losses[0]!);
    const after = numbers();
    const changed = layers.layers.filter((_, i) => JSON.stringify(after[i]) !== JSON.stringify(before[i]));
    expect(changed.map(({ name }) => name)).toEqual(['predictions']);
    layers.dispose();
    tf.dispose([x, y]);
  });

  test.each(['float16', 'uint8'] as const)('%s stays near the source, and small', async (quantize) => {
    const model = publishedModel('mobilenet_v1_0.25', 'keras', 64, 5);
    const plain = await write(model, 'tfjs-layers');
    const rounded = await write(model, 'tfjs-layers', { quantize });
    const share = rounded.weights.bytes / plain.weights.bytes;
    expect(share).toBeLessThan(quantize === 'float16' ? 0.55 : 0.33);
    expect(rounded.check.agreement).toBe(1);
    expect(rounded.check.maxDifference).toBeLessThan(quantize === 'float16' ? 1e-3 : 0.05);
  });
});
