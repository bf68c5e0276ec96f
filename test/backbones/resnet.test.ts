/** What makes a ResNeXt a ResNeXt, and where the publishers' ResNets differ. Numbers against references: golden/. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { buildGraph, type Graph, type Node, type Scope, tapOf } from '../../src/engine/graph.js';
import { activation, add, batchNorm, concat, conv2d } from '../../src/engine/layers.js';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { inference, run } from '../../src/engine/run.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import { parameterNumbers, pixels } from '../engine/support/parameters.js';
import { generatedSource, readForwardGolden } from '../support/golden.js';

let operators: Operators;
beforeAll(async () => {
  operators = operatorsOf(await loadEngine());
});

function build(name: string, source: string, height = 224, width = 224): Graph {
  return buildBackbone(findPublished(findBackbone(name), source), { size: { height, width } });
}

function valueAt(graph: Graph, from: Node, x: tf.Tensor, tap: string, parameters: (path: string) => tf.Tensor) {
  return run(graph, new Map([[from, x]]), [tap], { operators, parameters, mode: inference }).get(tap)!;
}

describe('the three forms of a ResNeXt block (Xie 2016, figure 3)', () => {
  const [cardinality, width, out] = [32, 4, 256]; // 32x4d, stage 1
  const norm = { epsilon: 1e-5, momentum: 0.9 };

  /** From 256 channels to the 4 of one branch, and a 3x3 convolution among those. */
  function branch(s: Scope, x: Node): Node {
    const convNormRelu = (at: Scope, y: Node, size: number) =>
      activation(at, batchNorm(at.at('norm'), conv2d(at.at('conv'), y, width, size), norm), 'relu');
    return convNormRelu(s.at('conv3x3'), convNormRelu(s.at('reduce'), x, 1), 3);
  }

  const close = (s: Scope, x: Node, y: Node) =>
    s.at('out').tap(activation(s, add(s, x, batchNorm(s.at('expand.norm'), y, norm)), 'relu'));
  const branches = Array.from({ length: cardinality }, (_, i) => `branch${i}`);

  /** Figure 3a: every branch is brought back to 256 channels, and they are summed. */
  const split = buildGraph([7, 6, out], (s, x) => {
    const expanded = branches.map((name) => conv2d(s.at(name).at('expand.conv'), branch(s.at(name), x), out, 1));
    return close(
      s,
      x,
      expanded.reduce((sum, each, i) => add(s.at(`sum${i}`), sum, each)),
    );
  });
  /** Figure 3b: branches are joined, and brought back together. */
  const early = buildGraph([7, 6, out], (s, x) => {
    const joined = concat(
      s,
      branches.map((name) => branch(s.at(name), x)),
    );
    return close(s, x, conv2d(s.at('expand.conv'), joined, out, 1));
  });
  /** Figure 3c: the second block of the network itself. */
  const network = build('resnext50_32x4d', 'torch', 32, 32);
  const byPath = new Map(network.parameters.map((parameter) => [parameter.path, parameter]));

  function whole(path: string): tf.Tensor {
    const parameter = byPath.get(`stage1.block2.${path}`)!;
    return tf.tensor(parameterNumbers(parameter), [...parameter.shape]);
  }

  /** A branch's share of the block's weights: its outputs, and of the last convolution its inputs. */
  function share(path: string): tf.Tensor {
    const match = /^branch(\d+)\.(.+)$/.exec(path);
    if (match === null) return whole(path);
    const of = whole(match[2]!);
    const axis = path.endsWith('expand.conv.kernel') ? 2 : of.rank - 1;
    const begin = new Array<number>(of.rank).fill(0);
    const size = [...of.shape];
    [begin[axis], size[axis]] = [width * Number(match[1]), width];
    return tf.slice(of, begin, size);
  }

  test.each([
    ['split branches and a sum', split],
    ['early concatenation', early],
  ])('%s: the same function as a grouped convolution', (_, graph) => {
    tf.tidy(() => {
      const x = tf.relu(tf.tensor4d(pixels([2, 7, 6, out]), [2, 7, 6, out]));
      const grouped = valueAt(network, tapOf(network, 'stage1.block1'), x, 'stage1.block2', (path) =>
        whole(path.replace('stage1.block2.', '')),
      );
      const apart = valueAt(graph, graph.input, x, 'out', share);
      const largest = tf.max(tf.abs(grouped)).dataSync()[0]!;
      expect(largest).toBeGreaterThan(2);
      expect(tf.max(tf.abs(tf.sub(grouped, apart))).dataSync()[0]! / largest).toBeLessThan(2e-6);
      const branchOut = tf.max(tf.abs(tf.sub(grouped, x))).dataSync()[0]!;
      expect(branchOut, 'the branches add something').toBeGreaterThan(1);
    });
  });

  test('they have the same number of parameters', () => {
    const count = (graph: Graph, prefix: string) =>
      graph.parameters
        .filter(({ path }) => path.startsWith(prefix))
        .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const kernels = 256 * 128 + 3 * 3 * 4 * 128 + 128 * 256; // Xie 2016, equation 4: C (256 d + 9 d d + 256 d)
    const norms = 4 * (128 + 128 + 256);
    expect(count(network, 'stage1.block2.')).toBe(kernels + norms);
    expect(count(split, '')).toBe(kernels + norms);
    expect(count(early, '')).toBe(kernels + norms);
  });
});

const variants = backbones
  .filter(({ family }) => family === 'resnet' || family === 'resnext')
  .flatMap(({ name, published }) => published.map(({ source }) => ({ name, source })));

describe.each(variants)('$name from $source', ({ name, source }) => {
  test('halves what is left of the picture five times, rounding up', () => {
    const graph = build(name, source, 193, 257);
    const shapeOf = (tap: string) => tapOf(graph, tap).shape.slice(0, 2);
    expect(shapeOf('stem')).toEqual([97, 129]);
    expect(shapeOf('stem.pool')).toEqual([49, 65]);
    // slim takes the stride in the last block of a stage, all others in the first one of the next
    const slim = source === 'slim';
    expect(shapeOf('stage1')).toEqual(slim ? [25, 33] : [49, 65]);
    expect(shapeOf('stage2')).toEqual(slim ? [13, 17] : [25, 33]);
    expect(shapeOf('stage3')).toEqual(slim ? [7, 9] : [13, 17]);
    expect(shapeOf('stage4')).toEqual([7, 9]);
    expect(tapOf(graph, 'pre_logits').shape).toEqual([/^resnet(18|34)$/.test(name) ? 512 : 2048]);
  });
});

test('depth is the number of convolutions and dense layers on the longest path', () => {
  for (const { name, source } of variants) {
    const perBlock = /^resnet(18|34)$/.test(name) ? 2 : 3;
    const layers = Number(/\d+/.exec(name)![0]);
    expect(build(name, source).blocks.length, name).toBe((layers - 2) / perBlock);
  }
});

// One part in 10^8 of a variance near 1 shows in no output, so what each publisher's code says is written out here.
test.each([
  ['resnet50', 'keras', 1.001e-5, 1.001e-5, 0.99],
  ['resnet50', 'keras_v1', 1e-3, 1e-3, 0.99],
  ['resnet50', 'slim', 1e-5, 1e-5, 0.997],
  ['resnet18', 'torch', 1e-5, 1e-5, 0.9],
  ['resnet34', 'notes', 1e-5, 1.001e-5, 0.9],
  ['resnet101', 'notes', 1e-5, 1.001e-5, 0.9],
  ['resnext50_32x4d', 'torch', 1e-5, 1e-5, 0.9],
  ['resnext101_32x4d', 'keras', 1.001e-5, 1.001e-5, 0.99],
])('%s from %s: epsilon %d, in shortcuts %d, momentum %d', (name, source, epsilon, shortcutEpsilon, momentum) => {
  const norms = build(name, source).nodes.flatMap(({ operation, path }) =>
    operation.kind === 'batch_norm' ? [{ ...operation, inShortcut: path.includes('.shortcut.') }] : [],
  );
  const epsilons = (inShortcut: boolean) =>
    new Set(norms.filter((norm) => norm.inShortcut === inShortcut).map((norm) => norm.epsilon));
  expect(epsilons(false)).toEqual(new Set([epsilon]));
  expect(epsilons(true)).toEqual(new Set([shortcutEpsilon]));
  expect(new Set(norms.map((norm) => norm.momentum))).toEqual(new Set([momentum]));
});

test('a projection stands where strides or channels ask for one: not in the first stage of basic blocks', () => {
  const projections = (name: string, source: string) => [
    ...new Set(
      build(name, source)
        .parameters.map(({ path }) => /^(stage\d\.block\d+)\.shortcut/.exec(path)?.[1])
        .filter((path) => path !== undefined),
    ),
  ];
  const later = ['stage2.block1', 'stage3.block1', 'stage4.block1'];
  expect(projections('resnet34', 'notes')).toEqual(later);
  expect(projections('resnet18', 'torch')).toEqual(later);
  expect(projections('resnet50', 'notes')).toEqual(['stage1.block1', ...later]);
  expect(projections('resnext50_32x4d', 'keras')).toEqual(['stage1.block1', ...later]);
  expect(projections('resnet50', 'slim')).toEqual(['stage1.block1', ...later]);
});

describe('files', () => {
  const planOf = (name: string, source: string, change: (rows: Row[]) => Row[]) => {
    const backbone = findBackbone(name);
    const file = generatedSource(change([...readForwardGolden(name, source).tensors]), 'safetensors');
    return planWeights(file, backbone, findPublished(backbone, source));
  };
  type Row = ReturnType<typeof readForwardGolden>['tensors'][number];

  test("the fixed kernels by which Keras' ResNeXt may sum a group are set aside", () => {
    const sums: Row = ['conv2_block1_2_gconv/kernel', [1, 1, 512, 128], 0, 1];
    const { rows } = planOf('resnext50_32x4d', 'keras', (tensors) => [...tensors, sums]);
    const others = rows.filter(({ verdict }) => verdict !== 'ok');
    expect(others.map(({ verdict, tensor }) => [verdict, tensor!.name])).toEqual([['set_aside', sums[0]]]);
  });

  test("only ResNeXt's 3x3 kernels are read from a depthwise convolution", () => {
    const { rows } = planOf('resnext50_32x4d', 'keras', (tensors) => tensors);
    const adapted = rows.filter(({ layout }) => layout?.adaptation !== undefined);
    expect(adapted.map(({ parameter }) => parameter!.path)).toEqual(
      rows.map(({ parameter }) => parameter!.path).filter((path) => /\.conv3x3\.conv\.kernel$/.test(path)),
    );
    expect(adapted).toHaveLength(16);
  });

  test('what the training script of the notes saves is told by its objects, where names are the same', () => {
    // as save_weights of TensorFlow 2.15 wrote them: names that are unique, else the path of attributes
    const inside = 'layer_with_weights-0/';
    const written: Readonly<Record<string, string>> = {
      'block1/unit_1/conv1/kernel': 'layer_with_weights-2/layer_with_weights-0/conv1/kernel',
      'block1/unit_1/conv1/BatchNorm/gamma': 'layer_with_weights-2/layer_with_weights-0/bn1/gamma',
      'block2/conv1/kernel': 'layer_with_weights-3/layer_with_weights-0/downsample/layer_with_weights-0/kernel',
      'block2/BatchNorm/beta': 'layer_with_weights-3/layer_with_weights-0/downsample/layer_with_weights-1/beta',
      'block4/unit_3/conv3/kernel': 'layer_with_weights-5/layer_with_weights-2/conv3/kernel',
    };
    const pathOf = (name: string): string => {
      const unit = /^block(\d)\/(?:unit_(\d)\/)?(?:(conv\d)\/)?(BatchNorm\/)?(\w+)$/.exec(name);
      if (unit === null)
        return name.replace('conv1/BatchNorm', 'layer_with_weights-1').replace('conv1', 'layer_with_weights-0');
      const [, stage, block, conv, norm, leaf] = unit;
      const at = `layer_with_weights-${Number(stage) + 1}/layer_with_weights-${Number(block ?? 1) - 1}`;
      if (block === undefined) return `${at}/downsample/layer_with_weights-${norm === undefined ? 0 : 1}/${leaf}`;
      return `${at}/${norm === undefined ? conv : conv!.replace('conv', 'bn')}/${leaf}`;
    };
    for (const [name, path] of Object.entries(written)) expect(pathOf(name)).toBe(path);
    const rows = readForwardGolden('resnet50', 'notes').tensors.filter(([name]) => !name.startsWith('logits/'));
    const isUnique = (name: string) => /^conv1\/BatchNorm\/|^block3\/unit_[56]\//.test(name);
    const objectPaths = new Map<string, string>();
    const tensors = rows.map(([name, ...rest]): Row => {
      const own = isUnique(name) ? name.replace(/^block3\//, '') : `${inside}${pathOf(name)}`;
      objectPaths.set(own, `${inside}${pathOf(name)}`);
      return [own, ...rest];
    });
    tensors.push(['dense/kernel', [2048, 1024], 0, 1], ['dense/bias', [1024], 0, 1]);
    tensors.push(['dense_1/kernel', [1024, 5], 0, 1], ['dense_1/bias', [5], 0, 1]);
    const file = { ...generatedSource(tensors, 'tf-checkpoint'), objectPaths };
    expect(recognise(file)[0]).toMatchObject({ backbone: { name: 'resnet50' }, published: { source: 'notes' } });
    const plan = planWeights(file, findBackbone('resnet50'), findPublished(findBackbone('resnet50'), 'notes'));
    expect(plan.rows.every(({ verdict }) => verdict === 'ok')).toBe(true);
    expect(plan.head).toMatchObject({ hidden: [1024], classes: 5 });
    const tensorOf = (path: string) => plan.rows.find(({ parameter }) => parameter!.path === path)!.tensor!.name;
    expect(tensorOf('stage3.block5.reduce.conv.kernel')).toBe('unit_5/conv1/kernel');
    expect(tensorOf('stage1.block1.shortcut.norm.mean')).toBe(
      `${inside}layer_with_weights-2/layer_with_weights-0/downsample/layer_with_weights-1/moving_mean`,
    );
  });

  test("a projection of the notes is found by older TensorFlow's names too", () => {
    const older = (name: string) => name.replace(/^(block\d)\/(conv1|BatchNorm)\//, '$1/unit_1/shortcut/$2/');
    for (const name of ['resnet34', 'resnet50']) {
      const renamed = planOf(name, 'notes', (rows) => rows.map(([at, ...rest]): Row => [older(at), ...rest]));
      const plain = planOf(name, 'notes', (rows) => rows);
      expect(renamed.rows.every(({ verdict }) => verdict === 'ok')).toBe(true);
      const changed = renamed.rows.filter(({ tensor }, i) => tensor!.name !== plain.rows[i]!.tensor!.name);
      expect(changed.every(({ parameter }) => parameter!.path.includes('.shortcut.'))).toBe(true);
      expect(changed).toHaveLength(name === 'resnet34' ? 15 : 20);
    }
  });
});
