import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

const size = { height: 224, width: 224 };
const build = (name: string, source: string) =>
  buildBackbone(findPublished(findBackbone(name), source), { size, classes: 1000 });

// `_ops` of torchvision.models.convnext, 10^9 multiply-accumulates
test.each([
  ['convnext_tiny', '4.456'],
  ['convnext_small', '8.684'],
])('%s takes %s GMACs', (name, gmacs) => {
  for (const source of ['torch', 'keras']) {
    expect((analyse(build(name, source)).totals.macs / 1e9).toFixed(3)).toBe(gmacs);
  }
});

// torchvision.models.convnext: stochastic_depth_prob; keras.applications.convnext: drop_path_rate
test.each([
  ['convnext_tiny', 'torch', 18, 0.1],
  ['convnext_small', 'torch', 36, 0.4],
  ['convnext_tiny', 'keras', 18, 0],
])('%s from %s drops the paths of %i blocks, the last at %f', (name, source, count, last) => {
  const rates = build(name, source).nodes.flatMap(({ operation }) =>
    operation.kind === 'drop_path' ? [operation.rate] : [],
  );
  expect(rates).toEqual(Array.from({ length: count }, (_, i) => expect.closeTo((last * i) / (count - 1), 12)));
});

describe('names in published files', () => {
  // torchvision, timm, the authors' code (timm's checkpoint_filter_fn translates one into the other)
  test.each([
    ['stem.conv', 'features.0.0', 'stem.0', 'downsample_layers.0.0'],
    ['stem.norm', 'features.0.1', 'stem.1', 'downsample_layers.0.1'],
    ['stage2.downsample.norm', 'features.2.0', 'stages.1.downsample.0', 'downsample_layers.1.0'],
    ['stage4.downsample.conv', 'features.6.1', 'stages.3.downsample.1', 'downsample_layers.3.1'],
    ['stage1.block1.scale', 'features.1.0', 'stages.0.blocks.0', 'stages.0.0'],
    ['stage1.block2.depthwise', 'features.1.1.block.0', 'stages.0.blocks.1.conv_dw', 'stages.0.1.dwconv'],
    ['stage3.block9.norm', 'features.5.8.block.2', 'stages.2.blocks.8.norm', 'stages.2.8.norm'],
    ['stage3.block9.expand', 'features.5.8.block.3', 'stages.2.blocks.8.mlp.fc1', 'stages.2.8.pwconv1'],
    ['stage4.block3.project', 'features.7.2.block.5', 'stages.3.blocks.2.mlp.fc2', 'stages.3.2.pwconv2'],
    ['norm', 'classifier.0', 'head.norm', 'norm'],
    ['classifier', 'classifier.2', 'head.fc', 'head'],
  ])('%s', (path, ...names) => {
    expect(findPublished(findBackbone('convnext_tiny'), 'torch').ownerNames(path)).toEqual(names);
  });

  test('the published Keras files, whose layer scales have no name, and those without the classifier are complete', () => {
    const older = ([name, shape, center, scale]: GoldenRow): GoldenRow => [
      name
        .replace('_layer_scale/gamma', '_layer_scale/Variable')
        .replace(/^convnext_tiny_head_layernorm/, 'layer_normalization'),
      shape,
      center,
      scale,
    ];
    const rows = readForwardGolden('convnext_tiny', 'keras').tensors.map(older);
    const backbone = findBackbone('convnext_tiny');
    for (const tensors of [rows, rows.filter(([name]) => !name.includes('head_dense'))]) {
      const plan = planWeights(generatedSource(tensors, 'keras-h5'), backbone, findPublished(backbone, 'keras'));
      expect(faultsOf(plan)).toEqual([]);
      expect(plan.rows.filter((row) => row.verdict === 'ok').length).toBe(tensors.length);
    }
  });

  test("Keras 3's files, in which layer scales are counted through the program, are complete", () => {
    let counted = 0;
    const rows = readForwardGolden('convnext_tiny', 'keras').tensors.map(
      ([name, ...rest]): GoldenRow => [
        name.replace(/_layer_scale\/gamma$/, () => `_layer_scale/variable${counted++ === 0 ? '' : `_${counted}`}`),
        ...rest,
      ],
    );
    const backbone = findBackbone('convnext_tiny');
    expect(rows.some(([name]) => name.endsWith('_layer_scale/variable_18'))).toBe(true);
    const plan = planWeights(generatedSource(rows, 'keras-h5'), backbone, findPublished(backbone, 'keras'));
    expect(faultsOf(plan)).toEqual([]);
  });

  test("TensorFlow 2's checkpoints, which name layers without the models that hold them, are complete", () => {
    const rows = readForwardGolden('convnext_tiny', 'keras').tensors.map(
      ([name, ...rest]): GoldenRow => [name.replace(/^convnext_tiny_(stem|downsampling_block_\d)\//, ''), ...rest],
    );
    const backbone = findBackbone('convnext_tiny');
    const source = generatedSource(rows, 'tf-checkpoint');
    expect(rows.some(([name]) => name === 'convnext_tiny_downsampling_conv_2/kernel')).toBe(true);
    expect(faultsOf(planWeights(source, backbone, findPublished(backbone, 'keras')))).toEqual([]);
  });
});
