/** Many pictures through a network, some at a time, so that memory does not grow with their number. */
import * as tf from '@tensorflow/tfjs-core';
import type { Graph } from './graph.js';
import { loadNetwork, type ReadParameter } from './network.js';
import type { Precision } from './precision.js';
import type { Engine } from './tensorflow.js';

/** Numbers in C order. */
export interface DenseArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface ForwardRequest {
  /** `[N, H, W, C]`, as the network wants it: no preprocessing is done. */
  readonly input: DenseArray;
  readonly taps: readonly string[];
  /** Pictures at once. */
  readonly batchSize?: number | undefined;
  /** `float32` when absent. */
  readonly precision?: Precision | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Pixels at once: 32 pictures of 224x224, which take about 3 GB in the widest layers of the networks here. */
const PIXELS_AT_ONCE = 32 * 224 * 224;

/**
 * Runs a network on a tensor and gives the values of taps, `[N, ...]` each. Batch norms are computed as they are, not
 * folded, so that every digit is comparable with other implementations.
 * @throws UNKNOWN_TAP, PRECISION_UNSUPPORTED
 */
export async function forwardInBatches(
  graph: Graph,
  read: ReadParameter,
  engine: Engine,
  { input, taps, batchSize, precision = 'float32', signal }: ForwardRequest,
): Promise<Record<string, DenseArray>> {
  const [pictures, height, width, channels] = input.shape as readonly [number, number, number, number];
  const atOnce = batchSize ?? Math.max(1, Math.floor(PIXELS_AT_ONCE / (height * width)));
  const network = await loadNetwork(graph, read, engine, { outputs: taps, fold: false, precision });
  const results = new Map<string, { shape: number[]; data: Float32Array }>();
  try {
    for (let start = 0; start < pictures; start += atOnce) {
      signal?.throwIfAborted();
      const size = Math.min(atOnce, pictures - start);
      const from = start * height * width * channels;
      const batch = input.data.subarray(from, from + size * height * width * channels);
      const x = tf.tensor4d(batch, [size, height, width, channels]);
      const values = network.run(x, taps);
      x.dispose();
      for (const [tap, value] of values) {
        const row = value.size / size;
        const result = results.get(tap) ?? {
          shape: [pictures, ...value.shape.slice(1)],
          data: new Float32Array(row * pictures),
        };
        result.data.set((await value.data()) as Float32Array, start * row);
        value.dispose();
        results.set(tap, result);
      }
    }
  } finally {
    network.dispose();
  }
  return Object.fromEntries(results);
}
