/** Damaged files of every format but HDF5 end in an error of ours or in the right tensors; TL_MUTATIONS runs more. */

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readNpy } from '../../src/weights/npy.js';
import { openWeights, type TensorSource } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';
import { MUTATIONS, report, survive } from './support/mutate.js';

const FILES: readonly (readonly [file: string, checked: boolean])[] = [
  ['kinds.safetensors', false],
  ['torch-kinds-zip.pth', true],
  ['torch-checkpoint-zip.pth', true],
  ['torch-kinds-legacy.pth', false],
  ['torch-checkpoint-legacy.pth', false],
  ['arrays.npz', true],
  ['arrays-deflated.npz', true],
];

for (const [file, checked] of FILES) {
  it(`survives mutations of ${file}`, { timeout: 30_000 + 20 * MUTATIONS }, async () => {
    const options = { open: openWeights, checked, limitMs: 10_000 };
    const outcomes = await survive(join(fixturesFolder, 'files', file), MUTATIONS, options);
    report(file, MUTATIONS, outcomes);
    expect(outcomes.size).toBeGreaterThan(1);
  });
}

it('survives mutations of array.npy', { timeout: 30_000 + 20 * MUTATIONS }, async () => {
  const open = async (path: string): Promise<TensorSource> => {
    const { shape, data } = await readNpy(path);
    const tensors = [{ name: 'array', dtype: 'float32' as const, shape }];
    return { format: 'npz', path, tensors, metadata: {}, read: async () => data, close: async () => undefined };
  };
  const options = { open, checked: false, limitMs: 10_000 };
  const outcomes = await survive(join(fixturesFolder, 'files', 'array.npy'), MUTATIONS, options);
  report('array.npy', MUTATIONS, outcomes);
  expect(outcomes.size).toBeGreaterThan(1);
});
