/** What a checkpoint holds beside its model: tensors that a run trains, and that no model has. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ReadParameter } from '../engine/network.js';
import { FormatError } from '../errors.js';
import { openSafetensors } from '../weights/safetensors.js';

/** A model's numbers, open. */
export interface OpenNumbers {
  readonly read: ReadParameter;
  close(): Promise<void>;
}

/**
 * Reads tensors of a file beside a model in the place of the model's own.
 * @param trained what the file was trained with, for the message: `the run was`
 * @throws RUN_INVALID, FILE_TRUNCATED, ...
 */
export async function withTensorsBeside(
  folder: string,
  name: string,
  model: OpenNumbers,
  trained: string,
): Promise<OpenNumbers> {
  const file = join(folder, name);
  if (!existsSync(file)) {
    throw new FormatError({
      code: 'RUN_INVALID',
      message: `${file} is not there, with which ${trained} trained`,
      hint: 'start the run anew with --overwrite',
    });
  }
  const stored = await openSafetensors(file);
  const own = new Set(stored.tensors.map((tensor) => tensor.name));
  return {
    read: (path) => (own.has(path) ? stored.read(path) : model.read(path)),
    close: async () => {
      await stored.close();
      await model.close();
    },
  };
}
