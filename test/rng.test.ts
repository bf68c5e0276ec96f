import { describe, expect, test } from 'vitest';
import { type Rng, rng } from '../src/rng.js';

/** Of `rng(7)`, times 2^32. */
const FIRST_OF_SEED_7 = [3849505591, 3586802280, 1117612724];
const SHUFFLED = [1, 7, 3, 2, 6, 4, 0, 5];

const draw = (random: Rng, count: number): number[] => Array.from({ length: count }, () => random.uniform());
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe('rng', () => {
  test('one seed is one stream, for ever: these numbers decide published results', () => {
    expect(draw(rng(0), 4)).toEqual(draw(rng('0'), 4));
    expect(draw(rng(7), 3).map((value) => value * 2 ** 32)).toEqual(FIRST_OF_SEED_7);
    expect(rng(7).split('epoch 1').split('order').shuffle([0, 1, 2, 3, 4, 5, 6, 7])).toEqual(SHUFFLED);
  });

  test('other seeds and other names give other streams', () => {
    const streams = [rng(0), rng(1), rng(-1), rng(0.5), rng(0).split('a'), rng(0).split('b'), rng(0).split(0)];
    const firsts = streams.map((stream) => draw(stream, 3).join());
    expect(new Set(firsts).size).toBe(streams.length);
    expect(draw(rng(0).split('a').split('b'), 3)).not.toEqual(draw(rng(0).split('b').split('a'), 3));
    expect(draw(rng(0).split(1), 3)).toEqual(draw(rng(0).split('1'), 3));
  });

  test('a split does not depend on what was drawn before, and drawing from it changes nothing', () => {
    const parent = rng(3);
    const fresh = draw(parent.split('child'), 5);
    draw(parent, 100);
    const late = parent.split('child');
    expect(draw(late, 5)).toEqual(fresh);
    const undisturbed = rng(3);
    draw(undisturbed, 100);
    expect(draw(parent, 5)).toEqual(draw(undisturbed, 5));
  });

  test('uniform numbers fill [0, 1) evenly and neighbours are unrelated', () => {
    const values = draw(rng(11), 100_000);
    expect(Math.min(...values.slice(0, 50_000))).toBeGreaterThanOrEqual(0);
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    const bins = new Array<number>(20).fill(0);
    for (const value of values) bins[Math.floor(value * 20)]!++;
    const expected = values.length / 20;
    const chiSquare = bins.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeLessThan(43.8); // 19 degrees of freedom, p = .001
    const products = values.slice(1).map((value, i) => (value - 0.5) * (values[i]! - 0.5));
    expect(Math.abs(mean(products))).toBeLessThan((4 * (1 / 12)) / Math.sqrt(values.length));
  });

  test('the first numbers of numbered splits are even too: a flip is decided by one', () => {
    const firsts = Array.from({ length: 10_000 }, (_, i) => rng(0).split(`epoch ${i}`).split('a/b.jpg').uniform());
    expect(Math.abs(mean(firsts) - 0.5)).toBeLessThan(4 / Math.sqrt(12 * firsts.length));
    const flips = firsts.filter((value) => value < 0.5).length;
    expect(Math.abs(flips - 5000)).toBeLessThan(200); // four standard deviations
  });

  test('integers cover their range and nothing else', () => {
    const random = rng('integers');
    const counts = new Array<number>(6).fill(0);
    for (let i = 0; i < 6000; i++) counts[random.integer(6)]!++;
    expect(counts.every((n) => n > 850 && n < 1150)).toBe(true);
    expect(random.integer(1)).toBe(0);
  });

  test('normal numbers have mean 0, deviation 1 and thin tails, and are finite', () => {
    const random = rng('normal');
    const values = Array.from({ length: 50_000 }, () => random.normal());
    expect(values.every(Number.isFinite)).toBe(true);
    expect(Math.abs(mean(values))).toBeLessThan(0.02);
    expect(mean(values.map((v) => v * v))).toBeCloseTo(1, 1);
    expect(mean(values.map((v) => v ** 4))).toBeGreaterThan(2.8);
    expect(mean(values.map((v) => v ** 4))).toBeLessThan(3.2);
    expect(values.filter((v) => Math.abs(v) > 2).length / values.length).toBeCloseTo(0.0455, 2);
  });

  test.each([
    [0.2, 0.2],
    [0.001, 0.001],
    [1, 1],
    [0.8, 0.8],
    [2, 5],
    [0.5, 3],
    [40, 40],
  ])('beta(%d, %d) has the four moments of its distribution, and stays in [0, 1]', (a, b) => {
    const random = rng(`beta ${a} ${b}`);
    const values = Array.from({ length: 50_000 }, () => random.beta(a, b));
    expect(values.every((value) => value >= 0 && value <= 1)).toBe(true);
    // E[x^k] is the product of (a + i) / (a + b + i) over i < k.
    let [expected, deviation] = [1, 0];
    for (let k = 1; k <= 4; k++) {
      expected *= (a + k - 1) / (a + b + k - 1);
      const powers = values.map((value) => value ** k);
      const got = mean(powers);
      deviation = Math.sqrt(mean(powers.map((power) => (power - got) ** 2)) / values.length);
      expect(Math.abs(got - expected)).toBeLessThan(4 * deviation + 1e-9);
    }
  });

  test('a shuffle keeps everything, leaves its argument alone, and favours no order', () => {
    const items = ['a', 'b', 'c'];
    const orders = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = rng(i).shuffle(items).join('');
      orders.set(order, (orders.get(order) ?? 0) + 1);
    }
    expect(items).toEqual(['a', 'b', 'c']);
    expect([...orders.keys()].sort()).toEqual(['abc', 'acb', 'bac', 'bca', 'cab', 'cba']);
    for (const count of orders.values()) expect(Math.abs(count - 1000)).toBeLessThan(130);
    expect(rng(0).shuffle([])).toEqual([]);
    expect(
      rng(0)
        .shuffle(Array.from({ length: 1000 }, (_, i) => i))
        .sort((a, b) => a - b),
    ).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  });
});
