/**
 * Finds and loads the engine: TensorFlow's native library through tfjs-node where it is set up or installed, else the
 * WebAssembly backend. The network code above it is the same on both.
 */
import { availableParallelism } from 'node:os';
import * as tf from '@tensorflow/tfjs-core';
import { EngineError, listFaults, messageOf } from '../errors.js';
import { findSetUp } from './setup/home.js';
import { type NativeBackend, type NativeKernels, requireNative } from './setup/native.js';
import { bindingPackage, type EngineKind } from './setup/recipe.js';
import { findResolvable } from './setup/resolvable.js';

export { toolkitHome } from './setup/home.js';
export type { NativeEvents, NativeHandle, NativeKernels } from './setup/native.js';
export type { NativeAttribute, NativeType } from './tensorflow-types.js';

/** `tensorflow` is the native library; `wasm` and `cpu` come with tfjs. */
export type EngineName = 'tensorflow' | 'wasm' | 'cpu';

/** Settings of {@link loadEngine}. */
export interface EngineOptions {
  /** `auto`: native where it is ready, else wasm. */
  readonly engine?: 'auto' | EngineName;
  /** `auto`: a GPU where an engine for one is ready and finds one. */
  readonly device?: 'auto' | 'cpu' | 'gpu';
  /** Threads within one operation, for the native engine; all that this process may use by default. */
  readonly threads?: number;
  /** On a GPU, only kernels that give the same bits each time; on a processor all do. Holds from the first load on. */
  readonly deterministic?: boolean;
}

/** A loaded engine: what it is and what it can't do. */
export interface Engine {
  readonly name: EngineName;
  /** TensorFlow's version for the native engine, else that of tfjs. */
  readonly version: string;
  readonly device: 'cpu' | 'gpu';
  readonly threads: number | undefined;
  /** `head`: it has no gradient of convolutions and pools, so it only trains what has none: heads, and transformers. */
  readonly trains: 'everything' | 'head';
  /** Sentences. */
  readonly limits: readonly string[];
  /** TensorFlow's own operations; only the native engine has them. */
  readonly native: NativeKernels | undefined;
  /** One line that says all this. */
  readonly description: string;
}

/** The native library is loaded once a process and keeps its threads and device. */
let native:
  | {
      readonly backend: NativeBackend;
      readonly kind: EngineKind;
      readonly threads: number;
      readonly deterministic: boolean;
    }
  | undefined;

/**
 * Loads an engine and makes it tfjs' backend. Calling it again returns the same engine; another name switches to it.
 * @throws EngineError ENGINE_NOT_FOUND, ENGINE_BROKEN, ENGINE_NO_GPU, ENGINE_THREADS_FIXED
 */
export async function loadEngine(options: EngineOptions = {}): Promise<Engine> {
  const { engine = 'auto', device = 'auto', threads, deterministic = false } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) {
    throw new EngineError({
      code: 'ENGINE_BAD_THREADS',
      message: `threads: expected a whole number from 1, received ${threads}`,
      hint: 'leave it out to use every processor',
    });
  }
  if (engine === 'wasm' || engine === 'cpu') {
    if (device === 'gpu') throw noGpu(`the ${engine} engine computes on the processor`);
    return engine === 'wasm' ? loadWasm([]) : loadPlainCpu();
  }
  const failures: string[] = [];
  const loaded = loadNative({ device, threads, deterministic }, failures);
  if (loaded) {
    await activate('tensorflow');
    return describeNative(loaded);
  }
  if (device === 'gpu') throw noGpu(failures.join('; ') || 'no engine for one is set up');
  if (engine === 'tensorflow') throw notFound(failures);
  return loadWasm(failures);
}

/** What the library is loaded for. */
interface Wanted {
  readonly device: 'auto' | 'cpu' | 'gpu';
  readonly threads: number | undefined;
  readonly deterministic: boolean;
}

function loadNative(wanted: Wanted, failures: string[]): typeof native {
  const { device, threads, deterministic } = wanted;
  if (native) {
    if (threads !== undefined && threads !== native.threads) {
      throw new EngineError({
        code: 'ENGINE_THREADS_FIXED',
        message: `the native engine runs with ${native.threads} threads since it was loaded, received ${threads}`,
        hint: 'choose the threads before the first use, or start another process',
      });
    }
    if (device === 'gpu' && !native.backend.usesGpu) throw noGpu('the engine that is loaded computes on the processor');
    if (deterministic && native.backend.usesGpu && !native.deterministic) {
      throw new EngineError({
        code: 'ENGINE_NOT_DETERMINISTIC',
        message: 'the engine was loaded for a GPU with kernels that may give other bits another time',
        hint: 'ask for determinism before the first use, or start another process',
      });
    }
    return native;
  }
  for (const { packageDir, kind } of nativeCandidates(device)) {
    try {
      const count = prepareEnvironment(wanted);
      native = { backend: requireNative(packageDir), kind, threads: count, deterministic };
      if (device === 'gpu' && !native.backend.usesGpu) throw noGpu(`TensorFlow in ${packageDir} finds none`);
      return native;
    } catch (error) {
      if (error instanceof EngineError) throw error;
      failures.push(`${packageDir}: ${messageOf(error).split('\n')[0]}`);
    }
  }
  return undefined;
}

/** Packages to try, the best first: set up by us, then installed by the user; for a GPU before those for none. */
function nativeCandidates(device: 'auto' | 'cpu' | 'gpu'): { packageDir: string; kind: EngineKind }[] {
  const kinds: EngineKind[] = device === 'gpu' ? ['gpu'] : device === 'cpu' ? ['cpu', 'gpu'] : ['gpu', 'cpu'];
  const setUp = kinds.flatMap((kind) => {
    const found = findSetUp(kind);
    return found ? [{ packageDir: found.packageDir, kind }] : [];
  });
  const installed = kinds.flatMap((kind) =>
    findResolvable(kind)
      .filter(({ unfit }) => unfit === undefined)
      .map(({ packageDir }) => ({ packageDir, kind })),
  );
  return [...setUp, ...installed];
}

/** TensorFlow reads these once, as it loads. What the user has set stands, except where an option says otherwise. */
function prepareEnvironment({ device, threads, deterministic }: Wanted): number {
  const { env } = process;
  env.TF_CPP_MIN_LOG_LEVEL ??= '2'; // warnings and errors only: the rest greets and praises
  if (threads !== undefined) env.TF_NUM_INTRAOP_THREADS = String(threads);
  env.TF_NUM_INTRAOP_THREADS ??= String(availableParallelism());
  env.TF_NUM_INTEROP_THREADS ??= env.TF_NUM_INTRAOP_THREADS;
  if (device === 'cpu') env.CUDA_VISIBLE_DEVICES = '-1';
  // What tf.config.experimental.enable_op_determinism switches on in Python, whose page says what it does; here by the
  // variable that the same code reads (OpDeterminismRequired of tensorflow/core/util/determinism.cc).
  if (deterministic) env.TF_DETERMINISTIC_OPS = '1';
  return Number(env.TF_NUM_INTRAOP_THREADS);
}

function describeNative({ backend, threads }: NonNullable<typeof native>): Engine {
  const device = backend.usesGpu ? 'gpu' : 'cpu';
  const version = backend.tensorflowVersion;
  return {
    name: 'tensorflow',
    version,
    device,
    threads,
    trains: 'everything',
    limits: [],
    native: backend.kernels,
    description: `TensorFlow ${version} (native, ${device}, ${threads} thread${threads === 1 ? '' : 's'})`,
  };
}

/** In Node the WebAssembly backend has SIMD and one thread. */
async function loadWasm(failures: readonly string[]): Promise<Engine> {
  if (!tf.findBackendFactory('wasm')) await import('@tensorflow/tfjs-backend-wasm');
  await activate('wasm');
  const version = tf.version_core;
  const limits = [
    'it trains a head on a frozen backbone, and vision transformers behind their patches, and no more: it has no gradient of a convolution',
    'it uses one thread and takes 3 to 5 times the native time for a forward pass',
    'it computes in float32 only',
    ...failures.map((failure) => `the native engine did not load: ${failure}`),
  ];
  return {
    name: 'wasm',
    version,
    device: 'cpu',
    threads: 1,
    trains: 'head',
    limits,
    native: undefined,
    description: `WebAssembly (tfjs ${version}, one thread): trains heads, and no convolutions; \`tl setup\` makes the native engine ready`,
  };
}

/** tfjs' backend in plain JavaScript: complete, and only fit for tests and tiny networks. */
async function loadPlainCpu(): Promise<Engine> {
  if (!tf.findBackendFactory('cpu')) await import('@tensorflow/tfjs-backend-cpu');
  await activate('cpu');
  (tf.backend() as { firstUse?: boolean }).firstUse = false; // it would advertise tfjs-node in a frame of equal signs
  const version = tf.version_core;
  return {
    name: 'cpu',
    version,
    device: 'cpu',
    threads: 1,
    trains: 'everything',
    limits: [
      'it is plain JavaScript on one thread: 150 times the native time of a convolution, for tests and tiny networks',
    ],
    native: undefined,
    description: `plain JavaScript (tfjs ${version}, one thread), very slow; \`tl setup\` makes the native engine ready`,
  };
}

async function activate(name: EngineName): Promise<void> {
  const done = await tf.setBackend(name);
  if (!done) throw new EngineError({ code: 'ENGINE_BROKEN', message: `tfjs could not initialise its backend ${name}` });
  await tf.ready();
}

function notFound(failures: readonly string[]): EngineError {
  const tried = failures.length > 0 ? `; tried:\n${listFaults(failures)}` : '';
  return new EngineError({
    code: 'ENGINE_NOT_FOUND',
    message: `no native engine: expected ${bindingPackage('cpu')} set up by \`tl setup\` or installed in this project${tried}`,
    hint: 'run `tl setup`, or go on with `--engine wasm`, which predicts and trains a head on a frozen backbone',
  });
}

function noGpu(reason: string): EngineError {
  return new EngineError({
    code: 'ENGINE_NO_GPU',
    message: `no GPU can be used: ${reason}`,
    hint: 'run `tl setup --gpu` on a machine with an NVIDIA GPU and its driver, or use --device cpu',
  });
}
