import { describe, expect, test } from 'vitest';
import { fans, initialize } from '../../src/engine/initializers.js';
import { rng } from '../../src/rng.js';

const draw = (
  kind: 'zeros' | 'ones' | 'he_normal_fan_out' | 'glorot_uniform',
  shape: readonly number[],
  seed = 0,
): Float32Array => initialize({ kind }, shape, rng(seed));
const deviation = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

describe('starting values', () => {
  test('fans count the receptive field', () => {
    expect(fans([10, 20])).toEqual({ fanIn: 10, fanOut: 20 });
    expect(fans([3, 5, 4, 8])).toEqual({ fanIn: 60, fanOut: 120 });
    expect(fans([7])).toEqual({ fanIn: 1, fanOut: 7 });
  });

  test('zeros and ones', () => {
    expect([...draw('zeros', [2, 2])]).toEqual([0, 0, 0, 0]);
    expect([...draw('ones', [3])]).toEqual([1, 1, 1]);
  });

  test('He: normal with deviation sqrt(2 / fan out)', () => {
    const values = draw('he_normal_fan_out', [3, 3, 32, 64]);
    expect(values).toHaveLength(3 * 3 * 32 * 64);
    expect(deviation(values) / Math.sqrt(2 / (9 * 64))).toBeCloseTo(1, 1);
    expect(values.reduce((a, b) => a + b, 0) / values.length).toBeCloseTo(0, 3);
    const beyond = values.filter((value) => Math.abs(value) > 3 * Math.sqrt(2 / (9 * 64))).length / values.length;
    expect(beyond).toBeGreaterThan(0.001); // 0.0027 of a normal distribution, none of a uniform or truncated one
  });

  test('Glorot: uniform within sqrt(6 / (fan in + fan out)), and up to it', () => {
    const values = draw('glorot_uniform', [100, 60]);
    const limit = Math.sqrt(6 / 160);
    const largest = Math.max(...values.map(Math.abs));
    expect(largest).toBeLessThanOrEqual(limit);
    expect(largest).toBeGreaterThan(0.99 * limit);
    expect(deviation(values) / (limit / Math.sqrt(3))).toBeCloseTo(1, 1);
  });

  test('the generator decides: the same again, or others', () => {
    expect(draw('glorot_uniform', [4, 4], 1)).toEqual(draw('glorot_uniform', [4, 4], 1));
    expect(draw('glorot_uniform', [4, 4], 1)).not.toEqual(draw('glorot_uniform', [4, 4], 2));
  });
});
