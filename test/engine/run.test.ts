/** The forward pass: cut in two it is the same to the bit, in training it differs where it must, and it leaks nothing. */
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { buildGraph, cutAt, cuts, type Graph, type Node, nodesBetween, tapOf } from '../../src/engine/graph.js';
import { activation, batchNorm, conv2d, dropout, dropPath, globalAveragePool } from '../../src/engine/layers.js';
import { drawMask } from '../../src/engine/masks.js';
import { loadNetwork } from '../../src/engine/network.js';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { inference, type RunMode, run } from '../../src/engine/run.js';
import { applyOnly, startTape } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import { parameterNumbers, pixels, readerOf, worst } from './support/parameters.js';

let engine: Engine;
let operators: Operators;
beforeAll(async () => {
  engine = await loadEngine();
  operators = operatorsOf(engine);
});

let before = 0;
beforeEach(() => {
  before = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors, 'tensors left over').toBe(before);
});

const size = 64;
const networks = [
  ['mobilenet_v1_0.25', 'keras'],
  ['mobilenet_v2_0.35', 'slim'],
] as const;

function built(name: string, source: string): Graph {
  const graph = buildBackbone(findPublished(findBackbone(name), source), { size: { height: size, width: size } });
  return withHead(graph, { hidden: [8], dropout: 0.5 }, 3);
}

function constants(graph: Graph): Map<string, tf.Tensor> {
  return new Map(
    graph.parameters.map((parameter) => [parameter.path, tf.tensor(parameterNumbers(parameter), [...parameter.shape])]),
  );
}

const bits = (tensor: tf.Tensor): string =>
  Buffer.from(new Uint8Array(tensor.dataSync().slice().buffer)).toString('base64');

describe.each(networks)('%s %s', (name, source) => {
  test('prefix and suffix of every cut give the whole network, to the bit', () => {
    const graph = built(name, source);
    const values = constants(graph);
    const options = { operators, parameters: (path: string) => values.get(path)!, mode: inference };
    const x = tf.tensor(pixels([3, size, size, 3]), [3, size, size, 3]);
    const possible = cuts(graph, 'logits');
    expect(possible.length).toBeGreaterThan(12);
    const whole = run(graph, new Map([[graph.input, x]]), ['logits', ...possible], options);
    const expected = bits(whole.get('logits')!);
    for (const tap of possible) {
      const cut = cutAt(graph, tap, 'logits');
      const middle = run(graph, new Map([[graph.input, x]]), [tap], options).get(tap)!;
      expect(bits(middle), tap).toBe(bits(whole.get(tap)!));
      const end = run(graph, new Map([[cut.node, middle]]), ['logits'], options).get('logits')!;
      expect(bits(end), tap).toBe(expected);
      tf.dispose([middle, end]);
    }
    tf.dispose([x, ...whole.values(), ...values.values()]);
  });

  test('a suffix does not read the parameters of the prefix, nor the other way round', () => {
    const graph = built(name, source);
    const values = constants(graph);
    const cut = cutAt(graph, 'pre_logits', 'logits');
    const readBy = (given: [Node, tf.Tensor], tap: string): Set<string> => {
      const read = new Set<string>();
      const parameters = (path: string) => {
        read.add(path);
        return values.get(path)!;
      };
      const outputs = run(graph, new Map([given]), [tap], { operators, parameters, mode: inference });
      tf.dispose([...outputs.values(), given[1]]);
      return read;
    };
    const prefix = readBy([graph.input, tf.zeros([1, size, size, 3])], 'pre_logits');
    const suffix = readBy([cut.node, tf.zeros([1, ...cut.node.shape])], 'logits');
    expect([...suffix].sort()).toEqual([
      'head.dense1.bias',
      'head.dense1.kernel',
      'head.logits.bias',
      'head.logits.kernel',
    ]);
    expect(prefix.size + suffix.size).toBe(graph.parameters.length);
    tf.dispose([...values.values()]);
  });

  test('a network loaded for some taps holds only the parameters that they need', async () => {
    const graph = built(name, source);
    const tap = graph.blocks[2]!;
    const network = await loadNetwork(graph, readerOf(graph), engine, { outputs: [tap], fold: false });
    const needed = nodesBetween(graph, new Set(), [tapOf(graph, tap)]).flatMap((node) => node.parameters);
    expect(tf.memory().numTensors - before).toBe(needed.length);
    network.dispose();
  });
});

describe('taps', () => {
  const graph = buildGraph([4, 4, 2], (s, x) => {
    const y = s.at('a').tap(s.at('same').tap(conv2d(s.at('conv'), x, 3, 1)));
    return s.at('b').tap(activation(s.at('b'), y, 'relu'));
  });

  test('one node under two names, or asked for twice, or given, is a tensor of its own each time', () => {
    const values = constants(graph);
    const options = { operators, parameters: (path: string) => values.get(path)!, mode: inference };
    const x = tf.tensor(pixels([1, 4, 4, 2]), [1, 4, 4, 2]);
    const outputs = run(graph, new Map([[graph.input, x]]), ['a', 'same', 'b'], options);
    expect(bits(outputs.get('a')!)).toBe(bits(outputs.get('same')!));
    outputs.get('a')!.dispose();
    expect(outputs.get('same')!.isDisposed).toBe(false);

    const given = outputs.get('same')!;
    const again = run(graph, new Map([[tapOf(graph, 'a'), given]]), ['a', 'b'], options);
    expect(bits(again.get('a')!)).toBe(bits(given));
    expect(bits(again.get('b')!)).toBe(bits(outputs.get('b')!));
    tf.dispose([...again.values()]);
    expect(given.isDisposed).toBe(false);
    expect(x.isDisposed).toBe(false);
    tf.dispose([x, ...outputs.values(), ...values.values()]);
  });

  test('values that nobody asked for are freed on the way', () => {
    const deep = buildGraph([4, 4, 2], (s, x) => {
      let y = x;
      for (let i = 0; i < 30; i++) y = conv2d(s.at(`conv${i}`), y, 2, 1);
      return s.at('end').tap(y);
    });
    const values = constants(deep);
    const start = tf.memory().numTensors;
    let most = 0;
    const mode: RunMode = {
      kind: 'inference',
      apply: (operator, inputs) => {
        most = Math.max(most, tf.memory().numTensors - start);
        return applyOnly(operator, inputs);
      },
    };
    const x = tf.zeros([1, 4, 4, 2]);
    const outputs = run(deep, new Map([[deep.input, x]]), ['end'], {
      operators,
      parameters: (path) => values.get(path)!,
      mode,
    });
    expect(most).toBeLessThanOrEqual(2); // the picture and the value before
    tf.dispose([x, ...outputs.values(), ...values.values()]);
  });
});

describe('training mode', () => {
  const rate = 0.4;
  const dropping = buildGraph([2000], (s, x) => s.at('end').tap(dropout(s.at('drop'), x, rate)));

  function dropped(mode: RunMode): Float32Array {
    const x = tf.ones([3, 2000]);
    const options = { operators, parameters: () => x, mode };
    const outputs = run(dropping, new Map([[dropping.input, x]]), ['end'], options);
    const values = outputs.get('end')!.dataSync() as Float32Array;
    tf.dispose([x, ...outputs.values()]);
    return values;
  }
  const training = (seed: number, onStatistics = () => {}): Extract<RunMode, { kind: 'training' }> => ({
    kind: 'training',
    apply: applyOnly,
    mask: (need) => drawMask(need, rng(seed)),
    onStatistics,
  });

  test('dropout drops its share, scales the rest so that the mean stays, and draws from the given generator', () => {
    const values = dropped(training(1));
    expect(new Set(values)).toEqual(new Set([0, Math.fround(1 / (1 - rate))]));
    const zeros = values.filter((value) => value === 0).length / values.length;
    expect(Math.abs(zeros - rate)).toBeLessThan(4 * Math.sqrt((rate * (1 - rate)) / values.length));
    expect(dropped(training(1))).toEqual(values);
    expect(dropped(training(2))).not.toEqual(values);
  });

  test('dropout does nothing in inference', () => {
    expect(new Set(dropped(inference))).toEqual(new Set([1]));
  });

  test('a gradient goes through a dropout and a drop path of nothing', () => {
    const graph = buildGraph([5], (s, x) => s.at('end').tap(dropPath(s, dropout(s, x, 0), 0)));
    const x = tf.ones([2, 5]);
    const tape = startTape([x]);
    const mode: RunMode = { ...training(1), apply: tape.apply };
    const outputs = run(graph, new Map([[graph.input, x]]), ['end'], { operators, parameters: () => x, mode });
    const seed = tf.tensor(pixels([2, 5]), [2, 5]);
    const [gradient] = tape.gradients(outputs.get('end')!, seed);
    expect(bits(gradient!)).toBe(bits(seed));
    tf.dispose([x, seed, gradient!, ...outputs.values()]);
  });

  test('two dropouts of a network have masks of their own', () => {
    const graph = buildGraph([500], (s, x) => {
      s.at('a').tap(dropout(s.at('one'), x, 0.5));
      return s.at('b').tap(dropout(s.at('two'), x, 0.5));
    });
    const x = tf.ones([1, 500]);
    const outputs = run(graph, new Map([[graph.input, x]]), ['a', 'b'], {
      operators,
      parameters: () => x,
      mode: training(0),
    });
    expect(bits(outputs.get('a')!)).not.toBe(bits(outputs.get('b')!));
    // A mask goes by the name of its node: what else is run does not change it.
    const alone = run(graph, new Map([[graph.input, x]]), ['b'], {
      operators,
      parameters: () => x,
      mode: training(0),
    });
    expect(bits(alone.get('b')!)).toBe(bits(outputs.get('b')!));
    tf.dispose([x, ...outputs.values(), ...alone.values()]);
  });

  test('each batch norm hands its new statistics on, once; inference hands on none', () => {
    const graph = buildGraph([5, 5, 3], (s, x) => {
      const rule = { epsilon: 1e-3, momentum: 0.5 };
      let y = x;
      for (const name of ['first', 'second']) {
        y = batchNorm(s.at(`${name}.norm`), conv2d(s.at(`${name}.conv`), y, 4, 3), rule);
      }
      return s.at('end').tap(globalAveragePool(s.at('pool'), y));
    });
    const values = constants(graph);
    const x = tf.tensor(pixels([2, 5, 5, 3]), [2, 5, 5, 3]);
    const handedOn: string[] = [];
    const mode: RunMode = {
      kind: 'training',
      apply: applyOnly,
      mask: (need) => drawMask(need, rng(0)),
      onStatistics: (node, { mean, variance }) => {
        handedOn.push(node.path);
        expect([mean.shape, variance.shape]).toEqual([[4], [4]]);
        expect(bits(mean)).not.toBe(bits(values.get(`${node.path}.mean`)!));
        tf.dispose([mean, variance]);
      },
    };
    const unchanged = bits(values.get('first.norm.mean')!);
    const options = { operators, parameters: (path: string) => values.get(path)! };
    const trained = run(graph, new Map([[graph.input, x]]), ['end'], { ...options, mode });
    expect(handedOn).toEqual(['first.norm', 'second.norm']);
    expect(bits(values.get('first.norm.mean')!)).toBe(unchanged);
    const inferred = run(graph, new Map([[graph.input, x]]), ['end'], { ...options, mode: inference });
    expect(handedOn).toHaveLength(2);
    expect(bits(inferred.get('end')!)).not.toBe(bits(trained.get('end')!));
    tf.dispose([x, ...trained.values(), ...inferred.values(), ...values.values()]);
  });
});

test.each([false, true])(
  'a bias that the batch norm after it takes away moves the moving mean all the same (as a tap: %s)',
  (tapped) => {
    const rule = { epsilon: 1e-3, momentum: 0.7 };
    const graph = buildGraph([5, 5, 3], (s, x) => {
      const conv = conv2d(s.at('conv'), x, 4, 3, { bias: true });
      if (tapped) s.at('middle').tap(conv);
      return s.at('end').tap(batchNorm(s.at('norm'), conv, rule));
    });
    const values = constants(graph);
    const value = (path: string) => values.get(path)!;
    const x = tf.tensor(pixels([2, 5, 5, 3]), [2, 5, 5, 3]);
    const statistics: tf.Tensor[] = [];
    const outputs = run(graph, new Map([[graph.input, x]]), tapped ? ['middle', 'end'] : ['end'], {
      operators,
      parameters: value,
      mode: {
        kind: 'training',
        apply: applyOnly,
        mask: (need) => drawMask(need, rng(0)),
        onStatistics: (_, { mean, variance }) => void statistics.push(mean, variance),
      },
    });
    // The same by hand, the bias added.
    const convolution = operators.conv2d({ strides: [1, 1], padding: 'same' }, 1);
    const [plain, ...others] = convolution.forward([x, value('conv.kernel')]);
    const [biased] = operators.biasAdd.forward([plain!, value('conv.bias')]);
    const norm = ['gamma', 'beta', 'mean', 'variance'].map((leaf) => value(`norm.${leaf}`));
    const byHand = tf.tidy(() =>
      operators
        .batchNormTraining(rule)
        .forward([biased!, ...norm])
        .slice(0, 3)
        .map((tensor) => tensor.dataSync() as Float32Array),
    );
    const [y, mean, variance] = byHand;
    expect(worst(outputs.get('end')!.dataSync(), y!)).toBeLessThan(1e-5);
    expect(worst(statistics[0]!.dataSync(), mean!)).toBeLessThan(1e-5);
    expect(worst(statistics[1]!.dataSync(), variance!)).toBeLessThan(1e-5);
    if (tapped) expect(worst(outputs.get('middle')!.dataSync(), biased!.dataSync())).toBe(0);
    tf.dispose([x, plain!, ...others, biased!, ...statistics, ...outputs.values(), ...values.values()]);
  },
);

test('50 forward passes leave no tensor behind', async () => {
  const graph = built('mobilenet_v1_0.25', 'keras');
  const network = await loadNetwork(graph, readerOf(graph), engine, { outputs: ['logits'] });
  const x = tf.tensor(pixels([1, size, size, 3]), [1, size, size, 3]);
  const start = tf.memory();
  for (let i = 0; i < 50; i++) {
    tf.dispose([...network.run(x, ['logits', 'pre_logits']).values()]);
    expect(tf.memory().numTensors).toBe(start.numTensors);
  }
  expect(tf.memory().numBytes).toBe(start.numBytes);
  x.dispose();
  network.dispose();
});

test('the given value of an input is all that a network needs', () => {
  const graph = buildGraph([2], (s, x) => s.at('end').tap(dropout(s.at('drop'), x, 0.5)));
  expect(() => run(graph, new Map(), ['end'], { operators, parameters: () => tf.scalar(0), mode: inference })).toThrow(
    'the input of a network was not given',
  );
  expect(() =>
    run(graph, new Map(), ['nowhere'], { operators, parameters: () => tf.scalar(0), mode: inference }),
  ).toThrow('no tap called "nowhere"');
});

test.each(['native', 'composed'])('a batch norm without gamma is one whose gamma is 1: %s', (which) => {
  const of = (scale: boolean) =>
    buildGraph([4, 5, 3], (s, x) =>
      s.at('out').tap(batchNorm(s.at('norm'), x, { epsilon: 1e-3, momentum: 0.8, scale })),
    );
  const [with1, without] = [of(true), of(false)];
  expect(without.parameters.map(({ path }) => path)).toEqual(['norm.beta', 'norm.mean', 'norm.variance']);
  const values = constants(with1);
  values.get('norm.gamma')!.dispose();
  values.set('norm.gamma', tf.ones([3]));
  const x = tf.tensor(pixels([2, 4, 5, 3]), [2, 4, 5, 3]);
  const kernels = which === 'native' ? operators : operatorsOf({ ...engine, native: undefined });
  const modes = (into: tf.Tensor[]): RunMode[] => [
    inference,
    {
      kind: 'training',
      apply: applyOnly,
      mask: (need) => drawMask(need, rng(0)),
      onStatistics: (_, { mean, variance }) => void into.push(mean, variance),
    },
  ];
  const results = [with1, without].map((graph) => {
    const all: tf.Tensor[] = [];
    for (const mode of modes(all)) {
      const options = { operators: kernels, parameters: (path: string) => values.get(path)!, mode };
      all.push(run(graph, new Map([[graph.input, x]]), ['out'], options).get('out')!);
    }
    return all;
  });
  expect(results[1]!.map(bits)).toEqual(results[0]!.map(bits));
  tf.dispose([x, ...values.values(), ...results.flat()]);
});
