/** Graph models of `@tensorflow-models/mobilenet`: read, planned, proven against the package, and stored. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { load } from '@tensorflow-models/mobilenet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone } from '../../src/backbones/index.js';
import { loadOne } from '../../src/data/index.js';
import { forwardInBatches } from '../../src/engine/forward.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { importWeights } from '../../src/weights/import.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder, generateTensor } from '../support/golden.js';
import { setHome } from '../support/home.js';

interface Spec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  quantization?: { dtype: string; scale: number; min: number };
}

interface ModelJson {
  format: string;
  readonly modelTopology: { node: { readonly name: string; op: string; readonly input: string[] }[] };
  readonly weightsManifest: { paths: string[]; readonly weights: Spec[] }[];
}

const folder = mkdtempSync(join(tmpdir(), 'tl-tfjs-'));

/** Numbers of a constant, so that activations neither vanish nor explode; structure keeps its own. */
function numbersOf({ name, shape }: Spec): Float32Array {
  if (name.endsWith('reduction_indices')) return Float32Array.of(1, 2);
  if (shape.length === 0) return Float32Array.of(name.endsWith('mul/y') || name.endsWith('Mul/y') ? 2 : 1);
  if (shape.length === 1) return generateTensor(name, shape, name.endsWith('/mul') ? 0.8 : 1, 0.3);
  const fan = shape.at(-1) === 1 ? 9 : shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return generateTensor(name, shape, 0, Math.sqrt(6 / fan));
}

/** Writes a graph model: a fixture's topology, with numbers from names, in uint8 if asked for. */
function writeModel(to: string, fixture: string, quantize = false): string {
  const model = JSON.parse(readFileSync(`${fixturesFolder}tfjs/${fixture}.json`, 'utf8')) as ModelJson;
  const [group] = model.weightsManifest;
  const shards = group!.weights.map((spec) => {
    const values = numbersOf(spec);
    if (spec.dtype === 'int32') return Buffer.from(Int32Array.from(values).buffer);
    if (!quantize || spec.shape.length < 4) return Buffer.from(values.buffer);
    const min = values.reduce((least, value) => Math.min(least, value), 0);
    const scale = (values.reduce((most, value) => Math.max(most, value), 0) - min) / 255;
    spec.quantization = { dtype: 'uint8', scale, min };
    return Buffer.from(Uint8Array.from(values, (value) => Math.round((value - min) / scale)));
  });
  group!.paths = ['group1-shard1of1.bin'];
  mkdirSync(to, { recursive: true });
  writeFileSync(join(to, 'model.json'), JSON.stringify(model));
  writeFileSync(join(to, 'group1-shard1of1.bin'), Buffer.concat(shards));
  return to;
}

beforeAll(() => {
  setHome(join(folder, 'home'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe.each([
  { backbone: 'mobilenet_v1_0.25', version: 1 as const, quantize: false, units: 256 },
  { backbone: 'mobilenet_v2_0.5', version: 2 as const, quantize: true, units: 1280 },
])('$backbone', ({ backbone, version, quantize, units }) => {
  const model = join(folder, backbone);

  test('is recognised, proven against the package, and imported', async () => {
    writeModel(model, backbone, quantize);
    const report = await importWeights(model);
    expect(report).toMatchObject({ backbone, source: 'tfjs', format: 'tfjs-graph', classes: 1001 });
    const proof = report.adaptations.find(({ kind }) => kind === 'proven')!.text;
    expect(proof).toContain('@tensorflow-models/mobilenet');
    expect(Number(/to (\S+) of/.exec(proof)![1])).toBeLessThan(1e-5);
  });

  test('a photograph of another size has the embedding that the package gives it', async () => {
    const engine = await loadEngine();
    const weights = await resolveWeights({ backbone, source: 'tfjs', weights: 'auto' });
    const size = { height: 224, width: 224 };
    const [height, width] = [173, 307];
    const pixels = Uint8Array.from(generateTensor('photograph', [height, width, 3], 127.5, 127.5));
    const { default: sharp } = await import('sharp');
    const path = join(folder, 'photograph.png');
    await sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(path);
    const input = { shape: [1, 224, 224, 3], data: await loadOne(path, weights.published.preprocessing, size) };
    const graph = buildBackbone(weights.published, { size, classes: 1001 });
    const ours = await forwardInBatches(graph, weights.read!, engine, { input, taps: ['pre_logits', 'logits'] });

    const json = JSON.parse(readFileSync(join(model, 'model.json'), 'utf8'));
    const weightData = new Uint8Array(readFileSync(join(model, 'group1-shard1of1.bin'))).buffer;
    const handler = {
      load: async () => ({ ...json, weightSpecs: json.weightsManifest[0].weights, weightData }),
    };
    const packaged = await load({ version, alpha: 1, modelUrl: handler, inputRange: [0, 1] });
    const image = tf.tensor3d(pixels, [height, width, 3]);
    for (const [tap, theirs] of [
      ['pre_logits', packaged.infer(image, true)],
      ['logits', packaged.infer(image)],
    ] as const) {
      const expected = theirs.dataSync();
      const actual = ours[tap]!.data.subarray(tap === 'logits' ? 1 : 0); // without the background
      const largest = Math.max(...expected.map(Math.abs));
      expect(actual.length).toBe(expected.length);
      expect(Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!))) / largest).toBeLessThan(1e-5);
      theirs.dispose();
    }
    expect(ours.pre_logits!.shape).toEqual([1, units]);
    image.dispose();
    await weights.close();
  });
});

describe('a bad graph model', () => {
  const model = () => writeModel(join(folder, `bad-${Math.random()}`), 'mobilenet_v1_0.25');
  const edit = (path: string, change: (json: ModelJson) => void) => {
    const json = JSON.parse(readFileSync(join(path, 'model.json'), 'utf8')) as ModelJson;
    change(json);
    writeFileSync(join(path, 'model.json'), JSON.stringify(json));
    return path;
  };

  test('whose graph computes something else is refused, and nothing is stored', async () => {
    const path = edit(model(), (json) => {
      const relu = json.modelTopology.node.find(({ op }) => op === 'Relu6')!;
      relu.op = 'Tanh';
    });
    await expect(importWeights(path, { source: 'tfjs' })).rejects.toMatchObject({ code: 'WEIGHTS_DIFFER' });
  });

  test('with a shard that is cut off', async () => {
    const path = model();
    const shard = join(path, 'group1-shard1of1.bin');
    writeFileSync(shard, readFileSync(shard).subarray(0, 1000));
    await expect(openWeights(path)).rejects.toMatchObject({ code: 'SHARD_LENGTH' });
  });

  test('with a shard elsewhere', async () => {
    const path = edit(model(), (json) => {
      json.weightsManifest[0]!.paths = ['../../etc/passwd'];
    });
    await expect(openWeights(path)).rejects.toMatchObject({ code: 'SHARD_PATH' });
  });

  test('without a shard', async () => {
    const path = edit(model(), (json) => {
      json.weightsManifest[0]!.paths = ['absent.bin'];
    });
    await expect(openWeights(path)).rejects.toMatchObject({ code: 'FILE_NOT_READ' });
  });

  test('with a cycle', async () => {
    const path = edit(model(), (json) => {
      const squeeze = json.modelTopology.node.find(({ op }) => op === 'Squeeze')!;
      squeeze.input[0] = squeeze.name;
    });
    await expect(importWeights(path, { source: 'tfjs' })).rejects.toMatchObject({ code: 'GRAPH_MODEL_INVALID' });
  });
});
