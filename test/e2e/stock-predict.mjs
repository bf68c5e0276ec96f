/**
 * An exported model in a program of its user: stock TensorFlow.js on WebAssembly, nothing of this toolkit.
 *
 *   node stock-predict.mjs MODEL_FOLDER PIXELS.bin COUNT SIZE    prints [[probability of each class] for each picture]
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';

const BATCH = 16;
const [folder, pixelsFile, count, size] = process.argv.slice(2);
const [pictures, side] = [Number(count), Number(size)];

const wasm = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json'));
setWasmPaths(`${join(wasm, 'wasm-out')}/`);
await tf.setBackend('wasm');

const { modelTopology, weightsManifest, format, signature } = JSON.parse(
  await readFile(join(folder, 'model.json'), 'utf8'),
);
const paths = weightsManifest.flatMap((group) => group.paths);
const shards = await Promise.all(paths.map((path) => readFile(join(folder, path))));
const weightSpecs = weightsManifest.flatMap((group) => group.weights);
const weightData = Uint8Array.from(Buffer.concat(shards)).buffer;
const model = await loadGraphModel({
  load: async () => ({ modelTopology, weightSpecs, weightData, format, signature }),
});

const bytes = await readFile(pixelsFile);
const pixels = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const rows = [];
for (let start = 0; start < pictures; start += BATCH) {
  const end = Math.min(start + BATCH, pictures);
  const length = side * side * 3;
  const x = tf.tensor4d(pixels.subarray(start * length, end * length), [end - start, side, side, 3]);
  const y = model.predict(x);
  rows.push(...(await y.array()));
  tf.dispose([x, y]);
}
console.log(JSON.stringify(rows));
