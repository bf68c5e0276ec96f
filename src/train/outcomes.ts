/**
 * `outcomes.csv` of a checkpoint: what the best model so far said of each validation picture. The figures of a run are
 * of these, and a run that goes on need not see another best epoch.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { FormatError, messageOf } from '../errors.js';
import { writeFileAtomic } from '../files.js';
import { lossOf, type Outcome, TOP } from './metrics.js';

const FILE = 'outcomes.csv';

const guessed = Array.from({ length: TOP }, (_, i) => [`class_${i + 1}`, `probability_${i + 1}`] as const);
const columns: readonly string[] = ['index', 'label', 'probability', ...guessed.flat()];

/** Numbers in full: the figures of a run that went on are those of one that did not stop. @throws FILE_NOT_WRITTEN */
export async function writeOutcomes(folder: string, outcomes: readonly Outcome[]): Promise<void> {
  const records = outcomes.map(({ index, label, probability, top }) => [
    ...[index, label, probability],
    ...guessed.flatMap((_, i): (string | number)[] =>
      top[i] === undefined ? ['', ''] : [top[i].class, top[i].probability],
    ),
  ]);
  await writeFileAtomic(join(folder, FILE), stringify(records, { header: true, columns: [...columns] }));
}

/**
 * Undefined where a checkpoint has none, as in versions that kept none.
 * @throws RUN_INVALID
 */
export async function readOutcomes(folder: string): Promise<Outcome[] | undefined> {
  const file = join(folder, FILE);
  if (!existsSync(file)) return undefined;
  try {
    const records: Record<string, string>[] = parse(await readFile(file, 'utf8'), { columns: true });
    return records.map((record) => {
      const number = (name: string): number => {
        const cell = record[name];
        if (cell === undefined || cell === '' || Number.isNaN(Number(cell))) {
          throw new Error(`"${cell ?? ''}" in column ${name} is no number`);
        }
        return Number(cell);
      };
      const top = guessed
        .filter(([name]) => record[name] !== '')
        .map(([name, share]) => ({ class: number(name), probability: number(share) }));
      const probability = number('probability');
      return { index: number('index'), label: number('label'), probability, loss: lossOf(probability), top };
    });
  } catch (cause) {
    throw new FormatError({
      code: 'RUN_INVALID',
      message: `${file} is damaged: ${messageOf(cause)}`,
      hint: 'start the run anew with --overwrite',
      cause,
    });
  }
}
