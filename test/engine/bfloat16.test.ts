/** Mixed precision against float32: what is converted, what is not, and how far the results lie apart. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { toBfloat16 } from '../../src/engine/bfloat16.js';
import { compile, compileBatches } from '../../src/engine/compile.js';
import { loadNetwork } from '../../src/engine/network.js';
import type { Operator } from '../../src/engine/operator.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { requirePrecision } from '../../src/engine/precision.js';
import type { Recording } from '../../src/engine/recording.js';
import { bfloat16Support } from '../../src/engine/setup/processor.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { DATA_TYPE } from '../../src/engine/tensorflow-types.js';
import { rng } from '../../src/rng.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { loadTrainable } from '../../src/train/trainable.js';
import { graphOf } from '../../src/weights/model-folder.js';
import { readerOf } from './support/parameters.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

/** The type `T` of every operation of a kind. */
const typesOf = ({ operations }: Recording, op: string): number[] =>
  operations
    .filter((each) => each.op === op)
    .map(({ attributes }) => attributes.find(({ name }) => name === 'T')!.value as number);

describe('what is converted', () => {
  const image = () => tf.randomNormal([2, 8, 8, 16], 0, 1, 'float32', 1) as tf.Tensor4D;
  const kernel = () => tf.randomNormal([3, 3, 16, 32], 0, 0.1, 'float32', 2) as tf.Tensor4D;

  test('convolutions and what follows them are; sums and softmax are not', () => {
    const [x, k] = [image(), kernel()];
    const recorded = engine.native!.record([x, k], () => [
      tf.tidy(() => tf.softmax(tf.mean(tf.relu(tf.conv2d(x, k, 1, 'same')), [1, 2]))),
    ]);
    const mixed = toBfloat16(recorded);
    expect(typesOf(mixed, 'Conv2D')).toEqual([DATA_TYPE.bfloat16]);
    expect(typesOf(mixed, 'Relu')).toEqual([DATA_TYPE.bfloat16]);
    expect(typesOf(mixed, 'Mean')).toEqual([DATA_TYPE.float32]);
    expect(typesOf(mixed, 'Softmax')).toEqual([DATA_TYPE.float32]);
    // The picture and the kernel go in, one value comes out; nothing is converted twice.
    expect(mixed.operations.filter(({ name }) => name.startsWith('cast'))).toHaveLength(3);
    expect(mixed.outputs).toEqual(recorded.outputs);
  });

  test('what goes through a batch norm is not, nor what follows it up to the next convolution', () => {
    const [x, k, point] = [image(), kernel(), tf.ones([1, 1, 32, 8]) as tf.Tensor4D];
    const channels = tf.ones([32]) as tf.Tensor1D;
    const depth = tf.ones([3, 3, 32, 1]) as tf.Tensor4D;
    const { batchNorm, batchNormTraining } = operatorsOf(engine);
    const rule = { epsilon: 1e-3, momentum: 0.9 };
    const given = [x, k, point, channels, depth];
    const recordedWith = (norm: Operator | undefined) =>
      engine.native!.record(given, () => [
        tf.tidy(() => {
          const first = tf.conv2d(x, k, 1, 'same');
          const normed = norm?.forward([first, channels, channels, channels, channels])[0] ?? first;
          return tf.conv2d(tf.depthwiseConv2d(tf.relu(normed as tf.Tensor4D), depth, 1, 'same'), point, 1, 'same');
        }),
      ]);
    for (const norm of [batchNorm(rule), batchNormTraining(rule)]) {
      const mixed = toBfloat16(recordedWith(norm));
      expect(typesOf(mixed, 'Conv2D')).toEqual([DATA_TYPE.bfloat16, DATA_TYPE.bfloat16]);
      for (const op of ['FusedBatchNormV3', 'Relu', 'DepthwiseConv2dNative']) {
        expect(typesOf(mixed, op), op).toEqual([DATA_TYPE.float32]);
      }
    }
    // As in a folded network.
    const folded = toBfloat16(recordedWith(undefined));
    for (const op of ['Relu', 'DepthwiseConv2dNative']) expect(typesOf(folded, op), op).toEqual([DATA_TYPE.bfloat16]);
  });

  test.each([
    ['a classifier of ten classes', [8, 2048], [2048, 10], DATA_TYPE.float32],
    ['a layer of a transformer', [788, 768], [768, 3072], DATA_TYPE.bfloat16],
  ] as const)('%s: a product of %j and %j', (_, left, right, expected) => {
    const [a, b] = [tf.ones([...left]) as tf.Tensor2D, tf.ones([...right]) as tf.Tensor2D];
    const recorded = engine.native!.record([a, b], () => [tf.matMul(a, b)]);
    expect(typesOf(toBfloat16(recorded), 'BatchMatMulV2')).toEqual([expected]);
  });

  test('a converted computation gives float32 numbers, near those it gave', () => {
    const [x, k] = [image(), kernel()];
    const work = () => [tf.tidy(() => tf.relu(tf.conv2d(x, k, 2, 'same')))];
    const [exact] = work();
    const compiled = compile(engine.native!, [x, k], work, 'bfloat16');
    const [mixed] = compiled.run([x, k]);
    expect(mixed!.dtype).toBe('float32');
    const worst = tf.max(tf.abs(tf.sub(exact!, mixed!))).dataSync()[0]!;
    expect(worst).toBeGreaterThan(0); // else it computed in float32
    expect(worst / tf.max(exact!).dataSync()[0]!).toBeLessThan(2 ** -7); // bfloat16 has 8 bits
    compiled.dispose();
  });
});

const classes = ['a', 'b', 'c'];
const size = { height: 64, width: 64 };
const supported = () => {
  const support = bfloat16Support();
  return support === null || support.avx512Bf16 || support.amxBf16;
};

describe('training', () => {
  const losses = async (backbone: string, source: string, precision: 'float32' | 'bfloat16'): Promise<number[]> => {
    const graph = graphOf({ backbone, source, inputSize: size, head: { hidden: [], dropout: 0 }, classes });
    const network = await loadTrainable(graph, readerOf(graph), engine, { precision });
    const optimizer = createOptimizer(network.trainable, network.updates, { name: 'sgd', momentum: 0, weightDecay: 0 });
    const x = tf.randomNormal([16, ...graph.input.shape], 0, 1, 'float32', 3);
    const labels = tf.tensor1d(
      Array.from({ length: 16 }, (_, i) => i % 3),
      'int32',
    );
    const targets = tf.cast(tf.oneHot(labels, 3), 'float32') as tf.Tensor2D;
    const found: number[] = [];
    for (let i = 0; i < 6; i++) {
      const { loss, gradients } = network.step({ x, labels, targets, random: rng(i) });
      for (const [path, gradient] of gradients) expect(gradient.dtype, path).toBe('float32');
      optimizer.apply(gradients, 1e-3);
      tf.dispose([...gradients.values()]);
      found.push(loss);
    }
    network.dispose();
    return found;
  };

  test.each([
    ['resnet18', 'torch'],
    ['mobilenet_v2_0.35', 'keras'],
  ])('%s learns as in float32', async (backbone, source) => {
    if (!supported()) {
      await expect(losses(backbone, source, 'bfloat16')).rejects.toMatchObject({ code: 'PRECISION_UNSUPPORTED' });
      return;
    }
    const [exact, mixed] = [await losses(backbone, source, 'float32'), await losses(backbone, source, 'bfloat16')];
    expect(mixed).not.toEqual(exact);
    // Of one step: random numbers in many layers of batch norms make more of every rounding with each further step.
    expect(Math.abs(mixed[0]! - exact[0]!) / exact[0]!).toBeLessThan(0.03);
    expect(mixed.at(-1)).toBeLessThan(mixed[0]!);
  });
});

test('the wasm engine has no bfloat16, and says what to do', async () => {
  const wasm = await loadEngine({ engine: 'wasm' });
  const graph = buildBackbone(findPublished(findBackbone('mobilenet_v1_0.25'), 'keras'), { size });
  await expect(
    loadNetwork(graph, async () => new Float32Array(), wasm, { outputs: ['pre_logits'], precision: 'bfloat16' }),
  ).rejects.toMatchObject({
    code: 'PRECISION_UNSUPPORTED',
    message: 'bfloat16 cannot be computed in: expected the native engine on the processor, received the wasm engine',
  });
  expect(() => requirePrecision('float32', wasm)).not.toThrow();
  await loadEngine({ engine: 'tensorflow' });
});

test('a GPU runs operation by operation, in float32', () => {
  const gpu: Engine = { ...engine, device: 'gpu' };
  expect(() => requirePrecision('bfloat16', gpu)).toThrow(
    'expected the native engine on the processor, received a GPU',
  );
  let calls = 0;
  const twice = compileBatches(gpu, (x) => {
    calls++;
    return [tf.mul(x, 2)];
  });
  for (const value of [1, 2]) expect([...twice.run(tf.tensor1d([value]), [])[0]!.dataSync()]).toEqual([2 * value]);
  expect(calls).toBe(2);
});
