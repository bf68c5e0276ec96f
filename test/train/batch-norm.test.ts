/**
 * Batch norms in inference mode while their layers train, against Keras: tools/golden/batch_norm_keras.py. Compiled and
 * operation by operation, on TensorFlow's kernels and on tfjs's, in blocks that are run again, and in bfloat16.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildGraph, type Graph, type Scope } from '../../src/engine/graph.js';
import { activation, batchNorm, conv2d, dense, depthwiseConv2d, globalAveragePool } from '../../src/engine/layers.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { loadTrainable, numbersOf, type TrainableOptions } from '../../src/train/trainable.js';
import { decodeFloats, fixturesFolder, type GoldenRow, generateTensor, inputBatch } from '../support/golden.js';

const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'batch-norm.json'), 'utf8')) as {
  readonly inputShape: readonly [number, number, number, number];
  readonly labels: readonly number[];
  readonly lr: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly tensors: readonly GoldenRow[];
  readonly losses: readonly number[];
  readonly gradients: Readonly<Record<string, { readonly values: string }>>;
};
const CLASSES = 3;
const rows = new Map(fixture.tensors.map((row) => [row[0], row]));
const read = async (path: string): Promise<Float32Array> => generateTensor(...rows.get(path)!);

/** The network of the fixture. */
const network: Graph = buildGraph(fixture.inputShape.slice(1), (s, x) => {
  const norm = (at: Scope, y: typeof x, scale = true) =>
    at.endBlock(activation(at, batchNorm(at.at('norm'), y, { ...fixture, scale }), 'swish'));
  const [first, second, third] = ['block1', 'block2', 'block3'].map((name) => s.at(name)) as [Scope, Scope, Scope];
  let y = norm(first, conv2d(first.at('conv'), x, 8, 3, { bias: true }));
  y = norm(second, depthwiseConv2d(second.at('conv'), y, 3, { stride: 2 }));
  y = norm(third, conv2d(third.at('conv'), y, 8, 1), false);
  return s.at('logits').tap(dense(s.at('head.logits'), globalAveragePool(s.at('pool'), y), CLASSES));
});

let native: Engine;
beforeAll(async () => {
  native = await loadEngine({ engine: 'tensorflow' });
});

interface Trained {
  readonly losses: number[];
  /** Of the first step. */
  readonly gradients: Map<string, Float32Array>;
  readonly statistics: Map<string, Float32Array>;
}

/** Three steps of plain SGD on one batch. */
async function trained(engine: Engine, options: TrainableOptions = {}): Promise<Trained> {
  const before = tf.memory().numTensors;
  const { inputShape, labels, lr } = fixture;
  const trainable = await loadTrainable(network, read, engine, { batchNorm: 'eval', ...options });
  const x = tf.tensor4d(inputBatch(inputShape), [...inputShape]);
  const targets = tf.tensor2d(smoothedTargets(labels, CLASSES, 0), [labels.length, CLASSES]);
  const classes = tf.tensor1d([...labels], 'int32');
  const losses: number[] = [];
  const first = new Map<string, Float32Array>();
  for (let step = 0; step < fixture.losses.length; step++) {
    const { loss, gradients } = trainable.step({ x, targets, labels: classes, random: rng(0) });
    losses.push(loss);
    for (const [path, gradient] of gradients) {
      if (step === 0) first.set(path, (gradient.dataSync() as Float32Array).slice());
      const now = trainable.trainable.get(path)!;
      tf.tidy(() => now.assign(tf.sub(now.read(), tf.mul(gradient, lr))));
      gradient.dispose();
    }
  }
  const statistics = new Map<string, Float32Array>();
  for (const [path, variable] of trainable.variables) {
    if (/\.(mean|variance)$/.test(path)) statistics.set(path, await numbersOf(variable));
  }
  tf.dispose([x, targets, classes]);
  trainable.dispose();
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
  return { losses, gradients: first, statistics };
}

/** Largest difference of a gradient, as a share of its largest value. */
function worst(path: string, actual: Float32Array): number {
  const expected = decodeFloats(fixture.gradients[path]!.values);
  const size = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!))) / size;
}

const ways: Record<string, { engine?: Partial<Engine>; options?: TrainableOptions }> = {
  'one graph': {},
  'one graph, blocks run again': { options: { recompute: true } },
  'operation by operation': { engine: { device: 'gpu' } },
  'operation by operation, blocks run again': { engine: { device: 'gpu' }, options: { recompute: true } },
  "tfjs's operations": { engine: { native: undefined } },
};

describe.each(Object.keys(ways))('%s', (way) => {
  test('losses and every gradient are those of Keras, and the statistics stay as they are', async () => {
    const { engine, options } = ways[way]!;
    const { losses, gradients, statistics } = await trained({ ...native, ...engine }, options);
    losses.forEach((loss, i) => {
      expect(Math.abs(loss - fixture.losses[i]!), `loss ${i}`).toBeLessThan(1e-5);
    });
    expect([...gradients.keys()].toSorted()).toEqual(Object.keys(fixture.gradients).toSorted());
    for (const [path, gradient] of gradients) expect(worst(path, gradient), path).toBeLessThan(1e-5);
    expect(statistics.size).toBe(6);
    for (const [path, numbers] of statistics) expect(numbers, path).toEqual(await read(path));
  });
});

test('the statistics of the batch give another loss, and new moving statistics', async () => {
  const { losses, statistics } = await trained(native, { batchNorm: 'train' });
  expect(Math.abs(losses[0]! - fixture.losses[0]!)).toBeGreaterThan(1e-3);
  for (const [path, numbers] of statistics) expect(numbers, path).not.toEqual(await read(path));
});

test('in bfloat16 the losses stay within its rounding', async () => {
  const { losses, statistics } = await trained(native, { precision: 'bfloat16' });
  losses.forEach((loss, i) => {
    expect(Math.abs(loss / fixture.losses[i]! - 1), `loss ${i}`).toBeLessThan(2 ** -7);
  });
  for (const [path, numbers] of statistics) expect(numbers, path).toEqual(await read(path));
});

test('parameters that are not trained have no gradient, stay, and give the others the same gradients', async () => {
  const trains = (path: string): boolean => path.startsWith('block3.') || path.startsWith('head.');
  for (const recompute of [false, true]) {
    const { gradients, losses } = await trained(native, { trains, recompute });
    expect([...gradients.keys()]).toEqual([...rows.keys()].filter((path) => trains(path) && path in fixture.gradients));
    expect(Math.abs(losses[0]! - fixture.losses[0]!)).toBeLessThan(1e-5);
    for (const [path, gradient] of gradients) expect(worst(path, gradient), path).toBeLessThan(1e-5);
  }
});
