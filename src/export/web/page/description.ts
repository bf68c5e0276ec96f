/** What the page is told about its model; the export writes it into `index.html` as JSON. */
import type { Channels, ImageSize } from '../../../augment/image.js';
import type { Preprocessing } from '../../../augment/preprocessing.js';

export interface PageDescription {
  /** Changes with every byte of the folder: names the browser's copy. */
  readonly version: string;
  readonly backbone: string;
  readonly source: string;
  readonly weights: { readonly origin: string; readonly license: string };
  /** How weights are stored, for people: `float32`. */
  readonly stored: string;
  readonly toolkit: string;
  /** In the order of the probabilities. */
  readonly classes: readonly string[];
  readonly inputSize: ImageSize;
  readonly channels: Channels;
  readonly preprocessing: Preprocessing;
  /** `pixels`: the model takes whole numbers 0..255, RGB, and normalises them itself. */
  readonly input: 'normalised' | 'pixels';
  /** The model's files, addresses below the page, its `model.json` first. */
  readonly modelFiles: readonly { readonly name: string; readonly bytes: number }[];
}

/** Id of the element of `index.html` that holds it. */
export const DESCRIPTION_ID = 'description';

/** TensorFlow.js, in the order in which its scripts are started; the last only where WebAssembly does not start. */
export const runtimeScripts = {
  core: 'tfjs/tf-core.js',
  converter: 'tfjs/tf-converter.js',
  wasm: 'tfjs/tf-backend-wasm.js',
  cpu: 'tfjs/tf-backend-cpu.js',
} as const;

/** Programs of the WebAssembly backend, below the page: for processors with and without vector instructions. */
export const wasmFiles = {
  simd: 'tfjs/tfjs-backend-wasm-simd.wasm',
  plain: 'tfjs/tfjs-backend-wasm.wasm',
} as const;

/** The script of the thread that runs the model. */
export const WORKER_SCRIPT = 'worker.js';

/** The script that keeps the page for use without a network. */
export const SERVICE_WORKER_SCRIPT = 'sw.js';

/** Caches of this page, and of no other page of the same host, begin like this. @param scope the page's folder, an address */
export const cachePrefix = (scope: string): string => `tl-web ${scope} `;
