/** Keras' h5 files as they are written here, read back. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openH5 } from '../../src/weights/keras/h5.js';
import { type LayerToWrite, writeKerasH5 } from '../../src/weights/keras/h5-writer.js';
import { generateTensor } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-h5-writer-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const weight = (name: string, shape: readonly number[], dtype: 'float32' | 'int64' = 'float32') => ({
  ...{ name, shape, dtype },
  read: async () => (dtype === 'int64' ? Float32Array.of(3) : generateTensor(name, shape)),
});

test('layers, names and numbers come back, and larger tensors go in slices', async () => {
  const path = join(folder, 'small.h5');
  const large = [9, 3, 400, 500]; // 21.6 MB: two slices
  const layers: LayerToWrite[] = [
    { name: 'normalization', weights: [weight('mean:0', [3]), weight('count:0', [], 'int64')] },
    { name: 'conv', weights: [weight('conv/kernel:0', large), weight('conv/bias:0', [500])] },
    { name: 'conv/BatchNorm', weights: [weight('conv/BatchNorm/gamma:0', [500])] },
    { name: 'stem', weights: [weight('stem_conv/kernel:0', [1, 1, 2, 2])] },
  ];
  await writeKerasH5(path, layers, '2.15.0');
  const source = await openH5(path);
  expect(source.metadata).toMatchObject({ layout: 'keras-weights', backend: 'tensorflow', keras_version: '2.15.0' });
  expect(source.tensors.map(({ name, shape, dtype }) => [name, [...shape], dtype])).toEqual([
    ['normalization/mean', [3], 'float32'],
    ['normalization/count', [], 'int64'],
    ['conv/kernel', large, 'float32'],
    ['conv/bias', [500], 'float32'],
    ['conv/BatchNorm/gamma', [500], 'float32'],
    ['stem/stem_conv/kernel', [1, 1, 2, 2], 'float32'],
  ]);
  const [written, back] = [generateTensor('conv/kernel:0', large), await source.read('conv/kernel')];
  expect(Buffer.from(back.buffer).equals(Buffer.from(written.buffer))).toBe(true); // toEqual takes half a minute
  expect(await source.read('stem/stem_conv/kernel')).toEqual(generateTensor('stem_conv/kernel:0', [1, 1, 2, 2]));
  expect(await source.read('normalization/count')).toEqual(Float32Array.of(3));
  await source.close();
});

test('lists of names above 64,512 bytes are split as Keras does', async () => {
  const path = join(folder, 'many.h5');
  const long = 'x'.repeat(150);
  const layers = Array.from({ length: 1000 }, (_, i) => ({
    name: `${long}${i}`,
    weights: i < 3 ? [weight(`${long}${i}/kernel:0`, [2])] : [],
  }));
  await writeKerasH5(path, layers, '2.15.0');
  const source = await openH5(path);
  expect(source.tensors.map(({ name }) => name)).toEqual([0, 1, 2].map((i) => `${long}${i}/kernel`));
  await source.close();
});

test('a file that cannot be made is said as one', async () => {
  const blocked = join(folder, 'blocked');
  writeFileSync(blocked, '');
  const path = join(blocked, 'x.h5');
  await expect(writeKerasH5(path, [], '2.15.0')).rejects.toMatchObject({ code: 'FILE_NOT_WRITTEN' });
  expect(existsSync(path)).toBe(false);
  const failing = { ...weight('kernel', [2]), read: () => Promise.reject(new Error('no numbers')) };
  const broken = writeKerasH5(join(folder, 'broken.h5'), [{ name: 'conv', weights: [failing] }], '2.15.0');
  await expect(broken).rejects.toThrow('no numbers');
});
