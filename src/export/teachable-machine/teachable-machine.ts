/**
 * A model for the library of Google's Teachable Machine, `@teachablemachine/image`: `model.json`, `weights.bin` and
 * `metadata.json`. The library cuts the middle square out of a picture and hands its pixels on as `x / 127 - 1`; a layer
 * in front of the network makes of these what the network was trained on.
 * @see https://github.com/googlecreativelab/teachablemachine-community/tree/master/libraries/image
 */
import { join } from 'node:path';
import { UsageError } from '../../errors.js';
import { writeFileAtomic, writeStreamAtomic } from '../../files.js';
import { version } from '../../version.js';
import type { ExportableModel, ExportFormat, Runtime, Written } from '../format.js';
import { constantsOf } from '../keras/constants.js';
import { normalisingFront } from '../keras/front.js';
import type { Dialect } from '../keras/topology.js';
import { type PlannedConstant, planConstants, type WeightEntry } from '../quantize/quantize.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { openStock } from '../tfjs/stock.js';
import { layersModelJson, layersTopology } from '../tfjs-layers/tfjs-layers.js';
import { teachableMachineUsage } from './usage.js';

/** The library stands on TensorFlow.js 1.3, whose layers are fewer. */
const dialect: Dialect = { title: 'Teachable Machine', groups: false, recent: false, batchNorm: 'affine' };

/** Of the library whose format this is, and of the TensorFlow.js that it asks for (its package.json). */
const LIBRARY = { packageName: '@teachablemachine/image', packageVersion: '0.8.5', tfjsVersion: '1.3.1' } as const;

/** Of the web page's exports, which the library reads alike. */
const PAGE_VERSION = '2.4.5';

/** What `capture` makes of a pixel, `x / 127 - 1` (utils/tf.ts), the other way round. */
const CAPTURED = 127;

export const teachableMachine: ExportFormat = {
  title: 'Teachable Machine model',
  quantizations: ['none'],
  takesPixels: false,
  calibrates: false,
  wholePixels: true, // a canvas has no others
  write: writeTeachableMachine,
  open: openTeachableMachine,
  usage: teachableMachineUsage,
};

/** @throws EXPORT_UNSUPPORTED, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeTeachableMachine(folder: string, model: ExportableModel): Promise<Written> {
  const { record } = model;
  const { classes, channels = 3, preprocessing, backbone, source } = record;
  const imageSize = squareSizeOf(record);
  const front = normalisingFront(preprocessing, { scale: CAPTURED, offset: CAPTURED });
  const topology = layersTopology(model, { dialect, front });
  const constants = await planConstants({ constants: constantsOf(topology) }, 'none', new Map());
  const weights = await writeInOneFile(join(folder, 'weights.bin'), constants);
  const json = layersModelJson(topology, { paths: ['./weights.bin'], weights }, { backbone, source, toolkit: version });
  await writeFileAtomic(join(folder, 'model.json'), json);
  const metadata = {
    ...{ tfjsVersion: LIBRARY.tfjsVersion, tmVersion: PAGE_VERSION },
    ...{ packageVersion: LIBRARY.packageVersion, packageName: LIBRARY.packageName },
    ...{ timeStamp: new Date().toISOString(), userMetadata: {}, modelName: `${backbone}-${source}` },
    ...{ labels: classes, imageSize, ...(channels === 1 ? { grayscale: true } : {}) },
  };
  await writeFileAtomic(join(folder, 'metadata.json'), `${JSON.stringify(metadata, null, 2)}\n`);
  return { weightBytes: constants.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** The side of the pictures. @throws EXPORT_UNSUPPORTED where the library could not give the model its input */
function squareSizeOf({ inputSize: { height, width }, channels = 3 }: ExportableModel['record']): number {
  const refused = (what: string): UsageError =>
    new UsageError({
      code: 'EXPORT_UNSUPPORTED',
      message: `the model takes ${what}, and Teachable Machine's library gives a model squares of three colours, or grey`,
      hint: 'export with --format tfjs or tfjs-layers',
    });
  if (channels === 4) throw refused('pictures with an alpha channel');
  if (height !== width) throw refused(`pictures of ${height}x${width}`);
  return height;
}

/** The library's `loadFromFiles` takes one file of weights. */
async function writeInOneFile(path: string, constants: readonly PlannedConstant[]): Promise<WeightEntry[]> {
  const entries: WeightEntry[] = [];
  await writeStreamAtomic(path, async (file) => {
    for (const constant of constants) {
      const { entry, bytes } = await constant.encode();
      entries.push(entry);
      await file.writeFile(bytes); // behind what was written before
    }
  });
  return entries;
}

/** Stock layers of TensorFlow.js on what the library makes of a picture's pixels. */
async function openTeachableMachine(folder: string, { preprocessing }: ExportRecord): Promise<Runtime> {
  const stock = await openStock(folder, 'layers', { input: 'normalised', preprocessing });
  return {
    ...stock,
    run: ({ shape, data }) => {
      const pixels = pixelsOf({ shape, data }, { preprocessing });
      return stock.run({ shape, data: Float32Array.from(pixels, (pixel) => Math.fround(pixel / CAPTURED) - 1) });
    },
  };
}
