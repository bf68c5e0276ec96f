/** The MobileNets: their tables, the names of their files, and what differs between sources of one name. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { makeDivisible, timmBlock } from '../../src/backbones/mobilenet.js';
import type { Graph, Node } from '../../src/engine/graph.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { inference, run } from '../../src/engine/run.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { importWeights } from '../../src/weights/import.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import type { TensorSource } from '../../src/weights/source.js';
import { writeGoldenWeights } from '../cli/harness.js';
import { type GoldenRow, generatedSource, inputBatch, readForwardGolden } from '../support/golden.js';

const mobilenets = backbones.filter(({ family }) => family.startsWith('mobilenet'));
const at = (height: number, width = height) => ({ size: { height, width } });
const build = (name: string, source: string, size = 224): Graph =>
  buildBackbone(findPublished(findBackbone(name), source), at(size));

/** A fixture's file with other names; those that become undefined are left out. */
function renamed(name: string, publisher: string, rename: (name: string) => string | undefined): TensorSource {
  const rows = readForwardGolden(name, publisher).tensors.flatMap(([each, ...rest]): GoldenRow[] => {
    const other = rename(each);
    return other === undefined ? [] : [[other, ...rest]];
  });
  return generatedSource(rows, 'safetensors');
}

const planned = (file: TensorSource, name: string, source: string) => {
  const backbone = findBackbone(name);
  return planWeights(file, backbone, findPublished(backbone, source));
};

test.each([
  [8, 8], // never fewer than 8
  [3, 8],
  [11.2, 16], // 8 would take away more than a tenth: v2 at 0.35
  [12, 16],
  [18, 24],
  [44.8, 48],
  [60, 64],
  [147.2, 144],
  [1792, 1792],
])('%d channels become %i', (value, channels) => {
  expect(makeDivisible(value)).toBe(channels);
});

test('timm begins a stage where the width changes', () => {
  const widths = [16, 24, 24, 40, 40, 24];
  expect(widths.map((_, i) => timmBlock(widths, i))).toEqual([
    'blocks.0.0',
    'blocks.1.0',
    'blocks.1.1',
    'blocks.2.0',
    'blocks.2.1',
    'blocks.3.0',
  ]);
});

test.each([
  [32, 32],
  [33, 33],
  [128, 160],
  [193, 257],
])('a picture of %i by %i becomes a map of steps of 32', (height, width) => {
  for (const { family, published } of mobilenets) {
    for (const each of published) {
      const graph = buildBackbone(each, at(height, width));
      const map = graph.nodes.filter(({ shape }) => shape.length === 3).at(-1)!;
      // Five strides of 2 round up, all but those of Keras' v1 behind the stem: it pads by one whatever the size.
      const down = family === 'mobilenet_v1' && each.source === 'keras';
      const steps = (n: number) => (down ? Math.floor(Math.ceil(n / 2) / 16) : Math.ceil(n / 32));
      expect(map.shape.slice(0, 2)).toEqual([steps(height), steps(width)]);
      expect(graph.taps.get('pre_logits')!.shape).toHaveLength(1);
    }
  }
});

describe('v3', () => {
  /** Kernel, expansion, width, squeeze and excitation, nonlinearity and stride of a block: a row of Howard's tables. */
  function rowOf(graph: Graph, block: string) {
    const own = (ending: string): Node | undefined => graph.nodes.find((node) => node.path === `${block}.${ending}`);
    const depthwise = own('depthwise.conv')!;
    const { operation } = depthwise;
    return [
      depthwise.parameters[0]!.shape[0],
      depthwise.shape[2],
      own('project.conv')!.shape[2],
      own('scale') === undefined ? '-' : 'SE',
      own('depthwise.hard_swish') === undefined ? 'RE' : 'HS',
      operation.kind === 'depthwise_conv2d' ? operation.strides[0] : undefined,
    ];
  }

  test('is narrowed as Keras and slim narrow it', () => {
    const graph = build('mobilenet_v3_large_0.75', 'keras');
    expect(graph.blocks.map((block) => rowOf(graph, block))).toEqual([
      [3, 16, 16, '-', 'RE', 1],
      [3, 64, 24, '-', 'RE', 2],
      [3, 72, 24, '-', 'RE', 1],
      [5, 72, 32, 'SE', 'RE', 2],
      [5, 96, 32, 'SE', 'RE', 1],
      [5, 96, 32, 'SE', 'RE', 1],
      [3, 192, 64, '-', 'HS', 2],
      [3, 160, 64, '-', 'HS', 1],
      [3, 144, 64, '-', 'HS', 1],
      [3, 144, 64, '-', 'HS', 1],
      [3, 384, 88, 'SE', 'HS', 1],
      [3, 528, 88, 'SE', 'HS', 1],
      [5, 528, 120, 'SE', 'HS', 2],
      [5, 720, 120, 'SE', 'HS', 1],
      [5, 720, 120, 'SE', 'HS', 1],
    ]);
    expect(graph.taps.get('top')!.shape).toEqual([7, 7, 720]);
    expect(graph.taps.get('pre_logits')!.shape).toEqual([1280]);
  });

  test('is minimalistic without 5x5, squeeze and excitation, and hard activations', () => {
    for (const name of ['mobilenet_v3_large_minimalistic', 'mobilenet_v3_small_minimalistic']) {
      const graph = build(name, 'keras');
      for (const block of graph.blocks) expect(rowOf(graph, block)).toMatchObject([3, {}, {}, '-', 'RE', {}]);
      const names = graph.nodes.flatMap(({ operation }) => (operation.kind === 'activation' ? [operation.name] : []));
      expect(new Set(names)).toEqual(new Set(['relu']));
    }
  });

  test.each(['mobilenet_v3_small_1.0', 'mobilenet_v3_large_1.0'])('%s has the names of Keras 3 too', (name) => {
    const keras3 = renamed(name, 'keras', (each) => {
      const [leaf, ...owner] = each.split('/').reverse();
      return `${owner.reverse().join('_').replace('BatchNorm', 'bn').toLowerCase()}/${leaf}`;
    });
    expect(keras3.tensors.map((tensor) => tensor.name)).toEqual(
      expect.arrayContaining(['conv/kernel', 'conv_bn/gamma', 'conv_2/bias', 'logits/kernel']),
    );
    expect(faultsOf(planned(keras3, name, 'keras'))).toEqual([]);
    expect(recognise(keras3)[0]!.published.source).toBe('keras');
  });

  test('a file without the top is a network of its own, which ends at the pool', async () => {
    const name = 'mobilenet_v3_small_1.0';
    const file = renamed(name, 'keras', (each) => (/^(Conv_2|Logits)\//.test(each) ? undefined : each));
    expect(recognise(file).map(({ published }) => published.source)).toEqual(['keras_notop']);
    const plan = planned(file, name, 'keras_notop');
    expect(faultsOf(plan)).toEqual([]);
    expect(plan.classes).toBeUndefined();

    const operators = operatorsOf(await loadEngine());
    const parameters = new Map<string, tf.Tensor>();
    for (const row of plan.rows) {
      const { path, shape } = row.parameter!;
      parameters.set(path, tf.tensor(await readPlanned(file, row), [...shape]));
    }
    const graph = build(name, 'keras_notop', 64);
    const x = tf.tensor4d(inputBatch([2, 64, 64, 3]), [2, 64, 64, 3]);
    const options = { operators, parameters: (path: string) => parameters.get(path)!, mode: inference };
    const values = run(graph, new Map([[graph.input, x]]), ['top', 'pre_logits'], options);
    const mean = tf.mean(values.get('top')!, [1, 2]);
    expect(values.get('pre_logits')!.shape).toEqual([2, 576]);
    expect(tf.max(tf.abs(tf.sub(mean, values.get('pre_logits')!))).dataSync()[0]).toBeLessThan(1e-5);
    tf.dispose([x, mean, ...values.values(), ...parameters.values()]);
  });

  test("the constant of slim's gates goes into the projections behind them", async () => {
    const name = 'mobilenet_v3_small_1.0';
    const { tensors } = readForwardGolden(name, 'slim');
    const file = generatedSource(tensors, 'safetensors');
    const { rows } = planned(file, name, 'slim');
    const adapted = rows.filter((row) => row.layout?.factor !== undefined);
    // Howard 2019, table 2: every block but the second and the third has a gate
    expect(adapted.map((row) => row.parameter!.path)).toEqual(
      [0, 3, 4, 5, 6, 7, 8, 9, 10].map((block) => `block${block}.project.conv.kernel`),
    );
    const raw = await file.read('MobilenetV3/expanded_conv/project/weights');
    expect(await readPlanned(file, adapted[0]!)).toEqual(raw.map((value) => value * 6 * 0.16667));
    expect(new Set(adapted.map((row) => row.layout!.adaptation))).toEqual(
      new Set(["times 1.00002, since slim's gates are relu6(x + 3) * 0.16667"]),
    );
    const minimalistic = findPublished(findBackbone('mobilenet_v3_small_minimalistic'), 'slim');
    const graph = buildBackbone(minimalistic, at(224));
    expect(graph.parameters.filter((parameter) => minimalistic.layouts?.(parameter) !== undefined)).toEqual([]);
  });

  test("timm's own networks pad on both sides and have a smaller epsilon than those it took over", () => {
    const stem = (source: string) => {
      const [conv, norm] = build('mobilenet_v3_large_1.0', source).nodes.slice(1, 3);
      return [conv!.operation, norm!.operation];
    };
    const around = { top: 1, bottom: 1, left: 1, right: 1 };
    expect(stem('timm')).toMatchObject([{ padding: 'same' }, { epsilon: 1e-3 }]);
    expect(stem('timm_native')).toMatchObject([{ padding: around }, { epsilon: 1e-5 }]);
    expect(stem('torch')).toMatchObject([{ padding: around }, { epsilon: 1e-3, momentum: 0.99 }]);
  });
});

describe('sources', () => {
  test('that no name tells apart are named by an import, unless one was asked for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tl-alike-'));
    const file = join(folder, 'small.safetensors');
    await writeGoldenWeights(file, readForwardGolden('mobilenet_v3_small_0.75', 'timm'));
    const imported = (source?: string) => importWeights(file, { source, dryRun: true });
    expect(await imported()).toMatchObject({ source: 'timm', alike: ['timm_native'] });
    const report = await imported('torch');
    expect(report).toMatchObject({ source: 'timm', alike: ['timm_native'] });
    // one sentence for all tensors that something was done with
    expect(report.adaptations.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/^blocks\.0\.0\.se\.conv_reduce\.weight and \d+ others: 1x1 convolution read as a dense/),
    );
    expect(await imported('timm')).toMatchObject({ source: 'timm', alike: [] });
    expect(await imported('timm_native')).toMatchObject({ source: 'timm_native', alike: [] });
    rmSync(folder, { recursive: true });
  });

  test.each([
    ['mobilenet_v3_large_0.75', 'torch', 'timm'],
    ['mobilenet_v3_small_minimalistic', 'torch', 'timm'],
    ['mobilenet_v3_large_1.0', 'torch', 'torch'],
    ['mobilenet_v3_large_1.0', 'keras', 'keras'],
  ])('of %s, %s means %s', (name, asked, found) => {
    expect(findPublished(findBackbone(name), asked).source).toBe(found);
  });

  test('bare names mean width 1', () => {
    for (const name of ['mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v3_small']) {
      expect(findBackbone(name).name).toBe(`${name}_1.0`);
    }
  });

  test('say at which sizes they were trained', () => {
    const origin = (name: string, source: string) => findPublished(findBackbone(name), source).origin;
    expect(origin('mobilenet_v1_0.25', 'keras')).toMatch(/mobilenet_2_5_224_tf\.h5, also 192, 160 and 128 for 224$/);
    expect(origin('mobilenet_v1_0.25', 'slim')).toMatch(/mobilenet_v1_0\.25_224\.tgz, also 192, 160 and 128 for 224$/);
    expect(origin('mobilenet_v2_0.35', 'slim')).toMatch(/_0\.35_224\.tgz, also 192, 160, 128 and 96 for 224$/);
    expect(origin('mobilenet_v2_1.4', 'slim')).toMatch(/mobilenet_v2_1\.4_224\.tgz$/);
  });
});
