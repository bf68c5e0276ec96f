/** What lies beside an exported model, for programs: its classes, and the way from a picture to its input. */
import { join } from 'node:path';
import type { Channels } from '../augment/image.js';
import { describePreprocessing, type Preprocessing } from '../augment/preprocessing.js';
import { writeFileAtomic } from '../files.js';

/** What the records say. */
export interface RecordsBeside {
  /** In the order of the logits; undefined where nobody named them. */
  readonly classes: readonly string[] | undefined;
  readonly inputSize: { readonly height: number; readonly width: number };
  readonly channels: Channels;
  readonly preprocessing: Preprocessing;
}

/** `labels.txt`: a class a line, in the order of the logits. */
export const labelLines = (classes: readonly string[]): string =>
  classes.map((name) => `${name.replace(/\s+/g, ' ')}\n`).join('');

/** Writes `labels.txt` and `class_indices.json` where there are classes, and `preprocessing.json`. */
export async function writeRecords(folder: string, records: RecordsBeside): Promise<void> {
  const { classes, inputSize, channels, preprocessing } = records;
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  if (classes !== undefined) {
    await writeFileAtomic(join(folder, 'labels.txt'), labelLines(classes));
    await writeFileAtomic(join(folder, 'class_indices.json'), json({ ...classes }));
  }
  const described = describePreprocessing(preprocessing, inputSize);
  await writeFileAtomic(join(folder, 'preprocessing.json'), json({ inputSize, channels, described, ...preprocessing }));
}
