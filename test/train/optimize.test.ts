/**
 * Twenty steps of every optimiser, schedule and average against the numbers of Keras, TensorFlow, PyTorch and timm for
 * the same gradients, on TensorFlow's kernels and on tfjs's operations in WebAssembly and JavaScript.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, describe, expect, test } from 'vitest';
import { clipperOf } from '../../src/engine/global-norm.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { startTape } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { updatesOf } from '../../src/engine/variables.js';
import { startAverages } from '../../src/train/averages.js';
import { stepLosses } from '../../src/train/losses.js';
import { createOptimizer, type OptimizerOptions, optimizerNames } from '../../src/train/optimizers.js';
import { learningRate, type ScheduleOptions, scheduleNames } from '../../src/train/schedule.js';
import { smoothedTargets, weightedTargets } from '../../src/train/targets.js';
import { decodeFloats, generateTensor } from '../support/golden.js';
import {
  distance,
  gradientsOf,
  numbersIn,
  numbersOfWork,
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
const engines = ['tensorflow', 'wasm', 'cpu'] as const;

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

/** Largest difference of averages from a reference's, which follow plain SGD. */
function averagesFollowed(
  engine: Engine,
  { options, values }: (typeof fixtures)['keras']['averages'][string],
  from: 'the starting values' | 'the first update',
): number {
  const updates = updatesOf(engine);
  const variables = startVariables(updates);
  const optimizer = createOptimizer(variables, updates, { name: 'sgd', momentum: 0, weightDecay: 0 });
  let averages = from === 'the starting values' ? startAverages(variables, updates, options) : undefined;
  let worst = 0;
  for (let step = 1; step <= STEPS; step++) {
    const gradients = gradientsOf(step);
    optimizer.apply(gradients, rates.varying(step));
    tf.dispose([...gradients.values()]);
    if (averages === undefined) averages = startAverages(variables, updates, options);
    else averages.update(step);
    for (const [path, average] of averages.variables) {
      worst = Math.max(worst, distance(numbersIn(average), valuesAfter(values, path, step)));
    }
  }
  averages!.dispose();
  optimizer.dispose();
  for (const variable of variables.values()) variable.dispose();
  return worst;
}

describe.each(engines)('averages on the engine %s', (name) => {
  test.each(['tensorflow', 'tensorflow, warm-up', 'tensorflow, warm-up, past its end'])(
    'are those of %s',
    async (of) => {
      const given = fixtures.keras.averages[of]!;
      expect(averagesFollowed(await engineOf(name), given, 'the starting values')).toBeLessThan(TOLERANCE);
    },
  );

  test("are those of timm's ModelEmaV2", async () => {
    const given = fixtures.torch.averages.timm!;
    expect(averagesFollowed(await engineOf(name), given, 'the starting values')).toBeLessThan(TOLERANCE);
  });

  test("begun after the first update are those of Keras' use_ema", async () => {
    const given = fixtures.keras.averages['keras, from the first update']!;
    expect(averagesFollowed(await engineOf(name), given, 'the first update')).toBeLessThan(TOLERANCE);
  });
});

test('the averages of the fixtures could tell warm-up from none', async () => {
  const { options, values } = fixtures.keras.averages['tensorflow, warm-up']!;
  const given = { options: { ...options, warmUp: false }, values };
  expect(averagesFollowed(await engineOf('tensorflow'), given, 'the starting values')).toBeGreaterThan(1e-3);
});

/** The mean loss of the fixtures' logits, and its gradient by them, as a step takes them. */
function lossOf(
  engine: Engine,
  { labelSmoothing, focal, classWeights }: (typeof fixtures)['keras']['losses'][string]['options'],
  compiled: boolean,
): { loss: number; gradient: Float32Array } {
  const [count, classes] = [6, 5];
  const labels = Array.from({ length: count }, (_, i) => i % classes);
  const soft = smoothedTargets(labels, classes, labelSmoothing);
  const wanted = classWeights === undefined ? { targets: soft } : weightedTargets(soft, classWeights);
  const inputs = [
    tf.tensor(generateTensor('logits', [count, classes], 0, 4), [count, classes]),
    tf.tensor(wanted.targets, [count, classes]),
    ...('weights' in wanted ? [tf.tensor1d(wanted.weights)] : []),
  ];
  const work = ([logits, targets, weights]: readonly tf.Tensor[]): tf.Tensor[] => {
    const tape = startTape([logits!]);
    const how = { operators: operatorsOf(engine), apply: tape.apply, focal };
    const { whole } = stepLosses(new Map([['logits', logits!]]), { targets: targets!, weights }, [], how);
    const seed = tf.fill([count], 1 / count);
    const [gradient] = tape.gradients(whole, seed);
    const mean = tf.mean(whole);
    tf.dispose([seed, whole]);
    return [mean, gradient!];
  };
  const [loss, gradient] = numbersOfWork(engine, inputs, work, compiled);
  return { loss: loss![0]!, gradient: gradient! };
}

describe.each([...engines, 'compiled'] as const)('on %s', (name) => {
  describe.each(references)('losses and their gradients are those of %s', (reference) => {
    test.each(Object.entries(fixtures[reference].losses))('%s', async (_, { options, loss, gradient }) => {
      const engine = await engineOf(name === 'compiled' ? 'tensorflow' : name);
      const ours = lossOf(engine, options, name === 'compiled');
      expect(distance([ours.loss], [loss])).toBeLessThan(TOLERANCE);
      expect(distance(ours.gradient, decodeFloats(gradient.values))).toBeLessThan(TOLERANCE);
    });
  });
});

test('the losses of the fixtures could tell', async () => {
  const engine = await engineOf('tensorflow');
  const off = (name: string, changes: object): number => {
    const { options, gradient } = fixtures.torch.losses[name]!;
    return distance(lossOf(engine, { ...options, ...changes }, false).gradient, decodeFloats(gradient.values));
  };
  expect(off('focal 2', { focal: 1.9 })).toBeGreaterThan(1e-3);
  expect(off('class weights', { classWeights: undefined })).toBeGreaterThan(1e-3);
  expect(off('class weights, label smoothing', { labelSmoothing: 0 })).toBeGreaterThan(1e-3);
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
