/** Batches whose gradients make one update, clipped ones, and a network that is kept as its averages. */
import { rmSync, writeFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { clipperOf } from '../../src/engine/global-norm.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { updatesOf, type Variable } from '../../src/engine/variables.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { updaterOf } from '../../src/train/updater.js';
import { distance, gradientsOf, numbersIn, paths, shapes, startVariables } from './support/optimize.js';
import {
  classNames,
  expectEqual,
  historyOf,
  numbersOf,
  pictureFolder,
  temporary,
  tensorsOf,
  traces,
  tracesOf,
  train,
  weightsOf,
} from './support/training.js';

let engine: Engine;
let data: string;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 5, 2); // 15 pictures
});

/** Batches of unequal size: pictures, and the step whose gradients they have. */
const batches = [4, 4, 3, 4, 1].map((count, i) => ({ count, step: i + 1 }));

function valuesOf(variables: ReadonlyMap<string, Variable>): Map<string, Float32Array> {
  const values = new Map([...variables].map(([path, variable]) => [path, numbersIn(variable)]));
  for (const variable of variables.values()) variable.dispose();
  return values;
}

describe('accumulation', () => {
  test('of two, with one left over, takes means over pictures, at the rate of each update', () => {
    const updates = updatesOf(engine);
    const run = (work: (apply: ReturnType<typeof createOptimizer>) => void) => {
      const variables = startVariables(updates);
      const optimizer = createOptimizer(variables, updates, { name: 'sgd', momentum: 0.9, weightDecay: 0 });
      const before = tf.memory().numTensors;
      work(optimizer);
      expect(tf.memory().numTensors, 'tensors left over').toBe(before);
      const { steps } = optimizer;
      optimizer.dispose();
      return { values: valuesOf(variables), steps };
    };
    const accumulated = run((optimizer) => {
      const updater = updaterOf({ optimizer, accumulate: 2 });
      for (const { count, step } of batches) updater.take(gradientsOf(step), count, 0.01 * (optimizer.steps + 1));
      updater.finish(0.03);
      updater.finish(0.03); // nothing is left
    });
    const expected = run((optimizer) => {
      const groups = [batches.slice(0, 2), batches.slice(2, 4), batches.slice(4)];
      for (const [i, group] of groups.entries()) {
        const pictures = group.reduce((sum, { count }) => sum + count, 0);
        const parts = group.map(({ step }) => gradientsOf(step));
        const means = new Map(
          paths.map((path) => [
            path,
            tf.tidy(() => tf.addN(parts.map((part, k) => tf.mul(part.get(path)!, group[k]!.count / pictures)))),
          ]),
        );
        optimizer.apply(means, 0.01 * (i + 1));
        tf.dispose([...means.values(), ...parts.flatMap((part) => [...part.values()])]);
      }
    });
    expect(accumulated.steps).toBe(3);
    for (const [path, value] of expected.values) {
      expect(distance(accumulated.values.get(path)!, value), path).toBeLessThan(1e-6);
    }
  });

  test('clips the gradients of the update, not those of its batches', () => {
    const updates = updatesOf(engine);
    const variables = startVariables(updates);
    const optimizer = createOptimizer(variables, updates, { name: 'sgd', momentum: 0, weightDecay: 0 });
    const clipper = clipperOf(engine, 0.5);
    const updater = updaterOf({ optimizer, accumulate: 2, clipper });
    const before = new Map([...variables].map(([path, variable]) => [path, numbersIn(variable)]));
    for (const step of [3, 6]) updater.take(gradientsOf(step), 4, 1);
    let squares = 0;
    for (const [path, value] of valuesOf(variables)) {
      value.forEach((number, i) => {
        squares += (number - before.get(path)![i]!) ** 2;
      });
    }
    expect(Math.sqrt(squares)).toBeCloseTo(0.5, 5); // all of the step, at a rate of 1
    expect(Object.keys(shapes)).toHaveLength(before.size);
    optimizer.dispose();
    clipper.dispose();
  });

  test('a group that is not full is forgotten, with its tensors', () => {
    const updates = updatesOf(engine);
    const variables = startVariables(updates);
    const optimizer = createOptimizer(variables, updates, { name: 'sgd', momentum: 0, weightDecay: 0 });
    const updater = updaterOf({ optimizer, accumulate: 3 });
    const before = tf.memory().numTensors;
    updater.take(gradientsOf(1), 4, 1);
    updater.dispose();
    updater.finish(1);
    expect(tf.memory().numTensors).toBe(before);
    expect(optimizer.steps).toBe(0);
    valuesOf(variables);
    optimizer.dispose();
  });

  test('of 2 batches of 2 trains a head as a batch of 4 does, the incomplete last group too', async () => {
    const whole = await train({ data, epochs: 4, batchSize: 4, optimizer: 'sgd', lr: 0.1, warmupEpochs: 1 });
    const parts = await train({
      ...{ data, epochs: 4, batchSize: 2, accumulate: 2, optimizer: 'sgd', lr: 0.1, warmupEpochs: 1 },
    });
    const [a, b] = [await numbersOfHead(whole.runFolder), await numbersOfHead(parts.runFolder)];
    expect(distance(b, a)).toBeLessThan(1e-5);
    const [rates, others] = [historyOf(whole.runFolder), historyOf(parts.runFolder)];
    expect(others.map(({ lr }) => lr)).toEqual(rates.map(({ lr }) => lr));
    others.forEach((row, i) => {
      expect(Math.abs(row.trainLoss - rates[i]!.trainLoss)).toBeLessThan(1e-5);
    });
    const alone = await train({ data, epochs: 4, batchSize: 2, optimizer: 'sgd', lr: 0.1, warmupEpochs: 1 });
    expect(distance(await numbersOfHead(alone.runFolder), a)).toBeGreaterThan(1e-3);
  });
});

async function numbersOfHead(runFolder: string): Promise<Float32Array> {
  const all = await weightsOf(`${runFolder}/last`);
  const head = [...all].filter(([path]) => path.startsWith('head.')).sort(([a], [b]) => (a < b ? -1 : 1));
  expect(head.length).toBeGreaterThan(0);
  const bytes = Buffer.concat(head.map(([, hex]) => Buffer.from(hex, 'hex')));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

describe('averages', () => {
  const ema = { epochs: 4, freeze: 'until:block12', ema: 0.9, lr: 0.01 } as const;

  test('are what is kept as a model; the weights themselves are in the checkpoint', async () => {
    const { runFolder } = await train({ data, ...ema });
    const plain = await train({ data, ...ema, ema: undefined as never });
    const [model, optimizer] = [
      await weightsOf(`${runFolder}/last`),
      await tensorsOf(`${runFolder}/last/optimizer.safetensors`),
    ];
    const weights = await weightsOf(`${plain.runFolder}/last`);
    const moved = [...optimizer.keys()].filter((name) => name.endsWith('/weight'));
    expect(
      moved.some((name) => name.endsWith('.mean/weight')),
      'moving statistics too',
    ).toBe(true);
    for (const name of moved) {
      const path = name.slice(0, -'/weight'.length);
      expect(optimizer.get(name), path).toBe(weights.get(path)); // training itself is as without averages
      expect(model.get(path), path).not.toBe(weights.get(path));
    }
    const [own, other] = [historyOf(runFolder), historyOf(plain.runFolder)];
    expect(own.map(({ trainLoss }) => trainLoss)).toEqual(other.map(({ trainLoss }) => trainLoss));
    expect(own.at(-1)!.valLoss).not.toBe(other.at(-1)!.valLoss);
  });

  test('go on after a stop, bit for bit', async () => {
    const whole = await tracesOf({ data, ...ema });
    const controller = new AbortController();
    const stopped = await train(
      { data, ...ema, signal: controller.signal },
      { epoch: ({ epoch }) => epoch === 2 && controller.abort() },
    );
    expect(stopped.stopped).toBe(true);
    const resumed = await train({ data, ...ema, resume: stopped.runFolder });
    expectEqual(await traces(resumed.runFolder), whole);
  });
});

test('clipping, a focal loss, class weights and a balanced sampler are in a run, which goes on after a stop', async () => {
  const classWeights = temporary('class-weights.json');
  writeFileSync(classWeights, JSON.stringify(Object.fromEntries(classNames.map((name, i) => [name, i + 0.5]))));
  const own = { clipNorm: 0.05, focal: 2, classWeights, sampler: 'balanced' } as const;
  const settings = { data, epochs: 3, optimizer: 'lion', ...own } as const;
  const whole = await tracesOf(settings);
  const plain = await tracesOf({ data, epochs: 3, optimizer: 'lion' });
  expect(whole.history[0]!.trainLoss).not.toBe(plain.history[0]!.trainLoss);
  const controller = new AbortController();
  const stopped = await train(
    { ...settings, signal: controller.signal },
    { epoch: ({ epoch }) => epoch === 1 && controller.abort() },
  );
  rmSync(classWeights); // its numbers are the run's
  const resumed = await train({ ...settings, resume: stopped.runFolder });
  expectEqual(await traces(resumed.runFolder), whole);
  expect(numbersOf(historyOf(resumed.runFolder))).toEqual(whole.history);
});

test('a balanced sampler shows the same pictures from their files and from what is kept', async () => {
  const settings = { data, epochs: 2, sampler: 'balanced', optimizer: 'sgd', lr: 0.1 } as const;
  const [kept, anew] = [await train({ ...settings, cache: 'memory' }), await train({ ...settings, cache: 'off' })];
  const [a, b] = [historyOf(kept.runFolder), historyOf(anew.runFolder)];
  a.forEach((row, i) => {
    expect(Math.abs(row.trainLoss - b[i]!.trainLoss)).toBeLessThan(1e-5);
    expect(row.trainAccuracy).toBe(b[i]!.trainAccuracy);
  });
  const shuffled = historyOf((await train({ ...settings, sampler: 'shuffle' })).runFolder);
  expect(Math.abs(a[0]!.trainLoss - shuffled[0]!.trainLoss)).toBeGreaterThan(1e-3);
});
