/**
 * Damaged files of every format end in an error of ours or in the right tensors. This is a short run of what
 * `node tools/fuzz.mjs` does at length; a failure is printed with the options that repeat it alone.
 */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const FUZZER = fileURLToPath(new URL('../../tools/fuzz.mjs', import.meta.url));
const COUNT = 400;
const SEED = 'short';

const FORMATS = [
  'archive',
  'checkpoint-v1',
  'checkpoint-v2',
  'frozen-graph',
  'keras-h5',
  'keras3',
  'model-folder',
  'name-map',
  'npy',
  'npz',
  'safetensors',
  'saved-model',
  'store',
  'tfjs',
  'torch-stream',
  'torch-zip',
];

interface Result {
  readonly count: number;
  readonly table: readonly { readonly format: string; readonly outcomes: Readonly<Record<string, number>> }[];
  readonly failures: readonly object[];
}

it('survives mutations of every format', { timeout: 120_000 }, async () => {
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [FUZZER, '--count', String(COUNT), '--seed', SEED, '--json'],
    { timeout: 110_000, maxBuffer: 2 ** 26 },
  ).catch((error: { stdout: string; stderr: string }) => error);
  const { count, table, failures } = JSON.parse(stdout) as Result;
  console.log(`${count} mutations, seed ${SEED}\n${table.map((row) => JSON.stringify(row)).join('\n')}`);
  expect(failures, stderr).toEqual([]);
  expect(table.map(({ format }) => format).sort()).toEqual(FORMATS);
  for (const { format, outcomes } of table) {
    expect(Object.keys(outcomes).length, `${format}: damage of one outcome only`).toBeGreaterThan(1);
  }
  const right = table.reduce((sum, { outcomes }) => sum + (outcomes['read, right'] ?? 0), 0);
  expect(right, 'some damage does no harm, and is seen to do none').toBeGreaterThan(0);
});
