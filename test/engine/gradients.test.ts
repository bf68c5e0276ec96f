/**
 * Operators against their formulas in double precision, and their gradients against central differences of these, on
 * every engine.
 */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ActivationName, Pair } from '../../src/engine/operations.js';
import { type Operator, type Operators, operatorsOf } from '../../src/engine/operators.js';
import { startTape } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';
import { worst } from './support/parameters.js';
import type { Numbers, Reference } from './support/references.js';
import * as references from './support/references.js';

/** Float32 against double precision, as a share of the largest value: some tens of roundings. */
const TOLERANCE = 1e-5;

interface Case {
  readonly title: string;
  readonly of: (operators: Operators) => Operator;
  readonly reference: Reference;
  readonly shapes: readonly (readonly number[])[];
  /** Deviation of the inputs. */
  readonly spread?: number;
}

const activations = Object.keys(references.functions) as ActivationName[];
const normalised = (...shape: number[]): number[][] => [shape, shape.slice(-1), shape.slice(-1)];
const pooled = (size: Pair, strides: Pair, padding: 'same' | 'valid', shape: readonly number[]): Case => ({
  title: `average pool ${size.join('x')}, strides ${strides.join('x')}, ${padding}, of [${shape}]`,
  of: (operators) => operators.averagePool(size, { strides, padding }),
  reference: references.averagePool(size, strides, padding),
  shapes: [shape],
});
const adaptive = (size: Pair, shape: readonly number[]): Case => ({
  title: `average pool to ${size.join('x')} of [${shape}]`,
  of: (operators) => operators.adaptiveAveragePool(size),
  reference: references.adaptiveAveragePool(size),
  shapes: [shape],
});

const cases: readonly Case[] = [
  ...activations.map((name) => ({
    title: name,
    of: (operators: Operators) => operators.activation(name),
    reference: references.activation(name),
    shapes: [[3, 5, 7, 2]],
    spread: 2.5,
  })),
  ...[1, 3, 6].map((groups) => ({
    title: `group norm, ${groups} groups`,
    of: (operators: Operators) => operators.groupNorm({ groups, epsilon: 1e-3 }),
    reference: references.groupNorm(groups, 1e-3),
    shapes: normalised(2, 3, 5, 6),
  })),
  ...[normalised(3, 5, 7), normalised(2, 3, 5, 6), normalised(4, 9)].map((shapes) => ({
    title: `layer norm of [${shapes[0]}]`,
    of: (operators: Operators) => operators.layerNorm(1e-3),
    reference: references.layerNorm(1e-3),
    shapes,
  })),
  ...(['deviation', 'variance'] as const).map((addedTo) => ({
    title: `standardised kernel, epsilon added to the ${addedTo}`,
    of: (operators: Operators) => operators.standardizeKernel({ epsilon: 1e-2, addedTo }),
    reference: references.standardizeKernel({ epsilon: 1e-2, addedTo }),
    shapes: [[3, 2, 4, 5]],
  })),
  {
    title: 'scaled channels',
    of: (operators) => operators.scaleChannels,
    reference: references.scaleChannels,
    shapes: [
      [3, 2, 5, 4],
      [3, 4],
    ],
  },
  ...[
    [3, 2, 5, 4],
    [3, 5, 7],
  ].map((shape) => ({
    title: `layer scale of [${shape}]`,
    of: (operators: Operators) => operators.layerScale,
    reference: references.layerScale,
    shapes: [shape, shape.slice(-1)],
  })),
  ...[[2, 3, 5], [2, 3], [2]].map((outer) => ({
    title: `joined along the last of ${outer.length + 1} dimensions`,
    of: (operators: Operators) => operators.concat([2, 5, 1]),
    reference: references.concat,
    shapes: [2, 5, 1].map((size) => [...outer, size]),
  })),
  {
    title: 'another shape',
    of: (operators) => operators.reshape([2, 3, 4], [6, 4]),
    reference: references.reshape([6, 4]),
    shapes: [[5, 2, 3, 4]],
  },
  {
    title: 'class token',
    of: (operators) => operators.classToken,
    reference: references.classToken,
    shapes: [[3, 4, 5], [5]],
  },
  {
    title: 'position embedding',
    of: (operators) => operators.addPosition,
    reference: references.addPosition,
    shapes: [
      [3, 4, 5],
      [4, 5],
    ],
  },
  ...[0, 2, 3].map((index) => ({
    title: `token ${index} of 4`,
    of: (operators: Operators) => operators.takeToken(index, 4),
    reference: references.takeToken(index),
    shapes: [[3, 4, 5]],
  })),
  ...[1, 3].map((heads) => ({
    title: `attention, ${heads} heads`,
    of: (operators: Operators) => operators.attention(heads),
    reference: references.attention(heads),
    shapes: Array.from({ length: 3 }, () => [2, 5, 6]),
  })),
  pooled([3, 2], [2, 1], 'valid', [2, 7, 5, 3]),
  pooled([3, 3], [2, 2], 'same', [2, 7, 5, 3]),
  pooled([3, 3], [1, 1], 'same', [2, 4, 6, 3]),
  pooled([2, 2], [2, 2], 'valid', [2, 5, 4, 3]),
  adaptive([3, 2], [2, 7, 5, 3]),
  adaptive([7, 6], [2, 4, 5, 2]), // to more cells than there are places
  {
    title: 'global average pool',
    of: (operators) => operators.globalAveragePool,
    reference: references.globalAveragePool,
    shapes: [[2, 3, 5, 4]],
  },
  ...[
    [3, 4],
    [3, 5, 4],
    [2, 3, 5, 4],
  ].map((shape) => ({
    title: `dense of [${shape}]`,
    of: (operators: Operators) => operators.matMul,
    reference: references.matMul,
    shapes: [shape, [4, 6]],
  })),
];

/** The places at which some activation has a corner: numbers keep away from them by more than a difference's step. */
const CORNERS = [-3, 0, 3, 6];

function draw(name: string, shape: readonly number[], spread: number): Numbers {
  const random = rng('gradients').split(name);
  const values = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    const value = Math.fround(spread * random.normal());
    return CORNERS.some((corner) => Math.abs(value - corner) < 1e-3) ? Math.fround(value + 0.01) : value;
  });
  return { shape, values };
}

/** TensorFlow's kernels, tfjs's operations on them, and the two engines that come with tfjs. */
const engines = [
  ['TensorFlow', 'tensorflow', true],
  ["tfjs's operations on TensorFlow", 'tensorflow', false],
  ['WebAssembly', 'wasm', false],
  ['plain JavaScript', 'cpu', false],
] as const;

describe.each(engines)('%s', (_, name, native) => {
  let operators: Operators;
  beforeAll(async () => {
    const engine: Engine = await loadEngine({ engine: name });
    operators = operatorsOf(native ? engine : { ...engine, native: undefined });
  });

  test.each(cases)('$title', ({ title, of, reference, shapes, spread = 1 }) => {
    const before = tf.memory().numTensors;
    const numbers = shapes.map((shape, i) => draw(`${title} ${i}`, shape, spread));
    const expected = reference(numbers);
    const dy = draw(`${title} dy`, expected.shape, 1);
    const slopes = references.gradients(reference, numbers, dy.values);

    const inputs = numbers.map(({ shape, values }) => tf.tensor(Float32Array.from(values), [...shape]));
    const tape = startTape(inputs);
    const outputs = tape.apply(of(operators), inputs);
    expect(outputs[0]!.shape).toEqual(expected.shape);
    expect(worst(outputs[0]!.dataSync(), expected.values)).toBeLessThan(TOLERANCE);
    const seed = tf.tensor(Float32Array.from(dy.values), [...expected.shape]);
    const gradients = tape.gradients(outputs[0]!, seed);
    gradients.forEach((gradient, i) => {
      expect(gradient.shape, `gradient ${i}`).toEqual(shapes[i]);
      expect(worst(gradient.dataSync(), slopes[i]!), `gradient ${i}`).toBeLessThan(TOLERANCE);
    });
    // Each alone is the same: what nobody wants is left out.
    inputs.forEach((input, i) => {
      const one = startTape([input]);
      const again = one.apply(of(operators), inputs);
      const [alone] = one.gradients(again[0]!, seed);
      expect(worst(alone!.dataSync(), slopes[i]!), `gradient ${i} alone`).toBeLessThan(TOLERANCE);
      tf.dispose([alone!, ...again]);
    });
    tf.dispose([...inputs, ...outputs, seed, ...gradients]);
    expect(tf.memory().numTensors).toBe(before);
  });
});
