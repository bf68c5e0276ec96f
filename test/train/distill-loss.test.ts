/** The loss of distillation: against PyTorch, and at the ends of its weight. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { startTape } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { type AuxiliaryLoss, type Distillation, stepLosses } from '../../src/train/losses.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { decodeFloats, fixturesFolder, generateTensor } from '../support/golden.js';
import { numbersOfWork } from './support/optimize.js';

interface Case extends Distillation {
  readonly shape: readonly [number, number];
  readonly scale: number;
  readonly labelSmoothing: number;
  readonly hard: number;
  readonly soft: number;
  readonly loss: number;
  readonly gradient: { readonly values: string };
}

const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'distillation.json'), 'utf8')) as { cases: Case[] };

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

interface Given {
  readonly shape: readonly [number, number];
  readonly scale: number;
  readonly labels: readonly number[];
  readonly labelSmoothing?: number;
  readonly distillation?: Distillation;
  readonly auxiliary?: readonly AuxiliaryLoss[];
}

/** Mean losses and the gradient of the whole with respect to the student's logits, as a step takes them. */
function computed({ shape, scale, labels, labelSmoothing = 0, distillation, auxiliary = [] }: Given, compiled = false) {
  const [count, classes] = shape;
  const operators: Operators = operatorsOf(engine);
  const inputs = [
    tf.tensor(generateTensor('student', shape, 0, scale), [...shape]),
    tf.tensor(generateTensor('teacher', shape, 0, scale), [...shape]),
    tf.tensor(smoothedTargets(labels, classes, labelSmoothing), [...shape]),
    ...auxiliary.map(({ tap }) => tf.tensor(generateTensor(tap, shape, 0, scale), [...shape])),
  ];
  const work = ([student, teacher, targets, ...others]: readonly tf.Tensor[]): tf.Tensor[] => {
    const tape = startTape([student!]);
    const outputs = new Map([['logits', student!], ...auxiliary.map(({ tap }, i) => [tap, others[i]!] as const)]);
    const wanted = { targets: targets!, teacher: distillation && { logits: teacher!, distillation } };
    const { whole, parts } = stepLosses(outputs, wanted, auxiliary, { operators, apply: tape.apply });
    const seed = tf.fill([count], 1 / count);
    const [gradient] = tape.gradients(whole, seed);
    const all = [whole, ...(parts === undefined ? [] : [parts.hard, parts.soft])];
    const means = all.map((each) => tf.mean(each));
    tf.dispose([seed, ...all]);
    return [gradient!, ...means];
  };
  const [gradient, loss, hard, soft] = numbersOfWork(engine, inputs, work, compiled);
  return { gradient: gradient!, loss: loss![0]!, hard: hard?.[0], soft: soft?.[0] };
}

const counted = (count: number, classes: number): number[] => Array.from({ length: count }, (_, i) => i % classes);

/** Largest difference, relative to the largest value or 1. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const largest = Math.max(1, ...Array.from(expected, Math.abs));
  return Math.max(...Array.from(expected, (value, i) => Math.abs(value - actual[i]!))) / largest;
}

describe('loss and gradient are those of PyTorch', () => {
  test.each(
    fixture.cases.map(({ shape, weight, temperature, labelSmoothing }, index) => ({
      ...{ shape, weight, temperature, labelSmoothing, index },
    })),
  )('$shape, weight $weight, temperature $temperature, label smoothing $labelSmoothing', ({ index }) => {
    const { shape, scale, weight, temperature, labelSmoothing, ...expected } = fixture.cases[index]!;
    const given = { shape, scale, labelSmoothing, labels: counted(...shape), distillation: { weight, temperature } };
    for (const compiled of [false, true]) {
      const { gradient, loss, hard, soft } = computed(given, compiled);
      expect(distance([loss, hard!, soft!], [expected.loss, expected.hard, expected.soft])).toBeLessThan(1e-5);
      expect(distance(gradient, decodeFloats(expected.gradient.values))).toBeLessThan(1e-5);
    }
  });

  test('and the fixture could tell: without the square of the temperature it fails', () => {
    const { shape, scale, weight, temperature, labelSmoothing, gradient } = fixture.cases[1]!;
    const wrong = { weight: weight / temperature ** 2, temperature };
    const given = { shape, scale, labelSmoothing, labels: counted(...shape), distillation: wrong };
    expect(distance(computed(given).gradient, decodeFloats(gradient.values))).toBeGreaterThan(1e-2);
  });
});

describe('at the ends of the weight', () => {
  const base = { shape: [7, 5], scale: 4, labels: counted(7, 5) } as const;

  test('0 is training without a teacher, to the bit', () => {
    const plain = computed(base);
    const taught = computed({ ...base, distillation: { weight: 0, temperature: 3 } });
    expect(taught.gradient).toEqual(plain.gradient);
    expect(taught.loss).toBe(plain.loss);
    expect(taught.soft).toBeGreaterThan(0.1);
  });

  test('1 does not look at the labels', () => {
    const distillation = { weight: 1, temperature: 3 };
    const one = computed({ ...base, distillation });
    const other = computed({ ...base, labels: base.labels.map((label) => (label + 2) % 5), distillation });
    expect(other.gradient).toEqual(one.gradient);
    expect(other.loss).toBe(one.loss);
    expect(other.hard).not.toBe(one.hard);
    expect(one.loss).toBe(one.soft);
  });

  test('label smoothing is in the hard part alone', () => {
    const distillation = { weight: 0.5, temperature: 2 };
    const plain = computed({ ...base, distillation });
    const smooth = computed({ ...base, labelSmoothing: 0.3, distillation });
    expect(smooth.soft).toBe(plain.soft);
    expect(smooth.hard).not.toBeCloseTo(plain.hard!, 2);
  });
});

test('a student that says what its teacher says has no soft loss', () => {
  const shape = [4, 6] as const;
  const logits = tf.tensor(generateTensor('student', shape, 0, 9), [...shape]);
  const targets = tf.tensor(smoothedTargets(counted(4, 6), 6, 0), [...shape]);
  const tape = startTape([logits]);
  const teacher = { logits, distillation: { weight: 1, temperature: 2 } };
  const how = { operators: operatorsOf(engine), apply: tape.apply };
  const { parts } = stepLosses(new Map([['logits', logits]]), { targets, teacher }, [], how);
  expect(Math.max(...parts!.soft.dataSync())).toBe(0);
});

test('auxiliary classifiers learn from labels and teacher alike, times their weights', () => {
  const shape = [6, 4] as const;
  const distillation = { weight: 0.7, temperature: 3 };
  const base = { shape, scale: 3, labels: counted(6, 4), distillation } as const;
  const alone = computed(base);
  const auxiliary = [{ tap: 'aux1.logits', weight: 0.3 }];
  const both = computed({ ...base, auxiliary });
  expect(both.hard!).toBeGreaterThan(alone.hard! + 0.1);
  expect(both.soft!).toBeGreaterThan(alone.soft! + 0.1);
  expect(both.loss).toBeCloseTo(0.3 * both.hard! + 0.7 * both.soft!, 5);
  expect(both.gradient).toEqual(alone.gradient);
});
