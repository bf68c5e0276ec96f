/** Files of one publisher in several variants: `--source keras` means whichever of Keras' a file turns out to be. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished, firstParameter } from '../../src/backbones/index.js';
import { importWeights } from '../../src/weights/import.js';
import { chooseVariant, type PlanOf, plansOf, recognise } from '../../src/weights/plan/variants.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { writeSafetensors } from '../../src/weights/safetensors.js';
import type { TensorSource } from '../../src/weights/source.js';
import { folderOf, listStored } from '../../src/weights/store.js';
import { tl } from '../cli/harness.js';
import { generatedSource, generateTensor, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';

const probe = 'block5_conv3/bias'; // its numbers follow from its name; all others are alike
let folder: string;
let file: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tl-variants-'));
  setHome(join(folder, 'home'));
  file = join(folder, 'vgg16_weights_tf_dim_ordering_tf_kernels_notop.safetensors');
  const convolutions = readForwardGolden('vgg16', 'keras').tensors.filter(([name]) => name.startsWith('block'));
  await writeSafetensors(
    file,
    convolutions.map(([name, shape, ...range]) => ({
      name,
      shape,
      read: () =>
        name === probe
          ? generateTensor(name, shape, ...range)
          : new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.01),
    })),
  );
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('the sources of a backbone differ, and the preferred one is no variant', () => {
  for (const { name, published } of backbones) {
    expect(published[0]!.variantOf, name).toBeUndefined();
    expect(new Set(published.map(({ source }) => source)).size, name).toBe(published.length);
    for (const { source, variantOf } of published) expect(variantOf, name).not.toBe(source);
  }
});

describe("Keras' VGG without its dense layers", () => {
  test('is imported as such, whether the source is named or not, and the import says so', async () => {
    const wanted = { source: 'keras_notop', variantOf: 'keras', classes: null, totals: { ok: 26 } };
    expect(await importWeights(file, { backbone: 'vgg16', source: 'keras', dryRun: true })).toMatchObject(wanted);
    expect(await importWeights(file, { dryRun: true })).toMatchObject({ backbone: 'vgg16', ...wanted });
    const ran = await tl(['import', file, '--backbone', 'vgg16', '--source', 'keras', '--dry-run']);
    expect(ran.stdout).toMatch(/vgg16 from keras_notop, a variant of keras, without a classifier/);
    const whole = await tl(['import', file, '--backbone', 'vgg16', '--source', 'slim', '--dry-run']);
    expect(whole.stderr).toContain('this file fits --backbone vgg16 --source keras_notop');
  });

  test('is then found under the name of its publisher', async () => {
    const missing = resolveWeights({ backbone: 'vgg16', source: 'keras', weights: 'auto' });
    await expect(missing).rejects.toMatchObject({
      code: 'WEIGHTS_NOT_FOUND',
      message: expect.stringContaining(
        `${folderOf('vgg16', 'keras')} or ${folderOf('vgg16', 'keras_notop')}`,
      ) as string,
      hint: expect.stringContaining('_notop.h5') as string,
    });
    const { folder: stored } = await importWeights(file, { backbone: 'vgg16', source: 'keras' });
    expect(stored).toBe(folderOf('vgg16', 'keras_notop'));
    for (const source of ['keras', 'keras_notop', undefined]) {
      for (const weights of ['auto', file, join(stored!, 'weights.safetensors')]) {
        const resolved = await resolveWeights({ backbone: 'vgg16', source, weights });
        expect(resolved.published.source, `${source} ${weights}`).toBe('keras_notop');
        expect(resolved.classes).toBeUndefined();
        expect(await resolved.read!('stage5.conv3.bias')).toEqual(generateTensor(probe, [512], 0, 0.1));
        await resolved.close();
      }
    }
    expect((await listStored()).stored.map(({ record }) => record.source)).toEqual(['keras_notop']);
    const other = resolveWeights({ backbone: 'vgg16', source: 'slim', weights: 'auto' });
    await expect(other).rejects.toMatchObject({
      message: expect.stringContaining('imported sources: keras_notop') as string,
    });
  });

  test('the variant itself is no name for the whole network', async () => {
    const own = join(folderOf('vgg16', 'keras_notop'), 'weights.safetensors');
    await expect(resolveWeights({ backbone: 'vgg16', source: 'torch', weights: own })).rejects.toMatchObject({
      code: 'WEIGHTS_MISMATCH',
      hint: 'name --backbone vgg16 --source keras_notop',
    });
  });
});

/** A file of all that a variant has. */
function whole(backbone: string, source: string): TensorSource {
  const published = findPublished(findBackbone(backbone), source);
  const { parameters } = buildBackbone(published, { size: { height: 224, width: 224 }, classes: 1000 });
  const leafs: Record<string, string> = { mean: 'moving_mean', variance: 'moving_variance' };
  return generatedSource(
    parameters.map(({ path, shape }) => {
      const dot = path.lastIndexOf('.');
      const leaf = path.slice(dot + 1);
      return [`${published.ownerNames(path.slice(0, dot))[0]}/${leafs[leaf] ?? leaf}`, shape, 0, 1] as const;
    }),
    'keras-h5',
  );
}

test('a source of which there are variants alone means the first of them', () => {
  const backbone = findBackbone('mobilenet_v3_small_0.75');
  expect(backbone.published.map(({ source }) => source)).not.toContain('torch');
  expect(findPublished(backbone, 'torch').source).toBe('timm');
  expect(() => findPublished(backbone, 'flax')).toThrow(expect.objectContaining({ code: 'UNKNOWN_SOURCE' }));
});

test('the file decides between the variants of a source', () => {
  for (const [name, source] of [
    ['resnet50', 'keras'],
    ['resnet50', 'keras_v1'],
    ['vgg19', 'keras'],
  ] as const) {
    const tensors = whole(name, source);
    expect(recognise(tensors)[0]).toMatchObject({ backbone: { name }, published: { source } });
    for (const wanted of [{}, { source: 'keras' }, { backbone: findBackbone(name) }]) {
      expect(chooseVariant(tensors, wanted), `${name} ${source}`).toMatchObject({ published: { source } });
    }
    const both = { backbone: findBackbone(name), source: 'keras' };
    expect(chooseVariant(tensors, both), `${name} ${source}`).toMatchObject({ published: { source } });
  }
});

test('where the network is named, the file is not compared with others', () => {
  const tensors = whole('resnet50', 'keras');
  const planOf = plansOf(tensors);
  const planned = new Set<string>();
  const watched: PlanOf = (variant) => {
    planned.add(variant.backbone.name);
    return planOf(variant);
  };
  chooseVariant(tensors, { backbone: findBackbone('resnet50'), source: 'keras' }, watched);
  expect([...planned]).toEqual(['resnet50']);
});

test.each(backbones.map((each) => [each.name, each] as const))(
  'the first parameter of %s, found without the rest',
  (_, backbone) => {
    const size = { height: backbone.inputSize, width: backbone.inputSize };
    for (const published of backbone.published) {
      expect(firstParameter(published, { size })).toEqual(buildBackbone(published, { size }).parameters[0]);
    }
  },
);
