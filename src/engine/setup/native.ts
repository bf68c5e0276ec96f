/**
 * Loads tfjs-node and reaches TensorFlow's operations through its backend. The one place with loose types: neither
 * the backend nor its binding is typed where this toolkit could import it.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs-core';

/** One attribute of a TensorFlow operation, made by the constructors of {@link NativeKernels}. */
export interface NativeAttribute {
  readonly name: string;
  /** `TF_AttrType`. */
  readonly type: number;
  readonly value: boolean | number | string | readonly number[] | readonly boolean[];
}

/** Element types by TensorFlow's names; those that tfjs lacks exist only behind {@link NativeHandle}. */
export type NativeType =
  | 'float32'
  | 'int32'
  | 'bool'
  | 'complex64'
  | 'string'
  | 'uint8'
  | 'int64'
  | 'bfloat16'
  | 'float16'
  | 'resource';

/** A tensor that lives in TensorFlow only: of a type that tfjs lacks, or on its way between two operations. */
export interface NativeHandle {
  readonly id: number;
  readonly shape: readonly number[];
  /** `DataType` of TensorFlow's types.proto. */
  readonly dtype: number;
}

/** TensorFlow's own operations by name, run eagerly. Not reachable: any with a `list(string)` or `list(type)` attribute. */
export interface NativeKernels {
  /** Runs an operation with one output. */
  execute(op: string, attributes: readonly NativeAttribute[], inputs: readonly tf.Tensor[]): tf.Tensor;
  /** Runs an operation with several outputs. */
  executeMany(
    op: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly tf.Tensor[],
    outputCount: number,
  ): tf.Tensor[];
  /**
   * Runs an operation whose inputs or outputs may be of a type that tfjs lacks, as bfloat16. The outputs belong to the
   * caller, who gives each to {@link toTensor} or to {@link release}; no `tidy` sees them.
   */
  executeRaw(
    op: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly (tf.Tensor | NativeHandle)[],
    outputCount: number,
  ): NativeHandle[];
  /** Makes a tensor of a handle of a type that tfjs has; the handle is spent. */
  toTensor(handle: NativeHandle): tf.Tensor;
  release(handle: NativeHandle): void;

  typeAttribute(name: string, dtype: NativeType): NativeAttribute;
  intAttribute(name: string, value: number): NativeAttribute;
  floatAttribute(name: string, value: number): NativeAttribute;
  boolAttribute(name: string, value: boolean): NativeAttribute;
  stringAttribute(name: string, value: string): NativeAttribute;
  intListAttribute(name: string, value: readonly number[]): NativeAttribute;
  shapeAttribute(name: string, value: readonly number[]): NativeAttribute;
}

/** A loaded tfjs-node. */
export interface NativeBackend {
  readonly tensorflowVersion: string;
  readonly usesGpu: boolean;
  readonly kernels: NativeKernels;
}

/** `TF_AttrType` of tensorflow/c/tf_attrtype.h. */
const ATTRIBUTE = { string: 0, int: 1, float: 2, bool: 3, type: 4, shape: 5 } as const;

/** `DataType` of tensorflow/core/framework/types.proto. */
const DATA_TYPE: Readonly<Record<NativeType, number>> = {
  float32: 1,
  int32: 3,
  uint8: 4,
  string: 7,
  complex64: 8,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  float16: 19,
  resource: 20,
};

interface UntypedBackend extends tf.KernelBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: {
    readonly TF_Version: string;
    executeOp(op: string, attributes: readonly NativeAttribute[], inputs: number[], outputs: number): NativeHandle[];
    deleteTensor(id: number): void;
  };
  executeSingleOutput(op: string, attributes: readonly NativeAttribute[], inputs: readonly tf.Tensor[]): tf.Tensor;
  executeMultipleOutputs(
    op: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly tf.Tensor[],
    outputs: number,
  ): tf.Tensor[];
  getInputTensorIds(inputs: readonly tf.Tensor[]): number[];
  createOutputTensor(handle: NativeHandle): tf.Tensor;
}

/**
 * Requires the package, which registers its kernels and the backend `tensorflow` in the registries that all copies of
 * tfjs-core in a process share.
 * @throws whatever the package or its binary throws
 */
export function requireNative(packageDir: string): NativeBackend {
  mendUtil();
  // tfjs-node brings backend-cpu; where ours is loaded already, each of its kernels would be reported as there
  // already. Production mode is the one switch that silences that report.
  const silent = tf.env().getBool('PROD');
  tf.env().set('PROD', true);
  try {
    createRequire(join(packageDir, 'package.json'))(packageDir);
  } finally {
    tf.env().set('PROD', silent);
  }
  const backend = tf.findBackend('tensorflow') as UntypedBackend | null;
  if (!backend?.binding) throw new Error(`${packageDir} loaded without registering the backend tensorflow`);
  return {
    tensorflowVersion: backend.binding.TF_Version,
    usesGpu: backend.isUsingGpuDevice,
    kernels: nativeKernels(backend),
  };
}

/**
 * tfjs-node 4.22 calls two functions of Node's util: `isNullOrUndefined`, which Node 23 removed and Node 22 reports as
 * deprecated, and `isArray`, which Node 22 and later report as deprecated.
 */
function mendUtil(): void {
  Object.assign(util, {
    isNullOrUndefined: (value: unknown): boolean => value === null || value === undefined,
    isArray: Array.isArray,
  });
}

function nativeKernels(backend: UntypedBackend): NativeKernels {
  const { binding } = backend;
  const idOf = (input: tf.Tensor | NativeHandle): number =>
    'dataId' in input ? backend.getInputTensorIds([input])[0]! : input.id;
  return {
    execute: (op, attributes, inputs) => backend.executeSingleOutput(op, attributes, inputs),
    executeMany: (op, attributes, inputs, outputs) => backend.executeMultipleOutputs(op, attributes, inputs, outputs),
    executeRaw: (op, attributes, inputs, outputs) => binding.executeOp(op, attributes, inputs.map(idOf), outputs),
    toTensor: (handle) => backend.createOutputTensor(handle),
    release: (handle) => binding.deleteTensor(handle.id),
    typeAttribute: (name, dtype) => ({ name, type: ATTRIBUTE.type, value: DATA_TYPE[dtype] }),
    intAttribute: (name, value) => ({ name, type: ATTRIBUTE.int, value }),
    floatAttribute: (name, value) => ({ name, type: ATTRIBUTE.float, value }),
    boolAttribute: (name, value) => ({ name, type: ATTRIBUTE.bool, value }),
    stringAttribute: (name, value) => ({ name, type: ATTRIBUTE.string, value }),
    intListAttribute: (name, value) => ({ name, type: ATTRIBUTE.int, value }),
    shapeAttribute: (name, value) => ({ name, type: ATTRIBUTE.shape, value }),
  };
}
