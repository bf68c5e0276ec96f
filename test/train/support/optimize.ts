/** What tools/golden/optimize.py has: parameters, their gradients and rates, and the fixtures made of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { compile, compilerOf } from '../../../src/engine/compile.js';
import type { Engine } from '../../../src/engine/tensorflow.js';
import type { Updates, Variable } from '../../../src/engine/variables.js';
import { decodeFloats, fixturesFolder, generateTensor } from '../../support/golden.js';

export const STEPS = 20;

export const shapes: Readonly<Record<string, readonly number[]>> = {
  'a.kernel': [3, 4],
  'a.bias': [4],
  'b.conv.kernel': [2, 2, 3, 2],
  'b.norm.gamma': [2],
};

export const paths = Object.keys(shapes);
export const lengthOf = (path: string): number => shapes[path]!.reduce((a, b) => a * b, 1);

/** Steps count from 1. */
export const gradientOf = (path: string, step: number): Float32Array =>
  generateTensor(`${path} gradient ${step}`, shapes[path]!, 0, 10 ** -(step % 3));

export const rates = {
  varying: (step: number): number => 0.01 * (1 + 0.9 * Math.sin(step)),
  constant: (): number => 0.01,
} as const;

/** The parameters as variables, at their starting values. */
export function startVariables(updates: Updates): Map<string, Variable> {
  return new Map(
    paths.map((path) => {
      const value = tf.tensor(generateTensor(path, shapes[path]!, 0, 1), [...shapes[path]!]);
      const variable = updates.variable(shapes[path]!, value);
      value.dispose();
      return [path, variable];
    }),
  );
}

export function gradientsOf(step: number): Map<string, tf.Tensor> {
  return new Map(paths.map((path) => [path, tf.tensor(gradientOf(path, step), [...shapes[path]!])]));
}

export function numbersIn(variable: Variable): Float32Array {
  const value = variable.read();
  const numbers = value.dataSync() as Float32Array;
  value.dispose();
  return numbers;
}

/** By parameter: its values after every step, `[20, ...shape]`. */
export type Values = Readonly<Record<string, { readonly values: string }>>;

export interface OptimizeFixture {
  readonly optimizers: Readonly<
    Record<
      string,
      { readonly options: Record<string, unknown>; readonly rate: keyof typeof rates; readonly values: Values }
    >
  >;
  readonly averages: Readonly<
    Record<string, { readonly options: { readonly decay: number; readonly warmUp: boolean }; readonly values: Values }>
  >;
  readonly schedules: Readonly<
    Record<
      string,
      {
        readonly options: Record<string, unknown>;
        readonly rates: readonly number[];
        /** The step from which on both are the same. */
        readonly from?: number;
      }
    >
  >;
  readonly losses: Readonly<
    Record<
      string,
      {
        readonly options: {
          readonly labelSmoothing: number;
          readonly focal?: number;
          readonly classWeights?: readonly number[];
        };
        readonly loss: number;
        readonly gradient: { readonly values: string };
      }
    >
  >;
}

export const references = ['keras', 'torch'] as const;

export const readOptimizeFixture = (name: (typeof references)[number]): OptimizeFixture =>
  JSON.parse(readFileSync(join(fixturesFolder, 'training', `${name}.json`), 'utf8')) as OptimizeFixture;

/** Values of one parameter after a step, which counts from 1. */
export const valuesAfter = (values: Values, path: string, step: number): Float32Array =>
  decodeFloats(values[path]!.values).subarray((step - 1) * lengthOf(path), step * lengthOf(path));

/** Largest difference, relative to the expected value or 1. */
export function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!) / Math.max(1, Math.abs(expected[i]!));
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return worst;
}

/** The numbers of what a computation gives, compiled or operation by operation; it leaves no other tensor behind. */
export function numbersOfWork(
  engine: Engine,
  inputs: readonly tf.Tensor[],
  work: (inputs: readonly tf.Tensor[]) => tf.Tensor[],
  compiled: boolean,
): Float32Array[] {
  const before = tf.memory().numTensors;
  let results: tf.Tensor[];
  if (compiled) {
    const graph = compile(compilerOf(engine)!, inputs, () => work(inputs));
    results = graph.run(inputs);
    graph.dispose();
  } else results = work(inputs);
  expect(tf.memory().numTensors - before, 'tensors left over').toBe(results.length);
  const numbers = results.map((each) => each.dataSync() as Float32Array);
  tf.dispose([...inputs, ...results]);
  return numbers;
}
