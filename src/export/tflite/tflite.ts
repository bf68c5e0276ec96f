/** A TensorFlow Lite model, `model.tflite`, as LiteRT and TensorFlow Lite's interpreters run it on phones and elsewhere. */
import { join } from 'node:path';
import { writeStreamAtomic } from '../../files.js';
import { version } from '../../version.js';
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { lowerGraph } from '../lowering/lower.js';
import { channelMoments, type Moments } from '../quantize/moments.js';
import { activationRanges } from '../quantize/ranges.js';
import { convert } from './convert.js';
import { labelsArchive } from './labels.js';
import { openLiteRt } from './litert.js';
import { LABELS_FILE, METADATA_NAME, metadataOf } from './metadata.js';
import { serialise, tensorsOf } from './serialise.js';
import { tfliteUsage } from './usage.js';

export const MODEL_FILE = 'model.tflite';

/**
 * Input `input`: float32 `[N, height, width, channels]`, preprocessed, or uint8 pixels. Outputs `probabilities` and
 * `logits`, `[N, classes]`, float32 at every quantisation; signature `serving_default`.
 */
export const tflite: ExportFormat = {
  title: 'TensorFlow Lite model',
  quantizations: ['none', 'float16', 'int8'], // unsigned 8 bits know no range for each channel there
  takesPixels: true,
  calibrates: true,
  write: writeTflite,
  open: (folder, record) => openLiteRt(join(folder, MODEL_FILE), record),
  usage: tfliteUsage,
};

async function writeTflite(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const { quantize, withPreprocessing, calibration, engine } = options;
  const { graph, read, record } = model;
  const pixels = withPreprocessing ? ({ type: 'uint8', preprocessing: record.preprocessing } as const) : undefined;
  const network = lowerGraph(graph, read, { depthwisePadding: 'operation', pixels });
  const moments = quantize === 'none' ? new Map<string, Moments>() : await channelMoments(graph, read);
  const ranges =
    calibration === undefined
      ? undefined
      : await activationRanges(lowerGraph(graph, read, { depthwisePadding: 'attribute' }), calibration, engine);
  const converted = await convert(network, { quantize, moments, ranges });
  const metadata = { [METADATA_NAME]: metadataOf(model, withPreprocessing) };
  const whole = { ...converted, description: `made by tl-toolkit ${version}`, metadata };
  const bytes = await serialise(whole);
  const labels = await labelsArchive(LABELS_FILE, record.classes, bytes.length);
  await writeStreamAtomic(join(folder, MODEL_FILE), async (file) => {
    for (const part of [bytes, labels]) await file.writeFile(part);
  });
  return { weightBytes: tensorsOf(whole).reduce((sum, { bytes = 0 }) => sum + bytes, 0) };
}
