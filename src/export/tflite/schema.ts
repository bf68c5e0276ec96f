/**
 * TensorFlow Lite's numbers: the slots of its tables' fields and the values of its enumerations, as far as they are
 * written here. A slot is a field's place among its table's, where a union counts twice.
 * @see https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
 */

/** File identifier and version of the schema. @see schema.fbs, file_identifier, Model.version */
export const FILE_IDENTIFIER = 'TFL3';
export const SCHEMA_VERSION = 3;

/** @see schema.fbs, TensorType */
export const tensorTypes = { float32: 0, float16: 1, int32: 2, uint8: 3, int8: 9 } as const;
export type TensorType = keyof typeof tensorTypes;

/** @see schema.fbs, BuiltinOperator */
export const builtins = {
  ADD: 0,
  AVERAGE_POOL_2D: 1,
  CONCATENATION: 2,
  CONV_2D: 3,
  DEPTHWISE_CONV_2D: 4,
  DEQUANTIZE: 6,
  FULLY_CONNECTED: 9,
  LOGISTIC: 14,
  MAX_POOL_2D: 17,
  MUL: 18,
  RELU: 19,
  RELU6: 21,
  RESHAPE: 22,
  SOFTMAX: 25,
  TANH: 28,
  PAD: 34,
  GATHER: 36,
  TRANSPOSE: 39,
  MEAN: 40,
  SUB: 41,
  SPLIT: 49,
  CAST: 53,
  PADV2: 60,
  SLICE: 65,
  RSQRT: 76,
  SQUARE: 92,
  QUANTIZE: 114,
  HARD_SWISH: 117,
  BATCH_MATMUL: 126,
  GELU: 150,
} as const;
export type Builtin = keyof typeof builtins;

/** A later operator's number does not fit the old field, which then holds this. @see schema.fbs, OperatorCode */
export const MOST_DEPRECATED_CODE = 127;

/** @see schema.fbs, ActivationFunctionType */
export const activations = { none: 0, relu: 1, relu6: 3 } as const;
export type Activation = keyof typeof activations;

/** @see schema.fbs, Padding */
export const paddings = { SAME: 0, VALID: 1 } as const;
export type PaddingName = keyof typeof paddings;

export const modelSlots = {
  version: 0,
  operatorCodes: 1,
  subgraphs: 2,
  description: 3,
  buffers: 4,
  metadata: 6,
  signatureDefs: 7,
} as const;
export const operatorCodeSlots = { deprecatedBuiltinCode: 0, version: 2, builtinCode: 3 } as const;
export const subgraphSlots = { tensors: 0, inputs: 1, outputs: 2, operators: 3, name: 4 } as const;
export const tensorSlots = {
  shape: 0,
  type: 1,
  buffer: 2,
  name: 3,
  quantization: 4,
  shapeSignature: 7,
  hasRank: 8,
} as const;
export const quantizationSlots = { scale: 2, zeroPoint: 3, quantizedDimension: 6 } as const;
export const operatorSlots = { opcodeIndex: 0, inputs: 1, outputs: 2, optionsType: 3, options: 4 } as const;
export const bufferSlots = { data: 0 } as const;
export const metadataSlots = { name: 0, buffer: 1 } as const;
export const signatureSlots = { inputs: 0, outputs: 1, key: 2, subgraphIndex: 4 } as const;
export const tensorMapSlots = { name: 0, tensorIndex: 1 } as const;

/** One scalar field of a table; it is left out where it has its default value. */
export interface ScalarField {
  readonly slot: number;
  readonly type: 'bool' | 'int8' | 'int32' | 'float32';
  readonly value: number;
  readonly fallback: number;
}

/** The table of an operator's options: its number in the union `BuiltinOptions`, and its fields. */
export interface Options {
  readonly type: number;
  readonly fields: readonly ScalarField[];
}

const int8 = (slot: number, value: number): ScalarField => ({ slot, type: 'int8', value, fallback: 0 });
const int32 = (slot: number, value: number, fallback = 0): ScalarField => ({ slot, type: 'int32', value, fallback });
const bool = (slot: number, value: boolean): ScalarField => ({ slot, type: 'bool', value: Number(value), fallback: 0 });

export interface WindowOptions {
  readonly padding: PaddingName;
  readonly strides: readonly [height: number, width: number];
  readonly activation?: Activation | undefined;
}

/** Options by operator; a table that has no field worth writing is left out, as its defaults then hold. */
export const optionsOf = {
  conv2d: ({ padding, strides, activation = 'none' }: WindowOptions): Options => ({
    type: 1,
    fields: [
      int8(0, paddings[padding]),
      int32(1, strides[1]),
      int32(2, strides[0]),
      int8(3, activations[activation]),
      int32(4, 1, 1), // dilations
      int32(5, 1, 1),
    ],
  }),
  depthwiseConv2d: (window: WindowOptions & { readonly depthMultiplier: number }): Options => ({
    type: 2,
    fields: [
      int8(0, paddings[window.padding]),
      int32(1, window.strides[1]),
      int32(2, window.strides[0]),
      int32(3, window.depthMultiplier),
      int8(4, activations[window.activation ?? 'none']),
      int32(5, 1, 1),
      int32(6, 1, 1),
    ],
  }),
  pool2d: ({ padding, strides, size }: WindowOptions & { readonly size: readonly [number, number] }): Options => ({
    type: 5,
    fields: [
      int8(0, paddings[padding]),
      int32(1, strides[1]),
      int32(2, strides[0]),
      int32(3, size[1]),
      int32(4, size[0]),
    ],
  }),
  fullyConnected: (activation: Activation): Options => ({ type: 8, fields: [int8(0, activations[activation])] }),
  softmax: (): Options => ({ type: 9, fields: [{ slot: 0, type: 'float32', value: 1, fallback: 0 }] }), // beta
  concatenation: (axis: number): Options => ({ type: 10, fields: [int32(0, axis)] }),
  add: (activation: Activation): Options => ({ type: 11, fields: [int8(0, activations[activation])] }),
  reshape: (): Options => ({ type: 17, fields: [] }),
  mul: (activation: Activation): Options => ({ type: 21, fields: [int8(0, activations[activation])] }),
  pad: (): Options => ({ type: 22, fields: [] }),
  gather: (axis: number): Options => ({ type: 23, fields: [int32(0, axis)] }),
  transpose: (): Options => ({ type: 26, fields: [] }),
  reducer: (keepDims: boolean): Options => ({ type: 27, fields: [bool(0, keepDims)] }),
  sub: (activation: Activation): Options => ({ type: 28, fields: [int8(0, activations[activation])] }),
  split: (count: number): Options => ({ type: 35, fields: [int32(0, count)] }),
  cast: (from: TensorType, to: TensorType): Options => ({
    type: 37,
    fields: [int8(0, tensorTypes[from]), int8(1, tensorTypes[to])],
  }),
  dequantize: (): Options => ({ type: 38, fields: [] }),
  padV2: (): Options => ({ type: 43, fields: [] }),
  slice: (): Options => ({ type: 48, fields: [] }),
  square: (): Options => ({ type: 66, fields: [] }),
  quantize: (): Options => ({ type: 89, fields: [] }),
  hardSwish: (): Options => ({ type: 91, fields: [] }),
  batchMatMul: (adjointX: boolean, adjointY: boolean): Options => ({
    type: 101,
    fields: [bool(0, adjointX), bool(1, adjointY)],
  }),
  gelu: (approximate: boolean): Options => ({ type: 116, fields: [bool(0, approximate)] }),
} as const;
