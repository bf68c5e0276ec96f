/** What a report says was done to a file's numbers: each with its kind, the tensors concerned, and a sentence. */
import { expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { adaptationOfRow, adaptationsOf } from '../../src/weights/plan/adaptations.js';
import { pixelsToldApart } from '../../src/weights/plan/file-pixels.js';
import { type PlanOptions, planWeights } from '../../src/weights/plan/plan.js';
import type { TensorSource } from '../../src/weights/source.js';
import { generatedSource, readForwardGolden } from '../support/golden.js';

function done(name: string, publisher: string, change: Partial<TensorSource> = {}, options: PlanOptions = {}) {
  const source = { ...generatedSource(readForwardGolden(name, publisher).tensors, 'safetensors'), ...change };
  const backbone = findBackbone(name);
  const plan = planWeights(source, backbone, findPublished(backbone, publisher), options);
  return { plan, adaptations: adaptationsOf(plan, plan.rows, source) };
}

const tensorsOf = (name: string, publisher: string) =>
  generatedSource(readForwardGolden(name, publisher).tensors, 'safetensors').tensors;

test.each([
  ['vgg11_bn', 'torch', 'axes_moved', 11, /^axes of 11 tensors moved from torch's layout$/],
  [
    'vgg11_bn',
    'torch',
    'reordered',
    1,
    /^classifier\.0\.weight: rows of a flattened picture moved from channels first/,
  ],
  [
    'resnext50_32x4d',
    'keras',
    'reordered',
    16,
    /^conv2_block1_2_conv\/\w+ and 15 others: depthwise convolution and sums read/,
  ],
  [
    'mobilenet_v1_0.25',
    'slim',
    'reshaped',
    1,
    /^MobilenetV1\/Logits\/Conv2d_1c_1x1\/weights: 1x1 convolution read as a dense/,
  ],
  ['mobilenet_v3_small_1.0', 'slim', 'scaled', 9, /^MobilenetV3\/\S+ and 8 others: times 1\.00002, since slim's gates/],
  ['vit_ti16', 'torch', 'split', 24, /^72 parameters taken from 24 tensors, which hold several each$/],
  ['googlenet', 'slim', 'without_gamma', 0, /^57 of 57 norms have no gamma in the published network, and scale by 1$/],
] as const)('%s from %s: %s', (name, publisher, kind, count, text) => {
  const found = done(name, publisher).adaptations.filter((each) => each.kind === kind);
  expect(found).toHaveLength(1);
  expect(found[0]!.text).toMatch(text);
  expect(found[0]!.tensors).toHaveLength(count);
});

test('number types and quantisation', () => {
  const tensors = tensorsOf('mobilenet_v1_0.25', 'keras').map((tensor) =>
    tensor.name === 'conv1/kernel' ? { ...tensor, dtype: 'float16' as const } : tensor,
  );
  const { adaptations, plan } = done('mobilenet_v1_0.25', 'keras', {
    tensors,
    metadata: { quantized: 'uint8, uint16' },
  });
  expect(adaptations).toContainEqual({
    kind: 'dtype',
    tensors: ['conv1/kernel'],
    text: 'float16 made float32: conv1/kernel',
  });
  expect(adaptations).toContainEqual({
    kind: 'dequantised',
    tensors: [],
    text: 'numbers stored as uint8, uint16 made float32',
  });
  expect(adaptationOfRow(plan.rows[0]!)).toBe('float16 made float32');
  expect(adaptationOfRow(plan.rows[1]!)).toBeUndefined();
});

test('prefixes, and what is left out', () => {
  const tensors = tensorsOf('mobilenet_v1_0.25', 'keras')
    .filter(({ name }) => name !== 'conv1_bn/beta')
    .map((tensor) => ({ ...tensor, name: `outer/inner/${tensor.name}` }));
  const { adaptations } = done('mobilenet_v1_0.25', 'keras', { tensors }, { ignore: ['stem.norm.beta'] });
  expect(adaptations.map(({ kind, text }) => `${kind}: ${text}`)).toEqual([
    'prefix: prefix outer/inner/ left off every name',
    'reshaped: outer/inner/conv_preds/kernel: 1x1 convolution read as a dense layer',
    'left_out: stem.norm.beta left out: 0 everywhere, which has no effect',
  ]);
});

test('a row says what was done to it alone', () => {
  const { plan } = done('vit_ti16', 'torch');
  const said = (path: string) => adaptationOfRow(plan.rows.find(({ parameter }) => parameter!.path === path)!);
  expect(said('block1.attention.key.kernel')).toBe('part 2 of 3');
  expect(said('block1.mlp.expand.kernel')).toBeUndefined(); // moving axes is what every file of a dialect needs
});

test('a network that normalises pixels itself, and was trained on others than the published one', async () => {
  const golden = readForwardGolden('efficientnet_b0', 'keras').tensors;
  const source = generatedSource(golden, 'safetensors');
  const plan = planWeights(
    source,
    findBackbone('efficientnet_b0'),
    findPublished(findBackbone('efficientnet_b0'), 'keras'),
  );
  const told = async (mean: readonly number[], variance: readonly number[]) => {
    const read = async (name: string) => Float32Array.from(name.endsWith('/mean') ? mean : variance);
    return await pixelsToldApart({ ...source, read }, plan);
  };
  const deviations = [0.229, 0.224, 0.225]; // of torchvision, and what Keras' file has as variances
  expect(await told([0.485, 0.456, 0.406], deviations)).toEqual([]);
  expect(
    await told(
      [0.485, 0.456, 0.406],
      deviations.map((each) => each ** 2),
    ),
  ).toEqual([]);
  const [other] = await told([0, 0, 0], [1, 1, 1]);
  expect(other).toMatchObject({ kind: 'other_pixels', tensors: ['normalization/mean', 'normalization/variance'] });
  expect(other!.text).toMatch(/mean \[0, 0, 0\] and variance \[1, 1, 1\] are not the published ones/);
});
