/** What was said of the validation pictures comes back to the bit. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { rng } from '../../src/rng.js';
import { type Outcome, outcomeOf } from '../../src/train/metrics.js';
import { readOutcomes, writeOutcomes } from '../../src/train/outcomes.js';
import { expectFailure } from '../weights/support/temporary.js';
import { temporary } from './support/training.js';

/** Of so many pictures in so many classes. */
function outcomesOf(pictures: number, classes: number): Outcome[] {
  const random = rng('outcomes');
  return Array.from({ length: pictures }, (_, i) => {
    const powers = Array.from({ length: classes }, () => Math.exp(40 * random.normal()));
    const sum = powers.reduce((a, b) => a + b);
    return outcomeOf(
      i,
      random.integer(classes),
      powers.map((power) => power / sum),
    );
  });
}

test.each([2, 3, 5, 1000])('%i classes', async (classes) => {
  const folder = temporary(`outcomes-${classes}`);
  const outcomes = outcomesOf(50, classes);
  expect(outcomes.some(({ probability }) => probability < 1e-20)).toBe(true);
  await writeOutcomes(folder, outcomes);
  expect(await readOutcomes(folder)).toEqual(outcomes);
});

test('none are none, and where there is no file there are none known', async () => {
  const folder = temporary('outcomes-none');
  await writeOutcomes(folder, []);
  expect(await readOutcomes(folder)).toEqual([]);
  expect(await readOutcomes(temporary('outcomes-absent'))).toBeUndefined();
});

test('damage is named', async () => {
  const folder = temporary('outcomes-damaged');
  await writeOutcomes(folder, outcomesOf(3, 3));
  const file = join(folder, 'outcomes.csv');
  const lines = readFileSync(file, 'utf8').split('\n');
  const damaged = [lines.join('\n').replace(/\n1,/, '\nx,'), lines.slice(1).join('\n'), 'index,label\n1,2\n'];
  for (const text of damaged) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, text);
    await expectFailure(() => readOutcomes(folder), 'RUN_INVALID', /outcomes\.csv/);
  }
});
