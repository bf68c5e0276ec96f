/** Axes move as a plain loop moves them, whatever shape and order; a part of the result is that part of the whole. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { permute, twoArrays } from '../../src/weights/plan/permute.js';

/** Element by element, from the definition. */
function plainly(values: Float32Array, shape: readonly number[], permutation: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const sizes = permutation.map((axis) => shape[axis]!);
  return Float32Array.from(values, (_, place) => {
    let [rest, from] = [place, 0];
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      from += (rest % sizes[axis]!) * strides[permutation[axis]!]!;
      rest = Math.floor(rest / sizes[axis]!);
    }
    return values[from]!;
  });
}

const cases = fc.array(fc.integer({ min: 1, max: 19 }), { minLength: 1, maxLength: 4 }).chain((shape) =>
  fc.record({
    shape: fc.constant(shape),
    permutation: fc.shuffledSubarray(
      shape.map((_, i) => i),
      { minLength: shape.length },
    ),
    cut: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
);

test('every order of axes', () => {
  fc.assert(
    fc.property(cases, ({ shape, permutation, cut }) => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i);
      const whole = plainly(values, shape, permutation);
      expect(permute(values, shape, permutation)).toEqual(whole);
      const rows = shape[permutation[0]!]!;
      const at = Math.floor(cut * rows);
      const memory = twoArrays();
      const ranges = [
        [0, at],
        [at, rows],
      ] as const;
      const parts = ranges.map((range) => permute(values, shape, permutation, { range, memory }));
      expect(parts.flatMap((part) => [...part])).toEqual([...whole]);
    }),
    { seed: 1, numRuns: 200 },
  );
});

test('numbers alone, and nothing at all', () => {
  expect(permute(Float32Array.of(7), [], [])).toEqual(Float32Array.of(7));
  expect(permute(new Float32Array(0), [3, 0, 2], [2, 0, 1])).toEqual(new Float32Array(0));
});
