/** TensorFlow's fused kernels against the same operators composed of tfjs's, results and every gradient. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { groupsApart } from '../../src/engine/native-groups.js';
import type { Padding } from '../../src/engine/operations.js';
import { type Operator, type Operators, operatorsOf } from '../../src/engine/operators.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';

let engine: Engine;
let native: Operators;
let composed: Operators;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
  native = operatorsOf(engine);
  composed = operatorsOf({ ...engine, native: undefined });
});

/** Both sum the same products in another order. */
const TOLERANCE = 2e-5;

function draw(name: string, count: number, center = 0, scale = 1): Float32Array {
  const random = rng('operators').split(name);
  return Float32Array.from({ length: count }, () => center + scale * random.normal());
}

function numbers(name: string, shape: readonly number[], center = 0, scale = 1): tf.Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(draw(name, count, center, scale), [...shape]);
}

/** Largest difference, as a share of the largest absolute value. */
function difference(a: tf.Tensor, b: tf.Tensor): number {
  expect(a.shape).toEqual(b.shape);
  const [x, y] = [a.dataSync(), b.dataSync()];
  const size = Math.max(1e-6, ...Array.from(y, Math.abs));
  let worst = 0;
  for (let i = 0; i < x.length; i++) {
    const apart = Math.abs(x[i]! - y[i]!);
    if (!(apart <= worst)) worst = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart;
  }
  return worst / size;
}

/** The gradients of one operator for a given dy. */
function gradientsOf(operator: Operator, inputs: tf.Tensor[], outputs: tf.Tensor[], dy: tf.Tensor, wanted: boolean[]) {
  const only = (tensors: tf.Tensor[], positions: readonly number[]) => {
    const picked: tf.Tensor[] = new Array(tensors.length); // what is not saved is not there
    for (const position of positions) {
      expect(tensors[position], `what the operator saves, position ${position}`).toBeInstanceOf(tf.Tensor);
      picked[position] = tensors[position]!;
    }
    return picked;
  };
  const { saves } = operator;
  return operator.backward({ dy, inputs: only(inputs, saves.inputs), outputs: only(outputs, saves.outputs) }, wanted);
}

interface Agreement {
  /** Outputs that both must have, the first by default. */
  readonly outputs?: number;
  readonly wanted?: boolean[];
}

/** Both results and all wanted gradients agree, together and each asked for alone. */
function expectAgreement(of: (operators: Operators) => Operator, inputs: tf.Tensor[], options: Agreement = {}): void {
  const { outputs = 1, wanted = inputs.map(() => true) } = options;
  tf.tidy(() => {
    const [ours, theirs] = [of(native), of(composed)];
    const [y, z] = [ours.forward(inputs), theirs.forward(inputs)];
    for (let i = 0; i < outputs; i++) expect(difference(y[i]!, z[i]!), `output ${i}`).toBeLessThan(TOLERANCE);
    const dy = numbers('dy', y[0]!.shape);
    const expected = gradientsOf(theirs, inputs, z, dy, wanted);
    const together = gradientsOf(ours, inputs, y, dy, wanted);
    wanted.forEach((each, i) => {
      if (!each) {
        expect(together[i], `gradient ${i}, which nobody wants`).toBeUndefined();
        return;
      }
      const scale = `gradient of input ${i} [${inputs[i]!.shape}]`;
      expect(difference(together[i]!, expected[i]!), scale).toBeLessThan(TOLERANCE);
      const alone = gradientsOf(
        ours,
        inputs,
        y,
        dy,
        wanted.map((_, k) => k === i),
      );
      expect(difference(alone[i]!, together[i]!), `${scale} alone`).toBe(0);
      const composedAlone = gradientsOf(
        theirs,
        inputs,
        z,
        dy,
        wanted.map((_, k) => k === i),
      );
      expect(difference(composedAlone[i]!, expected[i]!), `${scale} composed, alone`).toBeLessThan(TOLERANCE);
    });
  });
}

const paddings: Record<string, Padding> = {
  same: 'same',
  valid: 'valid',
  'bottom right': { top: 0, bottom: 1, left: 0, right: 1 },
  lopsided: { top: 2, bottom: 0, left: 1, right: 3 },
  'none, written out': { top: 0, bottom: 0, left: 0, right: 0 },
};
const sizes = [
  [8, 8],
  [9, 7],
] as const;
const windows = Object.keys(paddings).flatMap((padding) =>
  [1, 2].flatMap((stride) => sizes.map(([height, width]) => ({ padding, stride, height, width }))),
);

describe.each(windows)(
  '$padding padding, stride $stride, on $height by $width',
  ({ padding, stride, height, width }) => {
    const geometry = { strides: [stride, stride] as const, padding: paddings[padding]! };
    const x = (channels: number) => numbers('x', [2, height, width, channels]);

    test.each([1, 4])('convolution in groups of %i', (groups) => {
      const kernel = numbers('kernel', [3, 3, 8 / groups, 12]);
      expectAgreement((operators) => operators.conv2d(geometry, groups), [x(8), kernel]);
    });

    test('5x3 kernels', () => {
      expectAgreement((operators) => operators.conv2d(geometry, 1), [x(3), numbers('kernel', [5, 3, 3, 4])]);
    });

    test('depthwise convolution', () => {
      expectAgreement((operators) => operators.depthwiseConv2d(geometry), [x(6), numbers('kernel', [3, 3, 6, 1])]);
    });

    test('max pool', () => {
      // Everything below zero: a padded zero must not win.
      const negative = numbers('x', [2, height, width, 5], -10);
      expectAgreement((operators) => operators.maxPool([3, 3], geometry), [negative]);
    });
  },
);

describe('windows with lopsided padding, stride 2, counted by hand', () => {
  const geometry = { strides: [2, 2] as const, padding: paddings.lopsided! };
  const [height, width, channels] = [5, 4, 2];
  const values = draw('x', height * width * channels, -10);
  /** What a 3x3 window sees at output place (oy, ox): padding 2 above, 1 on the left. */
  const seen = (oy: number, ox: number, c: number): (number | undefined)[] =>
    Array.from({ length: 9 }, (_, k) => {
      const [row, column] = [2 * oy - 2 + Math.floor(k / 3), 2 * ox - 1 + (k % 3)];
      if (row < 0 || row >= height || column < 0 || column >= width) return undefined;
      return values[(row * width + column) * channels + c]!;
    });
  /** Rows (5 + 2 - 3) / 2 + 1 and columns (4 + 1 + 3 - 3) / 2 + 1, both rounded down: 3 x 3. */
  const everyPlace = (value: (oy: number, ox: number, c: number) => number): unknown[] =>
    Array.from({ length: 9 * channels }, (_, i) => {
      const place = Math.floor(i / channels);
      return expect.closeTo(value(Math.floor(place / 3), place % 3, i % channels), 4);
    });

  test.each(['native', 'composed'] as const)('%s', (kind) => {
    const operators = { native, composed }[kind];
    const x = tf.tensor4d(values, [1, height, width, channels]);
    const [pooled] = operators.maxPool([3, 3], geometry).forward([x]);
    // Everything is below zero: padding never wins.
    const largest = everyPlace((...at) => Math.max(...seen(...at).filter((value) => value !== undefined)));
    expect([...pooled!.dataSync()]).toEqual(largest);

    const kernel = numbers('kernel', [3, 3, channels, 1]);
    const weight = (k: number, c: number): number => kernel.dataSync()[k * channels + c]!;
    const sum = (c: number, values: (number | undefined)[]): number =>
      values.reduce<number>((total, value, k) => total + (value ?? 0) * weight(k, c), 0);
    const [depthwise] = operators.depthwiseConv2d(geometry).forward([x, kernel]);
    expect([...depthwise!.dataSync()]).toEqual(everyPlace((oy, ox, c) => sum(c, seen(oy, ox, c))));

    const [full] = operators.conv2d(geometry, 1).forward([x, kernel]);
    const both = (oy: number, ox: number): number => sum(0, seen(oy, ox, 0)) + sum(1, seen(oy, ox, 1));
    expect([...full!.dataSync()]).toEqual(everyPlace(both).filter((_, i) => i % channels === 0));
  });
});

test('a strided 1x1 convolution looks at every second pixel', () => {
  const geometry = { strides: [2, 2] as const, padding: 'valid' as const };
  expectAgreement(
    (operators) => operators.conv2d(geometry, 1),
    [numbers('x', [2, 7, 7, 8]), numbers('kernel', [1, 1, 8, 4])],
  );
});

test('groups are divided in order: each output sees its own inputs only', () => {
  const x = tf.tensor4d([1, 10, 100, 1000], [1, 1, 1, 4]);
  const kernel = tf.tensor4d([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 4]);
  for (const operators of [native, composed]) {
    const [y] = operators.conv2d({ strides: [1, 1], padding: 'same' }, 2).forward([x, kernel]);
    // Outputs 0 and 1 from inputs 0 and 1, outputs 2 and 3 from inputs 2 and 3.
    expect([...y!.dataSync()]).toEqual([1 + 50, 2 + 60, 300 + 7000, 400 + 8000]);
  }
});

test('groups convolved one after the other, as where a kernel refuses them', () => {
  const inputs = [numbers('x', [2, 9, 7, 8]), numbers('kernel', [3, 3, 2, 12])];
  const geometry = { strides: [2, 2] as const, padding: { top: 1, bottom: 1, left: 1, right: 1 } };
  expectAgreement((operators) => groupsApart(operators.conv2d(geometry, 1), 4), inputs);
  const [atOnce] = native.conv2d(geometry, 4).forward(inputs);
  const [apart] = groupsApart(native.conv2d(geometry, 1), 4).forward(inputs);
  expect(difference(atOnce!, apart!)).toBeLessThan(TOLERANCE);
});

describe('elementwise and dense', () => {
  test.each(['relu', 'relu6'] as const)('%s, its corners too', (name) => {
    expectAgreement((operators) => operators.activation(name), [numbers('x', [3, 5, 5, 4], 2, 4)]);
    const x = tf.tensor4d([-1, -0.001, 0.001, 5.999, 6.001, 100], [1, 1, 1, 6]);
    const operator = native.activation(name);
    const outputs = operator.forward([x]);
    const [gradient] = gradientsOf(operator, [x], outputs, tf.onesLike(x), [true]);
    expect([...gradient!.dataSync()]).toEqual(name === 'relu' ? [0, 0, 1, 1, 1, 1] : [0, 0, 1, 1, 0, 0]);
  });

  test('bias on pictures and on rows', () => {
    expectAgreement((operators) => operators.biasAdd, [numbers('x', [3, 5, 4, 6]), numbers('bias', [6])]);
    expectAgreement((operators) => operators.biasAdd, [numbers('x', [7, 6]), numbers('bias', [6])]);
  });

  test('sums and products: what is added has the gradient itself, what is multiplied that times the other', () => {
    const inputs = [numbers('a', [3, 4, 4, 2]), numbers('b', [3, 4, 4, 2])] as const;
    const [a, b] = inputs;
    const dy = numbers('dy', a.shape);
    const gradients = (operator: Operator) =>
      gradientsOf(operator, [...inputs], operator.forward([...inputs]), dy, [true, true]);
    expect(difference(native.add.forward([a, b])[0]!, tf.add(a, b))).toBe(0);
    for (const gradient of gradients(native.add)) expect(difference(gradient!, dy)).toBe(0);
    expect(difference(native.multiply.forward([a, b])[0]!, tf.mul(a, b))).toBe(0);
    const [byA, byB] = gradients(native.multiply);
    expect(difference(byA!, tf.mul(dy, b))).toBe(0);
    expect(difference(byB!, tf.mul(dy, a))).toBe(0);
  });
});

describe('batch normalisation', () => {
  const rule = { epsilon: 1e-3, momentum: 0.9 };
  const channel = (name: string, center: number, scale: number) => numbers(name, [5], center, scale);
  const inputsOf = (x: tf.Tensor) => [
    x,
    channel('gamma', 1, 0.3),
    channel('beta', 0, 0.5),
    channel('mean', 0, 1),
    tf.abs(channel('variance', 2, 0.3)),
  ];

  test('in inference, by the moving statistics', () => {
    const inputs = inputsOf(numbers('x', [3, 6, 5, 5], 1, 2));
    const wanted = [true, true, true, false, false];
    expectAgreement((operators) => operators.batchNorm(rule), inputs, { wanted });
  });

  test('in training, by the statistics of the batch, and the moving ones follow', () => {
    const inputs = inputsOf(numbers('x', [4, 6, 5, 5], 1, 2));
    const wanted = [true, true, true, false, false];
    expectAgreement((operators) => operators.batchNormTraining(rule), inputs, { wanted, outputs: 3 });
  });

  test.each([2, 3, 120])('the unbiased variance of %i values goes into the moving one', (count) => {
    const x = numbers('x', [count, 1, 1, 5], 3, 2);
    const inputs = inputsOf(x);
    const columns = Array.from({ length: 5 }, (_, c) => [...x.dataSync()].filter((_, i) => i % 5 === c));
    const [oldMean, oldVariance] = [inputs[3]!.dataSync(), inputs[4]!.dataSync()];
    for (const operators of [native, composed]) {
      const [y, mean, variance] = operators.batchNormTraining(rule).forward(inputs);
      columns.forEach((column, c) => {
        const average = column.reduce((a, b) => a + b, 0) / count;
        const squares = column.reduce((a, b) => a + (b - average) ** 2, 0);
        expect(mean!.dataSync()[c]).toBeCloseTo(0.9 * oldMean[c]! + 0.1 * average, 5);
        expect(variance!.dataSync()[c]).toBeCloseTo(0.9 * oldVariance[c]! + (0.1 * squares) / (count - 1), 5);
        // The result itself is normalised by the biased one.
        const normalised = (column[0]! - average) / Math.sqrt(squares / count + rule.epsilon);
        const expected = normalised * inputs[1]!.dataSync()[c]! + inputs[2]!.dataSync()[c]!;
        expect(y!.dataSync()[c]).toBeCloseTo(expected, 4);
      });
    }
  });

  test('a batch of a single value does not divide by zero', () => {
    const inputs = inputsOf(numbers('x', [1, 1, 1, 5]));
    for (const operators of [native, composed]) {
      const [y, mean, variance] = operators.batchNormTraining(rule).forward(inputs);
      for (const tensor of [y!, mean!, variance!]) expect([...tensor.dataSync()].every(Number.isFinite)).toBe(true);
      const beta = inputs[2]!.dataSync();
      expect(difference(y!, tf.tensor(beta, y!.shape))).toBeLessThan(1e-6);
      expect(difference(variance!, tf.mul(inputs[4]!, 0.9))).toBeLessThan(1e-6);
    }
  });

  test('momentum is the share of the old average that is kept', () => {
    const inputs = inputsOf(numbers('x', [4, 3, 3, 5]));
    for (const operators of [native, composed]) {
      const [, mean] = operators.batchNormTraining({ epsilon: 1e-3, momentum: 0.999 }).forward(inputs);
      expect(difference(mean!, inputs[3]!)).toBeLessThan(5e-3);
      const [, fresh] = operators.batchNormTraining({ epsilon: 1e-3, momentum: 0 }).forward(inputs);
      expect(difference(fresh!, tf.mean(inputs[0]!, [0, 1, 2]))).toBeLessThan(1e-5);
    }
  });
});

describe('softmax cross-entropy', () => {
  const targets = (rows: number[][]) => tf.tensor2d(rows);

  test('fused and composed agree, with soft targets', () => {
    const logits = numbers('logits', [4, 3], 0, 5);
    const soft = targets([
      [1, 0, 0],
      [0.1, 0.8, 0.1],
      [0.3, 0.3, 0.4],
      [0, 0, 1],
    ]);
    expectAgreement((operators) => operators.softmaxCrossEntropy, [logits, soft], { wanted: [true, false] });
  });

  test('the loss of a row is log-sum-exp minus the logit, and its gradient softmax minus target', () => {
    const rows = [
      [1, 2, 3],
      [-4, 0, 2],
    ];
    const chosen = [
      [0, 0, 1],
      [0, 1, 0],
    ];
    for (const operators of [native, composed]) {
      const operator = operators.softmaxCrossEntropy;
      const inputs = [tf.tensor2d(rows), targets(chosen)];
      const outputs = operator.forward(inputs);
      const [gradient] = gradientsOf(operator, inputs, outputs, tf.tensor1d([1, 0.5]), [true, false]);
      rows.forEach((row, r) => {
        const sum = row.reduce((total, value) => total + Math.exp(value), 0);
        expect(outputs[0]!.dataSync()[r]).toBeCloseTo(Math.log(sum) - row[chosen[r]!.indexOf(1)]!, 6);
        row.forEach((value, c) => {
          const expected = [1, 0.5][r]! * (Math.exp(value) / sum - chosen[r]![c]!);
          expect(gradient!.dataSync()[3 * r + c]).toBeCloseTo(expected, 6);
        });
      });
    }
  });

  test('logits of thousands overflow nowhere', () => {
    const logits = tf.tensor2d([
      [5000, -5000],
      [-5000, 5000],
    ]);
    const first = targets([
      [1, 0],
      [1, 0],
    ]);
    for (const operators of [native, composed]) {
      const [losses, gradient] = operators.softmaxCrossEntropy.forward([logits, first]);
      expect([...losses!.dataSync()]).toEqual([0, 10_000]);
      expect([...gradient!.dataSync()].every(Number.isFinite)).toBe(true);
    }
  });
});
