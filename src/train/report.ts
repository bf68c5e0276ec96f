/** What a run leaves behind for people to look at. */
import { join } from 'node:path';
import { writeFileAtomic } from '../files.js';
import type { HistoryRow } from './options.js';
import { overfittingOf } from './overfitting.js';

/** Draws the curves of a run. @throws FILE_NOT_WRITTEN */
export async function writeReport(folder: string, history: readonly HistoryRow[]): Promise<void> {
  const [{ pngOf }, { drawCurves }] = await Promise.all([import('../report/chart.js'), import('../report/curves.js')]);
  const curves = await drawCurves(history, { overfitsSince: overfittingOf(history)?.since });
  await writeFileAtomic(join(folder, 'curves.png'), await pngOf(curves));
}
