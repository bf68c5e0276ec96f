/** Gradient checkpointing: what is run a second time, that nothing else changes, and that it saves memory. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { toBfloat16 } from '../../src/engine/bfloat16.js';
import { compile } from '../../src/engine/compile.js';
import { buildGraph, type Graph, nodesBetween, tapOf } from '../../src/engine/graph.js';
import { activation, add, conv2d, dense, globalAveragePool } from '../../src/engine/layers.js';
import { drawMask, maskNeedOf } from '../../src/engine/masks.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { afterOf, segmentsOf } from '../../src/engine/recompute.js';
import { savedModelOf } from '../../src/engine/saved-model.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';
import { auxiliaryBehind, forTraining, lossesOf } from '../../src/train/auxiliary.js';
import { maskedNodes, type StepNetwork, statisticsOf, stepOf } from '../../src/train/step.js';
import { loadTrainable } from '../../src/train/trainable.js';
import { graphOf } from '../../src/weights/model-folder.js';
import { pixels, readerOf, worst } from './support/parameters.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

const classes = ['a', 'b', 'c'];

function networkOf(backbone: string, source: string, side = 32): Pick<StepNetwork, 'graph' | 'auxiliary'> {
  const head = { hidden: [], dropout: 0.2 };
  const graph = graphOf({ backbone, source, inputSize: { height: side, width: side }, head, classes });
  const auxiliary = auxiliaryBehind(graph, undefined, findPublished(findBackbone(backbone), source));
  return { graph: forTraining(graph, auxiliary, classes.length), auxiliary: lossesOf(auxiliary) };
}

const labels = [2, 0, 1];
const picturesFor = (graph: Graph): tf.Tensor => {
  const shape = [labels.length, ...graph.input.shape];
  return tf.tensor(pixels(shape), shape);
};
const targetsOf = (): tf.Tensor2D => tf.tidy(() => tf.cast(tf.oneHot(labels, 3), 'float32') as tf.Tensor2D);

describe('segments', () => {
  const tapsOf = (graph: Graph, from = 'input', outputs = ['logits']): string[] => {
    const entry = from === 'input' ? graph.input : tapOf(graph, from);
    return segmentsOf(graph, new Set([entry]), outputs).map(({ tap }) => tap);
  };
  const line = (blocks: number): Graph =>
    buildGraph([8, 8, 3], (s, x) => {
      let y = x;
      for (let i = 1; i <= blocks; i++) {
        const at = s.at(`block${i}`);
        y = at.endBlock(activation(at, conv2d(at.at('conv'), y, 3, 3), 'relu'));
      }
      return s.at('logits').tap(dense(s.at('head'), globalAveragePool(s.at('pool'), y), 3));
    });

  test('are blocks without the last', () => {
    const graph = line(4);
    expect(tapsOf(graph)).toEqual(['block1', 'block2', 'block3']);
    const segments = segmentsOf(graph, new Set([graph.input]), ['logits']);
    expect(segments.map(({ from }) => from)).toEqual([
      graph.input,
      ...['block1', 'block2'].map((tap) => tapOf(graph, tap)),
    ]);
    expect(segments[1]!.nodes.map(({ path }) => path)).toEqual(['block2.conv', 'block2.relu']);
  });

  test('lie behind what a step begins with', () => {
    expect(tapsOf(line(4), 'block2')).toEqual(['block3']);
    expect(tapsOf(line(4), 'block3')).toEqual([]);
  });

  test('are not those at the end that are small beside the largest', () => {
    const { graph } = networkOf('resnet50', 'torch', 224);
    expect(graph.blocks).toHaveLength(16);
    expect(tapsOf(graph)).toEqual(graph.blocks.slice(0, 11));
  });

  test('have one way in and one way out: a block that another one reaches into is joined with the next', () => {
    const graph = buildGraph([8, 8, 3], (s, x) => {
      const convolve = (name: string, y: Graph['input']) => conv2d(s.at(name), y, 3, 3);
      const inner = convolve('inner', x);
      const one = s.at('one').endBlock(activation(s.at('one'), inner, 'relu'));
      const two = s.at('two').endBlock(add(s.at('two'), convolve('two.conv', one), inner));
      const three = s.at('three').endBlock(convolve('three', two));
      return s.at('logits').tap(dense(s.at('head'), globalAveragePool(s.at('pool'), three), 3));
    });
    expect(tapsOf(graph)).toEqual(['two']);
    expect(segmentsOf(graph, new Set([graph.input]), ['logits'])[0]!.nodes.map(({ path }) => path)).toEqual(
      graph.nodes.slice(1, 5).map(({ path }) => path),
    );
  });

  test('end before what is wanted', () => {
    expect(tapsOf(line(5), 'input', ['logits', 'block3'])).toEqual(['block1']); // and block2 is the last
  });
});

/** Loss, right answers, gradients and statistics as numbers, operation by operation. */
async function stepNumbers(of: Pick<StepNetwork, 'graph' | 'auxiliary'>, recompute: boolean, by: Engine = engine) {
  const { graph } = of;
  const plan = nodesBetween(graph, new Set([graph.input]), [
    tapOf(graph, 'logits'),
    ...of.auxiliary.map(({ tap }) => tapOf(graph, tap)),
  ]);
  const needed = plan.flatMap(({ parameters }) => parameters);
  const network: StepNetwork = {
    ...of,
    entry: graph.input,
    operators: operatorsOf(by),
    paths: needed.map(({ path }) => path),
    trainable: needed.filter(({ trainable }) => trainable).map(({ path }) => path),
    recompute: recompute ? afterOf(by) : undefined,
  };
  const read = readerOf(graph);
  const parameters = await Promise.all(needed.map(async ({ path, shape }) => tf.tensor(await read(path), [...shape])));
  const masks = maskedNodes(network).map((node) => drawMask(maskNeedOf(node, labels.length)!, rng(1)));
  const given = { x: picturesFor(graph), targets: targetsOf(), labels: tf.tensor1d(labels, 'int32') };
  const before = tf.memory().numTensors;
  const { loss, correct, gradients, statistics } = stepOf(network, { ...given, parameters, masks });
  const results = [loss, correct, ...gradients, ...statistics];
  expect(tf.memory().numTensors - before, 'tensors left over').toBe(results.length);
  const names = ['loss', 'correct', ...network.trainable, ...statisticsOf(network)];
  const numbers = new Map(results.map((each, i) => [names[i]!, each.dataSync()]));
  tf.dispose([...results, ...parameters, ...masks, ...Object.values(given)]);
  return numbers;
}

describe('a step that recomputes', () => {
  test.each([
    ['mobilenet_v2_0.35', 'keras'], // depthwise
    ['densenet121', 'torch'], // batch norms before convolutions
    ['efficientnet_b0', 'torch'], // squeeze-excite, stochastic depth
    ['vit_ti16', 'flax'], // attention
  ])('of %s from %s gives every number to the bit', async (backbone, source) => {
    const network = networkOf(backbone, source);
    expect(segmentsOf(network.graph, new Set([network.graph.input]), ['logits']).length).toBeGreaterThan(1);
    const [expected, received] = [await stepNumbers(network, false), await stepNumbers(network, true)];
    expect([...received.keys()]).toEqual([...expected.keys()]);
    const differing = [...expected].filter(([name, numbers]) => worst(received.get(name)!, numbers) !== 0);
    expect(differing.map(([name]) => name)).toEqual([]);
  });

  test('with auxiliary classifiers between blocks adds gradients in another order', async () => {
    const network = networkOf('googlenet', 'torch');
    expect(network.auxiliary).toHaveLength(2);
    const [expected, received] = [await stepNumbers(network, false), await stepNumbers(network, true)];
    for (const [name, numbers] of expected) expect(worst(received.get(name)!, numbers), name).toBeLessThan(1e-5);
  });

  test('needs nothing of the native engine', async () => {
    const network = networkOf('mobilenet_v2_0.35', 'keras');
    const composed = { ...engine, native: undefined };
    const [expected, received] = [
      await stepNumbers(network, false, composed),
      await stepNumbers(network, true, composed),
    ];
    for (const [name, numbers] of expected) expect(worst(received.get(name)!, numbers), name).toBe(0);
  });

  test('gives compiled what it gives one by one, and steps go on alike', async () => {
    const { graph } = networkOf('mobilenet_v2_0.35', 'keras');
    const trained = [false, true].map((recompute) => loadTrainable(graph, readerOf(graph), engine, { recompute }));
    const [plain, recomputing] = await Promise.all(trained);
    const given = { x: picturesFor(graph), targets: targetsOf(), labels: tf.tensor1d(labels, 'int32') };
    for (let i = 0; i < 2; i++) {
      const [expected, received] = [plain!, recomputing!].map((each) => each.step({ ...given, random: rng(i) }));
      expect(Math.abs(received!.loss - expected!.loss) / expected!.loss).toBeLessThan(1e-5);
      for (const [path, gradient] of expected!.gradients) {
        expect(worst(received!.gradients.get(path)!.dataSync(), gradient.dataSync()), path).toBeLessThan(1e-5);
      }
      for (const { gradients } of [expected!, received!]) tf.dispose([...gradients.values()]);
    }
    const statistics = graph.parameters.filter(({ trainable }) => !trainable);
    for (const { path } of statistics) {
      expect(worst(await recomputing!.read(path), await plain!.read(path)), path).toBeLessThan(1e-5);
    }
    for (const each of [plain!, recomputing!]) each.dispose();
    tf.dispose([given.x, given.targets, given.labels]);
  });
});

describe('waiting for another value', () => {
  const native = () => engine.native!;
  /** `x` squared, once the sum of `y` is there. */
  const work = (x: tf.Tensor, y: tf.Tensor) => () =>
    tf.tidy(() => [tf.square(native().after(x, tf.sum(y))), tf.square(x)]);

  test('changes no number, run one by one or compiled', () => {
    const [x, y] = [tf.tensor1d([3, -2]), tf.tensor1d([1])];
    expect(work(x, y)().map((each) => [...each.dataSync()])).toEqual([[9, 4], [9, 4]]); // biome-ignore format: rows
    const compiled = compile(native(), [x, y], work(x, y));
    expect(compiled.run([tf.tensor1d([5, 1]), y]).map((each) => [...each.dataSync()])).toEqual([[25, 1], [25, 1]]); // biome-ignore format: rows
    compiled.dispose();
  });

  test('is in the graph, in bfloat16 too', () => {
    const [x, y] = [tf.tensor1d([3]), tf.tensor1d([1])];
    const recording = native().record([x, y], work(x, y));
    const waiting = recording.operations.filter(({ after }) => after !== undefined);
    const sum = recording.operations.find(({ op }) => op === 'Sum')!;
    expect(waiting).toMatchObject([{ op: 'Identity', inputs: ['x0:0'], after: [sum.name] }]);
    expect(savedModelOf(recording).includes(`^${sum.name}`)).toBe(true);
    expect(toBfloat16(recording).operations.filter(({ after }) => after !== undefined)).toEqual(waiting);
  });

  test('takes a value of bfloat16 as it is', () => {
    const x = tf.ones([1, 64, 64, 8]) as tf.Tensor4D;
    const kernel = tf.ones([3, 3, 8, 8]) as tf.Tensor4D;
    const convolve = (y: tf.Tensor) => operatorsOf(engine).conv2d(geometry, 1).forward([y, kernel])[0]!;
    const geometry = { strides: [1, 1], padding: 'same' } as const;
    const recording = native().record([x, kernel], () =>
      tf.tidy(() => {
        const y = convolve(x);
        return [convolve(native().after(y, tf.sum(x)))];
      }),
    );
    const { operations } = toBfloat16(recording);
    const waiting = operations.find(({ after }) => after !== undefined)!;
    expect(waiting.outputs[0]!.dtype).toBe(14);
    expect(operations.find(({ name }) => `${name}:0` === waiting.inputs[0])!.op).toBe('Conv2D');
  });
});

/** Peak memory of a process that does two steps, the first one by one and the second compiled, in MiB. */
function peakOf(recompute: boolean): number {
  const at = (path: string): string => pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', path)).href;
  const program = `
    const tf = await import('@tensorflow/tfjs-core');
    const { loadEngine } = await import('${at('engine/tensorflow.js')}');
    const { buildGraph } = await import('${at('engine/graph.js')}');
    const { activation, dense, depthwiseConv2d, globalAveragePool } = await import('${at('engine/layers.js')}');
    const { loadTrainable } = await import('${at('train/trainable.js')}');
    const { rng } = await import('${at('rng.js')}');
    const graph = buildGraph([128, 128, 16], (s, x) => {
      let y = x;
      for (let i = 0; i < 6; i++) {
        const at = s.at('block' + i);
        for (const name of ['a', 'b', 'c', 'd', 'e'])
          y = activation(at.at(name), depthwiseConv2d(at.at(name + '.conv'), y, 3), 'relu');
        y = at.endBlock(y);
      }
      return s.at('logits').tap(dense(s.at('head'), globalAveragePool(s.at('pool'), y), 2));
    });
    const sizes = new Map(graph.parameters.map(({ path, shape }) => [path, shape.reduce((a, b) => a * b, 1)]));
    const engine = await loadEngine({ engine: 'tensorflow' });
    const read = async (path) => new Float32Array(sizes.get(path)).fill(0.1);
    const network = await loadTrainable(graph, read, engine, { recompute: ${recompute} });
    const given = {
      x: tf.ones([16, 128, 128, 16]), // 16 MiB, as is every value of a block
      targets: tf.ones([16, 2]),
      labels: tf.zeros([16], 'int32'),
    };
    for (let i = 0; i < 2; i++) tf.dispose([...network.step({ ...given, random: rng(i) }).gradients.values()]);
    console.log(process.resourceUsage().maxRSS / 1024);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return Number(stdout);
}

test('a step that recomputes holds less, compiled too', () => {
  const [kept, recomputed] = [peakOf(false), peakOf(true)];
  // Of 30 activations 6 that go into blocks and the 5 of one.
  expect(kept - recomputed).toBeGreaterThan(12 * 16);
});
