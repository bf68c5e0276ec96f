/** Mixup and cutmix: against torchvision, and what holds of every mix. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { torchPreprocessing } from '../../src/augment/preprocessing.js';
import { recipes } from '../../src/augment/recipe.js';
import { closeLoader, type Sample, scanFolder } from '../../src/data/index.js';
import { buildGraph } from '../../src/engine/graph.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { type EntryOptions, entriesFromDisk } from '../../src/train/features/entries.js';
import { drawMix, type Mix, mixLabels, mixPixels } from '../../src/train/mixing.js';
import { decodeFloats, fixturesFolder, generateTensor } from '../support/golden.js';
import { pictureFolder } from './support/training.js';

interface Case extends Mix {
  readonly shape: readonly [number, number, number, number];
  readonly classes: number;
  readonly labelSmoothing: number;
  /** Of each picture itself, after the rectangle was cut at the edges. */
  readonly left: number;
  readonly pixels: { readonly values: string };
  readonly targets: readonly (readonly number[])[];
}

const { cases } = JSON.parse(readFileSync(join(fixturesFolder, 'mixing.json'), 'utf8')) as { cases: Case[] };

function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>, within = 1e-6): void {
  expect(got.length).toBe(expected.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i]! - expected[i]!)).toBeLessThan(within);
}

describe('against torchvision', () => {
  test.each(cases)('$kind of $shape, $share at $centre', (given) => {
    const { shape, classes, labelSmoothing, left, pixels: wanted, targets } = given;
    const [count, height, width] = shape;
    const pixels = generateTensor('batch', shape);
    const share = mixPixels(given, { pixels, size: { height, width } }, count);
    expect(share).toBeCloseTo(left, 12);
    expectClose(pixels, decodeFloats(wanted.values));
    const labels = Int32Array.from({ length: count }, (_, i) => i % classes);
    const mixed = mixLabels(labels, share, { classes, labelSmoothing });
    expectClose(mixed.targets, targets.flat());
  });
});

describe('every mix', () => {
  const alpha = fc.constantFrom(0.05, 0.2, 1, 8);
  const either = fc.oneof(
    fc.record({ mixup: alpha }),
    fc.record({ cutmix: alpha }),
    fc.record({ mixup: alpha, cutmix: alpha }),
  );

  test('has a label mass of one for every picture, nowhere below zero, and the larger part as its class', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(6), { minLength: 1, maxLength: 9 }),
        either,
        fc.nat(),
        fc.constantFrom(0, 0.1, 0.9),
        (list, recipe, seed, labelSmoothing) => {
          const labels = Int32Array.from(list);
          const classes = 7;
          const mix = drawMix(recipe, seed, 1, 0);
          const pixels = Float32Array.from({ length: labels.length * 6 * 5 }, (_, i) => Math.floor(i / 30));
          const share = mixPixels(mix, { pixels, size: { height: 6, width: 5 } }, labels.length);
          expect(share).toBeGreaterThanOrEqual(0);
          expect(share).toBeLessThanOrEqual(1);
          const mixed = mixLabels(labels, share, { classes, labelSmoothing });
          for (const [i, label] of mixed.labels.entries()) {
            const row = mixed.targets.subarray(i * classes, (i + 1) * classes);
            expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6);
            expect(Math.min(...row)).toBeGreaterThanOrEqual(0);
            expect(row[label]!).toBeCloseTo(Math.max(...row), 6);
          }
          // Pictures say their number in every pixel, so a mixed one says what it is made of.
          for (let i = 0; i < labels.length; i++) {
            const partner = (i + labels.length - 1) % labels.length;
            const mean = pixels.subarray(i * 30, (i + 1) * 30).reduce((a, b) => a + b, 0) / 30;
            expect(mean).toBeCloseTo(share * i + (1 - share) * partner, 4);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('is named by seed, epoch and step', () => {
    const recipe = { mixup: 0.4, cutmix: 1 };
    expect(drawMix(recipe, 1, 2, 3)).toEqual(drawMix(recipe, 1, 2, 3));
    const others = [drawMix(recipe, 2, 2, 3), drawMix(recipe, 1, 3, 3), drawMix(recipe, 1, 2, 4)];
    for (const other of others) expect(other.share).not.toBe(drawMix(recipe, 1, 2, 3).share);
  });

  test('is of the wanted kind, of either as often where both are, with shares of Beta(alpha, alpha)', () => {
    const drawn = (recipe: Parameters<typeof drawMix>[0]) =>
      Array.from({ length: 2000 }, (_, step) => drawMix(recipe, 0, 1, step));
    expect(new Set(drawn({ mixup: 1 }).map(({ kind }) => kind))).toEqual(new Set(['mixup']));
    expect(new Set(drawn({ cutmix: 1 }).map(({ kind }) => kind))).toEqual(new Set(['cutmix']));
    const both = drawn({ mixup: 0.2, cutmix: 2 });
    const cut = both.filter(({ kind }) => kind === 'cutmix');
    expect(Math.abs(cut.length - 1000)).toBeLessThan(90); // four standard deviations
    const variance = (mixes: readonly Mix[]) =>
      mixes.reduce((sum, { share }) => sum + (share - 0.5) ** 2, 0) / mixes.length;
    // Of Beta(a, a): 1 / (4 (2 a + 1)).
    expect(variance(cut)).toBeCloseTo(1 / 20, 2);
    expect(variance(both.filter(({ kind }) => kind === 'mixup'))).toBeCloseTo(1 / 5.6, 2);
    for (const axis of [0, 1]) {
      const centres = cut.map(({ centre }) => centre[axis]!);
      expect(centres.reduce((a, b) => a + b, 0) / cut.length).toBeCloseTo(0.5, 1);
    }
  });
});

describe('entries', () => {
  let samples: readonly Sample[];
  beforeAll(async () => {
    await loadEngine({ engine: 'cpu' });
    samples = scanFolder(await pictureFolder('mixed', 3, 1), { valSplit: 0, seed: 0 }).train;
  });
  afterAll(closeLoader);

  const size = { height: 12, width: 10 };
  const graph = buildGraph([12, 10, 3], (s, x) => s.tap(x));
  const nothingFrozen = { enter: (pixels: tf.Tensor) => tf.clone(pixels), dispose: () => undefined };

  async function epoch(changes: Partial<EntryOptions>, second?: { height: number; width: number }) {
    const how = { network: { graph, entryShape: [12, 10, 3] }, preprocessing: torchPreprocessing, size, batchSize: 4 };
    const rest = { augment: recipes.standard, seed: 3, skipBadImages: false, onBadImage: () => undefined } as const;
    const source = entriesFromDisk(samples, { ...how, ...rest, frozen: nothingFrozen, ...changes });
    const recipe = second && { preprocessing: torchPreprocessing, size: second };
    const all = [];
    for await (const { x, labels, targets, pixels, count } of source.epoch({ shuffled: 2, second: recipe })) {
      // Copies: what is lent is written over once the next batch is asked for, and this engine's tensors are in it.
      const { own, second: others } = pixels!;
      const numbers = { x: (x.dataSync() as Float32Array).slice(), own: own.slice(), second: others?.slice() };
      all.push({ ...numbers, labels, targets, count });
      x.dispose();
    }
    return all;
  }

  test('are the mixed pictures of the epoch, with mixed targets, and plain ones in order', async () => {
    const mixing = { mixup: 0.4, cutmix: 1, classes: 3, labelSmoothing: 0.1 };
    const [plain, mixed] = [await epoch({}), await epoch({ mixing })];
    expect(mixed.map(({ count }) => count)).toEqual([4, 4, 1]);
    for (const [step, { x, own, targets, labels, count }] of mixed.entries()) {
      const wanted = plain[step]!.x.slice();
      const share = mixPixels(drawMix(mixing, 3, 2, step), { pixels: wanted, size }, count);
      expect(x).toEqual(wanted);
      expect(own).toEqual(wanted);
      expect({ targets, labels }).toEqual(mixLabels(plain[step]!.labels, share, mixing));
      expect(plain[step]!.targets).toBeUndefined();
    }
    const source = entriesFromDisk(samples, {
      network: { graph, entryShape: [12, 10, 3] },
      ...{ preprocessing: torchPreprocessing, size, batchSize: 4, augment: recipes.none, seed: 3 },
      ...{ skipBadImages: false, onBadImage: () => undefined, frozen: nothingFrozen, mixing },
    });
    for await (const { x, targets } of source.epoch('in order')) {
      expect(targets).toBeUndefined();
      x.dispose();
    }
  });

  test('show a second network the same mixes', async () => {
    const mixing = { cutmix: 1, classes: 3, labelSmoothing: 0 };
    const [alone] = await epoch({ mixing });
    const [both] = await epoch({ mixing }, size);
    expect(both!.second).toEqual(alone!.x);
    const [larger] = await epoch({ mixing }, { height: 24, width: 20 });
    expect(larger!.own).toEqual(alone!.x);
    expect(larger!.second).toHaveLength(4 * 24 * 20 * 3);
  });
});
