/** Published networks, each way of quantising, what the folder holds, and what is refused. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { normaliseInto, plainView } from '../../src/augment/pipeline.js';
import { presets } from '../../src/augment/preprocessing.js';
import { conv2d } from '../../src/engine/layers.js';
import { softmaxRows } from '../../src/engine/softmax.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { type ExportOptions, type ExportReport, exportModel } from '../../src/export/export.js';
import { openExport } from '../../src/export/exported.js';
import type { ExportableModel } from '../../src/export/format.js';
import type { Quantization } from '../../src/export/quantize/quantizations.js';
import { inWholePixels, pixelsOf } from '../../src/export/record.js';
import { rng } from '../../src/rng.js';
import { temporary } from '../weights/support/temporary.js';
import { goldenModel, picturesOf, publishedModel, randomModel, smallModel } from './models.js';
import { loadStock, picturesFor, readModelFile, relativeDifference, sourceLogits, stockLogits } from './stock.js';

let count = 0;
const fresh = (): string => temporary(String(++count));

async function write(
  model: ExportableModel,
  quantize: Quantization | undefined,
  more: Partial<ExportOptions> = {},
): Promise<ExportReport> {
  const engine: Engine = await loadEngine();
  return exportModel(model, { format: 'tfjs', quantize, out: fresh(), ...more }, engine);
}

const tiny = (): ExportableModel => smallModel([8, 8], (s, x) => conv2d(s.at('c'), x, 4, 3, { bias: true }));

describe.each([
  ['mobilenet_v1_0.25', 'keras', 64],
  ['mobilenet_v1_0.25', 'slim', 97],
  ['mobilenet_v2_0.35', 'keras', 97],
  ['mobilenet_v2_1.0', 'torch', 64],
  ['resnet50', 'keras', 64],
  ['resnet50', 'slim', 97],
  ['resnet50', 'torch', 65],
] as const)('%s %s at %i', (backbone, source, size) => {
  test('computes the same in float32, in fused operations', async () => {
    const model = goldenModel(backbone, source, size);
    const pictures = picturesFor(model, 3);
    const report = await write(model, 'none', { validation: picturesOf(pictures) });
    expect(report.check).toMatchObject({ pictures: 3, agreement: 1, given: true });
    expect(report.check.maxDifference).toBeLessThan(2e-5);
    const expected = await sourceLogits(model, pictures);
    expect(relativeDifference(await stockLogits(report.out, pictures, 'wasm'), expected)).toBeLessThan(1e-4);
    const ops = new Set(readModelFile(report.out).modelTopology.node.map(({ op }) => op));
    for (const absent of ['Conv2D', 'BiasAdd', 'Mul', 'Relu6', 'FusedBatchNormV3']) expect(ops).not.toContain(absent);
    expect(ops).toContain('_FusedConv2D');
  });
});

describe.each([
  ['mobilenet_v1_0.25', 'keras'],
  ['mobilenet_v2_0.35', 'keras'],
] as const)('%s %s, quantised', (backbone, source) => {
  test('stays near the source, and small', async () => {
    const model = publishedModel(backbone, source, 96, 5);
    const pictures = picturesFor(model, 8);
    const expected = await sourceLogits(model, pictures);
    const float32 = await write(model, 'none', { validation: picturesOf(pictures) });
    const float16 = await write(model, 'float16', { validation: picturesOf(pictures) });
    const uint8 = await write(model, 'uint8', { validation: picturesOf(pictures) });
    const difference = async ({ out }: ExportReport) =>
      relativeDifference(await stockLogits(out, pictures, 'wasm'), expected);
    expect(await difference(float16)).toBeLessThan(1e-3);
    expect(await difference(uint8)).toBeLessThan(0.02);
    expect(uint8.check.agreement).toBe(1);
    // Batch norms are part of the kernels in what is written, and are not in the model.
    expect(float32.weights.bytes).toBeLessThan(float32.weights.float32Bytes);
    expect(float32.weights.bytes).toBeGreaterThan(0.9 * float32.weights.float32Bytes);
    expect(float16.weights.bytes).toBeLessThan(0.53 * float32.weights.bytes);
    expect(uint8.weights.bytes).toBeLessThan(0.29 * float32.weights.bytes);
    expect(uint8.bytes).toBeLessThan(0.3 * float32.bytes); // all files, the smallest networks with the smallest head
  });
});

describe.each([
  ['vit_ti16', 'flax'], // tokens, layer norms, attention
  ['mobilenet_v3_small_1.0', 'keras'], // gates, hard swish
  ['googlenet', 'notes'], // branches without any norm
] as const)('%s %s, quantised', (backbone, source) => {
  test('stays near the source, and small', async () => {
    const model = randomModel(backbone, source, { height: 96, width: 64 }, 5);
    const pictures = picturesFor(model, 8);
    const expected = await sourceLogits(model, pictures);
    const float16 = await write(model, 'float16', { validation: picturesOf(pictures) });
    const uint8 = await write(model, 'uint8', { validation: picturesOf(pictures) });
    const difference = async ({ out }: ExportReport) =>
      relativeDifference(await stockLogits(out, pictures, 'wasm'), expected);
    expect(await difference(float16)).toBeLessThan(2e-3);
    expect(await difference(uint8)).toBeLessThan(0.03);
    expect(uint8.check.agreement).toBe(1);
    expect(float16.weights.bytes).toBeLessThan(0.53 * float16.weights.float32Bytes);
    expect(uint8.weights.bytes).toBeLessThan(0.29 * uint8.weights.float32Bytes);
  });
});

test('plain JavaScript runs it too', async () => {
  const model = publishedModel('mobilenet_v2_0.35', 'keras', 33, 5);
  const pictures = picturesFor(model, 2);
  const { out } = await write(model, 'none', { validation: picturesOf(pictures) });
  const logits = await stockLogits(out, pictures, 'cpu');
  expect(relativeDifference(logits, await sourceLogits(model, pictures))).toBeLessThan(1e-4);
});

describe('what is written', () => {
  test('a folder that says all about the model', async () => {
    const model = tiny();
    const report = await write(model, 'none');
    expect(readdirSync(report.out).sort()).toEqual(report.files.map(({ name }) => name));
    expect(readdirSync(report.out).sort()).toEqual([
      'README.md',
      'class_indices.json',
      'export.json',
      'group1-shard1of1.bin',
      'labels.txt',
      'model.json',
      'preprocessing.json',
    ]);
    expect(report.bytes).toBe(
      report.files.reduce((sum, { name }) => sum + readFileSync(join(report.out, name)).length, 0),
    );
    const read = (name: string) => readFileSync(join(report.out, name), 'utf8');
    expect(read('labels.txt')).toBe('class 0\nclass 1\nclass 2\nclass 3\nclass 4\n');
    expect(JSON.parse(read('class_indices.json'))).toEqual({
      0: 'class 0',
      1: 'class 1',
      2: 'class 2',
      3: 'class 3',
      4: 'class 4',
    });
    expect(JSON.parse(read('preprocessing.json'))).toMatchObject({
      inputSize: { height: 8, width: 8 },
      ...model.record.preprocessing,
    });
    expect(read('README.md')).toContain("tf.loadGraphModel('model.json')");
    const { format, userDefinedMetadata, signature } = readModelFile(report.out);
    expect(format).toBe('graph-model');
    expect(userDefinedMetadata).toMatchObject({ classes: model.record.classes, quantize: 'none', backbone: 'small' });
    expect(signature).toMatchObject({ inputs: { input: { name: 'input:0' } }, outputs: { probabilities: {} } });
  });

  test('a signature: predict gives probabilities, for any number of pictures', async () => {
    const model = tiny();
    const { out } = await write(model, 'none');
    await loadEngine({ engine: 'wasm' });
    const stock = await loadStock(out);
    expect(stock.inputs).toMatchObject([{ name: 'input', shape: [-1, 8, 8, 3], dtype: 'float32' }]);
    expect(stock.outputs.map(({ name }) => name)).toEqual(['probabilities']);
    const { ones } = await import('@tensorflow/tfjs-core');
    for (const batch of [1, 7]) {
      const y = stock.predict(ones([batch, 8, 8, 3])) as { shape: number[]; dataSync(): Float32Array };
      expect(y.shape).toEqual([batch, 5]);
      expect(y.dataSync().reduce((a, b) => a + b)).toBeCloseTo(batch, 4);
    }
  });

  test('weights in files of 4 MB, in the order of the manifest', async () => {
    const wide = smallModel([8, 8], (s, x) => conv2d(s.at('b'), conv2d(s.at('a'), x, 1000, 1), 1200, 1));
    const { out, files } = await write(wide, 'none');
    const shards = files.filter(({ name }) => name.endsWith('.bin'));
    expect(shards.map(({ name }) => name)).toEqual(['group1-shard1of2.bin', 'group1-shard2of2.bin']);
    expect(shards[0]!.bytes).toBe(4 * 1024 * 1024);
    const pictures = picturesFor(wide, 2);
    const logits = await stockLogits(out, pictures, 'wasm');
    expect(relativeDifference(logits, await sourceLogits(wide, pictures))).toBeLessThan(1e-4);
  });
});

describe('a model that takes pixels', () => {
  test.each(['caffe', 'torch', 'tf'] as const)('answers as the one that takes them normalised: %s', async (preset) => {
    const plain = tiny();
    const model = { ...plain, record: { ...plain.record, preprocessing: presets[preset] } };
    const report = await write(model, 'none', { withPreprocessing: true });
    expect(report.input).toBe('pixels');
    expect(report.check.maxDifference).toBeLessThan(1e-6);
    const { signature } = readModelFile(report.out);
    expect(signature).toMatchObject({ inputs: { input: { dtype: 'DT_INT32' } } });

    const exported = await (await openExport(report.out)).load(await loadEngine());
    const random = rng('pixels');
    const bytes = Uint8Array.from({ length: 2 * 8 * 8 * 3 }, () => Math.floor(256 * random.uniform()));
    const picture = { width: 8, height: 16, data: bytes }; // both, one below the other
    const normalised = new Float32Array(bytes.length);
    normaliseInto(picture, model.record.preprocessing, normalised, plainView);
    const received = await exported.probabilities(normalised, 2);
    await exported.dispose();
    const logits = await sourceLogits(model, { shape: [2, 8, 8, 3], data: normalised });
    for (const [i, value] of softmaxRows(logits, 5).entries()) expect(received[i]).toBeCloseTo(value, 6);
  });
});

test('a model that takes pixels is compared on whole ones, where the resize gives fractions of them', async () => {
  const model = tiny();
  const { shape, data } = picturesFor(model, 3);
  const { scale, mean, std } = model.record.preprocessing;
  const fractions = data.map((_, i) => ((200 + (i % 7) / 7) * scale - mean[i % 3]!) / std[i % 3]!);
  const report = await write(model, 'none', {
    withPreprocessing: true,
    validation: picturesOf({ shape, data: fractions }),
  });
  expect(report.check.maxDifference).toBeLessThan(1e-6);
  const pixels = pixelsOf({ shape, data: fractions }, model.record);
  expect(new Set(pixels)).toEqual(new Set([200, 201]));
  const rounded = inWholePixels({ shape, data: fractions }, model.record).data;
  expect(rounded[3]).toBeCloseTo((pixels[3]! * scale - mean[0]!) / std[0]!, 6);
});

describe('a size that all files may have', () => {
  test('takes the least quantisation that fits, and says what was tried', async () => {
    const wide = smallModel([8, 8], (s, x) => conv2d(s.at('b'), conv2d(s.at('a'), x, 100, 1), 120, 1));
    const sizes = async (budgetBytes: number) => {
      const { quantize, bytes, tried } = await write(wide, undefined, { budgetBytes });
      expect(bytes).toBeLessThanOrEqual(budgetBytes);
      return { quantize, tried: tried.map((each) => each.quantize) };
    };
    expect(await sizes(1e6)).toEqual({ quantize: 'none', tried: ['none'] });
    expect(await sizes(40e3)).toEqual({ quantize: 'float16', tried: ['none', 'float16'] });
    expect(await sizes(30e3)).toEqual({ quantize: 'uint8', tried: ['none', 'float16', 'uint8'] });
    const out = fresh();
    await expect(write(wide, undefined, { budgetBytes: 1000, out })).rejects.toMatchObject({
      code: 'EXPORT_OVER_BUDGET',
      message: expect.stringMatching(/1000 bytes \(none: \d+ bytes, float16: \d+ bytes, uint8: \d+ bytes\)/),
    });
    expect(existsSync(out)).toBe(false);
    await expect(write(wide, 'float16', { budgetBytes: 1e6 })).rejects.toMatchObject({ code: 'BAD_OPTIONS' });
  });
});

describe('what is refused', () => {
  test('a folder that is there, unless it is to be replaced', async () => {
    const out = fresh();
    mkdirSync(out);
    writeFileSync(join(out, 'mine.txt'), 'mine');
    await expect(write(tiny(), 'none', { out })).rejects.toMatchObject({ code: 'OUT_EXISTS', name: 'UsageError' });
    expect(readdirSync(out)).toEqual(['mine.txt']);
    await write(tiny(), 'none', { out, overwrite: true });
    expect(existsSync(join(out, 'mine.txt'))).toBe(false);
    expect(existsSync(join(out, 'model.json'))).toBe(true);
  });

  test('a quantisation that there is not', async () => {
    await expect(write(tiny(), 'int4' as Quantization)).rejects.toMatchObject({ code: 'BAD_QUANTIZE' });
  });

  test('weights that are not numbers, and those too large for 16 bits', async () => {
    const model = tiny();
    const broken = (value: number): ExportableModel => ({
      ...model,
      read: async (path) =>
        path === 'c.bias' || path === 'c.kernel' ? (await model.read(path)).fill(value) : model.read(path),
    });
    await expect(write(broken(Number.NaN), 'none')).rejects.toMatchObject({ code: 'WEIGHTS_NOT_FINITE' });
    await expect(write(broken(1e6), 'uint8')).rejects.toMatchObject({ code: 'EXPORT_OUT_OF_RANGE' });
  });

  test('an export that computes something else, of which nothing is left behind', async () => {
    const model = tiny();
    let reads = 0;
    const wavering: ExportableModel = {
      ...model,
      read: async (path) => {
        const values = await model.read(path);
        return path === 'c.kernel' && ++reads > 1 ? values.map((value) => value * 1.1) : values;
      },
    };
    const out = fresh();
    await expect(write(wavering, 'none', { out })).rejects.toMatchObject({
      code: 'EXPORT_DIFFERS',
      message: expect.stringMatching(/a probability differs by .*, expected at most 0.0001/),
    });
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(temporary('.')).filter((name) => name.startsWith('.'))).toEqual([]);
    reads = 0;
    const kept = await write(wavering, 'none', { out, allowDifference: true });
    expect(kept.difference).toMatch(/a probability differs by/);
    expect(existsSync(join(out, 'model.json'))).toBe(true);
  });
});
