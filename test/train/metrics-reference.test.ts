/** Figures of a classifier are those of scikit-learn (tools/golden/metrics.py). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  CALIBRATION_BINS,
  calibrationOf,
  type Figures,
  figuresOf,
  outcomeOf,
  type Scores,
} from '../../src/train/metrics.js';
import { fixturesFolder, generateTensor } from '../support/golden.js';

interface Case {
  readonly shape: readonly [pictures: number, classes: number];
  readonly scale: number;
  readonly labels: readonly number[];
  readonly confusion: readonly (readonly number[])[];
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
  readonly precision: readonly (number | null)[];
  readonly recall: readonly (number | null)[];
  readonly f1: readonly (number | null)[];
  readonly specificity: readonly (number | null)[];
  readonly support: readonly number[];
  readonly macro: readonly number[];
  readonly weighted: readonly number[];
  /** Means of the bins that have pictures. */
  readonly bins: {
    readonly count: readonly number[];
    readonly accuracy: readonly number[];
    readonly confidence: readonly number[];
  };
  readonly ece: number;
}

const { cases } = JSON.parse(readFileSync(join(fixturesFolder, 'metrics.json'), 'utf8')) as { cases: readonly Case[] };
const keys = ['precision', 'recall', 'f1', 'specificity'] as const;

/** Softmax written again, so that nothing of what is tested makes its input. */
function probabilities(logits: ArrayLike<number>): number[] {
  const powers = Array.from(logits, (value) => Math.exp(value)); // these logits are small
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function figures({ shape: [pictures, classes], scale, labels }: Case): Figures {
  const logits = generateTensor('logits', [pictures, classes], 0, scale);
  const outcomes = labels.map((label, i) =>
    outcomeOf(i, label, probabilities(logits.subarray(i * classes, (i + 1) * classes))),
  );
  return figuresOf(
    outcomes,
    Array.from({ length: classes }, (_, i) => `class ${i}`),
  );
}

const near = (value: number | null) => (value === null ? Number.NaN : expect.closeTo(value, 10));
const inOrder = (scores: Scores): number[] => keys.map((key) => scores[key]);

describe.each(cases)('$shape pictures and classes', (reference) => {
  const ours = figures(reference);

  test('confusion, loss, top-1 and top-5', () => {
    expect(ours.pictures).toBe(reference.shape[0]);
    expect(ours.confusion).toEqual(reference.confusion);
    expect(ours.loss).toBeCloseTo(reference.loss, 10);
    expect(ours.top1).toBeCloseTo(reference.top1, 12);
    expect(ours.top5).toBeCloseTo(reference.top5, 12);
  });

  test('each class', () => {
    expect(ours.classes.map(({ support }) => support)).toEqual(reference.support);
    for (const key of keys) expect(ours.classes.map((each) => each[key])).toEqual(reference[key].map(near));
  });

  test('macro and weighted means', () => {
    expect(inOrder(ours.macro)).toEqual(reference.macro.map(near));
    expect(inOrder(ours.weighted)).toEqual(reference.weighted.map(near));
  });

  test('calibration', () => {
    const filled = ours.calibration.bins.filter((bin) => bin.pictures > 0);
    expect(ours.calibration.bins.map((bin) => bin.pictures)).toEqual(reference.bins.count);
    expect(filled.map((bin) => bin.accuracy)).toEqual(reference.bins.accuracy.map(near));
    expect(filled.map((bin) => bin.confidence)).toEqual(reference.bins.confidence.map(near));
    expect(ours.calibration.ece).toBeCloseTo(reference.ece, 12);
  });
});

test('the cases have what is hard: classes without pictures, without predictions, and without both', () => {
  const all = cases.flatMap(({ confusion }) =>
    confusion.map((row, i) => [row.some((n) => n > 0), confusion.some((each) => each[i]! > 0)].join()),
  );
  expect(new Set(all)).toEqual(new Set(['true,true', 'true,false', 'false,true', 'false,false']));
  expect(cases.some(({ specificity }) => specificity.includes(null))).toBe(true);
});

test('a bin has its upper end, and 0 is in the first', () => {
  const placeOf = (confidence: number): number =>
    calibrationOf([{ confidence, right: true }]).bins.findIndex(({ pictures }) => pictures === 1);
  expect([0, 1e-9, 0.2, 0.200_000_1, 0.999_999, 1].map(placeOf)).toEqual([0, 0, 2, 3, 14, 14]);
  const { bins } = calibrationOf([{ confidence: 0.5, right: false }]);
  expect(bins).toHaveLength(CALIBRATION_BINS);
  expect([bins[0]!.from, bins.at(-1)!.to]).toEqual([0, 1]);
  bins.slice(1).forEach((bin, i) => {
    expect(bin.from).toBe(bins[i]!.to);
  });
});

test('a probability of 0 has a finite loss', () => {
  const { loss, probability } = outcomeOf(3, 1, [1, 0]);
  expect(probability).toBe(0);
  expect(loss).toBeCloseTo(744.44, 2); // minus the logarithm of the smallest number above 0
});
