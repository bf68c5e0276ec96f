/**
 * What the native engine is made of: one pinned binding from npm, one pinned TensorFlow library from PyPI, and the
 * platforms on which the second can be put behind the first.
 *
 * The binding's own download is TensorFlow 2.9.1. Its C API has not changed since, so the same source compiles
 * unchanged against a newer library. 2.18.1 is the smallest wheel of those that were tried (2.15.1, 2.18.1, 2.20.0,
 * 2.21.0), no slower than the newer ones, and asks for no more than glibc 2.17.
 */

/** Which of the two packages of the same source: the second one's install script downloads a CUDA 11 library. */
export type EngineKind = 'cpu' | 'gpu';

/** Version of tfjs-node and of every tfjs package of ours: they share their registries, so they must be equal. */
export const BINDING_VERSION = '4.22.0';

/** Headers of Node-API, published by the Node project for builds without node-gyp. */
export const NODE_API_HEADERS_VERSION = '1.5.0';

/** Node-API version of the binding's own builds, and the folder in which node-pre-gyp looks for them. */
export const NODE_API_VERSION = 8;

/** Version of the TensorFlow library that the binding is built against. */
export const TENSORFLOW_VERSION = '2.18.1';

/** A wheel that holds TensorFlow's C library, pinned by content. The Python tag does not matter to a C library. */
export interface Wheel {
  /** Name on PyPI. */
  readonly project: string;
  /** Platform tag that pip selects it by. */
  readonly platform: string;
  /** Of the whole wheel file, from PyPI's index. */
  readonly sha256: string;
  /** File names of the two libraries in `tensorflow/`. */
  readonly libraries: readonly [string, string];
  /** Whether an engine built from it has been run by the authors. */
  readonly tried: boolean;
  /** Free space that unpacking needs, in bytes: the wheel, what is taken from it, and the binding, measured. */
  readonly space: number;
}

/** Python tag of every pinned wheel. pip takes it whatever Python it runs on. */
export const WHEEL_PYTHON = '3.11';

const GB = 1e9;
const LINUX_LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'] as const;

const WHEELS: Readonly<Record<string, Wheel>> = {
  'cpu-linux-x64': {
    project: 'tensorflow-cpu',
    platform: 'manylinux_2_17_x86_64',
    sha256: '810c75d7149d2da0cb2092187817b0dcabb80728ca9f9cf3a61f3f42fadd1298',
    libraries: LINUX_LIBRARIES,
    tried: true,
    space: 1.2 * GB,
  },
  // The CUDA kernels (sm_90 included) are in the wheel without a suffix; it compiles and loads without a GPU, real
  // use of a GPU has not been verified.
  'gpu-linux-x64': {
    project: 'tensorflow',
    platform: 'manylinux_2_17_x86_64',
    sha256: 'c9f87e5d2a680a4595f5dc30daf6bbaec9d4129b46d7ef1b2af63c46ac7d2828',
    libraries: LINUX_LIBRARIES,
    tried: false,
    space: 5 * GB, // with the CUDA wheels
  },
  'cpu-linux-arm64': {
    project: 'tensorflow',
    platform: 'manylinux_2_17_aarch64',
    sha256: '8a6485edd2148f70d011dbd1d8dc2c775e91774a5a159466e83d0d1f21580944',
    libraries: LINUX_LIBRARIES,
    tried: false,
    space: 1.3 * GB,
  },
  'cpu-darwin-arm64': {
    project: 'tensorflow',
    platform: 'macosx_12_0_arm64',
    sha256: '661029cd769b311db910b79a3a6ef50a5a61ecc947172228c777a49989722508',
    libraries: ['libtensorflow_cc.2.dylib', 'libtensorflow_framework.2.dylib'],
    tried: false,
    space: 1.3 * GB,
  },
};

/** The wheel for a platform, or undefined where TensorFlow 2.18 publishes none that can be used. */
export function wheelFor(kind: EngineKind, platform: string, arch: string): Wheel | undefined {
  return WHEELS[`${kind}-${platform}-${arch}`];
}

/** npm's name of the binding. */
export function bindingPackage(kind: EngineKind): string {
  return kind === 'gpu' ? '@tensorflow/tfjs-node-gpu' : '@tensorflow/tfjs-node';
}

/** Folder name of an engine: everything that decides whether one can stand in for another. */
export function engineKey(kind: EngineKind, tensorflowVersion: string, platform: string, arch: string): string {
  return `tfjs-node-${BINDING_VERSION}-tf${tensorflowVersion}-${kind}-${platform}-${arch}`;
}
