import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildGraph, cutAt, type Graph, tapOf } from '../../src/engine/graph.js';
import { globalAveragePool } from '../../src/engine/layers.js';
import { drawMask } from '../../src/engine/masks.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { inference, type RunMode, run } from '../../src/engine/run.js';
import { applyOnly } from '../../src/engine/tape.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { UsageError } from '../../src/errors.js';
import { formatHead, type Head, parseHead, withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import { parameterNumbers } from '../engine/support/parameters.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine();
});

const CHANNELS = 12;
/** Value of every channel of the picture. */
const LARGE = 10;
const backbone = (): Graph =>
  buildGraph([4, 4, CHANNELS], (s, x) => s.at('pre_logits').tap(globalAveragePool(s.at('pool'), x)));
const size = ({ parameters }: Graph): number =>
  parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

describe('parsing', () => {
  test.each<[text: string, rate: number, head: Head]>([
    ['linear', 0, { hidden: [], dropout: 0 }],
    ['linear', 0.5, { hidden: [], dropout: 0.5 }],
    ['mlp:1024', 0.5, { hidden: [1024], dropout: 0.5 }],
    ['mlp:512,128,1', 0, { hidden: [512, 128, 1], dropout: 0 }],
    ['mlp:65536', 0, { hidden: [65_536], dropout: 0 }],
  ])('%s with dropout %d', (text, rate, head) => {
    expect(parseHead(text, rate)).toEqual(head);
    expect(formatHead(head)).toBe(text);
  });

  test.each([
    '',
    'mlp',
    'mlp:',
    'mlp:0',
    'mlp:65537',
    'mlp:-1',
    'mlp:1.5',
    'mlp:12,',
    'mlp:,12',
    'mlp:1e3',
    'Linear',
    'linear:3',
    'mlp:99999999999999999999',
  ])('"%s" is BAD_HEAD and says what can be written', (text) => {
    let thrown: unknown;
    try {
      parseHead(text, 0);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UsageError);
    expect(thrown).toMatchObject({ code: 'BAD_HEAD', message: expect.stringContaining(`"${text}"`) });
    expect((thrown as UsageError).hint).toContain('mlp:1024');
  });

  test.each([-0.1, 1, 2, Number.NaN, Number.POSITIVE_INFINITY])('a dropout of %d is BAD_HEAD', (rate) => {
    expect(() => parseHead('linear', rate)).toThrow(
      expect.objectContaining({ code: 'BAD_HEAD', message: expect.stringContaining(String(rate)) }),
    );
  });
});

describe('structure', () => {
  const kindsAfter = (graph: Graph): string[] =>
    cutAt(graph, 'pre_logits', 'logits').after.map((node) => node.operation.kind);

  test('linear is one dense layer', () => {
    const graph = withHead(backbone(), { hidden: [], dropout: 0 }, 5);
    expect(kindsAfter(graph)).toEqual(['dense']);
    expect(size(graph)).toBe(CHANNELS * 5 + 5);
    expect(tapOf(graph, 'logits').shape).toEqual([5]);
    expect(graph.parameters.map(({ path }) => path)).toEqual(['head.logits.kernel', 'head.logits.bias']);
  });

  test('mlp:1024 with dropout is the head of the notes: dropout, dense, ReLU, dropout, dense', () => {
    const graph = withHead(backbone(), parseHead('mlp:1024', 0.5), 7);
    expect(kindsAfter(graph)).toEqual(['dropout', 'dense', 'activation', 'dropout', 'dense']);
    expect(size(graph)).toBe(CHANNELS * 1024 + 1024 + 1024 * 7 + 7);
  });

  test('more layers, without dropout', () => {
    const graph = withHead(backbone(), parseHead('mlp:32,16', 0), 3);
    expect(kindsAfter(graph)).toEqual(['dense', 'activation', 'dense', 'activation', 'dense']);
    expect(size(graph)).toBe(CHANNELS * 32 + 32 + 32 * 16 + 16 + 16 * 3 + 3);
    expect(graph.parameters.map(({ path, shape }) => `${path} ${shape}`)).toEqual([
      'head.dense1.kernel 12,32',
      'head.dense1.bias 32',
      'head.dense2.kernel 32,16',
      'head.dense2.bias 16',
      'head.logits.kernel 16,3',
      'head.logits.bias 3',
    ]);
  });

  test('dropout adds no parameter, and the backbone is left as it was', () => {
    const bare = backbone();
    const head = { hidden: [8], dropout: 0 };
    const paths = (graph: Graph) => graph.parameters.map(({ path }) => path);
    expect(paths(withHead(bare, { ...head, dropout: 0.9 }, 4))).toEqual(paths(withHead(bare, head, 4)));
    expect([...bare.taps.keys()]).toEqual(['pre_logits']);
  });
});

describe('values', () => {
  const graph = withHead(backbone(), { hidden: [8], dropout: 0.5 }, 3);
  const logitsBy = (mode: RunMode): number[] => {
    const values = new Map(
      graph.parameters.map((parameter) => [
        parameter.path,
        tf.tensor(parameterNumbers(parameter), [...parameter.shape]),
      ]),
    );
    const x = tf.fill([1, CHANNELS], LARGE);
    const outputs = run(graph, new Map([[tapOf(graph, 'pre_logits'), x]]), ['logits'], {
      operators: operatorsOf(engine),
      parameters: (path) => values.get(path)!,
      mode,
    });
    const logits = Array.from(outputs.get('logits')!.dataSync());
    tf.dispose([x, ...values.values(), ...outputs.values()]);
    return logits;
  };
  const training = (seed: number): RunMode => ({
    kind: 'training',
    apply: applyOnly,
    mask: (need) => drawMask(need, rng(seed)),
    onStatistics: () => {},
  });

  test('dropout acts in training only', () => {
    expect(logitsBy(inference)).toEqual(logitsBy(inference));
    expect(logitsBy(training(1))).toEqual(logitsBy(training(1)));
    expect(logitsBy(training(1))).not.toEqual(logitsBy(training(2)));
    expect(logitsBy(training(1))).not.toEqual(logitsBy(inference));
  });

  test('in inference the head is relu(x W1 + b1) W2 + b2', () => {
    const numbers = new Map(graph.parameters.map((parameter) => [parameter.path, parameterNumbers(parameter)]));
    const layer = (x: number[], name: string): number[] => {
      const [kernel, bias] = [numbers.get(`${name}.kernel`)!, numbers.get(`${name}.bias`)!];
      return Array.from(bias, (b, j) => x.reduce((sum, value, i) => sum + value * kernel[i * bias.length + j]!, b));
    };
    const ones = new Array<number>(CHANNELS).fill(LARGE);
    const sums = layer(ones, 'head.dense1');
    const hidden = sums.map((value) => Math.max(0, value));
    expect(Math.min(...sums)).toBeLessThan(0);
    expect(Math.max(...sums)).toBeGreaterThan(6); // beyond the corner of relu6
    const expected = layer(hidden, 'head.logits');
    expect(logitsBy(inference)).toEqual(expected.map((value) => expect.closeTo(value, 5)));
  });
});
