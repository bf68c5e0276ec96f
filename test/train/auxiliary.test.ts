/** Auxiliary classifiers train, help what lies under them, and vanish with the training. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { buildGraph, type Graph, type Parameter } from '../../src/engine/graph.js';
import { activation, batchNorm, conv2d, dense, dropout, globalAveragePool } from '../../src/engine/layers.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { withHead } from '../../src/heads/heads.js';
import { rng } from '../../src/rng.js';
import { auxiliaryBehind } from '../../src/train/auxiliary.js';
import type { FinetuneOptions } from '../../src/train/options.js';
import { readArguments } from '../../src/train/run-folder.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { type AuxiliaryLoss, loadTrainable } from '../../src/train/trainable.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.js';
import { pixels, readerOf, worst } from '../engine/support/parameters.js';
import { expectFailure } from '../weights/support/temporary.js';
import { historyOf, numbersOf, pictureFolder, temporary, train } from './support/training.js';

const classes = 3;

describe('a step', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await loadEngine();
  });

  const bn = { epsilon: 1e-3, momentum: 0.9 };

  /** Three convolutions; `low` stands on the first, `high` on the second. */
  const graph = buildGraph([6, 6, 3], (s, x) => {
    const classifier = (name: string, y: Graph['input']) => {
      const pooled = globalAveragePool(s.at(`${name}.pool`), y);
      s.at(`${name}.logits`).tap(dense(s.at(`${name}.logits`), pooled, classes));
    };
    const convolve = (name: string, y: Graph['input']) => {
      const norm = batchNorm(s.at(`${name}.norm`), conv2d(s.at(`${name}.conv`), y, 5, 3), bn);
      return s.at(name).tap(activation(s.at(name), norm, 'relu'));
    };
    const first = convolve('first', x);
    const second = convolve('second', first);
    const last = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), convolve('third', second)));
    const logits = s.at('logits').tap(dense(s.at('head.logits'), last, classes));
    classifier('low', first);
    classifier('high', second);
    return logits;
  });
  const both = [
    { tap: 'low.logits', weight: 0.3 },
    { tap: 'high.logits', weight: 0.5 },
  ] as const;
  const labels = [2, 0, 1, 1];
  const smoothing = 0.1;

  /** Loss and gradients; and the values of the taps that the losses are of. */
  async function step(auxiliary: readonly AuxiliaryLoss[], cut?: string, network = graph) {
    const trainable = await loadTrainable(network, readerOf(network), engine, { cut, auxiliary });
    const x = tf.tensor(pixels([labels.length, 6, 6, 3]), [labels.length, 6, 6, 3]);
    const frozen = await trainable.loadFrozen();
    const entered = frozen.enter(x);
    frozen.dispose();
    const labelTensor = tf.tensor1d(labels, 'int32');
    const targets = tf.tensor2d(smoothedTargets(labels, classes, smoothing), [labels.length, classes]);
    const before = tf.memory().numTensors;
    const result = trainable.step({ x: entered, targets, labels: labelTensor, random: rng(0) });
    expect(tf.memory().numTensors - before, 'tensors left over').toBe(result.gradients.size);
    const gradients = new Map([...result.gradients].map(([path, g]) => [path, g.dataSync() as Float32Array]));
    const names = { trainable: [...trainable.trainable.keys()], auxiliary: [...trainable.auxiliary] };
    tf.dispose([x, entered, labelTensor, targets, ...result.gradients.values()]);
    trainable.dispose();
    return { ...result, gradients, ...names };
  }

  /** The graph whose logits are those of an auxiliary classifier. */
  const of = (tap: string): Graph => ({ ...graph, taps: new Map([...graph.taps, ['logits', graph.taps.get(tap)!]]) });

  test('has the loss main + weight * auxiliary, and so are the gradients of what is shared', async () => {
    const [main, low, high] = [
      await step([]),
      await step([], undefined, of('low.logits')),
      await step([], undefined, of('high.logits')),
    ];
    const whole = await step(both);
    expect(whole.loss).toBeCloseTo(main.loss + 0.3 * low.loss + 0.5 * high.loss, 5);
    expect(whole.correct).toBe(main.correct);
    for (const [path, gradient] of whole.gradients) {
      const parts = [main, low, high].map(({ gradients }) => gradients.get(path));
      const expected = gradient.map((_, i) =>
        [1, 0.3, 0.5].reduce((sum, weight, part) => sum + weight * (parts[part]?.[i] ?? 0), 0),
      );
      expect(worst(gradient, expected), path).toBeLessThan(1e-5);
      expect(
        gradient.some((value) => value !== 0),
        path,
      ).toBe(true);
    }
    expect(whole.gradients.has('low.logits.kernel')).toBe(true);
    expect(main.gradients.has('low.logits.kernel')).toBe(false);
  });

  test('trains the parameters of auxiliary classifiers, and knows them from the others', async () => {
    const own = ['low.logits.kernel', 'low.logits.bias', 'high.logits.kernel', 'high.logits.bias'];
    const whole = await step(both);
    expect(whole.auxiliary).toEqual(own);
    expect(whole.trainable).toEqual(expect.arrayContaining(own));
    expect((await step([])).auxiliary).toEqual([]);
    const cut = await step([both[1]], 'first');
    expect(cut.auxiliary).toEqual(own.slice(2));
    expect(cut.trainable.some((path) => path.startsWith('first.'))).toBe(false);
  });

  test('leaves out what was not asked for, although the graph has it', async () => {
    const bare = await step([]);
    expect(bare.trainable.filter((path) => /^(low|high)\./.test(path))).toEqual([]);
  });

  test('draws masks of its own for the dropout of an auxiliary classifier', async () => {
    const dropped = buildGraph([6, 6, 3], (s, x) => {
      const y = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), x));
      s.at('aux.logits').tap(dense(s.at('aux.logits'), dropout(s.at('aux'), y, 0.5), classes));
      return s.at('logits').tap(dense(s.at('head.logits'), dropout(s.at('head'), y, 0.5), classes));
    });
    const main = await step([], undefined, dropped);
    const whole = await step([{ tap: 'aux.logits', weight: 0.3 }], undefined, dropped);
    expect(whole.gradients.get('head.logits.kernel')).toEqual(main.gradients.get('head.logits.kernel'));
  });
});

describe('which take part', () => {
  const published = findPublished(findBackbone('googlenet'), 'torch');
  const size = { height: 64, width: 64 };
  const graph = withHead(buildBackbone(published, { size }), { hidden: [], dropout: 0 }, classes);

  test.each([
    [undefined, ['aux1', 'aux2']],
    ['stem', ['aux1', 'aux2']],
    ['pool3', ['aux1', 'aux2']],
    ['inception4a', ['aux2']], // on a frozen value it would teach nobody but itself
    ['inception4c', ['aux2']],
    ['inception4d', []],
    ['pool4', []],
    ['pre_logits', []],
  ])('frozen up to %s', (cut, names) => {
    expect(auxiliaryBehind(graph, cut, published).map(({ name }) => name)).toEqual(names);
  });

  test('none where the network has none', () => {
    expect(auxiliaryBehind(graph, undefined, findPublished(findBackbone('googlenet'), 'slim'))).toEqual([]);
  });
});

describe('a run of GoogLeNet', () => {
  let data: string;
  beforeAll(async () => {
    data = await pictureFolder('pictures', 2, 1); // 6 pictures in batches of 4 and 2
  });

  const googlenet = (changes: Partial<FinetuneOptions>) => ({
    data,
    backbone: 'googlenet',
    source: 'torch',
    weights: 'none',
    epochs: 2,
    ...changes,
  });
  const digest = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');
  const auxiliaryFile = (run: string): string => join(run, 'last', 'auxiliary.safetensors');

  /** Everything that a run leaves behind in numbers. */
  const traces = (run: string) => ({
    history: numbersOf(historyOf(run)),
    files: ['best/weights', 'last/weights', 'last/auxiliary', 'last/optimizer'].map((name) =>
      digest(join(run, `${name}.safetensors`)),
    ),
  });

  test('has auxiliary losses in its training loss, and in nothing else', async () => {
    const still = { lr: 1e-30, epochs: 1, freeze: 'until:pool3' } as const;
    const lines: string[] = [];
    const on = await train(googlenet(still), { info: (line) => void lines.push(line) });
    const off = await train(googlenet({ ...still, auxiliary: 'off' }));
    const [row, without] = [historyOf(on.runFolder)[0]!, historyOf(off.runFolder)[0]!];
    // A new classifier whose weights are near zero gives every class the same probability.
    expect(row.trainLoss - without.trainLoss).toBeCloseTo((0.3 + 0.3) * Math.log(classes), 1);
    expect(row.trainAccuracy).toBe(without.trainAccuracy);
    expect(row.valLoss).toBe(without.valLoss);
    expect(on.metrics.parameters).toBe(off.metrics.parameters);
    expect(on.metrics.trainableParameters).toBe(off.metrics.trainableParameters);
    expect(lines.join('\n')).toMatch(
      /auxiliary classifiers aux1 and aux2 take part .* [\d,]+ parameters that no model/,
    );
    expect((await readArguments(on.runFolder)).resolved.auxiliary).toEqual(['aux1', 'aux2']);
    expect((await readArguments(off.runFolder)).resolved.auxiliary).toEqual([]);
    expect(existsSync(auxiliaryFile(off.runFolder))).toBe(false);
  });

  test('leaves models without them, and goes on exactly after it was stopped', async () => {
    const settings = { freeze: 'until:pool3', lr: 1e-3, augment: 'flip' } as const;
    const whole = await train(googlenet(settings));
    for (const folder of ['best', 'last']) {
      const model = await openModelFolder(join(whole.runFolder, folder));
      await model.close();
      expect([...model.graph.taps.keys()].filter((tap) => tap.startsWith('aux'))).toEqual([]);
      const file = await openSafetensors(join(whole.runFolder, folder, 'weights.safetensors'));
      expect(file.tensors.map(({ name }) => name)).toEqual(model.graph.parameters.map(({ path }) => path));
      await file.close();
    }
    const stored = await openSafetensors(auxiliaryFile(whole.runFolder));
    const names = stored.tensors.map(({ name }) => name);
    await stored.close();
    expect(names).toEqual(expect.arrayContaining(['aux1.logits.kernel', 'aux2.reduce.norm.variance']));
    expect(names.every((name) => /^aux[12]\./.test(name))).toBe(true);

    const controller = new AbortController();
    let steps = 0;
    const stopped = await train(googlenet({ ...settings, signal: controller.signal }), {
      step: () => void (++steps === 3 && controller.abort()), // in the second of two epochs of two steps
    });
    expect(stopped).toMatchObject({ stopped: true, metrics: { epochs: 1 } });
    await train({ data, resume: stopped.runFolder });
    expect(traces(stopped.runFolder)).toEqual(traces(whole.runFolder));

    rmSync(auxiliaryFile(stopped.runFolder));
    await expectFailure(() => train({ data, resume: stopped.runFolder }), 'RUN_INVALID', /auxiliary\.safetensors/);
  });

  test('has none under a frozen backbone', async () => {
    const { runFolder } = await train(googlenet({ freeze: 'backbone', epochs: 1 }));
    expect((await readArguments(runFolder)).resolved.auxiliary).toEqual([]);
    expect(existsSync(auxiliaryFile(runFolder))).toBe(false);
  });

  test('starts them from the weights, but for the layer that knows the classes', async () => {
    const published = findPublished(findBackbone('googlenet'), 'torch');
    const size = { height: 64, width: 64 };
    const { parameters } = buildBackbone(published, { size, classes: 4, auxiliary: 4 });
    const weights = temporary('googlenet.safetensors');
    const numbers = ({ role, shape }: Parameter): Float32Array => {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      return role.startsWith('norm.') ? values.fill(1) : values.map((_, i) => ((i % 7) - 3) / 100);
    };
    await writeSafetensors(
      weights,
      parameters.map((parameter) => ({ name: parameter.path, shape: parameter.shape, read: () => numbers(parameter) })),
      { format: 'tl', backbone: 'googlenet', source: 'torch' },
    );
    const { runFolder } = await train(googlenet({ weights, freeze: 'until:pool3', lr: 1e-30, epochs: 1 }));
    const stored = await openSafetensors(auxiliaryFile(runFolder));
    const shapes = new Map(stored.tensors.map(({ name, shape }) => [name, shape]));
    expect(shapes.get('aux1.logits.kernel')).toEqual([1024, classes]);
    for (const path of ['aux1.reduce.conv.kernel', 'aux1.hidden.kernel', 'aux2.hidden.bias']) {
      const parameter = parameters.find((each) => each.path === path)!;
      expect(worst(await stored.read(path), numbers(parameter)), path).toBeLessThan(1e-20); // zeros moved by 1e-30
    }
    expect(new Set(await stored.read('aux1.logits.kernel')).size).toBeGreaterThan(1000);
    await stored.close();
  });

  test('says which sizes the auxiliary classifiers of the notes take, and how to do without', async () => {
    const notes = (inputSize: number, auxiliary: 'on' | 'off') => () =>
      train(googlenet({ source: 'notes', freeze: 'last:2', epochs: 1, inputSize, auxiliary }));
    const behind = (inputSize: number) => () =>
      train(googlenet({ source: 'notes', freeze: 'last:6', epochs: 1, inputSize }));
    const wide = await expectFailure(
      behind(300),
      'INPUT_SIZE',
      /auxiliary classifier does not fit: its dense layers .*4x4.*5x5/,
    );
    expect(wide.hint).toBe('give a height and width of 209 to 256, or train without: --auxiliary off');
    const small = await expectFailure(behind(64), 'INPUT_SIZE', /auxiliary classifier does not fit: aux2/);
    expect(small.hint).toContain('--auxiliary off');
    await notes(64, 'on')(); // none of them is trained
    await notes(64, 'off')();
  });
});
