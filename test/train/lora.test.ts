/** Low-rank adapters, against PyTorch: tools/golden/lora_torch.py. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { type Graph, ownerOf } from '../../src/engine/graph.js';
import { initialize } from '../../src/engine/initializers.js';
import { adaptersOf, type LoraTargets, merged, withLora } from '../../src/engine/lora.js';
import { loadNetwork, type ReadParameter } from '../../src/engine/network.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import { trainedOf, withAdapters } from '../../src/train/lora.js';
import { parseLora } from '../../src/train/strategy.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { loadTrainable, type TrainableOptions } from '../../src/train/trainable.js';
import { dialectOf, relay } from '../../src/weights/plan/dialects.js';
import { readerOf, worst } from '../engine/support/parameters.js';
import {
  decodeFloats,
  fixturesFolder,
  type GoldenRow,
  type GoldenTensor,
  generateTensor,
  inputBatch,
  worstDifference,
} from '../support/golden.js';

interface Case {
  readonly rank: number;
  readonly alpha: number;
  readonly targets: LoraTargets;
  readonly logits: readonly (readonly number[])[];
  readonly loss: number;
  readonly gradients: Readonly<Record<string, Omit<GoldenTensor, 'values'> & { readonly values: string }>>;
}
const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'lora.json'), 'utf8')) as {
  readonly inputShape: readonly [number, number, number, number];
  readonly labels: readonly number[];
  readonly tensors: readonly GoldenRow[];
  readonly cases: readonly Case[];
};
const [count, side] = fixture.inputShape;
const CLASSES = 5;
/** Share of the reference's largest absolute value. */
const TOLERANCE = 1e-5;
/** Of gradients: float32 through twelve blocks against double precision; the worst found is 2.5e-5. */
const GRADIENT_TOLERANCE = 1e-4;

const published = findPublished(findBackbone('vit_ti16'), 'torch');
const size = { height: side, width: side };
const plain: Graph = withHead(buildBackbone(published, { size }), { hidden: [], dropout: 0 }, CLASSES);
const CUT = 'embedding';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

/** timm's numbers in our layout, and A and B by their paths. */
function readerFor(graph: Graph): ReadParameter {
  const rows = new Map(fixture.tensors.map((row) => [row[0], row]));
  const parameters = new Map(graph.parameters.map((parameter) => [parameter.path, parameter]));
  const dialect = dialectOf(published.dialect);
  return async (path) => {
    const parameter = parameters.get(path)!;
    if (path.includes('.lora.')) return generateTensor(path, parameter.shape, 0, 0.07);
    const owners = ownerOf(path) === 'head.logits' ? ['head'] : published.ownerNames(ownerOf(path));
    const names = owners.flatMap((owner) =>
      dialect.leafs(parameter.role, owner.split('.').at(-1)!).map((leaf) => (owner === '' ? leaf : `${owner}.${leaf}`)),
    );
    const values = generateTensor(...rows.get(names.find((name) => rows.has(name))!)!);
    const layout = dialect.layouts(parameter)[0]!;
    const part = published.part?.(ownerOf(path));
    return relay(values, part === undefined ? layout : { ...layout, part, view: layout.shape });
  };
}

const trains = (path: string): boolean => path.includes('.lora.') || path.startsWith('head.');

async function logitsOf(graph: Graph, read: ReadParameter, on: Engine = engine): Promise<Float32Array> {
  const network = await loadNetwork(graph, read, on, { outputs: ['logits'], fold: false });
  const x = tf.tensor4d(inputBatch(fixture.inputShape), [...fixture.inputShape]);
  const logits = network.run(x, ['logits']).get('logits')!;
  const values = (logits.dataSync() as Float32Array).slice();
  tf.dispose([x, logits]);
  network.dispose();
  return values;
}

/** A step behind the patches. */
async function stepOf(graph: Graph, on: Engine, options: TrainableOptions = {}) {
  const before = tf.memory().numTensors;
  const network = await loadTrainable(graph, readerFor(graph), on, { cut: CUT, trains, ...options });
  const frozen = await network.loadFrozen();
  const pixels = tf.tensor4d(inputBatch(fixture.inputShape), [...fixture.inputShape]);
  const x = frozen.enter(pixels);
  const targets = tf.tensor2d(smoothedTargets(fixture.labels, CLASSES, 0), [count, CLASSES]);
  const labels = tf.tensor1d([...fixture.labels], 'int32');
  const { loss, gradients } = network.step({ x, targets, labels, random: rng(0) });
  const found = new Map([...gradients].map(([path, each]) => [path, (each.dataSync() as Float32Array).slice()]));
  const held = { trainable: [...network.trainable.keys()], variables: [...network.variables.keys()] };
  tf.dispose([pixels, x, targets, labels, ...gradients.values()]);
  frozen.dispose();
  network.dispose();
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
  return { loss, gradients: found, ...held };
}

describe.each(fixture.cases)('rank $rank, alpha $alpha, on $targets', (each) => {
  const graph = withLora(plain, each);

  test('logits are those of PyTorch, and of the merged network', async () => {
    const read = readerFor(graph);
    const adapted = await logitsOf(graph, read);
    expect(worst(adapted, each.logits.flat())).toBeLessThan(TOLERANCE);
    expect(worst(await logitsOf(plain, merged(graph, read)), adapted)).toBeLessThan(TOLERANCE);
    // and not those of the network without
    expect(worst(await logitsOf(plain, read), adapted)).toBeGreaterThan(0.1);
  });

  const ways: Record<string, { on?: Partial<Engine>; options?: TrainableOptions }> = {
    'one graph': {},
    'one graph, blocks run again': { options: { recompute: true } },
    'operation by operation': { on: { device: 'gpu' } },
    "tfjs's operations": { on: { native: undefined } },
  };
  test.each(Object.keys(ways))('loss and gradients are those of PyTorch: %s', async (way) => {
    const { on, options } = ways[way]!;
    const { loss, gradients, trainable, variables } = await stepOf(graph, { ...engine, ...on }, options);
    expect(Math.abs(loss / each.loss - 1)).toBeLessThan(TOLERANCE);
    expect([...gradients.keys()].toSorted()).toEqual(Object.keys(each.gradients).toSorted());
    for (const [path, golden] of Object.entries(each.gradients)) {
      const expected = { ...golden, values: decodeFloats(golden.values) };
      expect(worstDifference(expected, gradients.get(path)!), path).toBeLessThan(GRADIENT_TOLERANCE);
    }
    // What is frozen is no variable, so it has no place in an optimiser.
    expect(trainable).toEqual(variables);
    expect(trainable).toHaveLength(12 * 2 * each.targets.length + 2);
  });
});

test('in bfloat16 the loss stays within its rounding', async () => {
  const each = fixture.cases[0]!;
  const { loss, gradients } = await stepOf(withLora(plain, each), engine, { precision: 'bfloat16' });
  expect(Math.abs(loss / each.loss - 1)).toBeLessThan(2 ** -7);
  expect([...gradients.keys()].toSorted()).toEqual(Object.keys(each.gradients).toSorted());
});

test('A begins uniform within 1 / sqrt(in), B at zero, as peft draws them', () => {
  const [a, b] = withLora(plain, { rank: 16, alpha: 16, targets: 'qv' }).parameters.filter(({ path }) =>
    path.startsWith('block1.attention.query.lora.'),
  );
  const drawn = initialize(a!.initializer, a!.shape, rng(0));
  const limit = 1 / Math.sqrt(192);
  const largest = Math.max(...drawn.map(Math.abs));
  expect(largest).toBeLessThanOrEqual(limit);
  expect(largest).toBeGreaterThan(0.99 * limit);
  // uniform in +-limit has the variance limit^2 / 3
  const variance = drawn.reduce((sum, value) => sum + value ** 2, 0) / drawn.length;
  expect(variance / (limit ** 2 / 3)).toBeCloseTo(1, 1);
  expect(new Set(initialize(b!.initializer, b!.shape, rng(0)))).toEqual(new Set([0]));
});

test('a network with new adapters computes what it did without, to the bit', async () => {
  const graph = withLora(plain, { rank: 4, alpha: 16, targets: 'qkvo' });
  const read = readerOf(graph);
  const fresh: ReadParameter = async (path) => (path.endsWith('.lora.b') ? (await read(path)).fill(0) : read(path));
  for (const on of [engine, { ...engine, native: undefined }]) {
    expect(await logitsOf(graph, fresh, on)).toEqual(await logitsOf(plain, fresh, on));
  }
  const kernel = 'block7.attention.value.kernel';
  expect(await merged(graph, fresh)(kernel)).toEqual(await fresh(kernel));
});

describe('a run', () => {
  const lora = { rank: 2, alpha: 2, targets: 'qv' } as const;

  test('trains the adapters and the head behind the first adapted block', () => {
    const { graph, cut } = withAdapters(plain, 'last:2', lora, 'vit_ti16');
    expect(cut).toBe('block10');
    const paths = graph.parameters.map(({ path }) => path).filter(trainedOf(graph)!);
    expect(paths).toEqual([
      ...adaptersOf(graph).flatMap(({ a, b }) => [a, b]),
      'head.logits.kernel',
      'head.logits.bias',
    ]);
    expect(withAdapters(plain, 'until:block4', lora, 'vit_ti16').cut).toBe('block4');
    expect(withAdapters(plain, 'backbone', lora, 'vit_ti16').cut).toBe(CUT);
    expect(trainedOf(plain)).toBeUndefined();
  });

  test('reads a rank, and alpha where it is given', () => {
    expect(parseLora({ lora: '8' })).toEqual({ rank: 8, alpha: 8, targets: 'qv' });
    expect(parseLora({ lora: '4,2.5', loraTargets: 'qkvo' })).toEqual({ rank: 4, alpha: 2.5, targets: 'qkvo' });
  });
});

describe('the graph', () => {
  test('has names, taps and blocks as before, adapters where they were asked for, and order', () => {
    const graph = withLora(plain, { rank: 2, alpha: 2, targets: 'qv' });
    const adapters = graph.nodes.filter(({ operation }) => operation.kind === 'low_rank');
    expect(adapters.map(({ path }) => path)).toEqual(
      plain.blocks.flatMap((block) => ['query', 'value'].map((name) => `${block}.attention.${name}.lora`)),
    );
    expect(graph.nodes.filter((node) => !adapters.includes(node)).map(({ path }) => path)).toEqual(
      plain.nodes.map(({ path }) => path),
    );
    graph.nodes.forEach((node, i) => {
      expect(node.id).toBe(i);
      for (const input of node.inputs) expect(graph.nodes.indexOf(input)).toBeLessThan(i);
    });
    expect([...graph.taps.keys()]).toEqual([...plain.taps.keys()]);
    expect([...graph.taps.values()].every((node) => graph.nodes.includes(node))).toBe(true);
    expect(graph.blocks).toEqual(plain.blocks);
    const [a, b] = adapters[0]!.parameters;
    expect([a!.shape, b!.shape]).toEqual([
      [192, 2],
      [2, 192],
    ]);
    expect(adaptersOf(graph)[1]).toEqual({
      kernel: 'block1.attention.value.kernel',
      a: 'block1.attention.value.lora.a',
      b: 'block1.attention.value.lora.b',
      scale: 1,
    });
  });

  test('has them only behind a tap where one is named', () => {
    const graph = withLora(plain, { rank: 2, alpha: 2, targets: 'qkv', behind: 'block10' });
    expect([...new Set(adaptersOf(graph).map(({ kernel }) => kernel.split('.')[0]))]).toEqual(['block11', 'block12']);
  });

  test('of a hybrid has them in its transformer alone', () => {
    const hybrid = findPublished(findBackbone('r50_vit_b16'), 'torch');
    const backbone = buildBackbone(hybrid, { size: { height: 64, width: 64 } });
    const graph = withLora(withHead(backbone, { hidden: [], dropout: 0 }, 2), { rank: 8, alpha: 8, targets: 'qv' });
    expect(adaptersOf(graph)).toHaveLength(24);
    expect(adaptersOf(graph).every(({ kernel }) => /^block\d+\.attention\.(query|value)\.kernel$/.test(kernel))).toBe(
      true,
    );
  });

  test('is refused without attention, and with a rank that saves nothing', () => {
    const resnet = buildBackbone(findPublished(findBackbone('resnet18'), 'torch'), { size });
    expect(() => withLora(resnet, { rank: 4, alpha: 4, targets: 'qv' })).toThrowError(
      expect.objectContaining({ code: 'NO_ATTENTION' }),
    );
    expect(() => withLora(plain, { rank: 4, alpha: 4, targets: 'qv', behind: 'pre_logits' })).toThrowError(
      expect.objectContaining({ code: 'NO_ATTENTION', message: expect.stringContaining('behind pre_logits') }),
    );
    expect(() => withLora(plain, { rank: 192, alpha: 4, targets: 'qv' })).toThrowError(
      expect.objectContaining({ code: 'LORA_RANK', message: expect.stringContaining('192') }),
    );
  });
});
