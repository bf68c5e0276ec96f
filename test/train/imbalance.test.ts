/** Class weights and samplers for pictures of which some classes have few. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { ToolkitError } from '../../src/errors.js';
import { classWeightsOf } from '../../src/train/class-weights.js';
import { orderOf } from '../../src/train/sampling.js';
import { weightedTargets } from '../../src/train/targets.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-weights-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const classes = ['daisy', 'rose', 'tulip'];
const labels = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2];

function written(text: string): string {
  const file = join(folder, `weights-${Math.random()}.txt`);
  writeFileSync(file, text);
  return file;
}

async function refused(given: string, of = { classes, labels }): Promise<ToolkitError> {
  return await classWeightsOf(given, of).then(
    () => {
      throw new Error('expected an error');
    },
    (error: ToolkitError) => error,
  );
}

describe('class weights', () => {
  test("balanced are scikit-learn's n / (k n_c), with a mean of 1 over the pictures", async () => {
    // sklearn.utils.class_weight.compute_class_weight('balanced', classes=[0, 1, 2], y=labels)
    const weights = await classWeightsOf('balanced', { classes, labels });
    expect(weights).toEqual([10 / 18, 10 / 9, 10 / 3].map((weight) => expect.closeTo(weight, 12)));
    expect(labels.reduce((sum, label) => sum + weights[label]!, 0) / labels.length).toBeCloseTo(1, 12);
  });

  test.each([
    ['JSON', '{"tulip": 3, "daisy": 0.5, "rose": 1}'],
    ['CSV', 'tulip,3\ndaisy,0.5\nrose,1\n'],
    ['CSV with a heading', '\uFEFFclass,weight\r\ntulip,3\r\n"daisy", 0.5\r\nrose,1'],
  ])('of a file of %s are in the order of the classes', async (_, text) => {
    expect(await classWeightsOf(written(text), { classes, labels })).toEqual([0.5, 1, 3]);
  });

  test('every fault of a file is named', async () => {
    const error = await refused(written('daisy,0\nrose,many\nrose,1\nlily,2\n'));
    expect(error.code).toBe('CLASS_WEIGHTS');
    for (const fault of ['daisy: expected a number above 0', 'lily: there is no such', 'rose: is there twice'])
      expect(error.message).toContain(fault);
    expect(error.message).toContain('tulip: is missing');
    expect(error.hint).toContain('daisy, rose, tulip');
  });

  test('what is no file of weights is told so', async () => {
    for (const given of [join(folder, 'none.json'), written('{"daisy": '), written('a,b,c\n')]) {
      const error = await refused(given);
      expect(error.code).toBe('CLASS_WEIGHTS');
      expect(error.message).toContain(given);
    }
  });

  test('a class without training pictures cannot be balanced', async () => {
    const error = await refused('balanced', { classes: [...classes, 'lily'], labels });
    expect(error).toMatchObject({ code: 'CLASS_WEIGHTS', message: expect.stringContaining('lily') });
  });
});

test('weighted targets are a distribution and a weight, which together are weight times target', () => {
  const targets = Float32Array.of(0.7, 0.2, 0.1, 0, 1, 0);
  const { targets: weighted, weights } = weightedTargets(targets, [2, 0.5, 4]);
  expect([...weights]).toEqual([1.9, 0.5].map((value) => expect.closeTo(value, 6)));
  const product = weighted.map((value, i) => value * weights[Math.floor(i / 3)]!);
  expect([...product]).toEqual([1.4, 0.1, 0.4, 0, 0.5, 0].map((value) => expect.closeTo(value, 6)));
  expect(weighted.slice(0, 3).reduce((a, b) => a + b)).toBeCloseTo(1, 6);
  expect(targets[0]).toBeCloseTo(0.7, 6);
});

describe('samplers', () => {
  const samples = [...Array.from({ length: 90 }, () => 0), ...Array.from({ length: 10 }, () => 1)].map((label) => ({
    label,
  }));
  const labelsOf = (order: readonly number[]): number[] => order.map((position) => samples[position]!.label);

  test('shuffle shows every picture once, in another order in every epoch', () => {
    const [first, second] = [1, 2].map((epoch) => orderOf(samples, { seed: 3 }, epoch));
    expect([...first!].sort((a, b) => a - b)).toEqual(samples.map((_, i) => i));
    expect(second).not.toEqual(first);
    expect(orderOf(samples, { seed: 3, sampler: 'shuffle' }, 1)).toEqual(first);
  });

  test('balanced draws every class as often, and every picture of a class', () => {
    const orders = Array.from({ length: 40 }, (_, epoch) =>
      orderOf(samples, { seed: 3, sampler: 'balanced' }, epoch + 1),
    );
    for (const order of orders) expect(order).toHaveLength(samples.length);
    const shown = orders.flat();
    const rare = labelsOf(shown).filter((label) => label === 1).length;
    // 4000 draws with a chance of 1/2 have a deviation of 32: these bounds are four of them.
    expect(Math.abs(rare - 2000)).toBeLessThan(128);
    expect(new Set(shown).size).toBe(samples.length);
    // 200 expected of each of the ten, deviation 14.
    for (let position = 90; position < 100; position++) {
      expect(Math.abs(shown.filter((each) => each === position).length - 200)).toBeLessThan(60);
    }
  });

  test('balanced is decided by seed and epoch', () => {
    const order = (seed: number, epoch: number) => orderOf(samples, { seed, sampler: 'balanced' }, epoch);
    expect(order(3, 1)).toEqual(order(3, 1));
    expect(order(3, 2)).not.toEqual(order(3, 1));
    expect(order(4, 1)).not.toEqual(order(3, 1));
  });
});
