/** What is written for a published variant is what is read of it: names, shapes and numbers, for every one there is. */
import { describe, expect, test } from 'vitest';
import {
  type Backbone,
  backbones,
  buildBackbone,
  findBackbone,
  findPublished,
  type Published,
} from '../../src/backbones/index.js';
import type { Parameter } from '../../src/engine/graph.js';
import { elementsOf } from '../../src/weights/float-formats.js';
import { orderedKerasLayers } from '../../src/weights/keras/keras-order.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import { type PlannedTensor, planFile, readForFile } from '../../src/weights/plan/write-plan.js';
import type { TensorSource } from '../../src/weights/source.js';
import { listForwardGoldens, readForwardGolden } from '../support/golden.js';

/** The tensors of a file in memory, each made when it is asked for. */
function sourceOf(tensors: readonly PlannedTensor[], read: (path: string) => Promise<Float32Array>): TensorSource {
  return {
    format: 'safetensors',
    path: 'in memory',
    tensors: tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    metadata: {},
    read: (name) => readForFile(tensors.find((tensor) => tensor.name === name)!, read),
    close: async () => {},
  };
}

const sized = ({ inputSize }: Backbone) => ({ height: inputSize, width: inputSize });
const everyVariant = backbones.flatMap((backbone) => backbone.published.map((published) => ({ backbone, published })));

/** The largest kernels take seconds to make and say nothing that a kernel of another layer does not. */
const MOST_NUMBERS = 300_000;

/** Numbers of which no two places of one parameter have the same. */
const numbersOf = ({ shape }: Pick<Parameter, 'shape'>): Float32Array =>
  Float32Array.from({ length: elementsOf(shape) }, (_, i) => 1 + i * 2 ** -21);

async function differences(backbone: Backbone, published: Published, parameters: readonly Parameter[]) {
  const byPath = new Map(parameters.map((parameter) => [parameter.path, parameter]));
  const source = sourceOf(planFile(published, parameters), async (path) => numbersOf(byPath.get(path)!));
  const { rows } = planWeights(source, backbone, published);
  const found: string[] = rows.flatMap(({ verdict, parameter, tensor }) => {
    if (verdict === 'ok' || verdict === 'set_aside') return [];
    return [`${verdict}: ${parameter?.path ?? tensor?.name}`];
  });
  const read = rows.flatMap(({ parameter }) => (parameter === undefined ? [] : [parameter.path]));
  for (const { path } of parameters) if (!read.includes(path)) found.push(`not read: ${path}`);
  const seen = new Set<string>();
  for (const row of rows) {
    const { verdict, parameter, layout } = row;
    if (verdict !== 'ok' || parameter === undefined || elementsOf(row.tensor!.shape) > MOST_NUMBERS) continue;
    // one of each kind: blocks repeat, and 146 networks have thousands of layers
    const kind = parameter.path.replaceAll(/\d+/g, '') + JSON.stringify({ ...layout, shape: layout!.shape.length });
    if (seen.has(kind)) continue;
    seen.add(kind);
    const values = await readPlanned(source, row);
    const wanted = numbersOf(parameter);
    const tolerance = layout!.factor === undefined ? 0 : 2 ** -23; // a step of float32 between 1 and 2
    const differs = values.length !== wanted.length || values.some((v, i) => Math.abs(v - wanted[i]!) > tolerance);
    if (differs) found.push(`other numbers: ${parameter.path}`);
  }
  return found;
}

describe('written for every published variant and planned again', () => {
  test.each(backbones.map((backbone) => [backbone.name, backbone] as const))('%s', async (_, backbone) => {
    for (const published of backbone.published) {
      const { parameters } = buildBackbone(published, { size: sized(backbone), classes: 7 });
      expect(await differences(backbone, published, parameters), published.source).toEqual([]);
    }
  });

  test('with the parts that not every file has', async () => {
    for (const { backbone, published } of everyVariant) {
      if (published.representation === undefined && published.auxiliary === undefined) continue;
      const parts = { representation: published.representation !== undefined, classes: 7, auxiliary: 7 };
      const { parameters } = buildBackbone(published, { size: sized(backbone), ...parts });
      expect(await differences(backbone, published, parameters), published.source).toEqual([]);
    }
  });
});

test('fused projections come back as they were, and a part that is missing is noticed', async () => {
  const { backbone, published } = everyVariant.find((each) => each.published.part !== undefined)!;
  const { parameters } = buildBackbone(published, { size: sized(backbone) });
  const qkv = planFile(published, parameters).find(({ parts }) => parts.length === 3)!;
  expect(qkv.parts.map(({ parameter }) => parameter.path.split('.').at(-2))).toEqual(['query', 'key', 'value']);
  const [query] = qkv.parts;
  const values = await readForFile(qkv, async (path) =>
    numbersOf(query!.parameter).fill(path.includes('query') ? 1 : 2),
  );
  expect(values.slice(0, values.length / 3).every((value) => value === 1)).toBe(true);
  expect(values.slice(values.length / 3).every((value) => value === 2)).toBe(true);
  const without = parameters.filter(({ path }) => !path.includes('key'));
  expect(() => planFile(published, without)).toThrow(/is made of/);
});

describe('the reference has the same tensors', () => {
  // timm's names for networks that torchvision publishes
  const others = ['mobilenet_v2_1.0.timm'];
  const goldens = listForwardGoldens().filter(({ backbone, source }) => !others.includes(`${backbone}.${source}`));
  test.each(goldens)('$backbone $source', ({ backbone: name, source }) => {
    const golden = readForwardGolden(name, source);
    const backbone = findBackbone(name);
    const published = findPublished(backbone, golden.source);
    const classes = golden.tensors.at(-1)![1].at(-1)!;
    const auxiliary = golden.tensors.some(([tensor]) => tensor.startsWith('aux')) ? classes : undefined;
    const graph = buildBackbone(published, { size: sized(backbone), classes: published.classes, auxiliary });
    const planned = planFile(published, graph.parameters).filter(({ dtype }) => dtype === 'float32');
    const text = (tensor: string, shape: readonly number[]): string => `${tensor} [${shape.join(', ')}]`;
    const wanted = golden.tensors.filter(([tensor]) => !tensor.startsWith('normalization/'));
    const ours = planned.map((tensor) => text(tensor.name, tensor.shape));
    // whose layers Keras counted through the program that wrote the fixture
    if (published.counted !== true) {
      expect(ours.toSorted()).toEqual(wanted.map(([tensor, shape]) => text(tensor, shape)).toSorted());
    }
    if (published.dialect !== 'keras') return;
    const layers = orderedKerasLayers(graph, planned, published.submodels);
    const [submodels, plain] = [published.submodels ?? /^$/, (of: string) => of.replaceAll(/_\d+(?=\/|$)/g, '')];
    const owners = wanted.map(([tensor]) => {
      const first = tensor.split('/')[0]!;
      return submodels.test(first) ? first : tensor.slice(0, tensor.lastIndexOf('/'));
    });
    const shown = published.counted === true ? plain : (of: string) => of;
    const expected = [...new Set(owners)].map(shown);
    expect(layers.map((layer) => shown(layer.name))).toEqual(expected);
  });
});

test('in a model among the layers, trained weights come before statistics', () => {
  const backbone = findBackbone('resnet50');
  const published = findPublished(backbone, 'notes');
  const graph = buildBackbone(published, { size: sized(backbone), classes: 7 });
  const layers = orderedKerasLayers(graph, planFile(published, graph.parameters), published.submodels);
  expect(layers.map(({ name }) => name)).toEqual([
    ...['conv1', 'conv1/BatchNorm', 'block1', 'block2', 'block3', 'block4', 'logits'],
  ]);
  const leafs = layers[2]!.weights.map(({ name }) => name.split('/').at(-1)!);
  const statistics = leafs.filter((leaf) => leaf.startsWith('moving_'));
  expect(statistics).toHaveLength(2 * 10); // ten norms in three blocks
  expect(leafs.slice(-statistics.length)).toEqual(statistics);
});
