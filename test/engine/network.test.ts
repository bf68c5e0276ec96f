/** How a network's numbers are read as it is loaded. */
import { setTimeout } from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { loadNetwork } from '../../src/engine/network.js';
import { loadEngine } from '../../src/engine/tensorflow.js';

const graph = buildBackbone(findPublished(findBackbone('mobilenet_v1_0.25'), 'keras'), {
  size: { height: 32, width: 32 },
});
const shapes = new Map(graph.parameters.map(({ path, shape }) => [path, shape]));
const size = (path: string): number => shapes.get(path)!.reduce((a, b) => a * b, 1);

test('parameters are read while others are folded, and each where it belongs', async () => {
  const engine = await loadEngine();
  const numbers = (path: string) =>
    new Float32Array(size(path)).fill(path.endsWith('variance') ? 1 : path.length / 100);
  let [reading, most] = [0, 0];
  const slowly = async (path: string): Promise<Float32Array> => {
    most = Math.max(most, ++reading);
    await setTimeout(path.length % 3); // they end in another order than they began
    reading--;
    return numbers(path);
  };
  const outputs = ['pre_logits'];
  const x = tf.ones([1, 32, 32, 3]);
  const results: number[][] = [];
  for (const read of [slowly, async (path: string) => numbers(path)]) {
    const network = await loadNetwork(graph, read, engine, { outputs });
    const [values] = network.run(x, outputs).values();
    results.push([...values!.dataSync()]);
    network.dispose();
  }
  expect(most).toBeGreaterThan(1);
  expect(results[0]).toEqual(results[1]);
});

test('one that cannot be read fails the loading, when nothing is read any more', async () => {
  const engine = await loadEngine();
  let reading = 0;
  const read = async (path: string): Promise<Float32Array> => {
    reading++;
    await setTimeout(1);
    reading--;
    if (path.startsWith('block3.')) throw new Error(`${path} is damaged`);
    return new Float32Array(size(path)).fill(1);
  };
  await expect(loadNetwork(graph, read, engine, { outputs: ['pre_logits'] })).rejects.toThrow(
    /^block3\..* is damaged$/,
  );
  expect(reading).toBe(0);
});
