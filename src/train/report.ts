/** What a run leaves behind for people to look at. */
import { join } from 'node:path';
import { writeFileAtomic } from '../files.js';
import type { HistoryRow } from './options.js';

/** Draws the curves of a run. @throws FILE_NOT_WRITTEN */
export async function writeReport(folder: string, history: readonly HistoryRow[]): Promise<void> {
  const { curvesPng } = await import('../report/curves.js'); // loads much, and only here
  await writeFileAtomic(join(folder, 'curves.png'), await curvesPng(history));
}
