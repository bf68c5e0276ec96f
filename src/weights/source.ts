/**
 * A file of weights as a list of named tensors: names and shapes first, each tensor's numbers only when asked for.
 * One reader a format stands behind this door; the format is told by the first bytes, never by the file's name.
 */

import { FormatError } from '../errors.js';

/** Number type of a tensor as it lies in the file. */
export type FileDtype =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool';

/** What a file says of one tensor before any of its numbers are read. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: FileDtype;
  readonly shape: readonly number[];
}

export type WeightsFormat = 'keras-h5' | 'torch' | 'safetensors' | 'npz';

/** An open weights file. Close it: readers keep the file open to read one tensor at a time. */
export interface TensorSource {
  readonly format: WeightsFormat;
  readonly path: string;
  /** Every tensor of the file in file order; names are unique. */
  readonly tensors: readonly TensorInfo[];
  /** What else the file says: safetensors `__metadata__`, `keras_version`, `model_config`, `layout`, ... */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * One tensor's numbers in C order, converted to float32 (integers and booleans too).
   * @throws FormatError when the name is not in the file or the bytes are damaged.
   */
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * Opens a weights file of any supported format, recognised by its content.
 * @throws FormatError
 */
export async function openWeights(path: string): Promise<TensorSource> {
  throw new FormatError({ code: 'FORMAT_UNKNOWN', message: `${path}: no reader yet` });
}
