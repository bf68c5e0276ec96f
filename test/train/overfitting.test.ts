/** A run is told that it overfits where it does, and not where losses only wobble. */
import { describe, expect, test } from 'vitest';
import type { HistoryRow } from '../../src/train/options.js';
import { describeOverfitting, overfittingOf } from '../../src/train/overfitting.js';

const history = (valLosses: readonly number[], trainLosses?: readonly number[]): HistoryRow[] =>
  valLosses.map((valLoss, i) => ({
    epoch: i + 1,
    trainLoss: trainLosses?.[i] ?? 1 / (i + 1),
    trainAccuracy: 0.9,
    valLoss,
    valAccuracy: 0.8 + 0.01 * i,
    lr: 1e-3,
    seconds: 1,
    imagesPerSecond: 1,
    best: false,
  }));

describe('overfitting', () => {
  test('is seen from the epoch of the lowest validation loss on', () => {
    const found = overfittingOf(history([1, 0.5, 0.4, 0.45, 0.5, 0.6], [1, 0.6, 0.5, 0.4, 0.3, 0.2]));
    expect(found).toEqual({
      since: 3,
      valLoss: { before: 0.4, after: expect.closeTo(1.55 / 3, 12) },
      trainLoss: { before: 0.5, after: expect.closeTo(0.3, 12) },
      valAccuracy: { before: expect.closeTo(0.82, 12), after: expect.closeTo(0.84, 12) },
    });
    expect(describeOverfitting(found!)).toBe(
      'overfitting since epoch 3: the validation loss rose from 0.400 to 0.517 while the training loss fell from ' +
        '0.500 to 0.300; validation accuracy 82.0 % then, 84.0 % at the end',
    );
  });

  test.each<[string, HistoryRow[]]>([
    ['the validation loss falls', history([1, 0.8, 0.6, 0.5, 0.4, 0.3])],
    ['it rose for two epochs only', history([1, 0.5, 0.4, 0.5, 0.6])],
    ['one of the last three is as good as the best', history([1, 0.4, 0.6, 0.41, 0.6])],
    ['it rose by less than 5 %', history([1, 0.4, 0.41, 0.415, 0.419, 0.419])],
    ['it rose by less than a hundredth', history([0.1, 0.001, 0.002, 0.005, 0.009])],
    ['the training loss rose too', history([1, 0.4, 0.6, 0.7, 0.8], [1, 0.5, 0.6, 0.7, 0.8])],
    ['there are three epochs', history([0.1, 0.5, 0.6])],
    ['nothing was validated', history([Number.NaN, Number.NaN, Number.NaN, Number.NaN, Number.NaN])],
    ['there is no epoch', []],
  ])('is not seen where %s', (_, rows) => {
    expect(overfittingOf(rows)).toBeUndefined();
  });

  test('exactly 5 % is not more than 5 %', () => {
    const losses = (last: number) => history([2, 1, last, last, last]);
    expect(overfittingOf(losses(1.05))).toBeUndefined();
    expect(overfittingOf(losses(1.0501))?.since).toBe(2);
  });
});
