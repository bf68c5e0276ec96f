import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { type Updates, updatesOf } from '../../src/engine/variables.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

let before = 0;
beforeEach(() => {
  before = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
});

describe.each(['native', 'composed'] as const)('%s variables', (kind) => {
  let updates: Updates;
  beforeAll(() => {
    updates = updatesOf(kind === 'native' ? engine : { ...engine, native: undefined });
  });

  const numbers = (values: number[], use: (tensor: tf.Tensor) => void): void => {
    const tensor = tf.tensor1d(values);
    use(tensor);
    tensor.dispose();
  };
  const made = (values: number[]) => {
    const tensor = tf.tensor1d(values);
    const variable = updates.variable([values.length], tensor);
    tensor.dispose();
    return variable;
  };
  const now = (variable: ReturnType<typeof made>): number[] => {
    const tensor = variable.read();
    const values = Array.from(tensor.dataSync());
    tensor.dispose();
    return values;
  };

  test('hold what they were given, and take other numbers', () => {
    const variable = made([1, 2, 3]);
    expect(variable.shape).toEqual([3]);
    expect(now(variable)).toEqual([1, 2, 3]);
    numbers([4, 5, 6], (tensor) => variable.assign(tensor));
    expect(now(variable)).toEqual([4, 5, 6]);
    variable.dispose();
  });

  test('a tensor that was read keeps its numbers when the variable changes', () => {
    const variable = made([1, 2]);
    const read = variable.read();
    numbers([10, 20], (gradient) => updates.descend(variable, gradient, 1));
    updates.scale(variable, 2);
    numbers([1, 1], (tensor) => {
      const [m, v] = [made([0, 0]), made([0, 0])];
      updates.adam(variable, m, v, tensor, { lr: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, step: 1 });
      m.dispose();
      v.dispose();
    });
    expect(Array.from(read.dataSync())).toEqual([1, 2]);
    expect(now(variable)[0]).toBeCloseTo(-19, 3);
    read.dispose();
    variable.dispose();
  });

  test('a tensor that was assigned stays its owner’s, and what happens to it later does not matter', () => {
    const [a, b] = [made([1, 1]), made([2, 2])];
    const read = a.read();
    b.assign(read);
    read.dispose();
    updates.scale(b, 5);
    expect([now(a), now(b)]).toEqual([
      [1, 1],
      [5, 5],
    ]);
    a.dispose();
    b.dispose();
  });

  test('two variables are two, whatever their shapes', () => {
    const variables = Array.from({ length: 20 }, (_, i) => made([i, i]));
    for (const [i, variable] of variables.entries()) {
      numbers([1, 0], (gradient) => updates.descend(variable, gradient, i));
    }
    expect(variables.map(now)).toEqual(variables.map((_, i) => [0, i]));
    for (const variable of variables) variable.dispose();
  });

  test('Nesterov looks ahead by one step', () => {
    const [variable, velocity] = [made([1]), made([0])];
    const settings = { lr: 0.1, momentum: 0.9, nesterov: true };
    let [w, v] = [1, 0];
    for (const g of [2, -1, 0.5]) {
      numbers([g], (gradient) => updates.momentum(variable, velocity, gradient, settings));
      v = 0.9 * v - 0.1 * g;
      w += 0.9 * v - 0.1 * g;
      expect(now(variable)[0]).toBeCloseTo(w, 6);
      expect(now(velocity)[0]).toBeCloseTo(v, 6);
    }
    variable.dispose();
    velocity.dispose();
  });

  test('50 rounds of updates leave no tensor behind', () => {
    const [variable, m, v] = [made([1, 2]), made([0, 0]), made([0, 0])];
    const gradient = tf.tensor1d([0.1, -0.2]);
    const start = tf.memory();
    for (let step = 1; step <= 50; step++) {
      updates.adam(variable, m, v, gradient, { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, step });
      updates.momentum(variable, m, gradient, { lr: 1e-3, momentum: 0.9, nesterov: false });
      updates.descend(variable, gradient, 1e-3);
      updates.scale(variable, 0.999);
      variable.read().dispose();
      expect(tf.memory().numTensors).toBe(start.numTensors);
      expect(tf.memory().numBytes).toBe(start.numBytes);
    }
    gradient.dispose();
    for (const each of [variable, m, v]) each.dispose();
  });
});
