/**
 * Twenty steps of every optimiser, schedule and average against the numbers of Keras, TensorFlow, PyTorch and timm for
 * the same gradients, on TensorFlow's kernels and on tfjs's operations in plain JavaScript.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, describe, expect, test } from 'vitest';
import { clipperOf } from '../../src/engine/global-norm.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { updatesOf } from '../../src/engine/variables.js';
import { createOptimizer, type OptimizerOptions, optimizerNames } from '../../src/train/optimizers.js';
import { learningRate, type ScheduleOptions, scheduleNames } from '../../src/train/schedule.js';
import {
  distance,
  gradientsOf,
  numbersIn,
  paths,
  rates,
  readOptimizeFixture,
  references,
  STEPS,
  shapes,
  startVariables,
  valuesAfter,
} from './support/optimize.js';

/** Largest difference from the reference, relative to the value or 1. */
const TOLERANCE = 1e-5;

const fixtures = { keras: readOptimizeFixture('keras'), torch: readOptimizeFixture('torch') };
const engines = ['tensorflow', 'cpu'] as const;

async function engineOf(name: (typeof engines)[number]): Promise<Engine> {
  return await loadEngine({ engine: name });
}

afterAll(async () => {
  await loadEngine({ engine: 'tensorflow' });
});

/** What a fixture says of our side, beside the optimiser's own settings. */
interface Told extends Partial<OptimizerOptions> {
  readonly name: OptimizerOptions['name'];
  readonly clipNorm?: number;
  readonly scales?: Readonly<Record<string, number>>;
  readonly everythingDecays?: boolean;
}

/** Largest difference from a reference over all steps and parameters. */
function followed(engine: Engine, told: Told, rate: keyof typeof rates, values: Parameters<typeof valuesAfter>[0]) {
  const { clipNorm, scales = {}, everythingDecays = false, ...options } = told;
  const updates = updatesOf(engine);
  const variables = startVariables(updates);
  const groups = new Map(
    paths.map((path) => [path, { lrScale: scales[path] ?? 1, decays: everythingDecays || shapes[path]!.length > 1 }]),
  );
  const optimizer = createOptimizer(variables, updates, { momentum: 0, weightDecay: 0, groups, ...options });
  const clipper = clipNorm === undefined ? undefined : clipperOf(engine, clipNorm);
  const before = tf.memory().numTensors;
  let worst = 0;
  for (let step = 1; step <= STEPS; step++) {
    const gradients = gradientsOf(step);
    const clipped = clipper?.clip([...gradients.values()]);
    const applied = clipped === undefined ? gradients : new Map(paths.map((path, i) => [path, clipped[i]!]));
    optimizer.apply(applied, rates[rate](step));
    tf.dispose([...gradients.values(), ...(clipped ?? [])]);
    for (const [path, variable] of variables) {
      worst = Math.max(worst, distance(numbersIn(variable), valuesAfter(values, path, step)));
    }
  }
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
  optimizer.dispose();
  clipper?.dispose();
  for (const variable of variables.values()) variable.dispose();
  return worst;
}

describe.each(engines)('on the engine %s', (name) => {
  describe.each(references)('optimisers are those of %s', (reference) => {
    const cases = Object.entries(fixtures[reference].optimizers);
    test.each(cases)('%s', async (_, { options, rate, values }) => {
      expect(followed(await engineOf(name), options as unknown as Told, rate, values)).toBeLessThan(TOLERANCE);
    });
  });
});

test('every optimiser has its numbers of a reference', () => {
  const told = references.flatMap((reference) => Object.values(fixtures[reference].optimizers));
  expect(new Set(told.map(({ options }) => options.name))).toEqual(new Set(optimizerNames));
});

describe('the fixtures could tell', () => {
  const wrong: [title: string, reference: (typeof references)[number], name: string, changes: Partial<Told>][] = [
    ['plain momentum from Nesterov', 'keras', 'sgd, nesterov', { nesterov: false }],
    ['a rho of 0.9 from one of 0.99', 'keras', 'rmsprop', { rho: 0.99 }],
    ['RMSprop with momentum from one without', 'keras', 'rmsprop, momentum', { momentum: 0 }],
    ['weight decay from none', 'keras', 'lion, decay', { weightDecay: 0 }],
    ['decay within the trust ratio from none', 'torch', 'lamb', { weightDecay: 0 }],
    ['adapted biases from others', 'torch', 'lamb', { everythingDecays: true }],
    ['clipped gradients from whole ones', 'keras', 'adam, clipped', { clipNorm: 1e9 }],
    ['rates of groups from one for all', 'torch', 'adamw, rates by group', { scales: {} }],
  ];
  test.each(wrong)('%s', async (_, reference, name, changes) => {
    const { options, rate, values } = fixtures[reference].optimizers[name]!;
    const told = { ...(options as unknown as Told), ...changes };
    expect(followed(await engineOf('tensorflow'), told, rate, values)).toBeGreaterThan(10 * TOLERANCE);
  });
});

test('gradients that are short enough stay as they are, to the bit; longer ones are as long as the limit', async () => {
  const engine = await engineOf('tensorflow');
  const clipper = clipperOf(engine, 5);
  const [short, long] = [tf.tensor1d([3, -3.9]), tf.tensor1d([30, 40])];
  const none = tf.zeros([2]);
  const results = [...clipper.clip([short, none]), ...clipper.clip([long, none])];
  expect(results[0]!.dataSync()).toEqual(short.dataSync());
  expect([...results[2]!.dataSync()]).toEqual([3, 4].map((value) => expect.closeTo(value, 5)));
  expect([...results[1]!.dataSync(), ...results[3]!.dataSync()]).toEqual([0, 0, 0, 0]);
  tf.dispose([short, long, none, ...results]);
  clipper.dispose();
});

describe.each(references)('schedules are those of %s', (reference) => {
  test.each(Object.entries(fixtures[reference].schedules))('%s', (_, { options, rates: expected, from = 0 }) => {
    const schedule = options as unknown as ScheduleOptions;
    const ours = expected.map((_, step) => learningRate(step, schedule));
    expect(ours.slice(from)).toEqual(expected.slice(from).map((rate) => expect.closeTo(rate, 7)));
  });
});

test('every schedule has its numbers of a reference', () => {
  const told = references.flatMap((reference) => Object.values(fixtures[reference].schedules));
  expect(new Set(told.map(({ options }) => options.name))).toEqual(new Set(scheduleNames));
});
