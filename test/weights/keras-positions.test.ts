/** Files that call layers by class and number: whose layers they are follows from Keras' order, which is Keras' own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { classOf, DENSE, kerasLayers } from '../../src/weights/keras/keras-positions.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { layoutsOf } from '../../src/weights/plan/layouts.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';

/** Class -> names of the layers with weights, in the order of `model.layers`. */
type Positions = Readonly<Record<string, readonly string[]>>;

const { networks } = JSON.parse(readFileSync(join(fixturesFolder, 'keras-positions.json'), 'utf8')) as {
  networks: readonly { readonly of: readonly string[]; readonly layers: Positions }[];
};
const reference = new Map(networks.flatMap(({ of, layers }) => of.map((name) => [name, layers] as const)));

/** What our graph says, in the same form, with convolutions in the place of dense layers where Keras has some. */
function positionsOf(name: string, source: string): Positions[] {
  const backbone = findBackbone(name);
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  const layers = kerasLayers(findPublished(backbone, source), size)!;
  return DENSE.map((dense) => {
    const out: Record<string, string[]> = {};
    for (const layer of layers) {
      const kind = `${layer.model === '' ? '' : 'sequential/'}${classOf(layer, dense)}`;
      out[kind] = [...(out[kind] ?? []), layer.name];
    }
    return out;
  });
}

const variants = [...reference.keys()].map((each) => {
  const dot = each.lastIndexOf('.');
  return { name: each.slice(0, dot), source: each.slice(dot + 1) };
});

describe('the order in which Keras numbers the layers of a class', () => {
  test('is known of every published network of Keras', () => {
    const published = backbones.flatMap(({ name, published: all }) => all.map(({ source }) => `${name}.${source}`));
    expect(published.filter((each) => each.includes('.keras') && !reference.has(each))).toEqual([]);
  });

  test.each(variants)('$name as $source has it', ({ name, source }) => {
    const { normalization, ...expected } = reference.get(`${name}.${source}`)!; // of pixels, which is preprocessing
    expect(positionsOf(name, source)).toContainEqual(expected);
  });
});

/** A file with the layers of a network by class and number, in Keras' order; each tensor's own parameter beside it. */
function countedFile(name: string, source: string, prefix = '', classes: number | undefined = 7) {
  const backbone = findBackbone(name);
  const published = findPublished(backbone, source);
  const graph = buildBackbone(published, { size: { height: backbone.inputSize, width: backbone.inputSize }, classes });
  const tensors: TensorInfo[] = [];
  const paths = new Map<string, string>();
  const models = new Map<string, number>();
  const counts = new Map<string, number>();
  for (const [kind, owners] of Object.entries(reference.get(`${name}.${source}`)!)) {
    for (const owner of owners) {
      // a Sequential is a model of its own, numbered like a layer
      const model = kind.startsWith('sequential/') ? owner.slice(0, owner.indexOf('/')) : '';
      if (model !== '' && !models.has(model)) models.set(model, models.size);
      const path = model === '' ? '' : `${numbered('sequential', models.get(model)!)}/`;
      const own = kind.slice(kind.indexOf('/') + 1);
      const place = counts.get(path + own) ?? 0;
      counts.set(path + own, place + 1);
      const parameters = graph.parameters.filter(
        (each) => published.ownerNames(each.path.slice(0, each.path.lastIndexOf('.')))[0] === owner,
      );
      parameters.forEach((parameter, i) => {
        const shapes = layoutsOf(published, parameter).map(({ shape }) => shape);
        const shape = shapes.find(({ length }) => length === 4 && own === 'conv2d') ?? shapes[0]!;
        const tensor = `${prefix}${path}${numbered(own, place)}/vars/${i}`;
        tensors.push({ name: tensor, dtype: 'float32', shape });
        paths.set(parameter.path, tensor);
      });
    }
  }
  const file: TensorSource = {
    format: 'keras-h5',
    path: 'counted.weights.h5',
    tensors,
    metadata: { layout: 'keras3-weights', layers: 'counted' },
    read: () => Promise.reject(new Error('names only')),
    close: () => Promise.resolve(),
  };
  return { file, paths, backbone, published };
}

const numbered = (kind: string, number: number): string => (number === 0 ? kind : `${kind}_${number}`);

/** The same file with other tensors in it. */
const changed = (file: TensorSource, change: (tensor: TensorInfo) => TensorInfo): TensorSource => ({
  ...file,
  tensors: file.tensors.map(change),
});

describe('a file without names', () => {
  test.each(variants)('of $name as $source is planned by positions', ({ name, source }) => {
    for (const prefix of ['', 'functional/']) {
      const { file, paths, backbone, published } = countedFile(name, source, prefix);
      const plan = planWeights(file, backbone, published);
      expect(faultsOf(plan)).toEqual([]);
      expect(plan.classes).toBe(7);
      expect(plan.wrapper).toBe(prefix);
      const found = plan.rows.flatMap(({ parameter, tensor }) => (parameter ? [[parameter.path, tensor!.name]] : []));
      expect(new Map(found as [string, string][])).toEqual(paths);
    }
  });

  // so that nothing is ever guessed: a network that is added with the same classes and shapes fails here
  test.each(networks.map(({ of }) => ({ of })))('of $of.0 fits no other network', ({ of }) => {
    const dot = of[0]!.lastIndexOf('.');
    const [name, source] = [of[0]!.slice(0, dot), of[0]!.slice(dot + 1)];
    for (const classes of [7, undefined]) {
      const fits = recognise(countedFile(name, source, '', classes).file);
      expect(fits.map(({ backbone, published }) => [backbone.name, published.source])).toEqual([[name, source]]);
    }
  });

  test('with a head of somebody else keeps the names of its dense layers', () => {
    const { file, backbone, published } = countedFile('mobilenet_v2_0.35', 'keras', 'functional/', undefined);
    const head = (
      [
        ['dense', [1280, 16]],
        ['dense_1', [16, 3]],
      ] as const
    ).flatMap(([layer, shape]): TensorInfo[] => [
      { name: `${layer}/kernel`, dtype: 'float32', shape },
      { name: `${layer}/bias`, dtype: 'float32', shape: shape.slice(1) },
    ]);
    const plan = planWeights({ ...file, tensors: [...head, ...file.tensors] }, backbone, published);
    expect(faultsOf(plan)).toEqual([]);
    expect(plan.head?.classes).toBe(3);
    const own = plan.rows.filter(({ parameter }) => parameter?.path.startsWith('head.'));
    expect(own.map(({ tensor }) => tensor!.name).sort()).toEqual(head.map(({ name }) => name).sort());
  });

  test('says which layer has another shape, and nothing where there is one layer more', () => {
    const { file, backbone, published } = countedFile('mobilenet_v1_0.25', 'keras');
    const other = changed(file, (each) => (each.name === 'conv2d_5/vars/0' ? { ...each, shape: [1, 1, 3, 5] } : each));
    expect(faultsOf(planWeights(other, backbone, published))).toEqual([
      'wrong shape: conv2d_5/vars/0 is [1, 1, 3, 5], block5.pointwise.conv.kernel expects [1, 1, 64, 64]',
    ]);
    const more = { ...file, tensors: [...file.tensors, { ...file.tensors[0]!, name: 'conv2d_99/vars/0' }] };
    expect(planWeights(more, backbone, published).rows.filter(({ verdict }) => verdict === 'ok')).toEqual([]);
    for (const each of [other, more]) expect(recognise(each)).toEqual([]);
  });
});
