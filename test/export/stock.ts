/** Exported models run as any program runs them: by stock TensorFlow.js, in this process. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GraphModel, loadGraphModel } from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { type DenseArray, forwardInBatches } from '../../src/engine/forward.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { ExportableModel } from '../../src/export/format.js';
import type { PlainNetwork } from '../../src/export/lowering/operations.js';
import { graphDefOf, tensorInfo } from '../../src/export/tfjs/graph-def.js';
import { inputBatch } from '../support/golden.js';

interface ModelFile {
  readonly format: string;
  readonly signature: { readonly inputs: object; readonly outputs: object };
  readonly userDefinedMetadata: Readonly<Record<string, unknown>>;
  readonly modelTopology: { readonly node: readonly { readonly name: string; readonly op: string }[] };
  readonly weightsManifest: readonly {
    readonly paths: readonly string[];
    readonly weights: readonly {
      readonly name: string;
      readonly shape: number[];
      readonly dtype: 'float32';
      readonly quantization?: { readonly dtype: 'uint8' | 'float16'; readonly min?: number; readonly scale?: number };
    }[];
  }[];
}

export const readModelFile = (folder: string): ModelFile =>
  JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));

export async function loadStock(folder: string): Promise<GraphModel> {
  const file = readModelFile(folder);
  const files = file.weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(folder, path))));
  return loadGraphModel({
    load: async () => ({
      format: file.format,
      signature: file.signature,
      modelTopology: file.modelTopology,
      weightSpecs: file.weightsManifest.flatMap(({ weights }) => weights.map((each) => ({ ...each }))),
      weightData: Uint8Array.from(Buffer.concat(files)).buffer,
    }),
  });
}

/** The written model's logits by a backend of stock TensorFlow.js, flattened. */
export async function stockLogits(
  folder: string,
  pictures: DenseArray,
  backend: 'cpu' | 'wasm',
): Promise<Float32Array> {
  await loadEngine({ engine: backend });
  const model = await loadStock(folder);
  const x = tf.tensor(pictures.data, [...pictures.shape]);
  const y = model.execute(x, 'logits') as tf.Tensor;
  const logits = (await y.data()) as Float32Array;
  tf.dispose([x, y]);
  model.dispose();
  return logits;
}

/** Every name is one, is a name, and stands before it is used. */
export function expectWellFormed(network: PlainNetwork): void {
  const known = new Set([network.input.name]);
  const add = (name: string): void => {
    expect(known.has(name), `${name} twice`).toBe(false);
    expect(name).toMatch(/^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$/); // NodeDef.name, node_def.proto
    known.add(name);
  };
  for (const { name } of network.constants) add(name);
  for (const { name, inputs } of network.operations) {
    for (const input of inputs) expect(known.has(input.replace(/:\d+$/, '')), `${name} needs ${input}`).toBe(true);
    add(name);
  }
  for (const output of Object.values(network.outputs)) expect(known.has(output), output).toBe(true);
}

/** Logits of a lowered network, as it is, by TensorFlow.js's WebAssembly backend; of pixels where it takes them. */
export async function plainLogits(network: PlainNetwork, pictures: DenseArray): Promise<Float32Array> {
  await loadEngine({ engine: 'wasm' });
  const parts: Buffer[] = [];
  for (const constant of network.constants) {
    const { buffer, byteOffset, byteLength } = await constant.read();
    parts.push(Buffer.from(buffer, byteOffset, byteLength));
  }
  const model = await loadGraphModel({
    load: async () => ({
      format: 'graph-model',
      modelTopology: graphDefOf(network),
      signature: {
        inputs: { x: tensorInfo(network.input.name, network.input.shape, network.input.type) },
        outputs: { y: tensorInfo(network.outputs.logits, [-1, -1]) },
      },
      weightSpecs: network.constants.map(({ name, shape, type }) => ({ name, shape: [...shape], dtype: type })),
      weightData: parts.map((part) => Uint8Array.from(part).buffer),
    }),
  });
  const type = network.input.type === 'float32' ? 'float32' : 'int32'; // TensorFlow.js has no uint8
  const x = tf.tensor(pictures.data, [...pictures.shape], type);
  const y = model.predict(x) as tf.Tensor;
  const logits = (await y.data()) as Float32Array;
  tf.dispose([x, y]);
  model.dispose();
  return logits;
}

/** The model's own logits, batch norms and all, on the native engine. */
export async function sourceLogits({ graph, read }: ExportableModel, pictures: DenseArray): Promise<Float32Array> {
  const { logits } = await forwardInBatches(graph, read, await loadEngine(), { input: pictures, taps: ['logits'] });
  return logits!.data;
}

/** Generated pictures for a model, in [-1, 1). */
export function picturesFor({ graph }: ExportableModel, count: number): DenseArray {
  const shape = [count, ...graph.input.shape];
  return { shape, data: inputBatch(shape) };
}

/** Largest difference, as a share of the largest absolute value expected. */
export function relativeDifference(received: Float32Array, expected: Float32Array): number {
  if (received.length !== expected.length) return Infinity;
  const top = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return received.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0) / top;
}
