/** ONNX models in onnxruntime: every kind of layer, every way of storing weights, both kinds of input. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-web';
import { describe, expect, test } from 'vitest';
import { channelCounts } from '../../src/augment/image.js';
import { presets, withChannels } from '../../src/augment/preprocessing.js';
import { buildGraph, type Node, type Scope } from '../../src/engine/graph.js';
import {
  activation,
  adaptiveAveragePool,
  add,
  around,
  attention,
  averagePool,
  batchNorm,
  classToken,
  concat,
  conv2d,
  dense,
  depthwiseConv2d,
  flatten,
  globalAveragePool,
  groupNorm,
  layerNorm,
  layerScale,
  maxPool,
  positionEmbedding,
  reshape,
  scaleChannels,
  takeToken,
} from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { ExportableModel, WriteOptions } from '../../src/export/format.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { roundActivations } from '../../src/export/onnx/activations.js';
import { writeModelFile } from '../../src/export/onnx/model-file.js';
import { onnx } from '../../src/export/onnx/onnx.js';
import { type Translated, translate } from '../../src/export/onnx/translate.js';
import { createWeights } from '../../src/export/onnx/weights.js';
import { pixelsOf } from '../../src/export/record.js';
import { temporaryFolder } from '../weights/support/temporary.js';
import { exportedRecord, picturesOf, randomModel, randomParameters, recordOf, smallModel } from './models.js';
import { picturesFor, relativeDifference, sourceLogits } from './stock.js';

let exports = 0;
async function write(model: ExportableModel, options: Partial<WriteOptions> = {}): Promise<string> {
  const into = temporaryFolder(`${++exports}`);
  const engine = await loadEngine();
  const all = { quantize: 'none', withPreprocessing: false, calibration: undefined, engine, ...options } as const;
  await onnx.write(into, model, all);
  return into;
}

/** Both outputs, by a program that has nothing but the file. */
async function run(into: string, x: Tensor): Promise<{ logits: Float32Array; probabilities: Float32Array }> {
  const session = await InferenceSession.create(readFileSync(join(into, 'model.onnx')));
  expect(session.inputNames).toEqual(['input']);
  expect(session.outputNames).toEqual(['probabilities', 'logits']);
  const { logits, probabilities } = await session.run({ input: x });
  await session.release();
  return { logits: logits!.data as Float32Array, probabilities: probabilities!.data as Float32Array };
}

const tensor = ({ data, shape }: { data: Float32Array; shape: readonly number[] }): Tensor =>
  new Tensor('float32', data, [...shape]);

const float32 = () =>
  createWeights({ storageOf: () => 'float32', moments: new Map(), scaleOf: () => undefined, keep: () => {} });
const operators = ({ graph, read }: ExportableModel): Promise<Translated> =>
  translate(lowerGraph(graph, read, { depthwisePadding: 'attribute' }), float32(), 5);
const count = ({ nodes }: Pick<Translated, 'nodes'>, op: string): number =>
  nodes.filter((each) => each.op === op).length;

const norm = (s: Scope, x: Node): Node => batchNorm(s, x, { epsilon: 1e-3, momentum: 0.99 });
const conv = (s: Scope, x: Node, filters: number): Node => conv2d(s.at('c'), x, filters, 3, { bias: true });

/** Places as tokens, with a class token before them. */
function tokens(s: Scope, x: Node): Node {
  const patches = adaptiveAveragePool(s, conv2d(s.at('patches'), x, 8, 3), [2, 2]);
  let y = classToken(s.at('class'), reshape(s.at('tokens'), patches, [4, 8]));
  const rule = { grid: [2, 2], resampling: 'bicubic_antialias' } as const;
  y = positionEmbedding(s.at('places'), y, rule, { kind: 'normal', deviation: 0.02 });
  const normed = layerNorm(s.at('norm'), y, { epsilon: 1e-6 });
  const [q, k, v] = ['q', 'k', 'v'].map((each) => dense(s.at(each), normed, 8)) as [Node, Node, Node];
  const sum = add(s.at('sum'), y, dense(s.at('out'), attention(s, q, k, v, 2), 8));
  return reshape(s.at('back'), takeToken(s.at('first'), sum, 0), [1, 1, 8]);
}

const names = ['sigmoid', 'hard_sigmoid', 'swish', 'hard_swish', 'gelu', 'gelu_tanh', 'tanh'] as const;
const layers: Record<string, (s: Scope, x: Node) => Node> = {
  ...Object.fromEntries(names.map((name) => [name, (s: Scope, x: Node) => activation(s, conv(s, x, 6), name)])),
  'convolution, uneven padding': (s, x) =>
    conv2d(s.at('c'), x, 6, 3, { padding: { top: 0, bottom: 1, left: 2, right: 1 }, bias: true }),
  'convolution, same, stride 2, relu6': (s, x) =>
    activation(s.at('a'), norm(s.at('n'), conv2d(s.at('c'), x, 6, 5, { stride: 2 })), 'relu6'),
  'convolution, groups': (s, x) =>
    activation(s.at('a'), conv2d(s.at('g'), conv(s, x, 8), 12, 3, { groups: 4, bias: true, stride: 2 }), 'relu'),
  'depthwise, uneven padding': (s, x) =>
    depthwiseConv2d(s.at('d'), x, 3, { stride: 2, bias: true, padding: { top: 0, bottom: 1, left: 0, right: 1 } }),
  'pools of negative values': (s, x) => {
    const y = conv(s, x, 4);
    const pooled = maxPool(s.at('p'), y, 3, { stride: 1, padding: around(1) });
    return concat(s.at('j'), [
      norm(s.at('n'), pooled),
      averagePool(s.at('q'), y, 3, { stride: 1, padding: 'same' }),
      maxPool(s.at('r'), y, 3, { stride: 1, padding: 'same' }),
    ]);
  },
  'group norm': (s, x) =>
    groupNorm(s.at('n'), conv2d(s.at('c'), x, 12, 3, { stride: 2 }), { groups: 4, epsilon: 1e-2 }),
  'layer norm, dense on places, layer scale': (s, x) => {
    const y = conv(s, x, 6);
    const z = activation(s.at('a'), dense(s.at('d'), layerNorm(s.at('n'), y, { epsilon: 1e-2 }), 12), 'gelu');
    return add(s.at('s'), layerScale(s.at('l'), dense(s.at('e'), z, 6), 0.1), y);
  },
  'squeeze and excitation': (s, x) => {
    const y = conv(s, x, 6);
    const gate = dense(s.at('u'), activation(s.at('d'), dense(s.at('d'), globalAveragePool(s, y), 3), 'relu'), 6);
    return scaleChannels(s, y, activation(s.at('g'), gate, 'hard_sigmoid'));
  },
  'a flattened picture': (s, x) =>
    reshape(s.at('r'), dense(s.at('d'), flatten(s.at('f'), conv(s, x, 4), [9, 13]), 6), [1, 1, 6]),
  'a norm at the start': (s, x) => norm(s.at('n'), x),
  transformer: tokens,
};

describe('layers, a picture that is no square, alone and three at once', () => {
  test.each(Object.entries(layers))('%s', async (_, define) => {
    const model = smallModel([9, 13], define);
    const into = await write(model);
    for (const pictures of [1, 3]) {
      const input = picturesFor(model, pictures);
      const { logits, probabilities } = await run(into, tensor(input));
      expect(relativeDifference(logits, await sourceLogits(model, input))).toBeLessThan(1e-5);
      for (let i = 0; i < pictures; i++) {
        expect(probabilities.subarray(i * 5, i * 5 + 5).reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      }
    }
  });
});

describe('operators', () => {
  test('a picture is transposed once, at the input', async () => {
    const { nodes } = await operators(
      smallModel([10, 8], (s, x) => {
        const y = activation(s.at('a'), norm(s.at('n'), conv(s, x, 8)), 'hard_swish');
        const gate = dense(s.at('u'), globalAveragePool(s.at('p'), y), 8);
        const z = groupNorm(s.at('g'), scaleChannels(s.at('s'), y, gate), { groups: 2, epsilon: 1e-5 });
        return adaptiveAveragePool(s.at('q'), concat(s.at('j'), [z, y]), [3, 3]);
      }),
    );
    expect(nodes.filter(({ op }) => op === 'Transpose').map(({ inputs }) => inputs)).toEqual([['input']]);
  });

  test('a convolution with groups is one operator, with its bias', async () => {
    const graph = await operators(smallModel([9, 13], layers['convolution, groups']!));
    expect([count(graph, 'Conv'), count(graph, 'Split'), count(graph, 'Concat'), count(graph, 'Add')]).toEqual([
      2, 0, 0, 0,
    ]);
    const groups = graph.nodes
      .filter(({ op }) => op === 'Conv')
      .map(({ attributes, inputs }) => [attributes.group, inputs.length]);
    expect(groups).toEqual([
      [{ kind: 'int', value: 1 }, 3],
      [{ kind: 'int', value: 4 }, 3],
    ]);
  });

  test('names are identifiers, and each is one', async () => {
    const { nodes, constants } = await operators(smallModel([9, 13], tokens));
    const all = [
      ...nodes.flatMap(({ outputs }) => outputs),
      ...constants.flatMap(({ tensors }) => tensors.map(({ name }) => name)),
    ];
    expect(new Set(all).size).toBe(all.length);
    for (const name of all) expect(name).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/);
  });

  test('values are rounded at both ends of a convolution, after the ReLU that it absorbs', async () => {
    const graph = await operators(
      smallModel([9, 13], (s, x) => {
        const y = activation(s.at('a'), conv(s, x, 6), 'relu');
        return activation(s.at('b'), depthwiseConv2d(s.at('d'), y, 3), 'swish');
      }),
    );
    const rounded = roundActivations(graph, () => ({ scale: 0.1, zero: 3 }));
    const quantised = rounded.nodes.filter(({ op }) => op === 'QuantizeLinear').map(({ inputs }) => inputs[0]!);
    const producer = (name: string) => rounded.nodes.find(({ outputs }) => outputs.includes(name))?.op ?? 'input';
    expect(quantised.map(producer)).toEqual(['input', 'Transpose', 'Relu', 'Conv', 'GlobalAveragePool', 'Flatten']);
    for (const { op, inputs } of rounded.nodes) {
      if (op === 'Conv' || op === 'Gemm') expect(producer(inputs[0]!)).toBe('DequantizeLinear');
      if (op === 'Softmax') expect(producer(inputs[0]!)).toBe('Identity');
    }
  });
});

describe('weights', () => {
  const model = randomModel('mobilenet_v2_0.35', 'keras', { height: 64, width: 96 }, 7);
  const size = (into: string): number => statSync(join(into, 'model.onnx')).size;

  test('in 16 and 8 bits, and with rounded values', async () => {
    const input = picturesFor(model, 4);
    const expected = await sourceLogits(model, input);
    const whole = await write(model);
    for (const [options, most, share] of [
      [{ quantize: 'float16' }, 1e-2, 0.56],
      [{ quantize: 'uint8' }, 0.1, 0.4],
      [{ quantize: 'int8' }, 0.1, 0.4],
      [{ quantize: 'int8', calibration: picturesOf(input) }, 0.3, 0.42],
    ] as const) {
      const into = await write(model, options);
      const { logits } = await run(into, tensor(input));
      const difference = relativeDifference(logits, expected);
      expect(difference, options.quantize).toBeGreaterThan(0);
      expect(difference, options.quantize).toBeLessThan(most);
      expect(size(into) / size(whole), options.quantize).toBeLessThan(share);
    }
  });

  test('beside the model where they are large', async () => {
    const small = smallModel([9, 13], layers['convolution, groups']!);
    const into = temporaryFolder('external');
    await writeModelFile(into, await operators(small), { name: 'small', description: 'small', metadata: {} }, 1000);
    expect(readdirSync(into).sort()).toEqual(['model.onnx', 'model.onnx.data']);
    const runtime = await onnx.open(into, exportedRecord(small.record), await loadEngine());
    const input = picturesFor(small, 2);
    const embedded = await write(small);
    expect(await runtime.run(input)).toEqual((await run(embedded, tensor(input))).probabilities);
    await runtime.close();
  });
});

describe('pixels', () => {
  test.each(channelCounts.flatMap((channels) => ['tf', 'caffe'].map((preset) => ({ channels, preset }))))(
    '$preset, $channels channels',
    async ({ channels, preset }) => {
      const preprocessing = withChannels(presets[preset as keyof typeof presets], channels);
      const graph = buildGraph([9, 13, channels], (s, x) => {
        return s.at('logits').tap(dense(s.at('d'), globalAveragePool(s.at('p'), conv(s, x, 6)), 5));
      });
      const record = { ...recordOf('small', 'test', { height: 9, width: 13 }, 5), preprocessing, channels };
      const model = { graph, read: randomParameters(graph), record };
      const into = await write(model, { withPreprocessing: true });
      const exported = exportedRecord(record, { input: 'pixels' });
      const { scale, mean, std } = preprocessing;
      const shape = [2, 9, 13, channels];
      const data = Float32Array.from({ length: 2 * 9 * 13 * channels }, (_, i) => {
        return (((i * 37) % 256) * scale - mean[i % channels]!) / std[i % channels]!;
      });
      const { logits, probabilities } = await run(
        into,
        new Tensor('uint8', pixelsOf({ shape, data }, exported), shape),
      );
      expect(relativeDifference(logits, await sourceLogits(model, { shape, data }))).toBeLessThan(1e-5);
      const runtime = await onnx.open(into, exported, await loadEngine());
      expect(await runtime.run({ shape, data })).toEqual(probabilities);
      await runtime.close();
    },
  );
});

describe('the runtime', () => {
  test('answers questions that are asked at once, and says what it is', async () => {
    const model = smallModel([9, 13], layers.swish!);
    const into = await write(model);
    const runtime = await onnx.open(into, exportedRecord(model.record), await loadEngine());
    expect(runtime.name).toMatch(/^onnxruntime-web \d+\.\d+\.\d+$/);
    const inputs = [1, 2, 3].map((pictures) => picturesFor(model, pictures));
    const answers = await Promise.all(inputs.map((input) => runtime.run(input)));
    expect(answers.map(({ length }) => length)).toEqual([5, 10, 15]);
    for (const [i, input] of inputs.entries())
      expect(answers[i]).toEqual((await run(into, tensor(input))).probabilities);
    await runtime.close();
  });

  test('a damaged file', async () => {
    const model = smallModel([9, 13], layers.swish!);
    const into = await write(model);
    const file = join(into, 'model.onnx');
    writeFileSync(file, readFileSync(file).subarray(0, 200));
    await expect(onnx.open(into, exportedRecord(model.record), await loadEngine())).rejects.toMatchObject({
      code: 'EXPORT_UNREADABLE',
    });
    rmSync(file);
    await expect(onnx.open(into, exportedRecord(model.record), await loadEngine())).rejects.toMatchObject({
      code: 'FILE_NOT_READ',
    });
  });
});

describe('the file', () => {
  test('says what its classes are and how pictures are prepared', async () => {
    const model = smallModel([9, 13], layers.swish!);
    const classes = ['ant "a"', 'Bär', '猫', 'd\\e', 'é'];
    const into = await write({ ...model, record: { ...model.record, classes } });
    const bytes = readFileSync(join(into, 'model.onnx'));
    for (const text of ['labels', JSON.stringify(classes), JSON.stringify(model.record.preprocessing), 'tl-toolkit']) {
      expect(bytes.includes(Buffer.from(text)), text).toBe(true);
    }
  });

  test('its usage names input, type and shape', () => {
    const { record } = smallModel([9, 13], layers.swish!);
    expect(onnx.usage(exportedRecord(record))).toContain('[N, 9, 13, 3]');
    expect(onnx.usage(exportedRecord(record, { input: 'pixels' }))).toContain("new Tensor('uint8', x, [1, 9, 13, 3])");
  });
});
