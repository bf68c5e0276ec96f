/** A trained model in another format: written, run by that format's own runtime, compared, and only then kept. */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../engine/tensorflow.js';
import { ToolkitError, UsageError } from '../errors.js';
import { refuseExisting, replaceFolderAtomic, writeFileAtomic } from '../files.js';
import { elementsOf } from '../weights/float-formats.js';
import { writeRecords } from './companions.js';
import { boundOf, type Comparison, compare, faultOf } from './compare.js';
import type { ExportableModel, ExportFormat, Pictures, Written } from './format.js';
import { type FormatName, formatNames, loadFormat } from './formats.js';
import type { Quantization } from './quantize/quantizations.js';
import { readmeOf } from './readme.js';
import { type ExportRecord, exportRecordOf, writeExportRecord } from './record.js';

export interface ExportOptions {
  readonly format: FormatName;
  /** `none` when absent; the first of the format's that fits where there is a budget. */
  readonly quantize?: Quantization | undefined;
  /** The new folder. */
  readonly out: string;
  /** Put the new folder in the place of one that is there. */
  readonly overwrite?: boolean;
  /** The model takes pixels 0..255, RGB, of the input size, and normalises them itself. */
  readonly withPreprocessing?: boolean;
  /** What the check runs on, with labels where they are known; a few generated pictures when absent. */
  readonly validation?: Pictures | undefined;
  /** With `int8`: round activations too, by the ranges that they take on these. */
  readonly calibration?: Pictures | undefined;
  /** Keep what was written even where it answers otherwise than its source. */
  readonly allowDifference?: boolean;
  /** Most bytes of the whole folder: takes the least quantisation that fits. */
  readonly budgetBytes?: number | undefined;
}

export interface ExportReport {
  readonly format: FormatName;
  readonly title: string;
  readonly out: string;
  readonly quantize: Quantization;
  readonly calibrated: boolean;
  readonly input: ExportRecord['input'];
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  /** All files together. */
  readonly bytes: number;
  /** The weights as they are stored, and as they would be in float32. */
  readonly weights: { readonly bytes: number; readonly float32Bytes: number };
  readonly check: Comparison;
  /** What the check had to keep to, in words. */
  readonly bound: string;
  /** Why it did not, where that was allowed. */
  readonly difference: string | null;
  /** With a budget: the size of each quantisation that was tried, in that order. */
  readonly tried: readonly { readonly quantize: Quantization; readonly bytes: number }[];
}

/**
 * Writes a model in a format, whole or not at all, after running what was written in the format's own runtime against
 * the source network on `engine`.
 * @throws OUT_EXISTS, BAD_FORMAT, BAD_QUANTIZE, BAD_OPTIONS, EXPORT_UNSUPPORTED, EXPORT_DIFFERS, EXPORT_UNREADABLE,
 * EXPORT_NO_RUNTIME, EXPORT_OVER_BUDGET, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN
 */
export async function exportModel(
  model: ExportableModel,
  options: ExportOptions,
  engine: Engine,
): Promise<ExportReport> {
  const { out, overwrite = false, withPreprocessing = false, calibration, validation } = options;
  const format = await checkOptions(options);
  refuseExisting(out, overwrite);
  const tried: { quantize: Quantization; bytes: number }[] = [];
  let made: { quantize: Quantization; calibrated: boolean; written: Written; check: Comparison } | undefined;
  let difference: string | undefined;
  await replaceFolderAtomic(out, async (folder) => {
    for (const quantize of candidates(format, options)) {
      await emptyFolder(folder);
      const calibrated = quantize === 'int8' && calibration !== undefined;
      const written = await format.write(folder, model, {
        quantize,
        withPreprocessing,
        calibration: calibrated ? calibration : undefined,
        engine,
      });
      const record = exportRecordOf(model.record, {
        format: options.format,
        quantize,
        calibrated,
        input: withPreprocessing ? 'pixels' : 'normalised',
      });
      await writeCompanions(folder, record, format);
      const bytes = sum(await listFiles(folder));
      tried.push({ quantize, bytes });
      if (options.budgetBytes !== undefined && bytes > options.budgetBytes) continue;
      const runtime = await format.open(folder, record, engine);
      try {
        const shown = { pictures: validation, wholePixels: withPreprocessing || format.wholePixels === true };
        made = { quantize, calibrated, written, check: await compare(model, runtime, shown, engine) };
      } finally {
        await runtime.close();
      }
      difference = faultOf(made.check, quantize);
      if (difference !== undefined && options.allowDifference !== true) {
        throw differs(difference, made.check, quantize, format);
      }
      return;
    }
    throw overBudget(options.budgetBytes!, tried);
  });
  const { quantize, calibrated, written, check } = made!;
  const files = await listFiles(out);
  return {
    ...{ format: options.format, title: format.title, out, quantize, calibrated },
    input: withPreprocessing ? 'pixels' : 'normalised',
    files,
    bytes: sum(files),
    weights: {
      bytes: written.weightBytes,
      float32Bytes: model.graph.parameters.reduce((total, { shape }) => total + 4 * elementsOf(shape), 0),
    },
    check,
    bound: boundOf(quantize),
    difference: difference ?? null,
    tried,
  };
}

/** @throws BAD_FORMAT, BAD_QUANTIZE, BAD_OPTIONS */
async function checkOptions(options: ExportOptions): Promise<ExportFormat> {
  const { format: name, quantize, withPreprocessing = false, calibration, budgetBytes } = options;
  if (!formatNames.includes(name)) {
    throw new UsageError({
      code: 'BAD_FORMAT',
      message: `there is no format "${name}"`,
      hint: `choose one of: ${formatNames.join(', ')}`,
    });
  }
  const format = await loadFormat(name);
  const { title, quantizations } = format;
  if (quantize !== undefined && !quantizations.includes(quantize)) {
    throw new UsageError({
      code: 'BAD_QUANTIZE',
      message: `a ${title} cannot be quantised to "${quantize}"`,
      hint: `choose one of: ${quantizations.join(', ')}`,
    });
  }
  const fault = (message: string, hint: string) => new UsageError({ code: 'BAD_OPTIONS', message, hint });
  if (quantize !== undefined && budgetBytes !== undefined) {
    throw fault('a budget chooses the quantisation, and --quantize names one', 'give one of --budget and --quantize');
  }
  if (withPreprocessing && !format.takesPixels) {
    throw fault(`a ${title} has no place for the preprocessing`, 'leave --with-preprocessing out');
  }
  if (calibration !== undefined) {
    if (!format.calibrates) throw fault(`a ${title} has no 8-bit activations`, 'leave --calibrate out');
    if (budgetBytes === undefined && quantize !== 'int8') {
      throw fault(`calibration is for --quantize int8, not ${quantize ?? 'none'}`, 'add --quantize int8');
    }
  }
  return format;
}

/** What to try, the least quantised first. */
function candidates({ quantizations }: ExportFormat, { quantize = 'none', budgetBytes }: ExportOptions) {
  return budgetBytes === undefined ? [quantize] : quantizations;
}

async function emptyFolder(folder: string): Promise<void> {
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true });
}

async function writeCompanions(folder: string, record: ExportRecord, format: ExportFormat): Promise<void> {
  await writeRecords(folder, record);
  await writeExportRecord(folder, record);
  await writeFileAtomic(join(folder, 'README.md'), readmeOf(record, format));
}

function differs(fault: string, check: Comparison, quantize: Quantization, format: ExportFormat): ToolkitError {
  const milder = format.quantizations.slice(0, format.quantizations.indexOf(quantize));
  return new ToolkitError({
    code: 'EXPORT_DIFFERS',
    message: `the exported model does not answer as its source does: ${fault} (${check.pictures} pictures, ${check.runtime} against ${check.engine})`,
    hint:
      milder.length === 0
        ? 'please report this with the model folder; nothing was written'
        : `export with --quantize ${milder.at(-1)}, or keep it all the same with --allow-difference; nothing was written`,
  });
}

function overBudget(budget: number, tried: ExportReport['tried']): ToolkitError {
  const sizes = tried.map(({ quantize, bytes }) => `${quantize}: ${bytes} bytes`).join(', ');
  return new ToolkitError({
    code: 'EXPORT_OVER_BUDGET',
    message: `no quantisation brings the folder down to ${budget} bytes (${sizes})`,
    hint: 'train a smaller network, such as mobilenet_v2_0.35, with --teacher naming this model; nothing was written',
  });
}

const sum = (files: ExportReport['files']): number => files.reduce((total, { bytes }) => total + bytes, 0);

/** Names below the folder, with slashes. */
async function listFiles(folder: string): Promise<{ name: string; bytes: number }[]> {
  const found = await Promise.all(
    (await readdir(folder, { recursive: true })).map(async (name) => ({ name, about: await stat(join(folder, name)) })),
  );
  return found
    .filter(({ about }) => about.isFile())
    .map(({ name, about }) => ({ name: name.replaceAll('\\', '/'), bytes: about.size }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
