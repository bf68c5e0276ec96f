/** SavedModels in TensorFlow itself; tools/golden/export_saved_model.py runs them in Python. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { presets } from '../../src/augment/preprocessing.js';
import { buildGraph } from '../../src/engine/graph.js';
import { activation, conv2d, dense, depthwiseConv2d, globalAveragePool, maxPool } from '../../src/engine/layers.js';
import { findSetUp } from '../../src/engine/setup/home.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { ExportableModel } from '../../src/export/format.js';
import type { Quantization } from '../../src/export/quantize/quantizations.js';
import { type ExportRecord, exportRecordOf } from '../../src/export/record.js';
import { savedModel } from '../../src/export/saved-model/saved-model.js';
import { openWeights } from '../../src/weights/source.js';
import { expectFailure, temporaryFolder } from '../weights/support/temporary.js';
import { goldenModel, randomParameters, recordOf, smallModel } from './models.js';
import { picturesFor, relativeDifference, sourceLogits } from './stock.js';

interface Options {
  readonly quantize?: Quantization;
  readonly withPreprocessing?: boolean;
}

async function written(model: ExportableModel, { quantize = 'none', withPreprocessing = false }: Options = {}) {
  const out = temporaryFolder('model');
  const engine = await loadEngine();
  const options = { quantize, withPreprocessing, calibration: undefined, engine };
  const { weightBytes } = await savedModel.write(out, model, options);
  const input = withPreprocessing ? 'pixels' : 'normalised';
  // The record's format does not matter here.
  const record = exportRecordOf(model.record, { format: 'tfjs', quantize, calibrated: false, input });
  return { out, record, weightBytes };
}

async function probabilitiesOf(out: string, record: ExportRecord, pictures: ReturnType<typeof picturesFor>) {
  const runtime = await savedModel.open(out, record, await loadEngine());
  try {
    return await runtime.run(pictures);
  } finally {
    await runtime.close();
  }
}

async function expectedOf(model: ExportableModel, pictures: ReturnType<typeof picturesFor>): Promise<Float32Array> {
  const logits = await sourceLogits(model, pictures);
  const rows = tf.tidy(() => tf.softmax(tf.tensor2d(logits, [pictures.shape[0]!, model.record.classes.length])));
  return (await rows.data()) as Float32Array;
}

const mixed = (): ExportableModel =>
  smallModel([12, 20], (s, x) => {
    const padding = { top: 0, bottom: 1, left: 0, right: 1 };
    const y = activation(s.at('a'), conv2d(s.at('c'), x, 24, 3, { stride: 2, padding, bias: true }), 'relu6');
    const z = maxPool(s.at('m'), y, 3, { stride: 1, padding: { top: 1, bottom: 1, left: 1, right: 1 } });
    return conv2d(s.at('e'), depthwiseConv2d(s.at('d'), z, 3, { padding, bias: true }), 40, 1, { bias: true });
  });

describe('in TensorFlow', () => {
  test.each([
    ['none', 1e-6, 4],
    ['float16', 2e-3, 2.2],
    ['uint8', 2e-2, 1.9],
    ['int8', 2e-2, 1.9],
  ] as const)('%s', async (quantize, most, bytesPerWeight) => {
    const model = mixed();
    const pictures = picturesFor(model, 19); // more than go in at once
    const { out, record, weightBytes } = await written(model, { quantize });
    const received = await probabilitiesOf(out, record, pictures);
    const expected = await expectedOf(model, pictures);
    const difference = received.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0);
    expect(difference).toBeLessThan(most);
    if (quantize !== 'none') expect(difference).toBeGreaterThan(1e-6); // it was rounded
    const weights = model.graph.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(weightBytes / weights).toBeLessThan(bytesPerWeight + 0.3);
    expect(statSync(join(out, 'saved_model.pb')).size).toBeGreaterThan(weightBytes);
  });

  test('a published network, its padding and all', async () => {
    const model = goldenModel('mobilenet_v1_0.25', 'keras', 65);
    const pictures = picturesFor(model, 2);
    const { out, record } = await written(model);
    const received = await probabilitiesOf(out, record, pictures);
    expect(relativeDifference(received, await expectedOf(model, pictures))).toBeLessThan(1e-4);
  });

  test('takes pixels as bytes', async () => {
    const plain = mixed();
    for (const preprocessing of [presets.caffe, presets.torch]) {
      const model = { ...plain, record: { ...plain.record, preprocessing } };
      const { scale, mean, std } = preprocessing;
      const { shape } = picturesFor(model, 3);
      const size = shape.reduce((a, b) => a * b);
      const data = Float32Array.from(
        { length: size },
        (_, i) => (((i * 37) % 256) * scale - mean[i % 3]!) / std[i % 3]!,
      );
      const { out, record } = await written(model, { withPreprocessing: true });
      const received = await probabilitiesOf(out, record, { shape, data });
      expect(relativeDifference(received, await expectedOf(model, { shape, data }))).toBeLessThan(1e-5);
    }
  });

  test('names the most probable classes', async () => {
    const { graph, read, record } = mixed();
    const classes = ['猫', 'C:\\x', '', '🦊 "b"', 'naïve café'];
    const model = { graph, read, record: { ...record, classes } };
    const pictures = picturesFor(model, 4);
    const { out } = await written(model);
    const session = (await loadEngine()).native!.openSession(out);
    const x = tf.tensor(pictures.data, [...pictures.shape]);
    const [labels, top, all] = session.run(['input:0'], [x], ['classify/named:0', 'classify/top:0', 'probabilities:0']);
    session.close();
    const probabilities = (await all!.array()) as number[][];
    const named = probabilities.map((row) => row.map((p, i) => [p, classes[i]!] as const).sort((a, b) => b[0] - a[0]));
    expect(await labels!.array()).toEqual(named.map((row) => row.map(([, name]) => name)));
    expect(await top!.array()).toEqual(named.map((row) => row.map(([p]) => p)));
    tf.dispose([x, labels!, top!, all!]);
  });
});

interface GraphNode {
  readonly name: string;
  readonly attrMap: readonly [string, { readonly tensor: { readonly tensorContent: string } }][];
}

/** How tfjs-node itself reads `saved_model.pb`, with descriptors that TensorFlow's own were compiled to. */
function metaGraphOf(out: string) {
  const require = createRequire(join(findSetUp('cpu')!.packageDir, 'package.json'));
  const messages = require('./dist/proto/api_pb.js') as {
    SavedModel: { deserializeBinary(bytes: Uint8Array): unknown };
  };
  const model = messages.SavedModel.deserializeBinary(readFileSync(join(out, 'saved_model.pb'))) as {
    toObject(): { metaGraphsList: Record<string, unknown>[] };
  };
  const { metaGraphsList } = model.toObject();
  expect(metaGraphsList).toHaveLength(1);
  return metaGraphsList[0]!;
}

describe('the files', () => {
  test('have the signatures and the asset that loaders look for', async () => {
    const model = mixed();
    const { out } = await written(model, { withPreprocessing: true });
    const info = (name: string, dtype: number, ...sizes: number[]) => ({
      ...{ name, dtype },
      tensorShape: expect.objectContaining({ dimList: sizes.map((size) => ({ size, name: '' })) }),
    });
    const input = ['input', expect.objectContaining(info('input:0', 4, -1, 12, 20, 3))];
    const signature = (...outputs: [string, ReturnType<typeof info>][]) => ({
      inputsMap: [input],
      outputsMap: outputs.map(([key, value]) => [key, expect.objectContaining(value)]),
      methodName: 'tensorflow/serving/predict',
    });
    const metaGraph = metaGraphOf(out);
    expect(metaGraph.metaInfoDef).toMatchObject({ tagsList: ['serve'], tensorflowVersion: '2.18.0' });
    // Maps come sorted by their keys.
    const [labels, top] = [info('classify/named:0', 7, -1, 5), info('classify/top:0', 1, -1, 5)];
    const [logits, probabilities] = [info('logits:0', 1, -1, 5), info('probabilities:0', 1, -1, 5)];
    expect(metaGraph.signatureDefMap).toEqual([
      ['classify', signature(['labels', labels], ['probabilities', top])],
      ['serving_default', signature(['logits', logits], ['probabilities', probabilities])],
    ]);
    expect(metaGraph.assetFileDefList).toMatchObject([
      { filename: 'labels.txt', tensorInfo: { name: 'assets/labels:0', dtype: 7 } },
    ]);
    expect(readFileSync(join(out, 'assets', 'labels.txt'), 'utf8')).toBe(
      model.record.classes.map((name) => `${name}\n`).join(''),
    );
  });

  test('hold the weights bit for bit', async () => {
    const graph = buildGraph([4, 4, 3], (s, x) =>
      s.at('logits').tap(dense(s.at('f'), globalAveragePool(s.at('p'), x), 2)),
    );
    const model = {
      graph,
      read: randomParameters(graph),
      record: recordOf('small', 'test', { height: 4, width: 4 }, 2),
    };
    const { out } = await written(model);
    const { graphDef } = metaGraphOf(out) as unknown as { graphDef: { nodeList: GraphNode[] } };
    const numbers = (name: string): Float32Array => {
      const node = graphDef.nodeList.find((each) => each.name === name)!;
      const bytes = Buffer.from(node.attrMap.find(([key]) => key === 'value')![1].tensor.tensorContent, 'base64');
      return new Float32Array(Uint8Array.from(bytes).buffer);
    };
    expect(numbers('f/kernel')).toEqual(await model.read('f.kernel'));
    expect(numbers('f/bias')).toEqual(await model.read('f.bias'));
  });

  test('are no weights to import: there are no variables', async () => {
    const { out } = await written(mixed());
    const open = () => openWeights(join(out, 'saved_model.pb'));
    const { hint } = await expectFailure(open, 'FILE_IS_SAVED_MODEL', /without the folder variables/);
    expect(hint).toContain('model folder');
  });

  test('are refused where protocol buffers end, before a weight is read', async () => {
    const graph = buildGraph([1, 1, 3], (s, x) => {
      const wide = dense(s.at('w'), globalAveragePool(s.at('p'), x), 20_000);
      return s.at('logits').tap(dense(s.at('f'), dense(s.at('v'), wide, 30_000), 2));
    });
    const read = async (path: string) => {
      throw new Error(`${path} was read`);
    };
    const model = { graph, read, record: recordOf('large', 'test', { height: 1, width: 1 }, 2) };
    await expect(written(model)).rejects.toMatchObject({
      code: 'EXPORT_TOO_LARGE',
      message: expect.stringMatching(/saved_model.pb would have 240\d{7} bytes, expected at most 2147483647/),
      hint: expect.stringContaining('float16'),
    });
  });
});

test('an engine that is not TensorFlow does not run it, and damage is named', async () => {
  const { out, record } = await written(mixed());
  await expect(savedModel.open(out, record, await loadEngine({ engine: 'wasm' }))).rejects.toMatchObject({
    code: 'EXPORT_NO_RUNTIME',
    hint: expect.stringContaining('tl setup'),
  });
  writeFileSync(join(out, 'saved_model.pb'), 'nothing of the kind');
  await expect(savedModel.open(out, record, await loadEngine())).rejects.toMatchObject({ code: 'EXPORT_UNREADABLE' });
});
