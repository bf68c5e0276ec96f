/** A network as ONNX operators: what is encoded, without the numbers of its constants. */

/** Of the tensors that are written here. */
export type TensorType = 'float32' | 'float16' | 'uint8' | 'int8' | 'int32' | 'int64';

export const bytesPerElement: Readonly<Record<TensorType, number>> = {
  float32: 4,
  float16: 2,
  uint8: 1,
  int8: 1,
  int32: 4,
  int64: 8,
};

export type OnnxAttribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] };

/** @see https://onnx.ai/onnx/operators */
export interface OnnxNode {
  /** That of its first output. */
  readonly name: string;
  readonly op: string;
  /** An empty name stands for an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

export interface OnnxTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
}

/** Constants that come of the same numbers, such as levels and their scales. */
export interface StoredConstant {
  readonly tensors: readonly OnnxTensor[];
  /** C order, little-endian, a tensor each; a bias is encoded after its kernel, on whose rounding it depends. */
  encode(): Promise<readonly Uint8Array[]>;
}

export interface OnnxGraph {
  /** In topological order. */
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly StoredConstant[];
  /** A dimension of -1 is the batch. */
  readonly inputs: readonly OnnxTensor[];
  readonly outputs: readonly OnnxTensor[];
}

export const bytesOfTensor = ({ type, shape }: OnnxTensor): number =>
  bytesPerElement[type] * shape.reduce((a, b) => a * b, 1);
