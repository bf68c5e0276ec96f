/** What every exported format is to the rest of the toolkit: how it is written, and how it is run. */
import type { DenseArray } from '../engine/forward.js';
import type { Engine } from '../engine/tensorflow.js';
import type { OpenedModel } from '../weights/model-folder.js';
import type { Quantization } from './quantize/quantizations.js';
import type { ExportRecord } from './record.js';

/** What of a model an export needs. */
export type ExportableModel = Pick<OpenedModel, 'record' | 'graph' | 'read'>;

/** Network inputs, preprocessed by the model's record: `[count, height, width, channels]`, C order. */
export interface PictureBatch {
  readonly pixels: Float32Array;
  /** `[count]`, class indices, where somebody knows them. */
  readonly labels?: Int32Array;
  readonly count: number;
}

/** The same pictures each time that it is called, in batches of at most 16. */
export type Pictures = () => AsyncIterable<PictureBatch>;

export interface WriteOptions {
  readonly quantize: Quantization;
  /**
   * Whether the model takes pixels 0..255 of its input size, RGB and not normalised, whole numbers, and normalises them
   * itself. Only asked of formats that say `takesPixels`.
   */
  readonly withPreprocessing: boolean;
  /** Pictures by which `int8` rounds activations too. Only given to formats that say `calibrates`. */
  readonly calibration: Pictures | undefined;
  /** What computes on the way, such as ranges of activations. */
  readonly engine: Engine;
}

/** What was written. */
export interface Written {
  /** Of the weights as they are stored. */
  readonly weightBytes: number;
}

/** An exported model in the runtime of its format. */
export interface Runtime {
  /** Its name and version: `onnxruntime-web 1.30.0`. */
  readonly name: string;
  /**
   * @param input `[N, height, width, channels]`, normalised by the record whether or not the model does it itself: see
   * {@link pixelsOf}
   * @returns probabilities, `[N, classes]`, C order
   */
  run(input: DenseArray): Promise<Float32Array>;
  close(): Promise<void>;
}

export interface ExportFormat {
  /** For people: `TensorFlow.js graph model`. */
  readonly title: string;
  /** In the order of their size, largest first. */
  readonly quantizations: readonly Quantization[];
  readonly takesPixels: boolean;
  readonly calibrates: boolean;
  /** Its runtime gives every model whole pixels, whatever it takes itself. */
  readonly wholePixels?: true;
  /**
   * Writes the format's own files; records and README are written for all formats alike.
   * @throws EXPORT_UNSUPPORTED, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN
   */
  write(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written>;
  /** Opens what was written, with none of this toolkit's code between a picture and its probabilities. */
  open(folder: string, record: ExportRecord, engine: Engine): Promise<Runtime>;
  /** How a program runs it: Markdown for the README, code in a fence. */
  usage(record: ExportRecord): string;
}
