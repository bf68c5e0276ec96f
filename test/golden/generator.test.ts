/** The generator of the fixtures' weights gives what its Python twin gives, bit for bit. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decodeFloats, fixturesFolder, fnv1a32, generateTensor } from '../support/golden.js';

interface Vector {
  readonly name: string;
  readonly shape: readonly number[];
  readonly center: number;
  readonly scale: number;
  readonly hash: number;
  readonly stride: number;
  readonly values: string;
}

const { vectors } = JSON.parse(readFileSync(`${fixturesFolder}generator.json`, 'utf8')) as { vectors: Vector[] };

test.each(vectors)('$name', ({ name, shape, center, scale, hash, stride, values }) => {
  expect(fnv1a32(name)).toBe(hash);
  const generated = generateTensor(name, shape, center, scale);
  const expected = decodeFloats(values);
  expect(expected.length).toBe(Math.ceil(generated.length / stride));
  expect(expected).toEqual(generated.filter((_, i) => i % stride === 0));
});
