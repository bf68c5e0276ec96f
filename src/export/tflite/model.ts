/** A TensorFlow Lite model as a value, before it is bytes: operators between tensors, and what the tensors hold. */
import type { Builtin, Options, TensorType } from './schema.js';

/**
 * `real = (stored - zeroPoint) * scale`: one scale for the whole tensor, or one for each index of a dimension.
 * @see https://ai.google.dev/edge/litert/models/quantization_spec
 */
export interface Affine {
  readonly scales: ArrayLike<number>;
  readonly zeroPoints: ArrayLike<number>;
  /** The dimension that has a scale for each index; 0 where there is one scale. */
  readonly dimension: number;
}

/** What a constant holds, as it lies in the file. */
export interface Content {
  readonly bytes: Uint8Array;
  readonly quantization?: Affine | undefined;
}

export interface Tensor {
  readonly name: string;
  readonly type: TensorType;
  /** Sizes for one picture. */
  readonly shape: readonly number[];
  /** Whether the first size grows with the number of pictures. */
  readonly batched: boolean;
  /** Of a value in 8 bits; a constant brings its own with its content. */
  readonly quantization?: Affine | undefined;
  /** Of a constant. */
  readonly content?: (() => Promise<Content>) | undefined;
  /** Bytes of the content. */
  readonly bytes?: number | undefined;
  /** Constants are read in this order: a kernel before the bias that its rounding changes. */
  readonly turn?: number | undefined;
}

export interface Operator {
  readonly builtin: Builtin;
  /** @see LiteRT, tflite/tools/versioning/op_version.cc */
  readonly version: number;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly options?: Options | undefined;
}

export interface TfliteModel {
  readonly description: string;
  readonly operators: readonly Operator[];
  /** By their names in the signature. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly metadata: Readonly<Record<string, Uint8Array>>;
}
