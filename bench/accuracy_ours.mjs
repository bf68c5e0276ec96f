/**
 * Our pre_logits of pictures, plain and mirrored, against the reference's. Reads a task (JSON) from standard input:
 * `pictures`, `weights` (a published file), `backbone`, `source`, `reference` (float32 [2, pictures, units]), `dist`,
 * perhaps `inputSize`.
 * A process of its own, because the native engine is never unloaded.
 */
import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { importFrom } from './environment.mjs';

const BATCH = 16;

const task = JSON.parse(readFileSync(0, 'utf8'));
const from = (path) => importFrom(task.dist, path);
const { loadEngine } = await from('engine/tensorflow.js');
const { loadNetwork } = await from('engine/network.js');
const { buildBackbone } = await from('backbones/index.js');
const { resolveWeights } = await from('weights/resolve.js');
const { batches, closeLoader } = await from('data/index.js');

const engine = await loadEngine({ device: 'cpu', threads: task.threads });
const { backbone, published, read, close } = await resolveWeights(task);
const side = task.inputSize ?? backbone.inputSize;
const size = { height: side, width: side };
const network = await loadNetwork(buildBackbone(published, { size }), read, engine, { outputs: ['pre_logits'] });
const bytes = readFileSync(task.reference);
const expected = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const units = expected.length / (2 * task.pictures.length);

let [largest, worst, sum, magnitudes, worstPicture] = [0, 0, 0, 0, ''];
const samples = task.pictures.map((path) => ({ path, label: 0, split: 'val' }));
for (const view of [0, 1]) {
  const loaded = batches(samples, {
    preprocessing: published.preprocessing,
    size,
    batchSize: BATCH,
    augment: 'none',
    seed: 0,
    epoch: 0,
    skipBadImages: false,
  });
  for await (const { pixels, indices, count } of loaded) {
    const values = tf.tidy(() => {
      const x = tf.tensor4d(pixels, [count, size.height, size.width, 3]);
      return network.run(view === 1 ? tf.reverse(x, 2) : x, ['pre_logits']).get('pre_logits');
    });
    const actual = values.dataSync();
    values.dispose();
    indices.forEach((picture, i) => {
      const start = (view * task.pictures.length + picture) * units;
      for (let k = 0; k < units; k++) {
        const reference = expected[start + k];
        const difference = Math.abs(actual[i * units + k] - reference);
        if (Number.isNaN(difference)) throw new Error(`${task.pictures[picture]}: pre_logits ${k} is not a number`);
        largest = Math.max(largest, Math.abs(reference));
        sum += difference;
        magnitudes += Math.abs(reference);
        if (difference > worst) [worst, worstPicture] = [difference, task.pictures[picture]];
      }
    });
  }
}
network.dispose();
await close();
await closeLoader();
console.log(
  JSON.stringify({
    pictures: task.pictures.length,
    units,
    worst,
    worstPicture,
    mean: sum / expected.length,
    meanMagnitude: magnitudes / expected.length,
    largest,
    runs: engine.description,
  }),
);
