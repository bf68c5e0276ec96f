/** Models for the library of Teachable Machine, and models that were made there. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import {
  type LayersModel,
  layers,
  loadLayersModel,
  model,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers';
import { beforeAll, describe, expect, test } from 'vitest';
import { presets, withChannels } from '../../src/augment/preprocessing.js';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { activation, batchNorm, conv2d, dense, globalAveragePool, scaleChannels } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import type { ExportableModel } from '../../src/export/format.js';
import { kerasTopology, modelConfig } from '../../src/export/keras/topology.js';
import { importWeights } from '../../src/weights/import.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { setHome } from '../support/home.js';
import { temporary } from '../weights/support/temporary.js';
import { randomModel, randomParameters, smallModel } from './models.js';
import { picturesFor, sourceLogits } from './stock.js';

beforeAll(() => setHome(temporary('home')));

let count = 0;
const fresh = (): string => temporary(String(++count));

async function write(source: ExportableModel, preprocessing = source.record.preprocessing) {
  const record = { ...source.record, preprocessing };
  return exportModel({ ...source, record }, { format: 'teachable-machine', out: fresh() }, await loadEngine());
}

const gated = (): ExportableModel =>
  smallModel([12, 12], (s, x) => {
    const y = activation(
      s.at('a'),
      batchNorm(s.at('n'), conv2d(s.at('c'), x, 6, 3), { epsilon: 1e-3, momentum: 0.9 }),
      'hard_swish',
    );
    const gate = dense(s.at('gate'), globalAveragePool(s.at('squeeze'), y), 6);
    return activation(s.at('b'), scaleChannels(s, y, activation(s.at('gated'), gate, 'hard_sigmoid')), 'swish');
  });

describe('what is written', () => {
  test.each(['tf', 'caffe', 'torch', 'unit'] as const)(
    'it takes pixels as the library gives them: %s',
    async (preset) => {
      const report = await write(gated(), presets[preset]);
      expect(report.check).toMatchObject({ agreement: 1 });
      expect(report.check.maxDifference).toBeLessThan(2e-5);
    },
  );

  test('three files, and layers that TensorFlow.js 1.3 has', async () => {
    const { out } = await write(gated());
    const read = (name: string) => JSON.parse(readFileSync(join(out, name), 'utf8'));
    expect(read('metadata.json')).toMatchObject({
      labels: ['class 0', 'class 1', 'class 2', 'class 3', 'class 4'],
      imageSize: 12,
      packageName: '@teachablemachine/image',
    });
    const { modelTopology, weightsManifest } = read('model.json');
    expect(weightsManifest.map(({ paths }: { paths: string[] }) => paths)).toEqual([['./weights.bin']]);
    expect(statSync(join(out, 'weights.bin')).size % 4).toBe(0);
    const classes = new Set(
      modelTopology.model_config.config.layers.map((each: { class_name: string }) => each.class_name),
    );
    for (const later of ['Rescaling', 'BatchNormalization']) expect(classes).not.toContain(later);
    expect(modelTopology.model_config.class_name).toBe('Model');
  });

  test('grey pictures are said to be grey', async () => {
    const size = { height: 32, width: 32 };
    const graph = buildBackbone(mobilenet('mobilenet_v1_0.25'), { size, classes: 3, channels: 1 });
    const { record } = randomModel('mobilenet_v1_0.25', 'keras', size, 3);
    const grey = withChannels(presets.tf, 1);
    const source = { graph, read: randomParameters(graph), record: { ...record, channels: 1 as const } };
    const { out, check } = await write(source, grey);
    expect(check.maxDifference).toBeLessThan(2e-5);
    expect(JSON.parse(readFileSync(join(out, 'metadata.json'), 'utf8'))).toMatchObject({ grayscale: true });
  });

  test('what the library cannot give is refused', async () => {
    const source = gated();
    const { record } = source;
    const oblong = { ...source, record: { ...record, inputSize: { height: 12, width: 13 } } };
    await expect(write(oblong)).rejects.toMatchObject({
      code: 'EXPORT_UNSUPPORTED',
      message: expect.stringContaining('12x13'),
    });
    const alpha = { ...source, record: { ...record, channels: 4 as const } };
    await expect(write(alpha, withChannels(presets.tf, 4))).rejects.toThrow(/alpha/);
    const wide = smallModel([8, 8], (s, x) => conv2d(s.at('g'), conv2d(s.at('c'), x, 4, 3), 4, 3, { groups: 2 }));
    await expect(write(wide)).rejects.toThrow(/^g \(conv2d\): .*Teachable Machine/);
  });
});

const mobilenet = (name: string) => findPublished(findBackbone(name), 'keras');

/** As the library composes a model: a truncated network and a mean, and a head whose last layer has no bias. */
async function teachableModel(side: number, classes: number): Promise<LayersModel> {
  await loadEngine({ engine: 'cpu' });
  const { graph, read } = randomModel('mobilenet_v2_0.35', 'keras', { height: side, width: side }, 3);
  const dialect = { title: 'TensorFlow.js', groups: false, recent: true, batchNorm: 'layer' } as const;
  const topology = kerasTopology(graph, read, { dialect, published: mobilenet('mobilenet_v2_0.35') });
  const weights = topology.layers.flatMap((layer) => layer.weights.map((weight) => ({ layer, weight })));
  const parts: Buffer[] = [];
  for (const { weight } of weights) parts.push(Buffer.from((await weight.read()).slice().buffer));
  const whole = await loadLayersModel({
    load: async () => ({
      modelTopology: { model_config: modelConfig(topology, 'Model') } as object,
      weightSpecs: weights.map(({ layer, weight }) => ({
        ...{ name: `${layer.name}/${weight.leaf}`, shape: [...weight.shape], dtype: 'float32' as const },
      })),
      weightData: Uint8Array.from(Buffer.concat(parts)).buffer,
    }),
  });
  const truncated = model({ inputs: whole.inputs, outputs: whole.getLayer('top.relu6').output as SymbolicTensor });
  const base = sequential({ layers: [truncated, layers.globalAveragePooling2d({})] });
  const head = sequential({
    layers: [
      layers.dense({ inputShape: [1280], units: 100, activation: 'relu' }),
      layers.dense({ units: classes, useBias: false, activation: 'softmax' }),
    ],
  });
  return sequential({ layers: [base, head] });
}

async function save(source: LayersModel, labels: readonly string[], imageSize: number): Promise<string> {
  const at = fresh();
  mkdirSync(at);
  await source.save({
    save: async ({ modelTopology, weightSpecs, weightData }) => {
      const weightsManifest = [{ paths: ['./weights.bin'], weights: weightSpecs }];
      writeFileSync(join(at, 'model.json'), JSON.stringify({ modelTopology, weightsManifest }));
      writeFileSync(join(at, 'weights.bin'), new Uint8Array(weightData as ArrayBuffer));
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } };
    },
  });
  const about = { tfjsVersion: '1.3.1', tmVersion: '2.4.5', packageVersion: '0.8.4-alpha2', modelName: 'tm' };
  const metadata = { ...about, packageName: '@teachablemachine/image', userMetadata: {}, labels, imageSize };
  writeFileSync(join(at, 'metadata.json'), JSON.stringify(metadata));
  return at;
}

test('a model of Teachable Machine becomes a model folder, with its labels and without a last bias', async () => {
  const source = await teachableModel(96, 3);
  const labels = ['Rot', '日本', 'a "b"'];
  const at = await save(source, labels, 96);
  const out = fresh();
  const report = await importWeights(at, { out });
  expect(report).toMatchObject({ backbone: 'mobilenet_v2_0.35', source: 'keras' });
  const opened = await openModelFolder(out);
  try {
    expect(opened.record).toMatchObject({
      classes: labels,
      inputSize: { height: 96, width: 96 },
      head: { hidden: [100] },
      preprocessing: { resize: { rule: 'short_side', ratio: 1 }, crop: 'center', scale: 1 / 127, mean: [1, 1, 1] },
    });
    expect(await opened.read('head.logits.bias')).toEqual(new Float32Array(3));
    await loadEngine({ engine: 'cpu' });
    const pictures = picturesFor(opened, 1);
    const x = tf.tensor(pictures.data, [...pictures.shape]);
    const y = source.predict(x) as tf.Tensor;
    const expected = Array.from(await y.data());
    tf.dispose([x, y]);
    source.dispose();
    const logits = Array.from(await sourceLogits(opened, pictures));
    const sum = logits.reduce((total, logit) => total + Math.exp(logit - Math.max(...logits)), 0);
    logits.forEach((logit, i) => {
      expect(Math.exp(logit - Math.max(...logits)) / sum).toBeCloseTo(expected[i]!, 4);
    });
  } finally {
    await opened.close();
  }
});

test('a bias that is merely missing is not zero', async () => {
  const source = await teachableModel(96, 3);
  const at = await save(source, ['a', 'b', 'c'], 96);
  source.dispose();
  const file = join(at, 'model.json');
  const text = readFileSync(file, 'utf8');
  const claimed = text.replace(/("units":3,[^}]*?"use_bias":)false/, '$1true');
  expect(claimed).not.toBe(text);
  writeFileSync(file, claimed);
  await expect(importWeights(at, { out: fresh() })).rejects.toMatchObject({ code: 'WEIGHTS_MISMATCH' });
});
