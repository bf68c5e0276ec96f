import { describe, expect, test } from 'vitest';
import { topIndices } from '../../src/train/classifier.js';
import { formatHistory, parseHistory } from '../../src/train/history.js';
import { classScores } from '../../src/train/metrics.js';
import type { HistoryRow } from '../../src/train/options.js';
import { expectFailure } from '../weights/support/temporary.js';

describe('figures of a class', () => {
  test('are those of the class against the rest', () => {
    // Rows are labels, columns predictions.
    const [cat, dog, owl] = classScores(
      [
        [8, 2, 0],
        [1, 5, 4],
        [0, 0, 10],
      ],
      ['cat', 'dog', 'owl'],
    );
    expect(cat).toEqual({
      class: 'cat',
      support: 10,
      precision: 8 / 9,
      recall: 8 / 10,
      f1: 16 / 19,
      specificity: 19 / 20,
    });
    expect(dog).toMatchObject({ precision: 5 / 7, recall: 5 / 10, f1: 10 / 17, specificity: 18 / 20 });
    expect(owl).toMatchObject({ precision: 10 / 14, recall: 1, f1: 20 / 24, specificity: 16 / 20 });
    // F1 is the harmonic mean of precision and recall.
    expect(cat!.f1).toBeCloseTo(2 / (1 / cat!.precision + 1 / cat!.recall), 12);
  });

  test('what cannot be divided is NaN, not 0', () => {
    const [never, other] = classScores(
      [
        [0, 3],
        [0, 5],
      ],
      ['never', 'other'],
    );
    expect(never).toMatchObject({ precision: Number.NaN, recall: 0, f1: 0, specificity: 1 });
    expect(other).toMatchObject({ recall: 1, specificity: 0 });
    const [absent] = classScores(
      [
        [0, 0],
        [0, 5],
      ],
      ['absent', 'other'],
    );
    expect(absent).toMatchObject({
      support: 0,
      precision: Number.NaN,
      recall: Number.NaN,
      f1: Number.NaN,
      specificity: 1,
    });
  });
});

test('the largest come first, of equal ones the first', () => {
  expect(topIndices([0.1, 0.5, 0.4], 2)).toEqual([1, 2]);
  expect(topIndices([0.3, 0.3, 0.4, 0.3], 3)).toEqual([2, 0, 1]);
  expect(topIndices([1], 5)).toEqual([0]);
});

describe('history.csv', () => {
  const row: HistoryRow = {
    epoch: 1,
    trainLoss: 0.1 + 0.2,
    trainAccuracy: 1 / 3,
    valLoss: 1e-300,
    valAccuracy: 0,
    lr: 0.000_123_456_789_012_345_6,
    seconds: 1.5,
    imagesPerSecond: 1e21,
    best: true,
  };

  test('keeps every number to the last bit', () => {
    const rows = [row, { ...row, epoch: 2, valLoss: Number.NaN, valAccuracy: Number.NaN, best: false }];
    expect(parseHistory(formatHistory(rows), 'history.csv')).toEqual(rows);
    expect(parseHistory(formatHistory([]), 'history.csv')).toEqual([]);
  });

  test.each<[string, string]>([
    ['no column', 'epoch,loss\n1,2\n'],
    ['a row cut short', `${formatHistory([row]).trimEnd().slice(0, -20)}`],
    ['a number that is none', formatHistory([row]).replace('1.5', 'soon')],
  ])('%s is HISTORY_INVALID and names the file', async (_, text) => {
    const error = await expectFailure(
      () => parseHistory(text, 'runs/x/history.csv'),
      'HISTORY_INVALID',
      /runs\/x\/history\.csv/,
    );
    expect(error.hint).toContain('--overwrite');
  });
});
