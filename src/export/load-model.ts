/** A model from its folder, whatever made it: a run, or an export. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EXPORT_RECORD, type OpenedModel, openModelFolder } from '../weights/model-folder.js';
import type { ExportedModel } from './exported.js';

/** What `predict` and `evaluate` take. */
export type LoadedModel = OpenedModel | (ExportedModel & { close(): Promise<void> });

/**
 * Opens a model folder, a run folder (its best model) or a folder that `exportModel` wrote, which then computes in its
 * format's own runtime. Weights are read where they are needed; close it when it is not needed any more.
 * @throws MODEL_NOT_FOUND, MODEL_INVALID, WEIGHTS_MISMATCH, EXPORT_INVALID
 */
export async function loadModel(folder: string): Promise<LoadedModel> {
  if (!existsSync(join(folder, EXPORT_RECORD))) return await openModelFolder(folder);
  const { openExport } = await import('./exported.js'); // and with it all that runs other formats
  return { ...(await openExport(folder)), close: async () => {} };
}
