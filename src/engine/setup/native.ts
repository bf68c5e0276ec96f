/**
 * Loads tfjs-node and reaches TensorFlow's operations through its backend. The one place with loose types: neither
 * the backend nor its binding is typed where this toolkit could import it.
 */
import { existsSync } from 'node:fs';
import { createRequire, Module } from 'node:module';
import { join } from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { usePicturesAddon } from '../../addon.js';
import { type RecordedCalls, type Recording, startRecorder } from '../recording.js';
import { SERVE } from '../saved-model.js';
import { ATTRIBUTE, DATA_TYPE, type NativeAttribute, type NativeType } from '../tensorflow-types.js';
import { picturesFileOf, quietFileOf } from './build.js';
import { NODE_API_VERSION } from './recipe.js';

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
  /** The same numbers; in a recording, what uses them waits until `dependency` is there. */
  after(x: tf.Tensor, dependency: tf.Tensor): tf.Tensor;
  /**
   * Runs `work` and writes down every operation that it does.
   * @param inputs stand for values that will be given anew
   * @param work gives the tensors that are wanted; they are disposed of
   */
  record(inputs: readonly tf.Tensor[], work: () => tf.Tensor[]): Recording;
  /** Loads the graph of a SavedModel in a folder, which is not needed afterwards. */
  openSession(folder: string): NativeSession;
  /** Starts a file of events for TensorBoard in a folder, which is made where it is missing. */
  openEvents(folder: string): NativeEvents;

  typeAttribute(name: string, dtype: NativeType): NativeAttribute;
  intAttribute(name: string, value: number): NativeAttribute;
  floatAttribute(name: string, value: number): NativeAttribute;
  boolAttribute(name: string, value: boolean): NativeAttribute;
  stringAttribute(name: string, value: string): NativeAttribute;
  intListAttribute(name: string, value: readonly number[]): NativeAttribute;
  shapeAttribute(name: string, value: readonly number[]): NativeAttribute;
}

/** A graph that TensorFlow has loaded. */
export interface NativeSession {
  /** @param given and @param wanted names of values, as `x0:0` */
  run(given: readonly string[], values: readonly (tf.Tensor | NativeHandle)[], wanted: readonly string[]): tf.Tensor[];
  close(): void;
}

/** A file of events that is open for writing. */
export interface NativeEvents {
  /** Adds one number, kept as float32. */
  scalar(step: number, tag: string, value: number): void;
  /** Sees to it that everything up to now is in the file. */
  flush(): void;
  close(): void;
}

/** A loaded tfjs-node. */
export interface NativeBackend {
  readonly tensorflowVersion: string;
  readonly usesGpu: boolean;
  readonly kernels: NativeKernels;
}

interface UntypedBackend extends tf.KernelBackend {
  readonly isUsingGpuDevice: boolean;
  /** What it calls; another may be put in its place. */
  binding: RecordedCalls & {
    readonly TF_Version: string;
    deleteTensor(id: number): void;
    loadSavedModel(folder: string, tags: string): number;
    runSavedModel(id: number, inputs: readonly number[], inputNames: string, outputNames: string): NativeHandle[];
    deleteSavedModel(id: number): void;
  };
  executeSingleOutput(op: string, attributes: readonly NativeAttribute[], inputs: readonly tf.Tensor[]): tf.Tensor;
  executeMultipleOutputs(
    op: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly tf.Tensor[],
    outputs: number,
  ): tf.Tensor[];
  summaryWriter(folder: string): tf.Tensor;
  createSummaryFileWriter(writer: tf.Tensor, folder: string): void;
  writeScalarSummary(writer: tf.Tensor, step: number, tag: string, value: number): void;
  flushSummaryWriter(writer: tf.Tensor): void;
  getInputTensorIds(inputs: readonly tf.Tensor[]): number[];
  createOutputTensor(handle: NativeHandle): tf.Tensor;
}

/**
 * Loads the package's kernels and its binary, and registers the backend `tensorflow` in the registries that all copies
 * of tfjs-core in a process share; where the package itself was loaded already, its backend is taken.
 * @throws whatever the package or its binary throws
 */
export function requireNative(packageDir: string): NativeBackend {
  mendUtil();
  if (!tf.findBackendFactory('tensorflow')) registerNative(packageDir);
  const backend = tf.findBackend('tensorflow') as UntypedBackend | null;
  if (!backend?.binding) throw new Error(`${packageDir} loaded without registering the backend tensorflow`);
  const pictures = picturesFileOf(packageDir);
  if (existsSync(pictures)) usePicturesAddon(pictures);
  return {
    tensorflowVersion: backend.binding.TF_Version,
    usesGpu: backend.isUsingGpuDevice,
    kernels: nativeKernels(backend, quietlyOf(packageDir)),
  };
}

/** Calls a function while standard error goes nowhere. */
type Quietly = <T>(work: () => T) => T;

/** That of an engine which `tl setup` built; other engines are of versions that need none. */
function quietlyOf(packageDir: string): Quietly {
  const file = quietFileOf(packageDir);
  if (!existsSync(file)) return (work) => work();
  return (createRequire(file)(file) as { quietly: Quietly }).quietly;
}

/** `setBackend` prefers the highest; tfjs-node's own. */
const PRIORITY = 3;

/**
 * What `require('@tensorflow/tfjs-node')` does, without its layers, converter, data sets, WebGL, file system and second
 * copy of tfjs-core: 0.1 s of 0.29 s.
 */
function registerNative(packageDir: string): void {
  const require = createRequire(join(packageDir, 'package.json'));
  const binding: unknown = require(`./lib/napi-v${NODE_API_VERSION}/tfjs_binding.node`);
  const { NodeJSKernelBackend } = withOwnCore(require, () => {
    require('./dist/register_all_kernels.js');
    return require('./dist/nodejs_kernel_backend.js') as {
      NodeJSKernelBackend: new (binding: unknown, packageName: string) => tf.KernelBackend;
    };
  });
  const { name } = require('./package.json') as { name: string };
  tf.registerBackend('tensorflow', () => new NodeJSKernelBackend(binding, name), PRIORITY);
}

/** The package's files ask for all of tfjs, and use what tfjs-core has: while they load, they are given ours. */
function withOwnCore<T>(require: NodeJS.Require, load: () => T): T {
  const asked = ['@tensorflow/tfjs', '@tensorflow/tfjs-core'].map((name) => require.resolve(name));
  const missing = asked.filter((path) => require.cache[path] === undefined);
  for (const path of missing) {
    require.cache[path] = Object.assign(new Module(path), { filename: path, loaded: true, exports: tf });
  }
  try {
    return load();
  } finally {
    for (const path of missing) delete require.cache[path]; // for others in this process it is what its name says
  }
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

function nativeKernels(backend: UntypedBackend, quietly: Quietly): NativeKernels {
  const { binding } = backend;
  let greeted = false; // on standard error, as TensorFlow does when a process loads its first graph
  const idOf = (input: tf.Tensor | NativeHandle): number =>
    'dataId' in input ? backend.getInputTensorIds([input])[0]! : input.id;
  return {
    execute: (op, attributes, inputs) => backend.executeSingleOutput(op, attributes, inputs),
    executeMany: (op, attributes, inputs, outputs) => backend.executeMultipleOutputs(op, attributes, inputs, outputs),
    executeRaw: (op, attributes, inputs, outputs) =>
      backend.binding.executeOp(op, attributes, inputs.map(idOf), outputs),
    toTensor: (handle) => backend.createOutputTensor(handle),
    release: (handle) => binding.deleteTensor(handle.id),
    after: (x, dependency) => {
      const type = { name: 'T', type: ATTRIBUTE.type, value: DATA_TYPE[x.dtype as NativeType] };
      // One operation after the other, the binding itself takes no notice of the last argument.
      const [same] = backend.binding.executeOp('Identity', [type], [idOf(x)], 1, [idOf(dependency)]);
      return backend.createOutputTensor(same!);
    },
    record: (inputs, work) => record(backend, inputs, work),
    openSession: (folder) => {
      const load = (): number => binding.loadSavedModel(folder, SERVE);
      const session = greeted ? load() : quietly(load);
      greeted = true;
      return {
        run: (given, values, wanted) =>
          binding
            .runSavedModel(session, values.map(idOf), given.join(','), wanted.join(','))
            .map((handle) => backend.createOutputTensor(handle)),
        close: () => binding.deleteSavedModel(session),
      };
    },
    openEvents: (folder) => {
      const writer = backend.summaryWriter(folder);
      tf.tidy(() => backend.createSummaryFileWriter(writer, folder)); // it leaves its scalars to others
      return {
        scalar: (step, tag, value) => backend.writeScalarSummary(writer, step, tag, value),
        flush: () => backend.flushSummaryWriter(writer),
        close: () => {
          backend.executeMultipleOutputs('CloseSummaryWriter', [], [writer], 0);
          writer.dispose();
        },
      };
    },
    typeAttribute: (name, dtype) => ({ name, type: ATTRIBUTE.type, value: DATA_TYPE[dtype] }),
    intAttribute: (name, value) => ({ name, type: ATTRIBUTE.int, value }),
    floatAttribute: (name, value) => ({ name, type: ATTRIBUTE.float, value }),
    boolAttribute: (name, value) => ({ name, type: ATTRIBUTE.bool, value }),
    stringAttribute: (name, value) => ({ name, type: ATTRIBUTE.string, value }),
    intListAttribute: (name, value) => ({ name, type: ATTRIBUTE.int, value }),
    shapeAttribute: (name, value) => ({ name, type: ATTRIBUTE.shape, value }),
  };
}

/** While `work` runs, the backend calls a binding that writes down what it is asked for. */
function record(backend: UntypedBackend, inputs: readonly tf.Tensor[], work: () => tf.Tensor[]): Recording {
  const { binding } = backend;
  const recorder = startRecorder(binding);
  backend.getInputTensorIds(inputs).forEach((id, i) => {
    const { dtype, shape } = inputs[i]!;
    recorder.input(id, DATA_TYPE[dtype as NativeType], shape);
  });
  backend.binding = Object.create(binding, {
    executeOp: { value: recorder.calls.executeOp },
    createTensor: { value: recorder.calls.createTensor },
  }) as UntypedBackend['binding'];
  try {
    const outputs = work();
    const recording = recorder.finish(backend.getInputTensorIds(outputs));
    tf.dispose(outputs);
    return recording;
  } finally {
    backend.binding = binding;
  }
}
