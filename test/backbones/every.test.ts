/**
 * What holds for every published variant of every backbone, and the list of them: a variant that is missing here, or
 * there, fails.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { type Backbone, backbones, buildBackbone, type Published } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import { cutAt, cuts } from '../../src/engine/graph.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { withHead } from '../../src/heads/heads.js';
import { parseStrategy } from '../../src/train/strategy.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { generatedSource } from '../support/golden.js';

/**
 * Trainable numbers with the published classifier, and those with the statistics of batch norms, by source. The counts
 * are those of the publishers' own models (keras.applications, tf-slim, torchvision, timm) and of the papers' tables.
 */
const TABLE: Readonly<Record<string, Readonly<Record<string, readonly [trainable: number, total: number]>>>> = {
  demo_cnn: { notes: [2_770_634, 2_770_634] },
  alexnet_v1: { notes: [16_630_440, 16_630_440] },
  alexnet_v2: { notes: [5_925_672, 5_925_672] },
  alexnet: { torch: [61_100_840, 61_100_840] },
  vgg11: both([132_863_336, 132_863_336], 'torch', 'notes'),
  vgg13: both([133_047_848, 133_047_848], 'torch', 'notes'),
  vgg16: {
    ...both([138_357_544, 138_357_544], 'keras', 'slim', 'torch', 'notes'),
    keras_notop: [14_714_688 + 513_000, 14_714_688 + 513_000],
  },
  vgg19: {
    ...both([143_667_240, 143_667_240], 'keras', 'slim', 'torch', 'notes'),
    keras_notop: [20_024_384 + 513_000, 20_024_384 + 513_000],
  },
  vgg11_bn: { torch: [132_868_840, 132_874_344] },
  vgg13_bn: { torch: [133_053_736, 133_059_624] },
  vgg16_bn: { torch: [138_365_992, 138_374_440] },
  vgg19_bn: { torch: [143_678_248, 143_689_256] },
  googlenet: { torch: [6_624_904, 6_639_464], slim: [6_618_649, 6_633_209], notes: [6_998_552, 6_998_552] },
  resnet18: { torch: [11_689_512, 11_699_112] },
  resnet34: both([21_797_672, 21_814_696], 'torch', 'notes'),
  resnet50: {
    ...both([25_583_592, 25_636_712], 'keras', 'keras_v1'),
    ...both([25_557_032, 25_610_152], 'torch', 'slim', 'notes'),
  },
  resnet101: { keras: [44_601_832, 44_707_176], ...both([44_549_160, 44_654_504], 'torch', 'slim', 'notes') },
  resnet152: { keras: [60_268_520, 60_419_944], ...both([60_192_808, 60_344_232], 'torch', 'slim') },
  resnext50_32x4d: both([25_028_904, 25_097_128], 'torch', 'keras'),
  resnext101_32x4d: both([44_177_704, 44_315_560], 'torch', 'keras'),
  resnext101_32x8d: { torch: [88_791_336, 88_994_216] },
  'mobilenet_v1_1.0': {
    ...both([4_231_976, 4_253_864], 'keras', 'torch'),
    slim: [4_233_001, 4_254_889],
    tfjs: [4_222_057, 4_222_057],
  },
  'mobilenet_v1_0.75': { keras: [2_585_560, 2_601_976], slim: [2_586_329, 2_602_745], tfjs: [2_578_121, 2_578_121] },
  'mobilenet_v1_0.5': { keras: [1_331_592, 1_342_536], slim: [1_332_105, 1_343_049], tfjs: [1_326_633, 1_326_633] },
  'mobilenet_v1_0.25': { keras: [470_072, 475_544], slim: [470_329, 475_801], tfjs: [467_593, 467_593] },
  'mobilenet_v2_1.0': {
    ...both([3_504_872, 3_538_984], 'keras', 'torch'),
    slim: [3_506_153, 3_540_265],
    tfjs: [3_489_097, 3_489_097],
  },
  'mobilenet_v2_1.4': {
    ...both([6_108_776, 6_156_712], 'keras', 'torch'),
    slim: [6_110_569, 6_158_505],
    tfjs: [6_086_601, 6_086_601],
  },
  'mobilenet_v2_1.3': { keras: [5_386_792, 5_431_048], slim: [5_388_457, 5_432_713], tfjs: [5_366_329, 5_366_329] },
  'mobilenet_v2_0.75': {
    ...both([2_636_424, 2_663_064], 'keras', 'torch'),
    slim: [2_637_705, 2_664_345],
    tfjs: [2_624_385, 2_624_385],
  },
  'mobilenet_v2_0.5': {
    ...both([1_968_680, 1_987_224], 'keras', 'torch'),
    slim: [1_969_961, 1_988_505],
    tfjs: [1_960_689, 1_960_689],
  },
  'mobilenet_v2_0.35': {
    ...both([1_677_128, 1_691_208], 'keras', 'torch'),
    slim: [1_678_409, 1_692_489],
    tfjs: [1_671_369, 1_671_369],
  },
  'mobilenet_v3_large_1.0': {
    ...both([5_483_032, 5_507_432], 'keras', 'torch', 'timm', 'timm_native'),
    slim: [5_484_313, 5_508_713],
    keras_notop: [2_971_952 + 961_000, 2_996_352 + 961_000],
  },
  'mobilenet_v3_large_0.75': {
    ...both([3_993_528, 4_012_616], 'keras', 'timm'),
    slim: [3_994_809, 4_013_897],
    keras_notop: [2_510_648, 2_529_736],
  },
  mobilenet_v3_large_minimalistic: {
    ...both([3_924_288, 3_948_688], 'keras', 'timm'),
    slim: [3_925_569, 3_949_969],
    keras_notop: [2_374_208, 2_398_608],
  },
  'mobilenet_v3_small_1.0': {
    ...both([2_542_856, 2_554_968], 'keras', 'torch', 'timm', 'timm_native'),
    slim: [2_543_881, 2_555_993],
    keras_notop: [927_008 + 577_000, 939_120 + 577_000],
  },
  'mobilenet_v3_small_0.75': {
    ...both([2_041_872, 2_051_552], 'keras', 'timm', 'timm_native'),
    slim: [2_042_897, 2_052_577],
    keras_notop: [1_006_480, 1_016_160],
  },
  mobilenet_v3_small_minimalistic: {
    ...both([2_044_736, 2_056_848], 'keras', 'timm'),
    slim: [2_045_761, 2_057_873],
    keras_notop: [1_005_888, 1_018_000],
  },
  vit_ti16: both([5_717_416, 5_717_416], 'flax', 'torch'),
  vit_s16: both([22_050_664, 22_050_664], 'flax', 'torch'),
  vit_b16: both([86_567_656, 86_567_656], 'flax', 'torch', 'timm'),
  vit_b32: both([88_224_232, 88_224_232], 'flax', 'torch', 'timm'),
  vit_l16: both([304_326_632, 304_326_632], 'flax', 'torch', 'timm'),
  vit_l32: both([306_535_400, 306_535_400], 'flax', 'torch', 'timm'),
  vit_h14: both([632_045_800, 632_045_800], 'flax', 'torch', 'timm'),
  r50_vit_b16: both([98_659_112, 98_659_112], 'flax', 'torch'),
  efficientnet_b0: both([5_288_548, 5_330_564], 'keras', 'torch', 'timm'),
  efficientnet_b1: both([7_794_184, 7_856_232], 'keras', 'torch', 'timm'),
  efficientnet_b2: both([9_109_994, 9_177_562], 'keras', 'torch', 'timm'),
  efficientnet_b3: both([12_233_232, 12_320_528], 'keras', 'torch', 'timm'),
  convnext_tiny: both([28_589_128, 28_589_128], 'keras', 'torch'),
  convnext_small: both([50_223_688, 50_223_688], 'keras', 'torch'),
  densenet121: both([7_978_856, 8_062_504], 'keras', 'torch'),
};

function both<T>(counts: T, ...sources: readonly string[]): Record<string, T> {
  return Object.fromEntries(sources.map((source) => [source, counts]));
}

const variants = backbones.flatMap((backbone) =>
  backbone.published.map((published) => ({ name: backbone.name, source: published.source, backbone, published })),
);

const sizeOf = ({ inputSize }: Backbone) => ({ height: inputSize, width: inputSize });
const whole = (backbone: Backbone, published: Published) =>
  buildBackbone(published, { size: sizeOf(backbone), classes: published.classes });

test('every variant is listed, and nothing else', () => {
  const listed = Object.entries(TABLE).flatMap(([name, row]) => Object.keys(row).map((source) => `${name} ${source}`));
  expect(variants.map(({ name, source }) => `${name} ${source}`).sort()).toEqual(listed.sort());
});

test('no name or alias stands for two backbones', () => {
  const names = backbones.flatMap(({ name, aliases }) => [name, ...aliases]);
  expect(new Set(names).size).toBe(names.length);
});

describe.each(variants)('$name from $source', ({ name, source, backbone, published }) => {
  test('has the published number of parameters, and allocates nothing', () => {
    const before = tf.engine().state.numTensors;
    const { trainable, parameters } = analyse(whole(backbone, published)).totals;
    expect([trainable, parameters]).toEqual(TABLE[name]![source]);
    expect(tf.engine().state.numTensors).toBe(before);
  });

  test('knows every parameter by a name of its own in published files', () => {
    const { parameters } = whole(backbone, published);
    const { rows } = planWeights(generatedSource([], 'safetensors'), backbone, published);
    const sought = rows.map((row) => {
      const owner = row.parameter!.path.slice(0, row.parameter!.path.lastIndexOf('.'));
      const part = published.part?.(owner);
      return row.sought.map((each) => (part === undefined ? each : `${each} part ${part.index} of ${part.of}`));
    });
    expect(sought.filter((names) => names.length === 0)).toEqual([]);
    const first = sought.map((names) => names[0]);
    expect(new Set(first).size).toBe(first.length);
    expect(parameters.length - rows.length).toBe(2); // the classifier, which an empty file does not have
    expect(published.ownerNames('classifier').length).toBeGreaterThan(0);
  });

  test('can be frozen every way', () => {
    const bare = buildBackbone(published, { size: sizeOf(backbone) });
    const graph = withHead(bare, { hidden: [], dropout: 0 }, 5);
    const taps = cuts(graph, 'logits');
    expect(taps).toContain('pre_logits');
    expect(parseStrategy('none', graph).cut).toBeUndefined();
    expect(parseStrategy('backbone', graph).cut).toBe('pre_logits');
    for (const tap of [taps[0]!, taps.at(-2)!]) expect(parseStrategy(`until:${tap}`, graph).cut).toBe(tap);
    const counts = [1, 2, graph.blocks.length].filter((n) => n <= graph.blocks.length);
    const trained = [...new Set(counts)].map((n) => {
      const { cut } = parseStrategy(`last:${n}`, graph);
      const after = cut === undefined ? graph.nodes : cutAt(graph, cut, 'logits').after;
      return after.flatMap((node) => node.parameters).length;
    });
    // more blocks, more parameters that are trained
    trained.forEach((count, i) => {
      expect(count).toBeGreaterThan(trained[i - 1] ?? 2);
    });
  });

  test('can be exported', () => {
    const { operations, outputs } = lowerGraph(whole(backbone, published), async () => {
      throw new Error('lowering reads no numbers');
    });
    expect(operations.map((each) => each.name)).toContain(outputs.logits);
  });
});
