/** Numbers by which TensorFlow tells types apart: of attributes, and of the elements of tensors. */

/** One attribute of a TensorFlow operation, made by the constructors of `NativeKernels`. */
export interface NativeAttribute {
  readonly name: string;
  /** `TF_AttrType`. */
  readonly type: number;
  readonly value: boolean | number | string | readonly number[] | readonly boolean[];
}

/** Element types by TensorFlow's names; those that tfjs lacks exist only behind a `NativeHandle`. */
export type NativeType =
  | 'float32'
  | 'int32'
  | 'bool'
  | 'complex64'
  | 'string'
  | 'uint8'
  | 'int8'
  | 'int64'
  | 'bfloat16'
  | 'float16'
  | 'resource';

/** `TF_AttrType` of tensorflow/c/tf_attrtype.h. */
export const ATTRIBUTE = { string: 0, int: 1, float: 2, bool: 3, type: 4, shape: 5 } as const;

/** `DataType` of tensorflow/core/framework/types.proto. */
export const DATA_TYPE: Readonly<Record<NativeType, number>> = {
  float32: 1,
  int32: 3,
  uint8: 4,
  int8: 6,
  string: 7,
  complex64: 8,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  float16: 19,
  resource: 20,
};

/** The TensorFlow whose operations our graphs have: Python parses it, so it has to be a version. */
export const TENSORFLOW_VERSION = '2.18.0';
/** Its TF_GRAPH_DEF_VERSION (tensorflow/core/public/version.h). */
export const GRAPH_VERSION = 1994;
