/** Number types as TensorFlow counts them. @see tensorflow/core/framework/types.proto, DataType */
import type { FileDtype } from '../source.js';

export const DTYPES: Readonly<Record<number, FileDtype>> = {
  1: 'float32',
  2: 'float64',
  3: 'int32',
  4: 'uint8',
  5: 'int16',
  6: 'int8',
  9: 'int64',
  10: 'bool',
  14: 'bfloat16',
  17: 'uint16',
  19: 'float16',
  22: 'uint32',
  23: 'uint64',
};

export const STRING = 7;
