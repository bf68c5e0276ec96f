/** Counts against published tables. They say that nothing is missing, not that the function is right: see golden/. */
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse, totalOf } from '../../src/engine/analysis.js';
import { buildGraph, type Graph } from '../../src/engine/graph.js';
import { add, around, conv2d, dense, depthwiseConv2d, globalAveragePool, maxPool } from '../../src/engine/layers.js';

const size = { height: 224, width: 224 };
const build = (name: string, source: string, classes?: number): Graph =>
  buildBackbone(findPublished(findBackbone(name), source), { size, classes });
const count = (name: string, source: string, classes?: number) => analyse(build(name, source, classes)).totals;

/**
 * name, source, trainable and total parameters with 1000 classes, total without the classifier, GMACs at 224x224:
 * keras.io/api/applications, the tables of slim's README and of torchvision.models, as far as each lists them.
 */
const table: readonly (readonly [string, string, number | null, number | null, number | null, string | null])[] = [
  ['resnet50', 'keras', 25_583_592, 25_636_712, 23_587_712, '3.86'],
  ['resnet50', 'keras_v1', 25_583_592, 25_636_712, 23_587_712, '3.86'],
  ['resnet50', 'torch', 25_557_032, 25_610_152, 23_561_152, '4.09'],
  ['resnet50', 'slim', 25_557_032, 25_610_152, 23_561_152, null],
  ['resnet50', 'notes', 25_557_032, 25_610_152, 23_561_152, '4.09'],
  ['resnet18', 'torch', 11_689_512, null, 11_186_112, '1.81'],
  ['resnet34', 'torch', 21_797_672, null, 21_301_696, '3.66'],
  ['resnet34', 'notes', 21_797_672, null, 21_301_696, '3.66'],
  ['resnet101', 'torch', 44_549_160, null, 42_605_504, '7.80'],
  ['resnet101', 'slim', 44_549_160, null, 42_605_504, null],
  ['resnet101', 'notes', 44_549_160, null, 42_605_504, '7.80'],
  ['resnet101', 'keras', null, 44_707_176, 42_658_176, '7.57'],
  ['resnet152', 'torch', 60_192_808, null, 58_295_232, '11.51'],
  ['resnet152', 'slim', 60_192_808, null, 58_295_232, null],
  ['resnet152', 'keras', null, 60_419_944, 58_370_944, '11.28'],
  ['resnext50_32x4d', 'torch', 25_028_904, 25_097_128, null, '4.23'],
  ['resnext50_32x4d', 'keras', 25_028_904, 25_097_128, null, '4.23'],
  ['resnext101_32x4d', 'torch', 44_177_704, 44_315_560, null, '7.97'],
  ['resnext101_32x4d', 'keras', 44_177_704, 44_315_560, null, '7.97'],
  ['resnext101_32x8d', 'torch', 88_791_336, null, null, '16.41'],
  ['googlenet', 'notes', 6_998_552, 6_998_552, null, '1.58'],
  ['googlenet', 'torch', 6_624_904, null, null, '1.50'],
  ['googlenet', 'slim', 6_617_624, 6_632_184, null, null],
  ['mobilenet_v1_1.0', 'keras', 4_231_976, 4_253_864, 3_228_864, '0.569'],
  ['mobilenet_v1_1.0', 'slim', 4_231_976, 4_253_864, 3_228_864, '0.569'],
  ['mobilenet_v1_1.0', 'torch', 4_231_976, 4_253_864, 3_228_864, '0.569'],
  ['mobilenet_v1_0.75', 'keras', 2_585_560, 2_601_976, null, null],
  ['mobilenet_v1_0.75', 'slim', 2_585_560, 2_601_976, null, null],
  ['mobilenet_v1_0.5', 'keras', 1_331_592, 1_342_536, null, null],
  ['mobilenet_v1_0.5', 'slim', 1_331_592, 1_342_536, null, null],
  ['mobilenet_v1_0.25', 'keras', 470_072, 475_544, null, '0.041'],
  ['mobilenet_v1_0.25', 'slim', 470_072, 475_544, null, '0.041'],
  ['mobilenet_v2_1.0', 'keras', 3_504_872, 3_538_984, 2_257_984, '0.301'],
  ['mobilenet_v2_1.0', 'slim', 3_504_872, 3_538_984, 2_257_984, '0.301'],
  ['mobilenet_v2_1.0', 'torch', 3_504_872, 3_538_984, 2_257_984, '0.301'],
  ['mobilenet_v2_1.4', 'keras', 6_108_776, 6_156_712, null, '0.582'],
  ['mobilenet_v2_1.4', 'slim', 6_108_776, 6_156_712, null, '0.582'],
  ['mobilenet_v2_1.4', 'torch', 6_108_776, 6_156_712, null, '0.582'],
  ['mobilenet_v2_1.3', 'keras', null, 5_431_048, null, null],
  ['mobilenet_v2_0.75', 'keras', null, 2_663_064, null, null],
  ['mobilenet_v2_0.5', 'keras', null, 1_987_224, null, null],
  ['mobilenet_v2_0.5', 'torch', null, 1_987_224, null, null],
  ['mobilenet_v2_0.35', 'keras', 1_677_128, 1_691_208, null, '0.059'],
  ['mobilenet_v2_1.3', 'slim', null, 5_431_048, null, null],
  ['mobilenet_v2_0.75', 'slim', null, 2_663_064, null, null],
  ['mobilenet_v2_0.75', 'torch', null, 2_663_064, null, null],
  ['mobilenet_v2_0.5', 'slim', null, 1_987_224, null, null],
  ['mobilenet_v2_0.35', 'slim', 1_677_128, 1_691_208, null, '0.059'],
  ['mobilenet_v2_0.35', 'torch', 1_677_128, 1_691_208, null, '0.059'],
  ['mobilenet_v3_large_1.0', 'keras', 5_483_032, 5_507_432, 4_226_432, '0.217'],
  ['mobilenet_v3_large_1.0', 'keras_notop', null, null, 2_996_352, null],
  ['mobilenet_v3_large_1.0', 'slim', 5_483_032, 5_507_432, null, '0.217'],
  ['mobilenet_v3_large_1.0', 'torch', 5_483_032, 5_507_432, null, '0.217'],
  ['mobilenet_v3_large_1.0', 'timm', 5_483_032, 5_507_432, null, '0.217'],
  ['mobilenet_v3_large_1.0', 'timm_native', 5_483_032, 5_507_432, null, '0.217'],
  ['mobilenet_v3_large_0.75', 'keras', 3_993_528, 4_012_616, null, '0.155'],
  ['mobilenet_v3_large_0.75', 'slim', 3_993_528, 4_012_616, null, '0.155'],
  ['mobilenet_v3_large_0.75', 'timm', 3_993_528, 4_012_616, null, '0.155'],
  ['mobilenet_v3_large_minimalistic', 'keras', 3_924_288, 3_948_688, null, '0.209'],
  ['mobilenet_v3_large_minimalistic', 'slim', 3_924_288, 3_948_688, null, '0.209'],
  ['mobilenet_v3_large_minimalistic', 'timm', 3_924_288, 3_948_688, null, '0.209'],
  ['mobilenet_v3_small_1.0', 'keras', 2_542_856, 2_554_968, 1_529_968, '0.057'],
  ['mobilenet_v3_small_1.0', 'keras_notop', null, null, 939_120, null],
  ['mobilenet_v3_small_1.0', 'slim', 2_542_856, 2_554_968, null, '0.057'],
  ['mobilenet_v3_small_1.0', 'torch', 2_542_856, 2_554_968, null, '0.057'],
  ['mobilenet_v3_small_1.0', 'timm', 2_542_856, 2_554_968, null, '0.057'],
  ['mobilenet_v3_small_1.0', 'timm_native', 2_542_856, 2_554_968, null, '0.057'],
  ['mobilenet_v3_small_0.75', 'keras', 2_041_872, 2_051_552, null, '0.043'],
  ['mobilenet_v3_small_0.75', 'slim', 2_041_872, 2_051_552, null, '0.043'],
  ['mobilenet_v3_small_0.75', 'timm', 2_041_872, 2_051_552, null, '0.043'],
  ['mobilenet_v3_small_0.75', 'timm_native', 2_041_872, 2_051_552, null, '0.043'],
  ['mobilenet_v3_small_minimalistic', 'keras', 2_044_736, 2_056_848, null, '0.052'],
  ['mobilenet_v3_small_minimalistic', 'slim', 2_044_736, 2_056_848, null, '0.052'],
  ['mobilenet_v3_small_minimalistic', 'timm', 2_044_736, 2_056_848, null, '0.052'],
];

describe('published counts', () => {
  test.each(table)('%s from %s', (name, source, trainable, total, headless, gmacs) => {
    const counted = count(name, source, 1000);
    if (trainable !== null) expect(counted.trainable).toBe(trainable);
    if (total !== null) expect(counted.parameters).toBe(total);
    if (headless !== null) expect(count(name, source).parameters).toBe(headless);
    if (gmacs !== null) expect((counted.macs / 1e9).toFixed(gmacs.length - gmacs.indexOf('.') - 1)).toBe(gmacs);
  });

  test.each([
    ['mobilenet_v1_1.0', 4_254_889],
    ['mobilenet_v2_1.0', 3_540_265],
    ['mobilenet_v3_large_1.0', 5_508_713],
    ['mobilenet_v3_small_1.0', 2_555_993],
    ['googlenet', 6_633_209],
  ])('%s with a background class', (name, total) => {
    expect(count(name, 'slim', 1001).parameters).toBe(total);
  });

  test('statistics are two numbers a channel of each batch norm', () => {
    const { statistics, trainable, parameters } = count('resnet50', 'keras', 1000);
    expect(statistics).toBe(53_120);
    expect(trainable + statistics).toBe(parameters);
  });
});

describe('receptive fields', () => {
  // Araujo 2019, table 1: measured by TensorFlow's receptive_field library on slim's networks
  test.each([
    ['resnet50', 'slim', 483],
    ['mobilenet_v1_1.0', 'slim', 315],
    ['mobilenet_v2_1.0', 'slim', 491],
  ])('%s from %s sees %i pixels in steps of 32', (name, source, pixels) => {
    const last = analyse(build(name, source))
      .rows.filter((row) => row.node.shape.length === 3)
      .at(-1)!;
    expect(last.receptiveField).toEqual([pixels, pixels]);
    expect(last.jump).toEqual([32, 32]);
  });

  test('padding does not matter, sides are apart, and the widest path counts', () => {
    const graph = buildGraph([40, 40, 3], (s, x) => {
      const a = conv2d(s.at('a'), x, 4, [3, 5], { stride: 2 });
      const b = maxPool(s.at('b'), a, 3, { stride: 2, padding: around(1) });
      const c = depthwiseConv2d(s.at('c'), b, 3);
      return globalAveragePool(s.at('e'), add(s.at('d'), b, c));
    });
    const rows = new Map(analyse(graph).rows.map((row) => [row.node.path, row]));
    expect(rows.get('input')).toMatchObject({ receptiveField: [1, 1], jump: [1, 1] });
    expect(rows.get('a')).toMatchObject({ receptiveField: [3, 5], jump: [2, 2] });
    expect(rows.get('b.max_pool')).toMatchObject({ receptiveField: [7, 9], jump: [4, 4] });
    expect(rows.get('d.add')).toMatchObject({ receptiveField: [15, 17], jump: [4, 4] });
    expect(rows.get('e.average')).toMatchObject({ receptiveField: [15 + 9 * 4, 17 + 9 * 4], jump: [40, 40] });
  });
});

test('multiply-accumulates by hand', () => {
  const graph = buildGraph([8, 6, 4], (s, x) => {
    const a = conv2d(s.at('a'), x, 10, 3, { stride: 2, groups: 2, bias: true });
    const b = depthwiseConv2d(s.at('b'), a, 3, { padding: 'valid' });
    return dense(s.at('d'), globalAveragePool(s.at('c'), b), 7);
  });
  const { rows, totals } = analyse(graph);
  const macs = Object.fromEntries(rows.map((row) => [row.node.path, row.macs]));
  expect(macs).toEqual({
    input: 0,
    a: 3 * 3 * (4 / 2) * 10 * (4 * 3), // biases are no multiplications
    b: 3 * 3 * 10 * (2 * 1),
    'c.average': 0,
    d: 10 * 7,
  });
  expect(totals.macs).toBe(2160 + 180 + 70);
  expect(totalOf(rows.filter((row) => row.node.path === 'a'))).toEqual({
    trainable: 190,
    statistics: 0,
    parameters: 190,
    macs: 2160,
  });
});
