import { expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import { tapOf } from '../../src/engine/graph.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

const densenet121 = findBackbone('densenet121');
const size = { height: 224, width: 224 };

// `_ops` of torchvision.models.densenet, 10^9 multiply-accumulates
test.each(['torch', 'keras'])('from %s takes 2.834 GMACs', (source) => {
  const graph = buildBackbone(findPublished(densenet121, source), { size, classes: 1000 });
  expect((analyse(graph).totals.macs / 1e9).toFixed(3)).toBe('2.834');
});

test('has the sizes and channels of table 1 of the paper', () => {
  const graph = buildBackbone(findPublished(densenet121, 'torch'), { size });
  const shapes = [
    'stem',
    'stem.pool',
    'stage1',
    'transition1',
    'stage2',
    'transition2',
    'stage3',
    'transition3',
    'top',
  ];
  expect(shapes.map((tap) => tapOf(graph, tap).shape)).toEqual([
    [112, 112, 64],
    [56, 56, 64],
    [56, 56, 256],
    [28, 28, 128],
    [28, 28, 512],
    [14, 14, 256],
    [14, 14, 1024],
    [7, 7, 512],
    [7, 7, 1024],
  ]);
  expect(graph.blocks.length).toBe(6 + 12 + 24 + 16);
});

test("Keras 3's files, in which names have no slashes, are complete", () => {
  const rows = readForwardGolden('densenet121', 'keras').tensors.map(
    ([name, ...row]): GoldenRow => [name.replace(/^conv1\//, 'conv1_'), ...row],
  );
  expect(rows.map(([name]) => name)).toContain('conv1_bn/moving_mean');
  const plan = planWeights(generatedSource(rows, 'keras-h5'), densenet121, findPublished(densenet121, 'keras'));
  expect(faultsOf(plan)).toEqual([]);
});

test('the published file of torchvision, from when modules had points in their names, is complete', () => {
  const older = ([name, ...row]: GoldenRow): GoldenRow => [
    name.replace(/(norm|conv)([12])\.(?=\w+$)/, '$1.$2.'),
    ...row,
  ];
  const rows = readForwardGolden('densenet121', 'torch').tensors.map(older);
  expect(rows.map(([name]) => name)).toContain('features.denseblock1.denselayer1.norm.1.weight');
  const plan = planWeights(generatedSource(rows, 'torch'), densenet121, findPublished(densenet121, 'torch'));
  expect(faultsOf(plan)).toEqual([]);
});
