import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';

const build = (name: string, source: string, size: number) =>
  buildBackbone(findPublished(findBackbone(name), source), { size: { height: size, width: size }, classes: 1000 });

// `_ops` of torchvision.models.efficientnet, 10^9 multiply-accumulates at the size of each weights' crop
test.each([
  ['efficientnet_b0', 224, '0.386'],
  ['efficientnet_b1', 240, '0.687'],
  ['efficientnet_b2', 288, '1.088'],
  ['efficientnet_b3', 300, '1.827'],
])('%s at %i takes %s GMACs', (name, size, gmacs) => {
  for (const source of ['torch', 'keras', 'timm']) {
    expect((analyse(build(name, source, size)).totals.macs / 1e9).toFixed(3)).toBe(gmacs);
  }
});

test('paths are dropped where there is a shortcut, at rates that grow with depth', () => {
  const rates = build('efficientnet_b0', 'keras', 224).nodes.flatMap(({ path, operation }) =>
    operation.kind === 'drop_path' ? [[path, operation.rate]] : [],
  );
  // keras.applications.efficientnet: drop_connect_rate * b / blocks, of the 16 blocks of which 7 change the shape
  expect(rates).toEqual(
    [
      ['stage2.block2', 2],
      ['stage3.block2', 4],
      ['stage4.block2', 6],
      ['stage4.block3', 7],
      ['stage5.block2', 9],
      ['stage5.block3', 10],
      ['stage6.block2', 12],
      ['stage6.block3', 13],
      ['stage6.block4', 14],
    ].map(([path, index]) => [`${path}.drop_path`, expect.closeTo((0.2 * Number(index)) / 16, 12)]),
  );
});

describe('names in published files', () => {
  // the last block of a stage of one, and the first of a stage of two: Keras' h5, torchvision, timm
  test.each([
    ['stem.conv', 'stem_conv', 'features.0.0', 'conv_stem'],
    ['stage1.block1.depthwise.conv', 'block1a_dwconv', 'features.1.0.block.0.0', 'blocks.0.0.conv_dw'],
    ['stage1.block1.depthwise.norm', 'block1a_bn', 'features.1.0.block.0.1', 'blocks.0.0.bn1'],
    ['stage1.block1.excite.reduce', 'block1a_se_reduce', 'features.1.0.block.1.fc1', 'blocks.0.0.se.conv_reduce'],
    ['stage1.block1.project.conv', 'block1a_project_conv', 'features.1.0.block.2.0', 'blocks.0.0.conv_pw'],
    ['stage1.block1.project.norm', 'block1a_project_bn', 'features.1.0.block.2.1', 'blocks.0.0.bn2'],
    ['stage2.block2.expand.conv', 'block2b_expand_conv', 'features.2.1.block.0.0', 'blocks.1.1.conv_pw'],
    ['stage2.block2.expand.norm', 'block2b_expand_bn', 'features.2.1.block.0.1', 'blocks.1.1.bn1'],
    ['stage2.block2.depthwise.norm', 'block2b_bn', 'features.2.1.block.1.1', 'blocks.1.1.bn2'],
    ['stage2.block2.excite.expand', 'block2b_se_expand', 'features.2.1.block.2.fc2', 'blocks.1.1.se.conv_expand'],
    ['stage2.block2.project.conv', 'block2b_project_conv', 'features.2.1.block.3.0', 'blocks.1.1.conv_pwl'],
    ['stage2.block2.project.norm', 'block2b_project_bn', 'features.2.1.block.3.1', 'blocks.1.1.bn3'],
    ['top.norm', 'top_bn', 'features.8.1', 'bn2'],
  ])('%s', (path, keras, torchvision, timm) => {
    const namesOf = (source: string) => findPublished(findBackbone('efficientnet_b0'), source).ownerNames(path);
    expect(namesOf('keras')).toEqual([keras]);
    expect(namesOf('torch')).toEqual([torchvision, timm]);
    expect(namesOf('timm')).toEqual([timm]);
  });
});
