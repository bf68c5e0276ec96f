/** Keras' MobileNets as graph models of TensorFlow.js, whose converter folds batch norms: read, planned and compared. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, describe, expect, test } from 'vitest';
import { buildBackbone } from '../../src/backbones/index.js';
import { forwardInBatches } from '../../src/engine/forward.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { openPublishedFile } from '../../src/weights/published-file.js';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder, generateTensor } from '../support/golden.js';

interface Model {
  readonly modelTopology: { readonly node: { readonly name: string; readonly op: string }[] };
  readonly weightsManifest: { paths: string[]; readonly weights: { name: string; shape: number[]; dtype: string }[] }[];
  readonly constants: Readonly<Record<string, readonly number[]>>;
}

const folder = mkdtempSync(join(tmpdir(), 'tl-tfjs-graph-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Writes the model with numbers from names; gives its folder, and what TensorFlow.js itself loads. */
function write(name: string): { path: string; model: Model; bytes: Buffer } {
  const model = JSON.parse(readFileSync(`${fixturesFolder}tfjs/${name}.json`, 'utf8')) as Model;
  const [group] = model.weightsManifest;
  const parts = group!.weights.map(({ name: constant, shape, dtype }) => {
    if (dtype !== 'float32') return Buffer.from(Int32Array.from(model.constants[constant]!).buffer);
    if (shape.length < 2) return Buffer.from(generateTensor(constant, shape, 0.5, 0.3).buffer);
    const fan = shape.at(-1) === 1 ? 9 : shape.slice(0, -1).reduce((a, b) => a * b, 1);
    return Buffer.from(generateTensor(constant, shape, 0, Math.sqrt(6 / fan)).buffer);
  });
  const bytes = Buffer.concat(parts);
  const path = join(folder, name);
  mkdirSync(path);
  group!.paths = ['group1-shard1of2.bin', 'group1-shard2of2.bin'];
  writeFileSync(join(path, group!.paths[0]!), bytes.subarray(0, 100_001));
  writeFileSync(join(path, group!.paths[1]!), bytes.subarray(100_001));
  writeFileSync(join(path, 'model.json'), JSON.stringify(model));
  return { path, model, bytes };
}

describe.each([
  { backbone: 'mobilenet_v1_0.25', classifier: 'MobilenetV1/Logits/Conv2d_1c_1x1' },
  { backbone: 'mobilenet_v2_0.35', classifier: 'MobilenetV2/Logits/Conv2d_1c_1x1' },
])('$backbone', ({ backbone, classifier }) => {
  test('computes what TensorFlow.js does with the graph', async () => {
    const { path, model, bytes } = write(`keras_${backbone}`);
    const source = await openWeights(path);
    expect(source.tensors.map(({ name }) => name)).toContain(`${classifier}/biases`);
    expect(source.verify).toBeUndefined(); // its names prove it
    await source.close();

    const engine = await loadEngine();
    const weightSpecs = model.weightsManifest.flatMap(({ weights }) => weights);
    const weightData = new Uint8Array(bytes).buffer;
    const graphModel = await loadGraphModel({ load: async () => ({ ...model, weightSpecs, weightData }) } as never);
    const data = generateTensor('picture', [1, 224, 224, 3], 0, 1);
    const picture = tf.tensor4d(data, [1, 224, 224, 3]);
    const output = graphModel.predict(picture) as tf.Tensor;
    const expected = output.dataSync() as Float32Array;
    tf.dispose([picture, output]);
    graphModel.dispose();

    const file = await openPublishedFile(path, { backbone });
    expect(file.plan.published.source).toBe('tfjs');
    expect(file.classes).toBe(1000);
    const graph = buildBackbone(file.plan.published, { size: { height: 224, width: 224 }, classes: 1000 });
    const input = { shape: [1, 224, 224, 3], data };
    const { logits } = await forwardInBatches(graph, file.read, engine, { input, taps: ['logits'] });
    await file.close();
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - logits!.data[i]!)), 0);
    expect(logits!.data.length).toBe(1000);
    expect(largest).toBeGreaterThan(0.01);
    expect(worst / largest).toBeLessThan(1e-5);
  });
});
