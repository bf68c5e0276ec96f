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

/** Types that are not read, for reasons that name them. */
export const TYPE_NAMES: Readonly<Record<number, string>> = {
  8: 'complex64',
  11: 'qint8',
  12: 'quint8',
  13: 'qint32',
  15: 'qint16',
  16: 'quint16',
  18: 'complex128',
  20: 'resource',
  21: 'variant',
  24: 'float8_e5m2',
  25: 'float8_e4m3fn',
  29: 'int4',
  30: 'uint4',
};
