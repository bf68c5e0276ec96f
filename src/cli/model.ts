/** `--model` of the commands that run a model: a model folder, a run folder, or what `tl export` made. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../errors.js';
import type { ComputeOptions } from './options.js';

/** @throws MODEL_NOT_FOUND, MODEL_INVALID, EXPORT_INVALID, WEIGHTS_MISMATCH, BAD_OPTIONS */
export async function openModel(folder: string, { precision }: Pick<ComputeOptions, 'precision'>) {
  const { EXPORT_RECORD, openModelFolder } = await import('../weights/model-folder.js');
  if (!existsSync(join(folder, EXPORT_RECORD))) return await openModelFolder(folder);
  if (precision !== 'float32') {
    throw new UsageError({
      code: 'BAD_OPTIONS',
      message: `--precision ${precision}: ${folder} is an exported model, which computes as it was exported`,
      hint: 'leave --precision out',
    });
  }
  const { openExport } = await import('../export/exported.js');
  return { ...(await openExport(folder)), close: async () => {} };
}
