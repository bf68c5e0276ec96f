/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/** TensorFlow.js as its scripts put it into the page or the worker: one global, `tf`. */

export type TensorFlow = typeof import('@tensorflow/tfjs-core') &
  typeof import('@tensorflow/tfjs-converter') & {
    readonly wasm: typeof import('@tensorflow/tfjs-backend-wasm');
  };

export type GraphModel = import('@tensorflow/tfjs-converter').GraphModel;
export type Tensor = import('@tensorflow/tfjs-core').Tensor;

/** After the scripts have run. */
export const tensorflow = (): TensorFlow => (globalThis as unknown as { readonly tf: TensorFlow }).tf;
