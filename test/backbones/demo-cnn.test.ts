/** The demo network: what golden fixtures cannot show. */
import { expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import { type GoldenRow, generatedSource } from '../support/golden.js';

const backbone = findBackbone('demo_cnn');
const published = findPublished(backbone, 'notes');
const build = (side: number) => buildBackbone(published, { size: { height: side, width: side }, classes: 10 });

test('takes grey digits of 28x28 and counts as its tutorial does', () => {
  const graph = build(28);
  expect(graph.input.shape).toEqual([28, 28, 1]);
  expect(graph.taps.get('conv1')!.shape).toEqual([26, 26, 32]);
  expect(graph.taps.get('pre_logits')!.shape).toEqual([128]);
  // 3 * 3 * 32 + 32, 21632 * 128 + 128, 128 * 10 + 10: what model.summary() of Keras prints
  expect(analyse(graph).totals.trainable).toBe(320 + 2_769_024 + 1290);
  expect(published.preprocessing).toMatchObject({ scale: 1 / 255, mean: [0], std: [1] });
});

test('has one size', () => {
  expect(() => build(32)).toThrow(
    expect.objectContaining({
      code: 'INPUT_SIZE',
      message: expect.stringContaining('a grid of 26x26, and this input size gives 30x30') as string,
      hint: 'give a height and width of 28',
    }),
  );
});

test('a file counts its layers from wherever the program that wrote it stood', () => {
  const rows: GoldenRow[] = [
    ['conv2d_3/kernel', [3, 3, 1, 32], 0, 1],
    ['conv2d_3/bias', [32], 0, 1],
    ['dense_9/kernel', [21_632, 128], 0, 1],
    ['dense_9/bias', [128], 0, 1],
    ['dense_10/kernel', [128, 10], 0, 1],
    ['dense_10/bias', [10], 0, 1],
  ];
  const source = generatedSource(rows, 'keras-h5');
  expect(recognise(source).map((fit) => fit.backbone.name)).toEqual(['demo_cnn']);
  const plan = planWeights(source, backbone, published);
  expect(faultsOf(plan)).toEqual([]);
  expect(plan.rows.map((row) => [row.parameter!.path, row.tensor!.name])).toEqual([
    ['conv1.kernel', 'conv2d_3/kernel'],
    ['conv1.bias', 'conv2d_3/bias'],
    ['fc1.kernel', 'dense_9/kernel'],
    ['fc1.bias', 'dense_9/bias'],
    ['classifier.kernel', 'dense_10/kernel'],
    ['classifier.bias', 'dense_10/bias'],
  ]);
});
