/** A layers model of TensorFlow.js: `model.json` and its weight files, for stock `tf.loadLayersModel`. */
import { join } from 'node:path';
import { foldGraph } from '../../engine/fold.js';
import { writeFileAtomic } from '../../files.js';
import { version } from '../../version.js';
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { constantsOf } from '../keras/constants.js';
import { normalisingFront } from '../keras/front.js';
import { openLayersModel } from '../keras/runtime.js';
import {
  type Dialect,
  type Front,
  type KerasTopology,
  kerasTopology,
  modelConfig,
  publishedOf,
} from '../keras/topology.js';
import { channelMoments } from '../quantize/moments.js';
import { type ManifestQuantization, manifestQuantizations, planConstants } from '../quantize/quantize.js';
import { type WeightGroup, writeShards } from '../tfjs/shards.js';
import { tfjsLayersUsage } from './usage.js';

/**
 * Batch norms are part of the kernels before them: those of TensorFlow.js 4.22 take the statistics of a batch in `fit`,
 * and move their own, when they are not trainable too, so that a frozen network would change under its new head.
 */
const dialect: Dialect = { title: 'TensorFlow.js', groups: false, recent: true, batchNorm: 'affine' };

/** Input `input`: float32 `[N, height, width, channels]`, preprocessed, or pixels 0..255; output `probabilities`. */
export const tfjsLayers: ExportFormat = {
  title: 'TensorFlow.js layers model',
  quantizations: manifestQuantizations,
  takesPixels: true,
  calibrates: false,
  write: writeTfjsLayers,
  open: openLayersModel,
  usage: tfjsLayersUsage,
};

/** @throws EXPORT_UNSUPPORTED, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeTfjsLayers(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const { record, graph, read } = model;
  const quantize = options.quantize as ManifestQuantization;
  const topology = layersTopology(model, {
    dialect,
    front: options.withPreprocessing ? normalisingFront(record.preprocessing) : undefined,
  });
  const moments = quantize !== 'none' ? await channelMoments(graph, read) : new Map();
  const constants = await planConstants({ constants: constantsOf(topology) }, quantize, moments);
  const group = await writeShards(folder, constants);
  const { classes, inputSize, channels = 3, preprocessing, backbone, source, weights } = record;
  const about = { classes, inputSize, channels, preprocessing, backbone, source, weights, quantize, toolkit: version };
  await writeFileAtomic(join(folder, 'model.json'), layersModelJson(topology, group, about));
  return { weightBytes: constants.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** The network with its batch norms folded. */
export function layersTopology(
  { graph, read, record }: ExportableModel,
  options: { readonly dialect: Dialect; readonly front: Front | undefined },
): KerasTopology {
  const folded = foldGraph(graph);
  return kerasTopology(folded.graph, folded.read(read), {
    ...options,
    published: publishedOf(record.backbone, record.source),
  });
}

/** @see tfjs-core, src/io/types.ts, ModelJSON */
export function layersModelJson(topology: KerasTopology, group: WeightGroup, about: object): string {
  return JSON.stringify({
    format: 'layers-model',
    generatedBy: `tl-toolkit ${version}`,
    convertedBy: null,
    userDefinedMetadata: about,
    modelTopology: {
      keras_version: '2.15.0',
      backend: 'tensorflow',
      model_config: modelConfig(topology, 'Model'),
    },
    weightsManifest: [group],
  });
}
