/** Twenty steps of every optimiser against its formula in double precision, on TensorFlow's kernels and on tfjs's. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { updatesOf, type Variable } from '../../src/engine/variables.js';
import { rng } from '../../src/rng.js';
import { describeOptimising } from '../../src/train/optimising.js';
import { createOptimizer, type OptimizerOptions } from '../../src/train/optimizers.js';
import { checkSettings, completeSettings, defaultLr, defaultMomentum } from '../../src/train/settings/complete.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

const STEPS = 20;
const shapes: Record<string, number[]> = {
  'a.kernel': [3, 4],
  'a.bias': [4],
  'b.conv.kernel': [2, 2, 3, 2],
  'b.norm.gamma': [2],
};

const draw = (name: string, count: number, scale: number): Float32Array => {
  const random = rng('optimizers').split(name);
  return Float32Array.from({ length: count }, () => scale * random.normal());
};
const sizeOf = (path: string): number => shapes[path]!.reduce((a, b) => a * b, 1);
const startOf = (path: string): Float32Array => draw(path, sizeOf(path), 1);
/** Gradients of very different sizes, as they are in a network, some of them exactly zero. */
const gradientOf = (path: string, step: number): Float32Array =>
  draw(`${path} ${step}`, sizeOf(path), 10 ** -(step % 4)).map((value, i) => ((i + step) % 7 === 0 ? 0 : value));
/** Rises and falls as under a schedule. */
const lrOf = (step: number): number => 0.01 * (1 + Math.sin(step));

function runSteps(of: Engine, options: OptimizerOptions): { values: Map<string, number[]>; slots: string[] } {
  const updates = updatesOf(of);
  const variables = new Map<string, Variable>();
  for (const [path, shape] of Object.entries(shapes)) {
    const value = tf.tensor(startOf(path), shape);
    variables.set(path, updates.variable(shape, value));
    value.dispose();
  }
  const optimizer = createOptimizer(variables, updates, options);
  const before = tf.memory().numTensors;
  for (let step = 1; step <= STEPS; step++) {
    const gradients = new Map(
      Object.entries(shapes).map(([path, shape]) => [path, tf.tensor(gradientOf(path, step), shape)]),
    );
    optimizer.apply(gradients, lrOf(step));
    tf.dispose([...gradients.values()]);
  }
  expect(optimizer.steps).toBe(STEPS);
  expect(tf.memory().numTensors).toBe(before);
  const values = new Map(
    [...variables].map(([path, variable]) => {
      const tensor = variable.read();
      const numbers = Array.from(tensor.dataSync());
      tensor.dispose();
      variable.dispose();
      return [path, numbers];
    }),
  );
  const slots = [...optimizer.slots.keys()];
  optimizer.dispose();
  return { values, slots };
}

/** One number through all steps. */
type Rule = (w: number, gradients: readonly number[], decay: number) => number;

const adam =
  (epsilon: number, rule: 'raw' | 'corrected'): Rule =>
  (start, gradients, decay) => {
    let [w, m, v] = [start, 0, 0];
    gradients.forEach((g, i) => {
      const [t, lr] = [i + 1, lrOf(i + 1)];
      w -= lr * decay * w;
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      if (rule === 'corrected') {
        // Kingma and Ba 2015, algorithm 1
        w -= (lr * (m / (1 - 0.9 ** t))) / (Math.sqrt(v / (1 - 0.999 ** t)) + epsilon);
      } else {
        // the last paragraph of its section 2, as TensorFlow and Keras have it
        w -= (((lr * Math.sqrt(1 - 0.999 ** t)) / (1 - 0.9 ** t)) * m) / (Math.sqrt(v) + epsilon);
      }
    });
    return w;
  };

const sgd =
  (momentum: number): Rule =>
  (start, gradients, decay) => {
    let [w, velocity] = [start, 0];
    gradients.forEach((g, i) => {
      const lr = lrOf(i + 1);
      w -= lr * decay * w;
      velocity = momentum * velocity - lr * g;
      w += velocity;
    });
    return w;
  };

const cases: [title: string, options: OptimizerOptions, rule: Rule, slots: string[]][] = [
  ['Adam', { name: 'adam', momentum: 0.9, weightDecay: 0 }, adam(1e-7, 'raw'), ['m', 'v']],
  ['Adam, epsilon 1e-3', { name: 'adam', momentum: 0, weightDecay: 0, epsilon: 1e-3 }, adam(1e-3, 'raw'), ['m', 'v']],
  [
    "Adam by PyTorch's rule, epsilon 1e-3",
    { name: 'adam', momentum: 0, weightDecay: 0, epsilon: 1e-3, epsilonRule: 'corrected' },
    adam(1e-3, 'corrected'),
    ['m', 'v'],
  ],
  ['AdamW', { name: 'adamw', momentum: 0, weightDecay: 0.3 }, adam(1e-7, 'raw'), ['m', 'v']],
  ['SGD', { name: 'sgd', momentum: 0, weightDecay: 0 }, sgd(0), []],
  ['SGD with momentum', { name: 'sgd', momentum: 0.9, weightDecay: 0 }, sgd(0.9), ['momentum']],
  ['SGD with momentum and weight decay', { name: 'sgd', momentum: 0.9, weightDecay: 0.3 }, sgd(0.9), ['momentum']],
];

describe.each(cases)('%s', (_, options, rule, slotNames) => {
  test.each(['native', 'composed'] as const)('%s kernels follow the formula for 20 steps', (kind) => {
    const { values, slots } = runSteps(kind === 'native' ? engine : { ...engine, native: undefined }, options);
    for (const [path, numbers] of values) {
      const start = startOf(path);
      // Decoupled weight decay is for kernels alone, not for what has one dimension.
      const decay = shapes[path]!.length > 1 ? options.weightDecay : 0;
      const expected = Array.from(start, (w, i) => {
        const gradients = Array.from({ length: STEPS }, (_, step) => gradientOf(path, step + 1)[i]!);
        return rule(w, gradients, decay);
      });
      numbers.forEach((value, i) => {
        expect(Math.abs(value - expected[i]!), `${path}[${i}]: ${value}, expected ${expected[i]}`).toBeLessThan(
          1e-5 * Math.max(1, Math.abs(expected[i]!)),
        );
        expect(Math.abs(value - start[i]!), `${path}[${i}] moved`).toBeGreaterThan(1e-4);
      });
    }
    expect(slots.sort()).toEqual(
      Object.keys(shapes)
        .flatMap((path) => slotNames.map((slot) => `${path}/${slot}`))
        .sort(),
    );
  });
});

test('weight decay alone shrinks kernels by lr times decay, and leaves biases and norms alone', () => {
  const updates = updatesOf(engine);
  const variables = new Map<string, Variable>();
  for (const [path, shape] of Object.entries(shapes)) {
    const value = tf.ones(shape);
    variables.set(path, updates.variable(shape, value));
    value.dispose();
  }
  const optimizer = createOptimizer(variables, updates, { name: 'adamw', momentum: 0, weightDecay: 0.5 });
  const zeros = new Map(Object.entries(shapes).map(([path, shape]) => [path, tf.zeros(shape)]));
  optimizer.apply(zeros, 0.1);
  for (const [path, variable] of variables) {
    const tensor = variable.read();
    const expected = shapes[path]!.length > 1 ? Math.fround(0.95) : 1;
    for (const value of tensor.dataSync()) expect(value, path).toBeCloseTo(expected, 6);
    tensor.dispose();
    variable.dispose();
  }
  tf.dispose([...zeros.values()]);
  optimizer.dispose();
});

test('a variable without a gradient is left alone', () => {
  const updates = updatesOf(engine);
  const one = tf.ones([2, 2]);
  const variables = new Map(['a', 'b'].map((path) => [path, updates.variable([2, 2], one)]));
  const optimizer = createOptimizer(variables, updates, { name: 'adam', momentum: 0, weightDecay: 0.1 });
  optimizer.apply(new Map([['a', one]]), 0.1);
  const [a, b] = ['a', 'b'].map((path) => variables.get(path)!.read());
  expect(Array.from(b!.dataSync())).toEqual([1, 1, 1, 1]);
  expect(a!.dataSync()[0]).toBeLessThan(1);
  tf.dispose([one, a!, b!]);
  optimizer.dispose();
  for (const variable of variables.values()) variable.dispose();
});

describe('settings', () => {
  const faultsOf = (given: Parameters<typeof completeSettings>[0]): string => {
    try {
      completeSettings({ backbone: 'resnet50', ...given });
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };

  test.each([
    [{ nesterov: true }, '--nesterov: is of --optimizer sgd'],
    [{ nesterov: true, optimizer: 'sgd', momentum: 0 }, '--nesterov: is of --optimizer sgd'],
    [{ stepGamma: 0.5 }, '--step-gamma: is of --schedule step, received cosine'],
    [{ stepEpochs: 2, schedule: 'constant' }, '--step-epochs: is of --schedule step, received constant'],
    [{ minLr: 1e-6, schedule: 'one-cycle' }, '--min-lr: is of --schedule cosine, received one-cycle'],
    [{ sampler: 'balanced', classWeights: 'balanced' }, 'expected one of both'],
    [{ clipNorm: 0 }, '--clip-norm: expected a number above 0'],
    [{ accumulate: 0 }, '--accumulate: expected a whole number from 1'],
    [{ ema: 1 }, '--ema: expected a number above 0 and below 1'],
    [{ focal: -1 }, '--focal: expected a number at least 0'],
  ] as const)('%j cannot be used', (given, fault) => {
    expect(faultsOf(given)).toContain(fault);
  });

  test('what belongs together can', () => {
    expect(faultsOf({ nesterov: true, optimizer: 'sgd' })).toBe('');
    expect(faultsOf({ schedule: 'step', stepEpochs: 2, stepGamma: 0.5 })).toBe('');
    expect(faultsOf({ sampler: 'balanced', classWeights: 'weights.json' })).toBe('');
  });

  test('runs of versions that kept every momentum go on with it', () => {
    const before = { ...completeSettings({ backbone: 'resnet50' }), momentum: 0.9 };
    expect(() => checkSettings(before)).not.toThrow();
    expect([defaultMomentum('sgd'), defaultMomentum('rmsprop')]).toEqual([0.9, 0]);
  });

  test('a model card tells of what is not as in every run', () => {
    const plain = completeSettings({ backbone: 'resnet50' });
    expect(describeOptimising(plain)).toEqual({});
    const given = { optimizer: 'sgd', nesterov: true, warmupEpochs: 2, accumulate: 4, clipNorm: 1, ema: 0.99 } as const;
    expect(describeOptimising({ ...plain, ...given, focal: 2, classWeights: 'a.csv', sampler: 'shuffle' })).toEqual({
      momentum: 0.9,
      'momentum by': 'Nesterov',
      'warm-up': '2 epochs',
      'gradients clipped at a norm of': 1,
      'batches an update': 4,
      'averages of the weights': 'of which an update keeps 0.99',
      'focal loss': 'gamma 2',
      'class weights': 'of a file',
    });
  });

  test('rates by default follow what the papers say of each optimiser', () => {
    expect(['adam', 'adamw', 'rmsprop'].map((name) => defaultLr(name as 'adam', 'head'))).toEqual([1e-3, 1e-3, 1e-3]);
    expect([defaultLr('sgd', 'more'), defaultLr('lamb', 'more'), defaultLr('lion', 'more')]).toEqual([
      1e-3, 1e-3, 2e-5,
    ]);
  });
});
