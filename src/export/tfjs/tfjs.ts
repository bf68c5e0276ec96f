/** A TensorFlow.js graph model: `model.json` and its weight files, for stock `tf.loadGraphModel`. */
import { join } from 'node:path';
import { writeFileAtomic } from '../../files.js';
import { version } from '../../version.js';
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { fuseOperations } from '../lowering/fuse.js';
import { lowerGraph } from '../lowering/lower.js';
import type { PlainNetwork } from '../lowering/operations.js';
import { channelMoments } from '../quantize/moments.js';
import { type ManifestQuantization, manifestQuantizations, planConstants } from '../quantize/quantize.js';
import { graphDefOf, tensorInfo } from './graph-def.js';
import { type WeightGroup, writeShards } from './shards.js';
import { openStock } from './stock.js';
import { tfjsUsage } from './usage.js';

/**
 * Input `input`: float32 `[N, height, width, channels]`, preprocessed, or int32 pixels. Default output `probabilities`, `[N, classes]`;
 * `model.execute(x, 'logits')` gives the logits.
 */
export const tfjs: ExportFormat = {
  title: 'TensorFlow.js graph model',
  quantizations: manifestQuantizations,
  takesPixels: true,
  calibrates: false,
  write: writeTfjs,
  open: (folder, record) => openStock(folder, 'graph', record),
  usage: tfjsUsage,
};

/** @throws EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
export async function writeTfjs(
  folder: string,
  model: ExportableModel,
  options: Pick<WriteOptions, 'quantize' | 'withPreprocessing'>,
): Promise<Written> {
  const quantize = options.quantize as ManifestQuantization;
  const { preprocessing } = model.record;
  const pixels = options.withPreprocessing ? { type: 'int32' as const, preprocessing } : undefined;
  const network = fuseOperations(lowerGraph(model.graph, model.read, { depthwisePadding: 'attribute', pixels }));
  const moments = quantize !== 'none' ? await channelMoments(model.graph, model.read) : new Map();
  const constants = await planConstants(network, quantize, moments);
  const group = await writeShards(folder, constants);
  await writeFileAtomic(join(folder, 'model.json'), JSON.stringify(modelJson(network, group, model, quantize)));
  return { weightBytes: constants.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** @see tfjs-core, src/io/types.ts, ModelJSON */
function modelJson(
  network: PlainNetwork,
  group: WeightGroup,
  { record }: ExportableModel,
  quantize: ManifestQuantization,
): object {
  const { input, outputs } = network;
  const tool = `tl-toolkit ${version}`;
  return {
    format: 'graph-model',
    generatedBy: tool,
    convertedBy: tool,
    signature: {
      inputs: { [input.name]: tensorInfo(input.name, input.shape, input.type) },
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
