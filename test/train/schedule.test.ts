import { describe, expect, test } from 'vitest';
import { learningRate, type ScheduleOptions, scheduleOf } from '../../src/train/schedule.js';
import { smoothedTargets } from '../../src/train/targets.js';

const ratesOf = (schedule: ScheduleOptions): number[] =>
  Array.from({ length: schedule.totalSteps }, (_, step) => learningRate(step, schedule));

describe('learning-rate schedules', () => {
  test('step falls where it is told to, as torch.optim.lr_scheduler.MultiStepLR does', () => {
    const schedule = scheduleOf({ schedule: 'step', epochs: 10, warmupEpochs: 0, stepEpochs: '2,2.5,7' }, 1, 4);
    const rates = ratesOf(schedule);
    for (const [step, rate] of [
      [7, 1],
      [8, 0.1],
      [9, 0.1],
      [10, 0.01],
      [27, 0.01],
      [28, 1e-3],
      [39, 1e-3],
    ] as const) {
      expect(rates[step], `step ${step}`).toBeCloseTo(rate, 12);
    }
    expect(ratesOf(scheduleOf({ schedule: 'step', epochs: 6, warmupEpochs: 0, stepEpochs: 2 }, 1, 1))).toEqual(
      [0, 0, 1, 1, 2, 2].map((falls) => 0.1 ** falls),
    );
  });

  test('constant is constant', () => {
    expect(new Set(ratesOf({ name: 'constant', lr: 0.1, totalSteps: 50, warmupSteps: 0 }))).toEqual(new Set([0.1]));
  });

  test('cosine starts at the highest rate and falls to almost nothing, by its formula', () => {
    const rates = ratesOf({ name: 'cosine', lr: 0.2, totalSteps: 100, warmupSteps: 0 });
    rates.forEach((rate, step) => {
      expect(rate).toBeCloseTo(0.1 * (1 + Math.cos((Math.PI * step) / 100)), 12);
    });
    expect(rates[0]).toBe(0.2);
    expect(rates[50]).toBeCloseTo(0.1, 12);
    expect(rates[99]).toBeLessThan(0.2 * 0.001);
    expect(rates.every((rate, i) => i === 0 || rate < rates[i - 1]!)).toBe(true);
    expect(rates.every((rate) => rate > 0)).toBe(true);
  });

  test.each(['constant', 'cosine'] as const)('warm-up rises in equal steps to the highest rate, then %s', (name) => {
    const rates = ratesOf({ name, lr: 1, totalSteps: 30, warmupSteps: 10 });
    for (let step = 0; step < 10; step++) expect(rates[step]).toBeCloseTo((step + 1) / 10, 12);
    for (let step = 10; step < 30; step++) {
      const expected = name === 'constant' ? 1 : 0.5 * (1 + Math.cos((Math.PI * (step - 10)) / 20));
      expect(rates[step]).toBeCloseTo(expected, 12);
    }
    expect(rates[0]).toBeGreaterThan(0); // the first step is not lost
    expect(Math.max(...rates)).toBe(1);
  });

  test('steps after the end, as after data that grew, are at the lowest rate and never rise again', () => {
    const schedule = { name: 'cosine', lr: 1, totalSteps: 10, warmupSteps: 0 } as const;
    expect(learningRate(10, schedule)).toBeCloseTo(0, 12);
    expect(learningRate(25, schedule)).toBeCloseTo(0, 12);
  });

  test('a warm-up as long as the run divides by nothing', () => {
    expect(learningRate(5, { name: 'cosine', lr: 1, totalSteps: 5, warmupSteps: 5 })).toBe(1);
  });
});

describe('targets', () => {
  test('without smoothing they are one-hot', () => {
    expect([...smoothedTargets([1, 0], 3, 0)]).toEqual([0, 1, 0, 1, 0, 0]);
  });

  test('with smoothing every class gets its share, and rows sum to one', () => {
    const targets = smoothedTargets(Int32Array.of(2, 0), 4, 0.1);
    const expected = [0.025, 0.025, 0.925, 0.025, 0.925, 0.025, 0.025, 0.025];
    expect([...targets]).toEqual(expected.map((value) => expect.closeTo(value, 7)));
    expect(targets.slice(0, 4).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6);
  });
});
