/** TensorFlow's checkpoints of version 2 as they are written here: TensorFlow's own bytes. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openVersion2 } from '../../src/weights/checkpoint/version2.js';
import { writeVersion2 } from '../../src/weights/checkpoint/write-version2.js';
import type { TensorToWrite } from '../../src/weights/tensor-to-write.js';
import { fixturesFolder, generateTensor } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const names = ['.index', '.data-00000-of-00001'];

test("the Saver's bytes, for what the Saver wrote", async () => {
  const original = `${fixturesFolder}files/saver-written`;
  const source = await openVersion2(original);
  const tensors = source.tensors.map(({ name, shape, dtype }): TensorToWrite => {
    return { name, shape, dtype: dtype as 'float32' | 'int64', read: () => source.read(name) };
  });
  expect(tensors.length).toBeGreaterThan(2 * 16); // more than two restart points
  expect(tensors.some(({ dtype, shape }) => dtype === 'int64' && shape.length === 0)).toBe(true);
  const prefix = join(folder, 'written.ckpt');
  await writeVersion2(prefix, tensors.toReversed());
  await source.close();
  for (const name of names) {
    expect(readFileSync(prefix + name).equals(readFileSync(original + name)), name).toBe(true);
  }
  expect(readFileSync(join(folder, 'checkpoint'), 'utf8')).toBe(
    'model_checkpoint_path: "written.ckpt"\nall_model_checkpoint_paths: "written.ckpt"\n',
  );
  expect(readdirSync(folder).sort()).toEqual(['checkpoint', ...names.map((name) => `written.ckpt${name}`)].sort());
});

test('an index of several blocks', async () => {
  const root = `MobilenetV1/${'a'.repeat(60)}`;
  const tensors = Array.from({ length: 4000 }, (_, i): TensorToWrite => {
    const name = `${root}${String.fromCharCode(97 + (i % 26))}/${i}`; // neighbours share most of their names
    return { name, shape: [2], dtype: 'float32', read: async () => generateTensor(name, [2]) };
  });
  const prefix = join(folder, 'large.ckpt');
  await writeVersion2(prefix, tensors);
  const source = await openVersion2(prefix);
  expect(new Set(source.tensors.map(({ name }) => name))).toEqual(new Set(tensors.map(({ name }) => name)));
  for (const i of [0, 25, 26, 1999, 3999]) {
    const { name } = tensors[i]!;
    expect(await source.read(name)).toEqual(generateTensor(name, [2]));
  }
  await source.close();
});
