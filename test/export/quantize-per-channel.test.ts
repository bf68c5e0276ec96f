/** One range an output channel: what comes back, and where zero lies. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { roundAffine, roundSymmetric } from '../../src/export/quantize/per-channel.js';

const CHANNELS = 3;
const numbers = fc
  .array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), { minLength: 4, maxLength: 40 })
  .map((values) => Float32Array.from(values.slice(0, values.length - (values.length % CHANNELS))));

/** Largest absolute value of a channel. */
const topOf = (values: Float32Array, c: number): number =>
  values.reduce((most, value, i) => (i % CHANNELS === c ? Math.max(most, Math.abs(value)) : most), 0);

describe('symmetric', () => {
  test('every value comes back to within half a level of its own channel', () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const { stored, scales, zeroPoints, restored } = roundSymmetric(values, CHANNELS);
        expect([...zeroPoints]).toEqual([0, 0, 0]);
        scales.forEach((scale, c) => {
          const top = topOf(values, c);
          expect(scale).toBe(top === 0 ? 1 : Math.max(2 ** -126, Math.fround(top / 127)));
        });
        values.forEach((value, i) => {
          const scale = scales[i % CHANNELS]!;
          expect(stored[i]).toBeGreaterThanOrEqual(-127);
          expect(restored[i]).toBe(Math.fround(stored[i]! * scale));
          expect(Math.abs(restored[i]! - value)).toBeLessThanOrEqual(scale * 0.5001);
        });
      }),
    );
  });

  test('a scale that must not be smaller', () => {
    const { stored, scales } = roundSymmetric(Float32Array.of(1, 0, -1, 0, 0, 0), CHANNELS, [0.5, 0.25, 0]);
    expect([...scales]).toEqual([0.5, 0.25, Math.fround(1 / 127)]);
    expect([...stored]).toEqual([2, 0, -127, 0, 0, 0]);
  });
});

test('affine: every value comes back to within half a level of its own channel, and zero exactly', () => {
  fc.assert(
    fc.property(numbers, (some) => {
      const values = Float32Array.of(...some, 0, 0, 0);
      const { stored, scales, zeroPoints, restored } = roundAffine(values, CHANNELS);
      values.forEach((value, i) => {
        const [scale, zero] = [scales[i % CHANNELS]!, zeroPoints[i % CHANNELS]!];
        expect(restored[i]).toBe(Math.fround((stored[i]! - zero) * scale));
        expect(Math.abs(restored[i]! - value)).toBeLessThanOrEqual(scale * 0.5001);
      });
      expect([...restored.subarray(-CHANNELS)].map(Math.abs)).toEqual([0, 0, 0]);
    }),
  );
});

test('channels do not widen each other', () => {
  const values = Float32Array.of(1000, 0.001, 0, -500, 0.002, 0);
  for (const { restored } of [roundSymmetric(values, CHANNELS), roundAffine(values, CHANNELS)]) {
    expect(Math.abs(restored[1]! - 0.001)).toBeLessThan(0.002 / 127);
    expect(Math.abs(restored[4]! - 0.002)).toBeLessThan(0.002 / 127);
  }
});
