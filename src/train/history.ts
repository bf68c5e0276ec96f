/** `history.csv`: a row an epoch. */
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { FormatError } from '../errors.js';
import type { HistoryRow } from './options.js';

/** Column names, in the style of Keras' CSVLogger. */
const columns = {
  epoch: 'epoch',
  trainLoss: 'train_loss',
  trainHardLoss: 'train_hard_loss',
  trainSoftLoss: 'train_soft_loss',
  trainAccuracy: 'train_accuracy',
  valLoss: 'val_loss',
  valAccuracy: 'val_accuracy',
  lr: 'lr',
  seconds: 'seconds',
  imagesPerSecond: 'images_per_second',
  best: 'best',
} as const satisfies Record<keyof HistoryRow, string>;

/** Columns that only runs with a teacher have. */
const ofTeacher: readonly string[] = ['trainHardLoss', 'trainSoftLoss'];

/** Full precision: a resumed run must write the same rows again. Empty where there is no number. */
export function formatHistory(history: readonly HistoryRow[]): string {
  const taught = history[0]?.trainSoftLoss !== undefined;
  const kept = Object.entries(columns).filter(([key]) => taught || !ofTeacher.includes(key));
  const records = history.map((row) =>
    kept.map(([key]) => {
      const value = row[key as keyof HistoryRow];
      if (typeof value === 'boolean') return value ? 1 : 0;
      return value === undefined || Number.isNaN(value) ? '' : value;
    }),
  );
  return stringify(records, { header: true, columns: kept.map(([, name]) => name) });
}

/** @throws HISTORY_INVALID */
export function parseHistory(text: string, file: string): HistoryRow[] {
  try {
    const records: Record<string, string>[] = parse(text, { columns: true });
    return records.map((record) => {
      const number = (key: keyof typeof columns): number => {
        const cell = record[columns[key]];
        if (cell === undefined) throw new Error(`no column ${columns[key]}`);
        if (cell === '') return Number.NaN; // as it is written where there is no number
        const value = Number(cell);
        if (Number.isNaN(value)) throw new Error(`"${cell}" in column ${columns[key]} is no number`);
        return value;
      };
      return {
        epoch: number('epoch'),
        trainLoss: number('trainLoss'),
        ...(columns.trainSoftLoss in record
          ? { trainHardLoss: number('trainHardLoss'), trainSoftLoss: number('trainSoftLoss') }
          : {}),
        trainAccuracy: number('trainAccuracy'),
        valLoss: number('valLoss'),
        valAccuracy: number('valAccuracy'),
        lr: number('lr'),
        seconds: number('seconds'),
        imagesPerSecond: number('imagesPerSecond'),
        best: number('best') === 1,
      };
    });
  } catch (cause) {
    throw new FormatError({
      code: 'HISTORY_INVALID',
      message: `${file} is not a history of training: ${(cause as Error).message}`,
      hint: 'it may have been edited or cut; start the run anew with --overwrite',
      cause,
    });
  }
}
