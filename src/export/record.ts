/** `export.json`: what an exported folder is, so that the toolkit can run it again. */
import { join } from 'node:path';
import { z } from 'zod';
import { channelCounts } from '../augment/image.js';
import { channelsFor } from '../augment/preprocessing.js';
import type { DenseArray } from '../engine/forward.js';
import { FormatError, listFaults } from '../errors.js';
import { readJsonFile, writeFileAtomic } from '../files.js';
import { version } from '../version.js';
import { EXPORT_RECORD, type ModelRecord, sharedFields } from '../weights/model-folder.js';
import { type FormatName, formatNames } from './formats.js';
import { type Quantization, quantizations } from './quantize/quantizations.js';

/** Version of the record: a reader refuses a later one. */
const EXPORT_VERSION = 1;

type OfModel =
  | ('backbone' | 'source' | 'inputSize' | 'head' | 'classes' | 'preprocessing' | 'weights' | 'data')
  | ('training' | 'toolkit');

export interface ExportRecord extends Pick<ModelRecord, OfModel> {
  readonly exportVersion: typeof EXPORT_VERSION;
  readonly format: FormatName;
  readonly quantize: Quantization;
  /** Whether activations are rounded as well. */
  readonly calibrated: boolean;
  readonly channels: 1 | 3 | 4;
  /** `normalised`: what the preprocessing record makes of a picture. `pixels`: that before its last step, 0..255, RGB. */
  readonly input: 'normalised' | 'pixels';
}

const schema: z.ZodType<ExportRecord> = z
  .object({
    exportVersion: z.literal(EXPORT_VERSION),
    format: z.enum(formatNames),
    quantize: z.enum(quantizations),
    calibrated: z.boolean(),
    channels: z.literal(channelCounts),
    input: z.enum(['normalised', 'pixels']),
    ...sharedFields,
  })
  .refine((record) => record.channels === channelsFor(record.preprocessing), {
    message: 'as many as preprocessing has means',
    path: ['channels'],
  });

/** The record of an export of a model. */
export function exportRecordOf(
  model: ModelRecord,
  about: Pick<ExportRecord, 'format' | 'quantize' | 'calibrated' | 'input'>,
): ExportRecord {
  const { backbone, source, inputSize, channels = 3, head, classes, preprocessing, weights, data, training } = model;
  return {
    exportVersion: EXPORT_VERSION,
    ...about,
    ...{ backbone, source, inputSize, channels, head, classes, preprocessing, weights, data },
    ...(training === undefined ? {} : { training }),
    toolkit: version,
  };
}

export async function writeExportRecord(folder: string, record: ExportRecord): Promise<void> {
  await writeFileAtomic(join(folder, EXPORT_RECORD), `${JSON.stringify(record, null, 2)}\n`);
}

/** @throws EXPORT_INVALID, FILE_UNREADABLE */
export async function readExportRecord(folder: string): Promise<ExportRecord> {
  const file = join(folder, EXPORT_RECORD);
  const result = schema.safeParse(await readJsonFile(file));
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${issue.path.join('.') || '(whole file)'}: ${issue.message}`);
  throw new FormatError({
    code: 'EXPORT_INVALID',
    message: `${file} is not the record of an exported model\n${listFaults(faults)}`,
    hint: 'it may be damaged, or written by a newer version of tl: export the model again',
  });
}

/** Which channel of a picture is the network's: blue and red change places where it wants them so. */
const placesOf = ({ mean, channelOrder }: ExportRecord['preprocessing']): number[] =>
  mean.map((_, c) => (channelOrder === 'bgr' && c < 3 ? 2 - c : c));

/**
 * Undoes the last step of preprocessing: pixels 0..255 of the input size, RGB, rounded.
 * @param input normalised, `[N, height, width, channels]`
 */
export function pixelsOf({ data }: DenseArray, { preprocessing }: Pick<ExportRecord, 'preprocessing'>): Uint8Array {
  const { mean, std, scale } = preprocessing;
  const place = placesOf(preprocessing);
  const pixels = new Uint8Array(data.length);
  for (let start = 0; start < data.length; start += mean.length) {
    for (let c = 0; c < mean.length; c++) {
      const value = (data[start + c]! * std[c]! + mean[c]!) / scale;
      pixels[start + place[c]!] = Math.min(255, Math.max(0, Math.round(value)));
    }
  }
  return pixels;
}

/**
 * The input with its pixels rounded: what a model sees that takes whole ones, where TensorFlow's resizing gave fractions.
 * @param input normalised, as the result
 */
export function inWholePixels(input: DenseArray, record: Pick<ExportRecord, 'preprocessing'>): DenseArray {
  const { mean, std, scale } = record.preprocessing;
  const place = placesOf(record.preprocessing);
  const pixels = pixelsOf(input, record);
  const data = new Float32Array(pixels.length);
  for (let start = 0; start < data.length; start += mean.length) {
    for (let c = 0; c < mean.length; c++) data[start + c] = (pixels[start + place[c]!]! * scale - mean[c]!) / std[c]!;
  }
  return { shape: input.shape, data };
}
