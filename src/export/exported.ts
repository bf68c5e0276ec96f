/** An exported folder as a classifier: in its format's own runtime, behind the preprocessing that its record tells. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine } from '../engine/tensorflow.js';
import { FormatError, UsageError } from '../errors.js';
import { EXPORT_RECORD } from '../weights/model-folder.js';
import { loadFormat } from './formats.js';
import { type ExportRecord, readExportRecord } from './record.js';

/** What `predict` and `evaluate` take in the place of a model folder. */
export interface ExportedModel {
  readonly folder: string;
  readonly record: ExportRecord;
  /** @throws EXPORT_UNREADABLE, EXPORT_NO_RUNTIME; EXPORT_INVALID where the files disagree about the classes */
  load(engine: Engine): Promise<{
    /** Its name and version. */
    readonly runtime: string;
    readonly classes: readonly string[];
    /** Preprocessed pixels `[count, height, width, channels]` -> probabilities `[count, classes]`, in C order. */
    probabilities(pixels: Float32Array, count: number): Promise<Float32Array>;
    dispose(): Promise<void>;
  }>;
}

/** @throws EXPORT_NOT_FOUND, EXPORT_INVALID, FILE_NOT_READ */
export async function openExport(folder: string): Promise<ExportedModel> {
  if (!existsSync(join(folder, EXPORT_RECORD))) {
    throw new UsageError({
      code: 'EXPORT_NOT_FOUND',
      message: `${folder}: no exported model here; expected a folder with ${EXPORT_RECORD}`,
      hint: 'give the folder that `tl export` made',
    });
  }
  const record = await readExportRecord(folder);
  const { height, width } = record.inputSize;
  return {
    folder,
    record,
    load: async (engine) => {
      const format = await loadFormat(record.format);
      const runtime = await format.open(folder, record, engine);
      return {
        runtime: runtime.name,
        classes: record.classes,
        probabilities: async (data, count) => {
          const values = await runtime.run({ shape: [count, height, width, record.channels], data });
          if (values.length === count * record.classes.length) return values;
          throw new FormatError({
            code: 'EXPORT_INVALID',
            message: `${folder}: the model gives ${values.length / count} probabilities a picture, expected ${record.classes.length}, one for each class of ${EXPORT_RECORD}`,
            hint: 'take all files from the same export, or export the model again',
          });
        },
        dispose: () => runtime.close(),
      };
    },
  };
}
