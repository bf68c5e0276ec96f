/** Damaged HDF5 files end in an error of ours or in tensors of the declared shape; TL_MUTATIONS runs more. */

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openH5 } from '../../src/weights/h5.js';
import { fixturesFolder } from '../support/golden.js';
import { MUTATIONS, report, survive } from './support/mutate.js';

/** The library has loops without an end on damaged files: each costs this long, and a new thread. */
const TIMEOUT_MS = 1500;

const FILES = ['keras2-nested-whole.h5', 'keras3.weights.h5', 'keras2-weights.h5'];

for (const file of FILES) {
  const count = Math.ceil(MUTATIONS / FILES.length);
  it(`survives mutations of ${file}`, { timeout: 60_000 + 200 * count }, async () => {
    const open = (path: string) => openH5(path, { timeoutMs: TIMEOUT_MS });
    const options = { open, checked: false, limitMs: 10 * TIMEOUT_MS };
    const outcomes = await survive(join(fixturesFolder, 'files', file), count, options);
    report(file, count, outcomes);
    expect(outcomes.size).toBeGreaterThan(1);
  });
}
