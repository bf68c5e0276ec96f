/**
 * TensorFlow Lite's metadata: what goes in and comes out, for Android Studio, MediaPipe and others that read it. The class
 * names are a file in a zip archive at the end of the model, as that format wants it.
 * @see https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
 */
import { Builder, type Offset } from 'flatbuffers';
import { channelsFor } from '../../augment/preprocessing.js';
import type { ExportableModel } from '../format.js';
import { type Field, float32Vector, offsetVector, table } from './flatbuffer.js';

/** The name of the model's buffer with it. @see tflite-support, metadata_schema.fbs and metadata.py */
export const METADATA_NAME = 'TFLITE_METADATA';
/** In the archive. */
export const LABELS_FILE = 'labels.txt';

const FILE_IDENTIFIER = 'M001';
/** Of the schema: it has all that is written here. */
const PARSER_VERSION = '1.0.0';

const modelSlots = { name: 0, description: 1, subgraphs: 3, license: 5, minParserVersion: 7 } as const;
const subgraphSlots = { inputs: 2, outputs: 3 } as const;
const tensorSlots = { name: 0, description: 1, content: 3, processUnits: 4, stats: 5, associatedFiles: 6 } as const;
/** A union is two fields, of which the first says what the second is. */
const contentSlots = { type: 0, properties: 1 } as const;
const imageSlots = { colorSpace: 0 } as const;
const processUnitSlots = { type: 0, options: 1 } as const;
const normalizationSlots = { mean: 0, std: 1 } as const;
const statsSlots = { max: 0, min: 1 } as const;
const fileSlots = { name: 0, description: 1, type: 2 } as const;

/** @see metadata_schema.fbs, ContentProperties, ColorSpaceType, ProcessUnitOptions, AssociatedFileType */
const [FEATURE, IMAGE] = [1, 2] as const;
const [UNKNOWN_COLORS, RGB, GRAYSCALE] = [0, 1, 2] as const;
const NORMALIZATION = 1;
const TENSOR_AXIS_LABELS = 2;

const MOST_PIXEL = 255;

/** @param takesPixels the model normalises by itself */
export function metadataOf({ record }: Pick<ExportableModel, 'record'>, takesPixels: boolean): Uint8Array {
  const { backbone, source, classes, preprocessing, weights } = record;
  const { mean, std, scale, channelOrder } = preprocessing;
  const channels = channelsFor(preprocessing);
  const b = new Builder(1024);
  const text = (slot: number, value: string): Field => [slot, 'offset', b.createString(value)];
  const child = (slot: number, value: Offset): Field => [slot, 'offset', value];
  const numbers = (slot: number, values: readonly number[]): Field => child(slot, float32Vector(b, values));
  const list = (slot: number, tables: readonly Offset[]): Field => child(slot, offsetVector(b, tables));

  // The schema's formula is (pixel - mean) / std, its pixels are 0..255, and it has no word for blue before red.
  const isRgb = channels === 3 && (takesPixels || channelOrder === 'rgb');
  const normalise = (pixel: number): number[] => mean.map((m, c) => (pixel * scale - m) / std[c]!);
  const normalization = takesPixels
    ? [numbers(normalizationSlots.mean, [0]), numbers(normalizationSlots.std, [1])]
    : [
        numbers(
          normalizationSlots.mean,
          mean.map((each) => each / scale),
        ),
        numbers(
          normalizationSlots.std,
          std.map((each) => each / scale),
        ),
      ];
  const processUnit = table(b, 2, [
    [processUnitSlots.type, 'int8', NORMALIZATION],
    child(processUnitSlots.options, table(b, 2, normalization)),
  ]);
  const colors = isRgb ? RGB : channels === 1 ? GRAYSCALE : UNKNOWN_COLORS;
  const image = table(b, 2, [[imageSlots.colorSpace, 'int8', colors]]);
  const order = channelOrder === 'bgr' && !takesPixels ? ', blue before green before red' : '';
  const input = table(b, 7, [
    text(tensorSlots.name, 'image'),
    text(tensorSlots.description, `pictures of ${channels} channels${order}, resized as preprocessing.json says`),
    child(tensorSlots.content, contentOf(b, IMAGE, image)),
    list(tensorSlots.processUnits, [processUnit]),
    child(
      tensorSlots.stats,
      table(b, 2, [
        numbers(statsSlots.max, takesPixels ? [MOST_PIXEL] : normalise(MOST_PIXEL)),
        numbers(statsSlots.min, takesPixels ? [0] : normalise(0)),
      ]),
    ),
  ]);
  const labels = table(b, 4, [
    text(fileSlots.name, LABELS_FILE),
    text(fileSlots.description, 'the classes, one a line'),
    [fileSlots.type, 'int8', TENSOR_AXIS_LABELS],
  ]);
  const probabilities = table(b, 7, [
    text(tensorSlots.name, 'probability'),
    text(tensorSlots.description, `probabilities of ${classes.length} classes`),
    child(tensorSlots.content, contentOf(b, FEATURE, table(b, 0, []))),
    child(tensorSlots.stats, table(b, 2, [numbers(statsSlots.max, [1]), numbers(statsSlots.min, [0])])),
    list(tensorSlots.associatedFiles, [labels]),
  ]);
  const logits = table(b, 7, [
    text(tensorSlots.name, 'logits'),
    text(tensorSlots.description, 'the same before the softmax'),
    child(tensorSlots.content, contentOf(b, FEATURE, table(b, 0, []))),
  ]);
  const subgraph = table(b, 7, [
    list(subgraphSlots.inputs, [input]),
    list(subgraphSlots.outputs, [probabilities, logits]),
  ]);
  const root = table(b, 8, [
    text(modelSlots.name, backbone),
    text(modelSlots.description, `${backbone} (${source}), ${classes.length} classes`),
    list(modelSlots.subgraphs, [subgraph]),
    text(modelSlots.license, weights.license),
    text(modelSlots.minParserVersion, PARSER_VERSION),
  ]);
  b.finish(root, FILE_IDENTIFIER);
  return b.asUint8Array();
}

function contentOf(b: Builder, type: number, properties: Offset): Offset {
  return table(b, 3, [
    [contentSlots.type, 'int8', type],
    [contentSlots.properties, 'offset', properties],
  ]);
}
