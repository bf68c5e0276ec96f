/** TensorFlow Lite models, run by LiteRT as any program runs them. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import yauzl from 'yauzl';
import type { Node, Scope } from '../../src/engine/graph.js';
import {
  activation,
  adaptiveAveragePool,
  add,
  attention,
  averagePool,
  batchNorm,
  classToken,
  concat,
  conv2d,
  dense,
  depthwiseConv2d,
  globalAveragePool,
  layerNorm,
  maxPool,
  reshape,
  scaleChannels,
} from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { ExportableModel } from '../../src/export/format.js';
import type { Quantization } from '../../src/export/quantize/quantizations.js';
import { serialise } from '../../src/export/tflite/serialise.js';
import { tflite } from '../../src/export/tflite/tflite.js';
import { temporary, temporaryFolder } from '../weights/support/temporary.js';
import { exportedRecord, picturesOf, smallModel } from './models.js';
import { picturesFor, sourceLogits } from './stock.js';

const norm = (s: Scope, x: Node): Node => batchNorm(s, x, { epsilon: 1e-3, momentum: 0.99 });
const uneven = { top: 0, bottom: 1, left: 2, right: 1 };

/** What convolutional networks are made of. */
function convolutions(s: Scope, x: Node): Node {
  let y = activation(
    s.at('a1'),
    norm(s.at('n1'), conv2d(s.at('c1'), x, 8, 3, { stride: 2, padding: uneven })),
    'relu6',
  );
  y = activation(s.at('a2'), norm(s.at('n2'), depthwiseConv2d(s.at('d'), y, 3, { padding: uneven })), 'hard_swish');
  const gate = dense(s.at('gate'), globalAveragePool(s.at('squeeze'), y), 8);
  y = scaleChannels(s.at('excite'), y, activation(s.at('open'), gate, 'sigmoid'));
  y = add(s.at('sum'), y, activation(s.at('a3'), conv2d(s.at('groups'), y, 8, 3, { groups: 4, bias: true }), 'relu'));
  const pools = [
    maxPool(s.at('max'), y, 3, { stride: 1, padding: { top: 1, bottom: 1, left: 1, right: 1 } }),
    averagePool(s.at('average'), y, 3, { stride: 1, padding: 'same' }),
  ];
  y = activation(s.at('a4'), norm(s.at('n4'), concat(s.at('join'), pools)), 'relu');
  return activation(s.at('a5'), conv2d(s.at('c5'), y, 12, 1), 'swish');
}

/** What networks on tokens are made of. */
function tokens(s: Scope, x: Node): Node {
  const patches = adaptiveAveragePool(s.at('grid'), conv2d(s.at('patches'), x, 8, 3), [2, 2]);
  const y = classToken(s.at('class'), reshape(s.at('rows'), patches, [4, 8]));
  const normed = layerNorm(s.at('norm'), y, { epsilon: 1e-6 });
  const [q, k, v] = ['q', 'k', 'v'].map((each) => dense(s.at(each), normed, 8)) as [Node, Node, Node];
  const mixed = add(s.at('sum'), y, attention(s.at('attention'), q, k, v, 2));
  const wide = activation(s.at('gelu'), dense(s.at('in'), mixed, 16), 'gelu');
  return reshape(s.at('back'), activation(s.at('tanh'), dense(s.at('out'), wide, 8), 'gelu_tanh'), [5, 1, 8]);
}

const models = { convolutions: smallModel([11, 14], convolutions), tokens: smallModel([11, 14], tokens) };

async function written(model: ExportableModel, quantize: Quantization, options: object = {}): Promise<string> {
  const out = temporaryFolder('model');
  const engine = await loadEngine();
  await tflite.write(out, model, { quantize, withPreprocessing: false, calibration: undefined, engine, ...options });
  return out;
}

const softmax = (logits: Float32Array, classes: number): Float32Array =>
  logits.map((logit, i) => {
    const row = logits.subarray(i - (i % classes), i - (i % classes) + classes);
    return Math.exp(logit) / row.reduce((sum, each) => sum + Math.exp(each), 0);
  });

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.length === b.length ? a.reduce((most, each, i) => Math.max(most, Math.abs(each - b[i]!)), 0) : Infinity;

const storages = [
  { quantize: 'none', calibrated: false, most: 1e-5 },
  { quantize: 'float16', calibrated: false, most: 1e-2 },
  { quantize: 'int8', calibrated: false, most: 5e-2 },
  { quantize: 'int8', calibrated: true, most: 1e-1 },
] as const;

test.each(Object.entries(models).flatMap(([name, model]) => storages.map((each) => ({ name, model, ...each }))))(
  '$name, $quantize, calibrated: $calibrated',
  async ({ model, quantize, calibrated, most }) => {
    const pictures = picturesFor(model, 3);
    const out = await written(model, quantize, calibrated ? { calibration: picturesOf(pictures) } : {});
    const runtime = await tflite.open(out, exportedRecord(model.record), await loadEngine());
    expect(runtime.name).toMatch(/^LiteRT \d/);
    const received = await runtime.run(pictures);
    await runtime.close();
    const expected = softmax(await sourceLogits(model, pictures), 5);
    expect(expected.every((each) => each > 0)).toBe(true);
    expect(largestDifference(received, expected)).toBeLessThan(most);
  },
);

test('a model that takes pixels normalises them itself', async () => {
  const model = models.convolutions;
  const pixels = Float32Array.from({ length: 2 * 11 * 14 * 3 }, (_, i) => (i * 37) % 256);
  const { scale, mean, std } = model.record.preprocessing;
  const data = pixels.map((pixel, i) => (pixel * scale - mean[i % 3]!) / std[i % 3]!);
  const pictures = { shape: [2, 11, 14, 3], data };
  const out = await written(model, 'none', { withPreprocessing: true });
  const runtime = await tflite.open(out, exportedRecord(model.record, { input: 'pixels' }), await loadEngine());
  const received = await runtime.run(pictures);
  await runtime.close();
  expect(largestDifference(received, softmax(await sourceLogits(model, pictures), 5))).toBeLessThan(1e-5);
});

test('the labels lie in an archive behind the model, whose places count from the start of the file', async () => {
  const classes = ['Äpfel', 'a b', '水', "it's", 'x/y'];
  const model = { ...models.convolutions, record: { ...models.convolutions.record, classes } };
  const file = readFileSync(join(await written(model, 'none'), 'model.tflite'));
  expect(file.toString('latin1', 4, 8)).toBe('TFL3');
  expect(file.includes('TFLITE_METADATA')).toBe(true);
  expect(file.includes('M001')).toBe(true);
  const zip = await yauzl.fromBufferPromise(file);
  const entry = await new Promise<yauzl.Entry>((settle) => zip.on('entry', settle).readEntry());
  expect(entry.fileName).toBe('labels.txt');
  const text = await buffer(await zip.openReadStreamPromise(entry));
  expect(text.toString().split('\n').slice(0, -1)).toEqual(classes);
});

test('equal models give equal bytes, and 8 bits take a quarter', async () => {
  const model = smallModel([8, 8], (s, x) => conv2d(s.at('wide'), conv2d(s.at('c'), x, 96, 3), 96, 3));
  const [once, again] = [await written(model, 'int8'), await written(model, 'int8')].map((out) =>
    readFileSync(join(out, 'model.tflite')),
  );
  expect(once!.equals(again!)).toBe(true);
  const whole = readFileSync(join(await written(model, 'none'), 'model.tflite'));
  expect(once!.length).toBeLessThan(0.32 * whole.length);
});

test('weights beyond the limit of the format are told before any is read', async () => {
  const content = () => Promise.reject(new Error('was read'));
  const constant = {
    name: 'kernel',
    type: 'float32',
    shape: [2 ** 29],
    batched: false,
    content,
    bytes: 2 ** 31,
  } as const;
  const x = { name: 'input', type: 'float32', shape: [1, 4], batched: true } as const;
  const y = { ...x, name: 'probabilities' };
  const model = {
    description: '',
    operators: [{ builtin: 'ADD', version: 1, inputs: [x, constant], outputs: [y] }],
    inputs: { input: x },
    outputs: { probabilities: y },
    metadata: {},
  } as const;
  await expect(serialise(model)).rejects.toMatchObject({ code: 'EXPORT_TOO_LARGE' });
});

test('a damaged file is told', async () => {
  const out = temporary('damaged');
  mkdirSync(out);
  writeFileSync(join(out, 'model.tflite'), Buffer.alloc(100, 7));
  const record = exportedRecord(models.convolutions.record);
  await expect(tflite.open(out, record, await loadEngine())).rejects.toMatchObject({ code: 'EXPORT_UNREADABLE' });
});

test('the README shows the class count and the type of the input', () => {
  const text = tflite.usage(exportedRecord(models.convolutions.record, { input: 'pixels' }));
  expect(text).toContain('np.zeros((2, 11, 14, 3), np.uint8)');
  expect(text).toContain('FloatArray(5)');
});
