/** `--model` of the commands that run a model: a model folder, a run folder, or what `tl export` made. */
import { UsageError } from '../errors.js';
import type { LoadedModel } from '../export/load-model.js';
import type { ComputeOptions } from './options.js';

/** @throws BAD_OPTIONS, and what {@link loadModel} throws */
export async function openModel(
  folder: string,
  { precision }: Pick<ComputeOptions, 'precision'>,
): Promise<LoadedModel> {
  const { loadModel } = await import('../export/load-model.js');
  const model = await loadModel(folder);
  if (!('load' in model) || precision === 'float32') return model;
  throw new UsageError({
    code: 'BAD_OPTIONS',
    message: `--precision ${precision}: ${folder} is an exported model, which computes as it was exported`,
    hint: 'leave --precision out',
  });
}
