/** Arrays of a whole network on their way into an .npz. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openNpz } from '../../src/weights/numpy/npz.js';
import { writeNpzTensors } from '../../src/weights/numpy/write-npz.js';
import { generateTensor } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-write-npz-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const shapes: Record<string, number[]> = {
  cls: [1, 1, 24],
  'Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel': [24, 3, 8],
  scalar: [],
  'head/bias': [5],
};

test('arrays come back in their order, are read one at a time, and equal input gives equal bytes', async () => {
  const order: string[] = [];
  const tensors = Object.entries(shapes).map(([name, shape]) => ({
    ...{ name, shape, dtype: 'float32' as const },
    read: async () => {
      order.push(name);
      return generateTensor(name, shape);
    },
  }));
  const [first, second] = [join(folder, 'first.npz'), join(folder, 'second.npz')];
  await writeNpzTensors(first, tensors);
  await writeNpzTensors(second, tensors);
  expect(order).toEqual([...Object.keys(shapes), ...Object.keys(shapes)]);
  expect(readFileSync(first).equals(readFileSync(second))).toBe(true);
  const source = await openNpz(first);
  expect(source.tensors.map(({ name, shape }) => [name, shape])).toEqual(Object.entries(shapes));
  for (const [name, shape] of Object.entries(shapes))
    expect(await source.read(name)).toEqual(generateTensor(name, shape));
  await source.close();
});

test('a tensor that cannot be read, or has another size, leaves no file behind', async () => {
  const path = join(folder, 'none.npz');
  const good = { name: 'a', shape: [2], dtype: 'float32' as const, read: async () => new Float32Array(2) };
  const failing = { ...good, name: 'b', read: () => Promise.reject(new Error('no numbers')) };
  await expect(writeNpzTensors(path, [good, failing])).rejects.toThrow('no numbers');
  const short = { ...good, name: 'b', read: async () => new Float32Array(1) };
  await expect(writeNpzTensors(path, [good, short])).rejects.toMatchObject({ code: 'TENSOR_SHAPE' });
  expect(existsSync(path)).toBe(false);
  expect(readdirSync(folder).filter((name) => name.includes('none'))).toEqual([]);
});
