/** A SavedModel as TensorFlow itself runs it. */
import * as tf from '@tensorflow/tfjs-core';
import type { DenseArray } from './forward.js';
import type { Engine } from './tensorflow.js';

export interface SavedModelSession {
  /**
   * @param given name of the value that `input` is given to: `input:0`
   * @param wanted that of the result: `probabilities:0`, float32
   */
  run(given: string, input: DenseArray | PixelArray, wanted: string): Promise<Float32Array>;
  close(): void;
}

/** Pictures of whole numbers 0..255, `[N, height, width, channels]`, which a graph takes as uint8. */
export interface PixelArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/**
 * Loads a SavedModel; undefined on an engine that is not TensorFlow.
 * @param folder with `saved_model.pb`, tagged `serve`
 * @throws what TensorFlow says
 */
export function openSavedModel({ native }: Engine, folder: string): SavedModelSession | undefined {
  if (native === undefined) return undefined;
  const session = native.openSession(folder);
  const ask = async (given: string, value: Parameters<typeof session.run>[1][number], wanted: string) => {
    const [result] = session.run([given], [value], [wanted]);
    const numbers = (await result!.data()) as Float32Array;
    tf.dispose(result!);
    return numbers;
  };
  return {
    run: async (given, { shape, data }, wanted) => {
      const isPixels = data instanceof Uint8Array;
      const x = tf.tensor(data, [...shape], isPixels ? 'int32' : 'float32'); // tfjs has no uint8
      try {
        if (!isPixels) return await ask(given, x, wanted);
        const types = [native.typeAttribute('SrcT', 'int32'), native.typeAttribute('DstT', 'uint8')];
        const [pixels] = native.executeRaw('Cast', [...types, native.boolAttribute('Truncate', false)], [x], 1);
        try {
          return await ask(given, pixels!, wanted);
        } finally {
          native.release(pixels!);
        }
      } finally {
        x.dispose();
      }
    },
    close: () => session.close(),
  };
}
