/** The range test of a learning rate: fastai's numbers for the same losses, and a network that is left as it was. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { Variable } from '../../src/engine/variables.js';
import { parseHead, withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import type { EntrySource } from '../../src/train/features/entries.js';
import { type Optimising, type OptimisingSettings, startOptimising } from '../../src/train/optimising.js';
import { rangeDefaults, rangeTest, startCourse, suggestionsOf } from '../../src/train/range-test.js';
import { loadTrainable, type TrainableNetwork } from '../../src/train/trainable.js';
import { parameterNumbers } from '../engine/support/parameters.js';
import { decodeFloats, fixturesFolder } from '../support/golden.js';

interface Case {
  readonly losses: string;
  readonly steps: number;
  readonly rates: readonly number[];
  readonly smoothed: string;
  readonly steep: number;
  readonly valley: number;
}
const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'training', 'lr-find.json'), 'utf8')) as {
  cases: Record<string, Case>;
};

describe("smoothed losses, where it ends, and suggestions are fastai's", () => {
  test.each(Object.entries(fixture.cases))('%s', (_, { losses, steps, rates, smoothed, steep, valley }) => {
    const course = startCourse(rangeDefaults);
    let ended: string | undefined;
    for (const loss of decodeFloats(losses)) {
      ended ??= course.took(loss);
      if (ended !== undefined) break;
    }
    const { points } = course;
    expect(points).toHaveLength(steps);
    expect(ended).toBe(steps < 100 ? 'diverged' : 'at the highest rate');
    const [first, second, third] = points;
    expect([first, second, third, points.at(-1)].map((point) => point!.lr)).toEqual(
      rates.map((rate) => expect.closeTo(rate, 12)),
    );
    const expected = decodeFloats(smoothed);
    points.forEach((point, i) => {
      expect(Math.abs(point.smoothed - expected[i]!)).toBeLessThan(1e-5 * Math.max(1, expected[i]!));
    });
    const suggestions = suggestionsOf(points);
    expect(suggestions.steep! / steep).toBeCloseTo(1, 9);
    expect(suggestions.valley! / valley).toBeCloseTo(1, 9);
  });

  test('a curve that is too short suggests nothing', () => {
    const course = startCourse(rangeDefaults);
    for (let i = 0; i < 15; i++) course.took(1);
    expect(suggestionsOf(course.points)).toEqual({});
  });

  test('a loss that is no number ends it, and is none of its points', () => {
    const course = startCourse(rangeDefaults);
    course.took(1);
    expect(course.took(Number.NaN)).toBe('diverged');
    expect(course.points).toHaveLength(1);
  });
});

const CLASSES = 3;
const SIZE = 32;

async function living(settings: OptimisingSettings): Promise<{ network: TrainableNetwork; optimising: Optimising }> {
  const engine = await loadEngine({ engine: 'tensorflow' });
  const published = findPublished(findBackbone('mobilenet_v1_0.25'), 'keras');
  const graph = withHead(
    buildBackbone(published, { size: { height: SIZE, width: SIZE } }),
    parseHead('linear', 0),
    CLASSES,
  );
  const parameters = new Map(graph.parameters.map((each) => [each.path, each]));
  const read = async (path: string) => parameterNumbers(parameters.get(path)!);
  const network = await loadTrainable(graph, read, engine, { cut: 'block9' });
  return { network, optimising: startOptimising(network, { engine, graph }, settings, 0.01) };
}

/** The same random batches in every epoch. */
const source = ({ entryShape }: TrainableNetwork, counts: readonly number[]): EntrySource => ({
  async *epoch() {
    for (const [i, count] of counts.entries()) {
      yield {
        x: tf.randomUniform([count, ...entryShape], 0, 1, 'float32', i),
        labels: Int32Array.from({ length: count }, (_, k) => (i + k) % CLASSES),
        indices: Int32Array.from({ length: count }, (_, k) => k),
        count,
        waitedMs: 0,
      };
    }
  },
});

/** Bytes of every variable. */
async function bytesOf(many: readonly ReadonlyMap<string, Variable>[]): Promise<string[]> {
  const all: string[] = [];
  for (const variables of many) {
    for (const [path, variable] of variables) {
      const value = variable.read();
      const { buffer, byteOffset, byteLength } = await value.data();
      all.push(`${path} ${Buffer.from(buffer, byteOffset, byteLength).toString('base64')}`);
      value.dispose();
    }
  }
  return all;
}

describe('on a network in the middle of its training', () => {
  test.each<OptimisingSettings>([
    { optimizer: 'adamw' },
    { optimizer: 'sgd', nesterov: true, accumulate: 2, clipNorm: 1, ema: 0.9 },
  ])(
    'with %j: weights, slots, statistics, averages, counts and random numbers are as before, to the bit',
    async (settings) => {
      const { network, optimising } = await living(settings);
      const { optimizer, kept, updater } = optimising;
      const batches = source(network, [4, 4, 3]);
      const random = rng('test');
      for await (const { x, labels, count } of batches.epoch('in order')) {
        const given = {
          targets: tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels, 'int32'), CLASSES), 'float32') as tf.Tensor2D),
        };
        const labelTensor = tf.tensor1d(labels, 'int32');
        const { gradients } = network.step({ x, ...given, labels: labelTensor, random });
        updater.take(gradients, count, 1e-3);
        tf.dispose([x, given, labelTensor]);
      }
      updater.finish(1e-3);
      const everything = [network.variables, optimizer.slots, kept.variables];
      const [before, steps] = [await bytesOf(everything), optimizer.steps];
      const drawn = rng('test').uniform();
      const tensors = tf.memory().numTensors;
      let moved = false;
      const watched = network.trainable.get('head.classifier.kernel') ?? [...network.trainable.values()].at(-1)!;
      const start = watched.read();
      const how = {
        ...{ network, optimising, source: batches, classes: CLASSES, labelSmoothing: 0 },
        ...{ random, steps: 30, ...settings },
      };
      const found = await rangeTest({
        ...how,
        onStep: () => {
          const now = watched.read();
          moved ||= now.dataSync().some((value, i) => value !== start.dataSync()[i]);
          now.dispose();
          return true;
        },
      });
      start.dispose();
      expect(moved, 'it did train meanwhile').toBe(true);
      expect(found.points.length).toBeGreaterThan(10);
      expect(found.points[0]!.lr).toBe(1e-7);
      expect(await bytesOf(everything)).toEqual(before);
      expect(optimizer.steps).toBe(steps);
      expect(random.uniform()).toBe(drawn);
      expect(tf.memory().numTensors).toBe(tensors);

      // and the training goes on as if there had been none
      const again = await rangeTest(how);
      expect(again.points).toEqual(found.points);
      optimising.dispose();
      network.dispose();
    },
  );

  test('it stops when it is told to, and leaves everything as it was', async () => {
    const { network, optimising } = await living({ optimizer: 'adam' });
    const everything = [network.variables, optimising.optimizer.slots];
    const before = await bytesOf(everything);
    const options = { network, optimising, source: source(network, [4]), classes: CLASSES, labelSmoothing: 0 };
    const found = await rangeTest({ ...options, random: rng(0), onStep: ({ step }) => step < 3 });
    expect(found).toMatchObject({ ended: 'stopped', suggestions: {} });
    expect(found.points).toHaveLength(3);
    expect(await bytesOf(everything)).toEqual(before);
    optimising.dispose();
    network.dispose();
  });
});
