/** AlexNet: what golden fixtures cannot show. */
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, isTop } from '../../src/backbones/index.js';
import { analyse, totalOf } from '../../src/engine/analysis.js';
import type { Graph } from '../../src/engine/graph.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import { json, tl } from '../cli/harness.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

const published = (name: string) => findBackbone(name).published[0]!;
const build = (name: string, height: number, width: number): Graph =>
  buildBackbone(published(name), { size: { height, width }, classes: 1000 });

test.each([
  ['alexnet_v1', 16_630_440, '0.311'],
  ['alexnet_v2', 5_925_672, null],
  ['alexnet', 61_100_840, '0.714'], // torchvision.models.AlexNet_Weights: num_params, _ops
])('%s has %i parameters', (name, parameters, gmacs) => {
  const { rows, totals } = analyse(build(name, 224, 224));
  expect(totals.trainable).toBe(parameters);
  if (gmacs !== null) expect((totals.macs / 1e9).toFixed(3)).toBe(gmacs);
  const layers = rows.filter(({ node }) => node.parameters.length > 0);
  expect(layers.filter(({ node }) => isTop(published(name), node)).map(({ node }) => node.path)).toEqual([
    'fc1',
    'fc2',
    'classifier',
  ]);
  const convolutions = totalOf(layers.filter(({ node }) => !isTop(published(name), node)));
  const [a, b, c, d, e] =
    name === 'alexnet' ? ([64, 192, 384, 256, 256] as const) : ([48, 128, 192, 192, 128] as const);
  expect(convolutions.trainable).toBe(
    121 * 3 * a + 25 * a * b + 9 * b * c + 9 * c * d + 9 * d * e + (a + b + c + d + e),
  );
});

test('tl summary prints the shapes that the arithmetic of windows gives', async () => {
  const { layers } = json<{ layers: { path: string; description: string; output: number[] }[] }>(
    await tl(['summary', 'alexnet_v1', '--json']),
  );
  const shape = (path: string) => layers.find((layer) => layer.path === path)!.output;
  // floor((size + padding - window) / stride) + 1, and the size itself where padding is SAME at stride 1
  expect(shape('conv1')).toEqual([(224 + 1 + 2 - 11) / 4 + 1, 55, 48]); // explicit padding
  expect(shape('conv1.max_pool')).toEqual([(55 - 3) / 2 + 1, 27, 48]); // VALID
  expect(shape('conv2')).toEqual([27, 27, 128]); // SAME
  expect(shape('conv2.max_pool')).toEqual([(27 - 3) / 2 + 1, 13, 128]);
  for (const [path, filters] of Object.entries({ conv3: 192, conv4: 192, conv5: 128 })) {
    expect(shape(path)).toEqual([13, 13, filters]);
  }
  expect(shape('conv5.max_pool')).toEqual([(13 - 3) / 2 + 1, 6, 128]);
  expect(shape('flat.reshape')).toEqual([6 * 6 * 128]);
  const text = (await tl(['summary', 'alexnet_v1'])).stdout;
  for (const each of ['55x55x48', '27x27x48', '27x27x128', '13x13x128', '13x13x192', '6x6x128', '4608', '2048']) {
    expect(text).toContain(each);
  }
  expect(text).toMatch(/conv1 +conv 11x11 \/4 pad/);
});

describe('input sizes', () => {
  test('flattened grids take those that give 6x6, and the error says which', () => {
    for (const side of [224, 255]) expect(() => build('alexnet_v1', side, side)).not.toThrow();
    for (const [height, width] of [
      [223, 224],
      [224, 256],
    ] as const) {
      expect(() => build('alexnet_v2', height, width)).toThrow(
        expect.objectContaining({ code: 'INPUT_SIZE', hint: 'give a height and width of 224 to 255' }),
      );
    }
  });

  test("torchvision's takes any of 63 pixels or more", () => {
    for (const [height, width] of [
      [63, 63],
      [193, 257],
      [640, 100],
    ] as const) {
      expect(build('alexnet', height, width).taps.get('pre_logits')!.shape).toEqual([4096]);
    }
    expect(() => build('alexnet', 62, 63)).toThrow(expect.objectContaining({ code: 'INPUT_TOO_SMALL' }));
  });
});

test('dropout stands before both dense layers, and blocks are convolutions and dense layers', () => {
  for (const [name, rate] of [
    ['alexnet_v1', 0.2],
    ['alexnet_v2', 0.2],
    ['alexnet', 0.5],
  ] as const) {
    const { nodes, blocks } = build(name, 224, 224);
    const dropouts = nodes.filter((node) => node.operation.kind === 'dropout');
    expect(dropouts.map((node) => [node.path, node.operation])).toEqual([
      ['fc1.dropout', { kind: 'dropout', rate }],
      ['fc2.dropout', { kind: 'dropout', rate }],
    ]);
    for (const drop of dropouts) expect(nodes[drop.id + 1]!.operation.kind).toBe('dense');
    expect(blocks).toEqual(['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc1', 'fc2']);
  }
});

describe('files that Keras counted', () => {
  /** As a program that made other networks before would have written them. */
  const moved = (name: string, wrap: (kind: string) => string): GoldenRow[] =>
    readForwardGolden(name, 'notes').tensors.map(([tensor, ...rest]) => {
      const [, kind, number = '0', leaf] = /^(conv2d|dense)(?:_(\d+))?(\/.*)$/.exec(tensor)!;
      return [`${wrap(kind!)}${kind}_${Number(number) + 7}${leaf}`, ...rest];
    });

  test.each(['alexnet_v1', 'alexnet_v2'])('%s from any number on', (name) => {
    const source = generatedSource(
      moved(name, () => ''),
      'keras-h5',
    );
    expect(recognise(source).map((fit) => fit.backbone.name)).toEqual([name]);
    const plan = planWeights(source, findBackbone(name), published(name));
    expect(faultsOf(plan)).toEqual([]);
    const names = new Map(plan.rows.map((row) => [row.parameter!.path, row.tensor!.name]));
    expect(names.get('conv1.kernel')).toBe('conv2d_7/kernel');
    expect(names.get('conv5.bias')).toBe('conv2d_11/bias');
    expect(names.get('fc1.kernel')).toBe('dense_7/kernel');
    expect(names.get('classifier.bias')).toBe('dense_9/bias');
  });

  test('the Sequentials of alexnet_v2 are counted too, and are no part of the names', () => {
    const wrap = (kind: string) => (kind === 'dense' ? 'sequential_5/' : 'sequential_4/');
    const source = generatedSource(moved('alexnet_v2', wrap), 'keras-h5');
    expect(recognise(source).map((fit) => fit.backbone.name)).toEqual(['alexnet_v2']);
    const plan = planWeights(source, findBackbone('alexnet_v2'), published('alexnet_v2'));
    expect(plan.wrapper).toBe('');
    expect(faultsOf(plan)).toEqual([]);
    expect(plan.rows[0]!.tensor!.name).toBe('sequential_4/conv2d_7/kernel');
    expect(plan.rows.at(-1)!.tensor!.name).toBe('sequential_5/dense_9/bias');
  });
});

test("the classifier's rows go from channels first to channels last", () => {
  const { parameters } = build('alexnet', 224, 224);
  const kernel = parameters.find(({ path }) => path === 'fc1.kernel')!;
  expect(kernel.unflattened).toEqual([6, 6, 256, 4096]);
});
