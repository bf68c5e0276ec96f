/** Keras: one `.h5` file with architecture and weights, for `keras.models.load_model` of Keras 2 and 3. */
import { join } from 'node:path';
import { elementsOf } from '../../weights/float-formats.js';
import { type LayerToWrite, writeKerasH5 } from '../../weights/keras/h5-writer.js';
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { readFinite } from '../quantize/rounding.js';
import { constantOf, constantsOf } from './constants.js';
import { normalisingFront } from './front.js';
import { openKerasModel } from './runtime.js';
import {
  type Dialect,
  type KerasLayerToWrite,
  type KerasTopology,
  kerasTopology,
  modelConfig,
  publishedOf,
} from './topology.js';
import { kerasUsage } from './usage.js';

/** What a program gives to `load_model`. */
export const KERAS_FILE = 'model.h5';

/** The Keras whose layout of h5 files is written; Keras 3 reads it as well. */
const KERAS_VERSION = '2.15.0';

const dialect: Dialect = { title: 'Keras', groups: true, recent: true, batchNorm: 'layer' };

/** Input `input`: float32 `[N, height, width, channels]`, preprocessed, or pixels 0..255; output `probabilities`. */
export const keras: ExportFormat = {
  title: 'Keras model',
  quantizations: ['none'],
  takesPixels: true,
  calibrates: false,
  write: writeKeras,
  open: (folder, record) => openKerasModel(join(folder, KERAS_FILE), record),
  usage: kerasUsage,
};

/** @throws EXPORT_UNSUPPORTED, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeKeras(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const { record, graph, read } = model;
  const { backbone, source, classes, inputSize, preprocessing } = record;
  const topology = kerasTopology(graph, read, {
    dialect,
    published: publishedOf(backbone, source),
    front: options.withPreprocessing ? normalisingFront(preprocessing) : undefined,
  });
  await writeKerasH5(join(folder, KERAS_FILE), topology.layers.map(layerToWrite), KERAS_VERSION, {
    config: JSON.stringify(modelConfig(topology, 'Functional')),
    attributes: {
      class_names: JSON.stringify(classes),
      preprocessing: JSON.stringify({ inputSize, ...preprocessing }),
    },
  });
  return { weightBytes: weightBytesOf(topology) };
}

function layerToWrite(layer: KerasLayerToWrite): LayerToWrite {
  return {
    name: layer.name,
    weights: layer.weights.map((weight) => {
      const constant = constantOf(layer, weight);
      const { name, shape } = constant;
      const read = async () => (await readFinite(constant)) as Float32Array;
      return { name: `${name}:0`, shape, dtype: 'float32', read };
    }),
  };
}

const weightBytesOf = (topology: KerasTopology): number =>
  constantsOf(topology).reduce((sum, { shape }) => sum + 4 * elementsOf(shape), 0);
