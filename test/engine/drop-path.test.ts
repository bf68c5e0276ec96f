/** Stochastic depth: whole pictures lose a branch in training, and their gradients with it. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildGraph } from '../../src/engine/graph.js';
import { add, dropPath } from '../../src/engine/layers.js';
import { drawMask } from '../../src/engine/masks.js';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { inference, type RunMode, run } from '../../src/engine/run.js';
import { type Apply, applyOnly, startTape } from '../../src/engine/tape.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';

let operators: Operators;
beforeAll(async () => {
  operators = operatorsOf(await loadEngine());
});

const [pictures, rate] = [400, 0.3] as const;
const kept = Math.fround(1 / (1 - rate));

const training = (seed: number, apply: Apply = applyOnly): RunMode => ({
  kind: 'training',
  apply,
  mask: (need) => drawMask(need, rng(seed)),
  onStatistics: () => {},
});

describe.each([[[3, 2, 4]], [[5, 4]], [[6]]])('a branch of shape %o', (shape) => {
  const graph = buildGraph(shape, (s, x) => {
    const branch = s.at('branch').tap(dropPath(s.at('first'), x, rate));
    return s.at('end').tap(add(s, x, branch));
  });
  const length = shape.reduce((a, b) => a * b, 1);

  /** What became of each picture of ones: one number, or more if its values differ. */
  function branchOf(mode: RunMode): number[] {
    const x = tf.ones([pictures, ...shape]);
    const outputs = run(graph, new Map([[graph.input, x]]), ['branch'], { operators, parameters: () => x, mode });
    const values = outputs.get('branch')!.dataSync();
    tf.dispose([x, ...outputs.values()]);
    return Array.from({ length: pictures }, (_, i) => {
      const row = values.slice(i * length, (i + 1) * length);
      expect(new Set(row).size).toBe(1);
      return row[0]!;
    });
  }

  test('is zero for its share of the pictures and larger for the others, as the generator says', () => {
    const values = branchOf(training(1));
    expect(new Set(values)).toEqual(new Set([0, kept]));
    const share = values.filter((value) => value === 0).length / pictures;
    expect(Math.abs(share - rate)).toBeLessThan(4 * Math.sqrt((rate * (1 - rate)) / pictures));
    expect(branchOf(training(1))).toEqual(values);
    expect(branchOf(training(2))).not.toEqual(values);
  });

  test('passes everything in inference', () => {
    expect(new Set(branchOf(inference))).toEqual(new Set([1]));
  });

  test('has a gradient where it was kept alone; the way around it always has one', () => {
    const before = tf.memory().numTensors;
    const x = tf.ones([pictures, ...shape]);
    const tape = startTape([x]);
    const mode = training(3, tape.apply);
    const outputs = run(graph, new Map([[graph.input, x]]), ['end'], { operators, parameters: () => x, mode });
    const seed = tf.onesLike(x);
    const [gradient] = tape.gradients(outputs.get('end')!, seed);
    expect([...gradient!.dataSync()]).toEqual([...outputs.get('end')!.dataSync()]); // of ones: 1 + mask, both
    expect(new Set(gradient!.dataSync())).toEqual(new Set([1, Math.fround(1 + kept)]));
    tf.dispose([x, seed, gradient!, ...outputs.values()]);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('keeps its mask for the gradient, a number a picture, and not the branch', () => {
    const before = tf.memory().numBytes;
    const x = tf.ones([pictures, ...shape]);
    const tape = startTape([x]);
    const mode = training(4, tape.apply);
    const outputs = run(graph, new Map([[graph.input, x]]), ['branch'], { operators, parameters: () => x, mode });
    const [y, seed] = [outputs.get('branch')!, tf.onesLike(x)];
    expect(tf.memory().numBytes - before).toBe(4 * (3 * x.size + pictures)); // x, y, seed
    tf.dispose([x, seed, y, ...tape.gradients(y, seed)]);
    expect(tf.memory().numBytes).toBe(before);
  });
});
