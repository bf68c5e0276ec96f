/** Vision transformers: what golden fixtures of whole networks cannot show. */
import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { type BuildOptions, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { flaxNames } from '../../src/backbones/vit-names.js';
import { hybridResnet } from '../../src/backbones/vit-resnet.js';
import { analyse } from '../../src/engine/analysis.js';
import { buildGraph, type Graph, type Parameter } from '../../src/engine/graph.js';
import { globalAveragePool } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { loadTrainable } from '../../src/train/trainable.js';
import { adaptWeights } from '../../src/weights/adapt.js';
import { adaptationsOf } from '../../src/weights/plan/adaptations.js';
import { dialectOf } from '../../src/weights/plan/dialects.js';
import { assertComplete } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import {
  decodeFloats,
  fixturesFolder,
  type GoldenRow,
  generatedSource,
  generateTensor,
  inputBatch,
  worstDifference,
} from '../support/golden.js';

const square = (side: number): BuildOptions['size'] => ({ height: side, width: side });

function build(name: string, source: string, options: Partial<BuildOptions> = {}): Graph {
  return buildBackbone(findPublished(findBackbone(name), source), { size: square(224), ...options });
}

/** Names and shapes of one of Google's files, as flax writes them. */
function flaxFile(name: string, options: Partial<BuildOptions>): TensorSource {
  const leafs = dialectOf('flax').leafs;
  const shapeOf = ({ role, shape, unflattened }: Parameter): readonly number[] => {
    if (role === 'class_token') return [1, 1, ...shape];
    return role === 'position_embedding' ? [1, ...shape] : (unflattened ?? shape);
  };
  const tensors = build(name, 'flax', options).parameters.map((parameter): TensorInfo => {
    const owner = flaxNames(parameter.path.slice(0, parameter.path.lastIndexOf('.')))[0]!;
    const leaf = leafs(parameter.role, owner)[0]!;
    return { name: owner === '' ? leaf : `${owner}/${leaf}`, dtype: 'float32', shape: shapeOf(parameter) };
  });
  return { ...generatedSource([], 'npz'), tensors };
}

const flaxPlan = (name: string, source: TensorSource) => {
  const backbone = findBackbone(name);
  return planWeights(source, backbone, findPublished(backbone, 'flax'));
};

describe('counts', () => {
  // Dosovitskiy 2020, table 1, in millions; multiply-accumulates of convolutions, dense layers and attention
  test.each([
    ['vit_ti16', 5_524_416, '1.25'],
    ['vit_s16', 21_665_664, '4.60'],
    ['vit_b16', 85_798_656, '17.56'],
    ['vit_b32', 87_455_232, '4.41'],
    ['vit_l16', 303_301_632, '61.55'],
    ['vit_l32', 305_510_400, '15.38'],
    ['vit_h14', 630_764_800, '167.30'],
    ['r50_vit_b16', 97_890_112, '21.54'],
  ])('%s', (name, encoder, gmacs) => {
    expect(analyse(build(name, 'flax')).totals.parameters).toBe(encoder);
    expect((analyse(build(name, 'flax', { classes: 1000 })).totals.macs / 1e9).toFixed(2)).toBe(gmacs);
  });

  test.each([
    ['vit_b16', 103_186_515, 202],
    ['vit_b32', 104_843_091, 202],
    ['vit_l16', 326_740_307, 394],
    ['vit_l32', 328_949_075, 394],
    ['vit_h14', 660_385_363, 522],
    ['r50_vit_b16', 115_277_971, 358],
  ])('%s as on ImageNet-21k', (name, total, tensors) => {
    const graph = build(name, 'flax', { classes: 21_843, representation: true });
    expect(analyse(graph).totals.parameters).toBe(total);
    expect(graph.parameters).toHaveLength(tensors);
  });
});

describe('input sizes', () => {
  test.each([
    ['vit_b16', 224, 320, [1 + 14 * 20, 768]],
    ['vit_b32', 96, 32, [1 + 3 * 1, 768]],
    ['vit_h14', 28, 42, [1 + 2 * 3, 1280]],
    ['r50_vit_b16', 64, 48, [1 + 4 * 3, 768]],
  ])('%s takes %ix%i', (name, height, width, shape) => {
    expect(build(name, 'flax', { size: { height, width } }).taps.get('embedding')!.shape).toEqual(shape);
  });

  test.each([
    ['vit_b16', 225, 225, 'give a height and width of 224 or 240'],
    ['vit_b32', 64, 100, 'give a height of 64 and a width of 96 or 128'],
    ['vit_h14', 13, 230, 'give a height of 14 and a width of 224 or 238'],
    ['r50_vit_b16', 193, 193, 'give a height and width of 192 or 208'],
  ])('%s does not take %ix%i, and says what it takes', (name, height, width, hint) => {
    expect(() => build(name, 'torch', { size: { height, width } })).toThrowError(
      expect.objectContaining({ code: 'INPUT_SIZE', hint }),
    );
  });
});

describe("Google's files", () => {
  test('of ImageNet-21k have a representation layer and their own number of classes', () => {
    const source = flaxFile('vit_b16', { classes: 21_843, representation: true });
    const plan = flaxPlan('vit_b16', source);
    assertComplete(plan, 'ViT-B_16.npz');
    expect(plan.classes).toBe(21_843);
    expect(plan.graph.parameters.map(({ path }) => path)).toContain('representation.kernel');
    expect(plan.rows.flatMap(({ layout }) => layout?.adaptation ?? [])).toEqual([]); // heads apart are the usual form
    expect(recognise(source)[0]).toMatchObject({ backbone: { name: 'vit_b16' }, published: { source: 'flax' } });
  });

  test('that were fine-tuned have neither', () => {
    const plan = flaxPlan('vit_b16', flaxFile('vit_b16', { classes: 1000 }));
    assertComplete(plan, 'ViT-B_16.npz');
    expect(plan.classes).toBe(1000);
    expect(plan.graph.parameters.map(({ path }) => path)).not.toContain('representation.kernel');
  });

  test('of 384x384 keep their grid, which is resampled for another size', async () => {
    const plan = flaxPlan('vit_ti16', flaxFile('vit_ti16', { classes: 1000, size: square(384) }));
    assertComplete(plan, 'Ti_16.npz');
    const stored = plan.rows.flatMap(({ parameter }) => parameter ?? []);
    const position = stored.find(({ role }) => role === 'position_embedding')!;
    expect(position.shape).toEqual([1 + 24 * 24, 192]);
    expect(position.places!.grid).toEqual([24, 24]);
    // a slope down the picture stays one, and the class token its own
    const slope = Float32Array.from({ length: 577 * 192 }, (_, i) => (i < 192 ? 7 : Math.floor((i / 192 - 1) / 24)));
    const { read, adaptations } = adaptWeights(build('vit_ti16', 'flax'), stored, async () => slope);
    const values = await read(position.path);
    expect(values).toHaveLength(197 * 192);
    expect(values[0]).toBe(7);
    for (let row = 0; row < 14; row++) expect(values[(1 + row * 14) * 192]).toBeCloseTo((row * 23) / 13, 5);
    expect(adaptations.map(({ text }) => text)).toEqual([
      'position_embedding.embedding: resampled from 24x24 to 14x14 places linearly, corners in place',
    ]);
    expect(adaptationsOf(plan, plan.rows, generatedSource([], 'npz'))).toContainEqual({
      kind: 'grid',
      tensors: ['Transformer/posembed_input/pos_embedding'],
      text: expect.stringMatching(/^Transformer\S+ has 24x24 places, not 14x14: .* class token kept$/) as string,
    });
  });

  test("are also read with the names of today's flax", () => {
    const counted: readonly (readonly [RegExp, string])[] = [
      [/LayerNorm_2/, 'LayerNorm_1'],
      [/MultiHeadDotProductAttention_1/, 'MultiHeadDotProductAttention_0'],
      [/MlpBlock_3/, 'MlpBlock_0'],
    ];
    const source = flaxFile('vit_ti16', { classes: 1000 });
    const tensors = source.tensors.map((tensor) => ({
      ...tensor,
      name: counted.reduce((name, [old, now]) => name.replace(old, now), tensor.name),
    }));
    expect(tensors).not.toEqual(source.tensors);
    assertComplete(flaxPlan('vit_ti16', { ...source, tensors }), 'Ti_16.npz');
    // big_vision keeps the position embedding beside the class token, and everything under `params`
    const ofBigVision = tensors.map(({ name, ...tensor }) => ({
      ...tensor,
      name: `params/${name.replace('Transformer/posembed_input/', '')}`,
    }));
    expect(ofBigVision.map(({ name }) => name)).toContain('params/pos_embedding');
    const state = { name: 'opt/0/mu/cls', dtype: 'float32' as const, shape: [1, 1, 192] };
    assertComplete(flaxPlan('vit_ti16', { ...source, tensors: [...ofBigVision, state] }), 'i21k.npz');
  });
});

test("the hybrid's ResNet has jax' gradients: standardised kernels and group norms", async () => {
  const golden = JSON.parse(readFileSync(`${fixturesFolder}hybrid-resnet.json`, 'utf8')) as {
    tensors: GoldenRow[];
    inputShape: [number, number, number, number];
    classes: number;
    labelSmoothing: number;
    loss: number;
    gradients: Record<string, { shape: number[]; stride: number; max: number; values: string }>;
  };
  const [count, height, width] = golden.inputShape;
  const body = buildGraph([height, width, 3], (s, x) => {
    const config = { standardization: { epsilon: 1e-5, addedTo: 'deviation' }, epsilon: 1e-6 } as const;
    const y = hybridResnet(s, x, { ...config, initializer: { kind: 'zeros' } });
    return s.at('pre_logits').tap(globalAveragePool(s.at('pool'), y));
  });
  const graph = withHead(body, { hidden: [], dropout: 0 }, golden.classes);
  const rows = new Map(golden.tensors.map((row) => [row[0], row]));
  const byPath = new Map(graph.parameters.map((parameter) => [parameter.path, parameter]));
  const nameOf = (path: string): string => {
    const owner = path.slice(0, path.lastIndexOf('.'));
    return `${owner === 'head.logits' ? 'head' : flaxNames(owner)[0]}/${dialectOf('flax').leafs(byPath.get(path)!.role, owner)[0]}`;
  };
  const network = await loadTrainable(
    graph,
    async (path) => generateTensor(...rows.get(nameOf(path))!),
    await loadEngine(),
    undefined,
  );
  const labels = Array.from({ length: count }, (_, i) => i % golden.classes);
  const { loss, gradients } = network.step({
    x: tf.tensor4d(inputBatch(golden.inputShape), golden.inputShape),
    labels: tf.tensor1d(labels, 'int32'),
    targets: tf.tensor2d(smoothedTargets(labels, golden.classes, golden.labelSmoothing), [count, golden.classes]),
    random: rng(0),
  });
  expect(loss).toBeCloseTo(golden.loss, 4);
  expect(gradients.size).toBe(Object.keys(golden.gradients).length);
  for (const [path, gradient] of gradients) {
    const { values, ...reference } = golden.gradients[nameOf(path)]!;
    const difference = worstDifference({ ...reference, values: decodeFloats(values) }, await gradient.data());
    expect(difference, `gradient of ${path}`).toBeLessThan(1e-3);
  }
  tf.dispose([...gradients.values()]);
  network.dispose();
});
