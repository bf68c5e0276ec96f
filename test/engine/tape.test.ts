/** Gradients of our tape against finite differences, and what it leaves behind: nothing. */
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildGraph, type Graph } from '../../src/engine/graph.js';
import { initialize } from '../../src/engine/initializers.js';
import {
  activation,
  add,
  around,
  batchNorm,
  channels,
  conv2d,
  dense,
  depthwiseConv2d,
  dropout,
  globalAveragePool,
  maxPool,
} from '../../src/engine/layers.js';
import { drawMask } from '../../src/engine/masks.js';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { run } from '../../src/engine/run.js';
import { applyOnly, startTape } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';

let engine: Engine;
let engines: Record<'native' | 'composed', Operators>;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
  engines = { native: operatorsOf(engine), composed: operatorsOf({ ...engine, native: undefined }) };
});

let before = 0;
beforeEach(() => {
  before = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
});

const bn = { epsilon: 1e-2, momentum: 0.9 };

/** Every kind of layer, two residual blocks, one of them strided, dropout twice. */
function small(): Graph {
  return buildGraph([7, 6, 2], (s, x) => {
    let y = conv2d(s.at('stem.conv'), x, 4, 3, { padding: around(1), bias: true });
    y = activation(s.at('stem'), batchNorm(s.at('stem.norm'), y, bn), 'relu6');
    y = maxPool(s.at('stem'), y, 2, { stride: 1, padding: { top: 0, bottom: 1, left: 0, right: 1 } });
    for (const [name, stride] of [
      ['block1', 1],
      ['block2', 2],
    ] as const) {
      const at = s.at(name);
      const shortcut = stride === 1 ? y : conv2d(at.at('shortcut'), y, channels(y), 1, { stride });
      let z = depthwiseConv2d(at.at('depthwise'), y, 3, { stride });
      z = activation(at, batchNorm(at.at('norm'), z, bn), 'relu');
      z = dropout(at, conv2d(at.at('conv'), z, channels(y), 3, { groups: 2 }), 0.3);
      y = at.endBlock(add(at, z, shortcut));
    }
    y = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), y));
    return s.at('logits').tap(dense(s.at('head'), dropout(s.at('head'), y, 0.2), 3));
  });
}

type Numbers = Map<string, Float32Array>;

/** Starting numbers that hide nothing: gammas, betas and biases are not 1 and 0. */
function numbersOf(graph: Graph): Numbers {
  return new Map(
    graph.parameters.map(({ path, role, shape, initializer }) => {
      const random = rng('tape').split(path);
      const values = initialize(initializer, shape, random);
      const shifted = ['bias', 'norm.gamma', 'norm.beta'].includes(role);
      return [path, shifted ? values.map((value) => value + 0.4 * random.normal()) : values];
    }),
  );
}

const classes = 3;
const pictures = 4;
const xValues = Float32Array.from({ length: pictures * 7 * 6 * 2 }, rng('x').normal);
const labels = [0, 2, 1, 2];

interface StepOptions {
  readonly operators: Operators;
  readonly graph: Graph;
  /** Gets the parameters and watches those that are trained. */
  readonly gradients: boolean;
}

/** The summed loss of one training step, and gradients by path. */
function trainingStep(numbers: Numbers, { operators, graph, gradients }: StepOptions) {
  const values = new Map(graph.parameters.map(({ path, shape }) => [path, tf.tensor(numbers.get(path)!, [...shape])]));
  const x = tf.tensor4d(xValues, [pictures, 7, 6, 2]);
  const paths = graph.parameters.filter((parameter) => parameter.trainable).map((parameter) => parameter.path);
  const tape = startTape(gradients ? paths.map((path) => values.get(path)!) : []);
  const outputs = run(graph, new Map([[graph.input, x]]), ['logits'], {
    operators,
    parameters: (path) => values.get(path)!,
    mode: {
      kind: 'training',
      apply: tape.apply,
      mask: (need) => drawMask(need, rng('dropout')),
      onStatistics: (_, { mean, variance }) => tf.dispose([mean, variance]),
    },
  });
  const targets = tf.tensor2d(labels.map((label) => Array.from({ length: classes }, (_, c) => (c === label ? 1 : 0))));
  const [losses, ...others] = tape.apply(operators.softmaxCrossEntropy, [outputs.get('logits')!, targets]);
  const lossValues = Array.from(losses!.dataSync());
  const seed = tf.ones([pictures]);
  const found = new Map<string, Float32Array>();
  if (gradients) {
    tape.gradients(losses!, seed).forEach((gradient, i) => {
      found.set(paths[i]!, gradient.dataSync() as Float32Array);
      gradient.dispose();
    });
  }
  tf.dispose([...values.values(), ...outputs.values(), x, targets, losses!, ...others, seed]);
  return { loss: lossValues.reduce((a, b) => a + b, 0), gradients: found };
}

/** Step of the finite differences: losses are sums of 4 float32 numbers, good to about 1e-6. */
const H = 2e-3;

function unit(line: Float32Array): Float32Array {
  const length = Math.max(Math.hypot(...line), 1e-12);
  return line.map((value) => value / length);
}

describe.each(['native', 'composed'] as const)('%s operators', (kind) => {
  test('gradients of every parameter agree with finite differences', () => {
    tf.tidy(() => {
      const graph = small();
      const numbers = numbersOf(graph);
      const options = { operators: engines[kind], graph };
      const { gradients } = trainingStep(numbers, { ...options, gradients: true });
      expect(gradients.size).toBe(graph.parameters.filter((parameter) => parameter.trainable).length);
      for (const [path, gradient] of gradients) {
        const original = numbers.get(path)!;
        const lossAt = (step: number, direction: Float32Array) => {
          numbers.set(
            path,
            original.map((value, i) => value + step * direction[i]!),
          );
          const { loss } = trainingStep(numbers, { ...options, gradients: false });
          numbers.set(path, original);
          return loss;
        };
        // Along the gradient itself, where the loss changes most and rounding matters least, and along any line.
        const random = rng('direction').split(path);
        for (const line of [gradient, gradient.map(() => random.normal())]) {
          const direction = unit(line);
          const slope = (lossAt(H, direction) - lossAt(-H, direction)) / (2 * H);
          const byTape = gradient.reduce((sum, value, i) => sum + value * direction[i]!, 0);
          expect(Math.abs(slope - byTape), `${path}: ${slope} by differences, ${byTape} by the tape`).toBeLessThan(
            0.02 * Math.hypot(...gradient) + 2e-3,
          );
        }
      }
    });
  });
});

test('native and composed gradients agree, dropout masks and all', () => {
  tf.tidy(() => {
    const graph = small();
    const numbers = numbersOf(graph);
    const [native, composed] = (['native', 'composed'] as const).map((kind) =>
      trainingStep(numbers, { operators: engines[kind], graph, gradients: true }),
    );
    expect(native!.loss).toBeCloseTo(composed!.loss, 4);
    for (const [path, expected] of composed!.gradients) {
      const scale = Math.max(...Array.from(expected, Math.abs), 1e-2); // a bias before a batch norm has none
      native!.gradients.get(path)!.forEach((value, i) => {
        expect(Math.abs(value - expected[i]!) / scale, path).toBeLessThan(1e-4);
      });
    }
  });
});

test.each(['native', 'composed'] as const)('50 steps with dropout leave no tensor behind (%s)', (kind) => {
  const graph = small();
  const numbers = numbersOf(graph);
  const options = { operators: engines[kind], graph, gradients: true };
  const bytes = tf.memory().numBytes;
  for (let step = 0; step < 50; step++) {
    trainingStep(numbers, options);
    expect(tf.memory().numTensors).toBe(before);
  }
  expect(tf.memory().numBytes).toBe(bytes);
});

describe('the tape', () => {
  test('a watched tensor that nobody uses has a gradient of zeros', () => {
    const [a, b, unused] = [tf.tensor1d([1, 2]), tf.tensor1d([3, 4]), tf.tensor2d([[1, 2, 3]])];
    const tape = startTape([a, unused]);
    const [y] = tape.apply(engines.native.multiply, [a, b]);
    const seed = tf.tensor1d([1, 10]);
    const [da, dUnused] = tape.gradients(y!, seed);
    expect([...da!.dataSync()]).toEqual([3, 40]);
    expect(dUnused!.shape).toEqual([1, 3]);
    expect([...dUnused!.dataSync()]).toEqual([0, 0, 0]);
    tf.dispose([a, b, unused, y!, seed, da!, dUnused!]);
  });

  test('a branch that the result does not depend on is recorded, freed and gives nothing', () => {
    const [a, b] = [tf.tensor1d([1, 2]), tf.tensor1d([3, 4])];
    const tape = startTape([a, b]);
    const [side] = tape.apply(engines.native.multiply, [b, b]);
    const [y] = tape.apply(engines.native.multiply, [a, a]);
    const seed = tf.onesLike(y!);
    const [da, db] = tape.gradients(y!, seed);
    expect([...da!.dataSync()]).toEqual([2, 4]);
    expect([...db!.dataSync()]).toEqual([0, 0]);
    tf.dispose([a, b, side!, y!, seed, da!, db!]);
  });

  test('gradients of several uses of one tensor are added up', () => {
    const a = tf.tensor1d([2, 3]);
    const tape = startTape([a]);
    const [square] = tape.apply(engines.native.multiply, [a, a]);
    const [cube] = tape.apply(engines.native.multiply, [square!, a]);
    const [sum] = tape.apply(engines.native.add, [cube!, square!]);
    const [twice] = tape.apply(engines.native.add, [sum!, sum!]);
    const seed = tf.onesLike(a);
    const [da] = tape.gradients(twice!, seed);
    expect([...da!.dataSync()]).toEqual([2 * (3 * 4 + 2 * 2), 2 * (3 * 9 + 2 * 3)]);
    tf.dispose([a, square!, cube!, sum!, twice!, seed, da!]);
  });

  test('activations may be gone before the gradients are asked for', () => {
    const [a, b] = [tf.tensor1d([2, 3]), tf.tensor1d([5, 7])];
    const tape = startTape([a]);
    const [product] = tape.apply(engines.native.multiply, [a, b]);
    const [y] = tape.apply(engines.native.multiply, [product!, product!]);
    tf.dispose([product!, b]);
    const seed = tf.onesLike(y!);
    const [da] = tape.gradients(y!, seed);
    expect([...da!.dataSync()]).toEqual([2 * 2 * 25, 2 * 3 * 49]);
    tf.dispose([a, y!, seed, da!]);
  });

  test('what does not depend on a watched tensor is not recorded: no clone is kept', () => {
    const [a, b] = [tf.tensor1d([1]), tf.tensor1d([2])];
    const tape = startTape([a]);
    const start = tf.memory().numTensors;
    const results = tape.apply(engines.native.multiply, [b, b]);
    expect(tf.memory().numTensors - start).toBe(1);
    const recorded = tape.apply(engines.native.multiply, [a, b]);
    expect(tf.memory().numTensors - start).toBe(4); // its result, and two clones for the backward pass
    const seed = tf.onesLike(a);
    const [da] = tape.gradients(recorded[0]!, seed);
    tf.dispose([a, b, ...results, ...recorded, seed, da!]);
  });

  test('running without a tape gives the same and keeps nothing', () => {
    const [a, b] = [tf.tensor1d([1, 2]), tf.tensor1d([3, 4])];
    const start = tf.memory().numTensors;
    const [y] = applyOnly(engines.composed.multiply, [a, b]);
    expect(tf.memory().numTensors).toBe(start + 1);
    expect([...y!.dataSync()]).toEqual([3, 8]);
    tf.dispose([a, b, y!]);
  });
});

describe('of a product', () => {
  test.each(['native', 'composed'] as const)('nothing is kept but what the wanted gradient needs: %s', (name) => {
    const { matMul } = engines[name];
    const numbers = (...shape: number[]) =>
      tf.tidy(() => tf.reshape(tf.linspace(-1, 1, tf.util.sizeFromShape(shape)), shape));
    const [x, kernel, seed] = [numbers(2, 3, 64), numbers(64, 2), numbers(2, 3, 2)];
    /** Bytes that are held besides the result, and the gradients. */
    const taken = (...watched: tf.Tensor[]): { bytes: number; gradients: Float32Array[] } => {
      const start = tf.memory().numBytes;
      const tape = startTape(watched);
      const [y] = tape.apply(matMul, [x, kernel]);
      const bytes = tf.memory().numBytes - start - 4 * y!.size;
      const found = tape.gradients(y!, seed);
      const gradients = found.map((each) => each.dataSync() as Float32Array);
      tf.dispose([y!, ...found]);
      return { bytes, gradients };
    };
    const [both, byInput, byKernel] = [taken(x, kernel), taken(x), taken(kernel)];
    expect(both.bytes).toBe(4 * (x.size + kernel.size));
    expect(byInput).toEqual({ bytes: 4 * kernel.size, gradients: [both.gradients[0]] });
    expect(byKernel).toEqual({ bytes: 4 * x.size, gradients: [both.gradients[1]] });
    tf.dispose([x, kernel, seed]);
  });
});
