import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../engine/tensorflow.js';
import { UsageError } from '../../errors.js';
import { refuseExisting, replaceFolderAtomic, writeFileAtomic } from '../../files.js';
import { version } from '../../version.js';
import { elementsOf } from '../../weights/float-formats.js';
import type { OpenedModel } from '../../weights/model-folder.js';
import { type CheckPictures, type CheckReport, checkExport } from '../check.js';
import { writeRecords } from '../companions.js';
import { fuseOperations } from '../lowering/fuse.js';
import { lowerGraph } from '../lowering/lower.js';
import type { PlainNetwork } from '../lowering/operations.js';
import { channelMoments } from '../quantize/moments.js';
import { planConstants, type Quantization, quantizations } from '../quantize/quantize.js';
import { readmeOf } from '../readme.js';
import { graphDefOf, tensorInfo } from './graph-def.js';
import { type WeightGroup, writeShards } from './shards.js';

export interface ExportOptions {
  readonly quantize: Quantization;
  /** The new folder. */
  readonly out: string;
  /** Put the new folder in the place of one that is there. */
  readonly overwrite: boolean;
  /** What the check runs on; a few generated pictures when absent. */
  readonly pictures?: CheckPictures;
}

export interface ExportReport {
  readonly format: 'tfjs';
  readonly out: string;
  readonly quantize: Quantization;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  /** All files together. */
  readonly bytes: number;
  /** The weights as they are stored, and as they would be in float32. */
  readonly weights: { readonly bytes: number; readonly float32Bytes: number };
  readonly check: CheckReport;
}

/** What of a model an export needs. */
export type ExportableModel = Pick<OpenedModel, 'record' | 'graph' | 'read'>;

/**
 * Writes a model as a TensorFlow.js graph model, whole or not at all, after running what was written with stock
 * TensorFlow.js on its WebAssembly backend against the source network on `engine`.
 *
 * Input `input`: float32 `[N, height, width, channels]`, preprocessed. Default output `probabilities`, `[N, classes]`;
 * `model.execute(x, 'logits')` gives the logits.
 * @throws OUT_EXISTS, BAD_QUANTIZE, EXPORT_DIFFERS, EXPORT_UNREADABLE, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE,
 * FILE_NOT_WRITTEN
 */
export async function exportTfjs(
  model: ExportableModel,
  options: ExportOptions,
  engine: Engine,
): Promise<ExportReport> {
  const { quantize, out, pictures } = options;
  checkOptions(options);
  const network = fuseOperations(lowerGraph(model.graph, model.read, { depthwisePadding: 'attribute' }));
  const moments = quantize !== 'none' ? await channelMoments(model.graph, model.read) : new Map();
  const constants = await planConstants(network, quantize, moments);
  let check: CheckReport | undefined;
  await replaceFolderAtomic(out, async (folder) => {
    const group = await writeShards(folder, constants);
    await writeFileAtomic(join(folder, 'model.json'), JSON.stringify(modelJson(network, group, model, quantize)));
    await writeCompanions(folder, model);
    check = await checkExport(folder, model, { quantize, pictures }, engine);
  });
  const files = await listFiles(out);
  return {
    format: 'tfjs',
    out,
    quantize,
    files,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    weights: {
      bytes: constants.reduce((sum, { bytes }) => sum + bytes, 0),
      float32Bytes: network.constants.reduce((sum, { shape }) => sum + 4 * elementsOf(shape), 0),
    },
    check: check!,
  };
}

function checkOptions({ quantize, out, overwrite }: ExportOptions): void {
  if (!quantizations.includes(quantize)) {
    throw new UsageError({
      code: 'BAD_QUANTIZE',
      message: `a TensorFlow.js model cannot be quantised to "${quantize}"`,
      hint: `choose one of: ${quantizations.join(', ')}`,
    });
  }
  refuseExisting(out, overwrite);
}

/** @see tfjs-core, src/io/types.ts, ModelJSON */
function modelJson(
  network: PlainNetwork,
  group: WeightGroup,
  { record }: ExportableModel,
  quantize: Quantization,
): object {
  const { input, outputs } = network;
  const tool = `tl-toolkit ${version}`;
  return {
    format: 'graph-model',
    generatedBy: tool,
    convertedBy: tool,
    signature: {
      inputs: { [input.name]: tensorInfo(input.name, input.shape) },
      outputs: { probabilities: tensorInfo(outputs.probabilities, [-1, record.classes.length]) },
    },
    userDefinedMetadata: {
      classes: record.classes,
      inputSize: record.inputSize,
      channels: record.channels ?? 3,
      preprocessing: record.preprocessing,
      backbone: record.backbone,
      source: record.source,
      weights: record.weights,
      quantize,
      toolkit: version,
    },
    modelTopology: graphDefOf(network),
    weightsManifest: [group],
  };
}

async function writeCompanions(folder: string, { record }: ExportableModel): Promise<void> {
  await writeRecords(folder, { ...record, channels: record.channels ?? 3 });
  await writeFileAtomic(join(folder, 'README.md'), readmeOf(record));
}

async function listFiles(folder: string): Promise<{ name: string; bytes: number }[]> {
  const names = (await readdir(folder)).sort();
  return Promise.all(names.map(async (name) => ({ name, bytes: (await stat(join(folder, name))).size })));
}
