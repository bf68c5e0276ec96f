/** Compiled computations against the same ones run operation by operation. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { type BatchFunction, compile, compileBatches } from '../../src/engine/compile.js';
import { loadNetwork } from '../../src/engine/network.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { readerOf } from './support/parameters.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

const native = () => engine.native!;
const numbers = (tensor: tf.Tensor): number[] => [...tensor.dataSync()];

describe('a compiled computation', () => {
  test('gives for new inputs what it gave when it was recorded, for as many results as there are', () => {
    const work = (x: tf.Tensor, y: tf.Tensor): tf.Tensor[] =>
      tf.tidy(() => [tf.add(tf.matMul(x as tf.Tensor2D, y as tf.Tensor2D), 3), tf.relu(x)]);
    const [a, b] = [tf.tensor2d([[1, -2]]), tf.tensor2d([[3], [4]])];
    const compiled = compile(native(), [a, b], () => work(a, b));
    const [c, d] = [tf.tensor2d([[-5, 6]]), tf.tensor2d([[7], [8]])];
    expect(compiled.run([c, d]).map(numbers)).toEqual([[16], [0, 6]]);
    expect(compiled.run([a, b]).map(numbers)).toEqual([[-2], [1, 0]]);
    compiled.dispose();
  });

  test('may give an input back, and one result twice', () => {
    const x = tf.tensor1d([1, 2]);
    const compiled = compile(native(), [x], () => {
      const y = tf.mul(x, 2);
      return [tf.clone(x), y, tf.clone(y)];
    });
    expect(compiled.run([tf.tensor1d([5, 6])]).map(numbers)).toEqual([[5, 6], [10, 12], [10, 12]]); // biome-ignore format: rows
    compiled.dispose();
  });

  test('takes nothing that was there before and is no input', () => {
    const [x, other] = [tf.tensor1d([1]), tf.tensor1d([2])];
    tf.square(other).dispose(); // now it lies with TensorFlow
    expect(() => compile(native(), [x], () => [tf.add(x, other)])).toThrow(
      'Add uses a tensor that was there before the recording and is no input of it',
    );
    expect(numbers(tf.add(x, other))).toEqual([3]); // recording has ended
  });

  test('leaves no file and no tensor behind', () => {
    const place = mkdtempSync(join(tmpdir(), 'tl-compile-')); // in the common one other tests come and go
    vi.stubEnv('TMPDIR', place);
    try {
      const x = tf.tensor1d([1]);
      const tensors = tf.memory().numTensors;
      const compiled = compile(native(), [x], () => [tf.tidy(() => tf.exp(x))]);
      tf.dispose(compiled.run([x]));
      compiled.dispose();
      expect(tf.memory().numTensors).toBe(tensors);
      expect(readdirSync(place)).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
      rmSync(place, { recursive: true });
    }
  });
});

describe('a compiled function of some pictures', () => {
  let triple: BatchFunction;
  let calls = 0;
  beforeAll(() => {
    calls = 0;
    triple = compileBatches(engine, (x, [by]) => {
      calls++;
      return [tf.mul(x, by!)];
    });
  });
  const three = (): tf.Tensor[] => [tf.scalar(3)];

  test('is compiled for a size once, and fills smaller batches up', () => {
    expect(numbers(triple.run(tf.tensor2d([[1], [2], [3]]), three())[0]!)).toEqual([3, 6, 9]);
    const [small] = triple.run(tf.tensor2d([[4], [5]]), three());
    expect(small!.shape).toEqual([2, 1]);
    expect(numbers(small!)).toEqual([12, 15]);
    expect(numbers(triple.run(tf.tensor2d([[7]]), three())[0]!)).toEqual([21]);
    expect(calls).toBe(1);
  });

  test('is compiled anew for a larger batch', () => {
    expect(numbers(triple.run(tf.tensor2d([[1], [2], [3], [4]]), three())[0]!)).toEqual([3, 6, 9, 12]);
    expect(calls).toBe(2);
  });
});

/** One of each family, whose operations are those of the others. */
const networks = [
  ['googlenet', 'torch', 64],
  ['resnext50_32x4d', 'torch', 64],
  ['resnet18', 'torch', 64],
  ['mobilenet_v1_0.25', 'keras', 64],
  ['mobilenet_v2_0.35', 'keras', 64],
  ['mobilenet_v3_small', 'keras', 64],
  ['efficientnet_b0', 'torch', 64],
  ['densenet121', 'torch', 64],
  ['convnext_tiny', 'torch', 64],
  ['vit_b32', 'flax', 64],
] as const;

test.each(networks)('%s from %s gives compiled what it gives run one by one', async (name, source, size) => {
  const graph = buildBackbone(findPublished(findBackbone(name), source), {
    size: { height: size, width: size },
  });
  const read = readerOf(graph);
  const outputs = ['pre_logits'];
  const plain = await loadNetwork(graph, read, engine, { outputs });
  const compiled = await loadNetwork(graph, read, engine, { outputs, compiled: true });
  const x = tf.randomUniform([3, ...graph.input.shape], 0, 1, 'float32', 1);
  const few = tf.slice(x, 0, 1);
  const [expected, received, alone] = [plain.run(x, outputs), compiled.run(x, outputs), compiled.run(few, outputs)].map(
    (taps) => taps.get('pre_logits')!,
  ) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const largest = tf.max(tf.abs(expected)).dataSync()[0]!;
  expect(largest).toBeGreaterThan(0);
  expect(tf.max(tf.abs(tf.sub(expected, received))).dataSync()[0]! / largest).toBeLessThan(1e-5);
  expect(numbers(alone)).toEqual(numbers(tf.slice(received, 0, 1))); // to the bit, however many are with it
  plain.dispose();
  compiled.dispose();
});

test('the first graph of a process says nothing on standard error', () => {
  const at = (path: string): string => pathToFileURL(join(import.meta.dirname, '..', '..', path)).href;
  const program = `
    const { loadEngine } = await import('${at('dist/engine/tensorflow.js')}');
    const { compile } = await import('${at('dist/engine/compile.js')}');
    const tf = await import('@tensorflow/tfjs-core');
    const { native } = await loadEngine({ engine: 'tensorflow' });
    const x = tf.tensor1d([1, 2]);
    console.log(compile(native, [x], () => [tf.add(x, 1)]).run([x])[0].dataSync().join());
    console.error('heard again');`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect({ stdout, stderr }).toEqual({ stdout: '2,3\n', stderr: 'heard again\n' });
});
