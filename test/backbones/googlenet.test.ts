/** GoogLeNet: what golden fixtures cannot show. */
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import type { Graph } from '../../src/engine/graph.js';
import { UsageError } from '../../src/errors.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

const backbone = findBackbone('googlenet');
const of = (source: string) => findPublished(backbone, source);
const build = (source: string, height: number, width: number, auxiliary = false, classes = 1000): Graph =>
  buildBackbone(of(source), { size: { height, width }, classes, auxiliary: auxiliary ? classes : undefined });

describe('auxiliary classifiers', () => {
  test.each([
    ['notes', 6_998_552, 13_378_280],
    ['torch', 6_624_904, 13_004_888],
  ])('%s has %i trainable parameters without and %i with them', (source, without, withThem) => {
    expect(analyse(build(source, 224, 224)).totals.trainable).toBe(without);
    expect(analyse(build(source, 224, 224, true)).totals.trainable).toBe(withThem);
  });

  test('stand on 4a and 4d with a weight of .3, and follow the classes', () => {
    for (const source of ['notes', 'torch']) {
      const { auxiliary } = of(source);
      expect(auxiliary!.map(({ name, tap, weight }) => [name, tap, weight])).toEqual([
        ['aux1', 'inception4a', 0.3],
        ['aux2', 'inception4d', 0.3],
      ]);
      const graph = build(source, 224, 224, true, 7);
      for (const { name } of auxiliary!) expect(graph.taps.get(`${name}.logits`)!.shape).toEqual([7]);
    }
    expect(of('slim').auxiliary).toBeUndefined();
  });

  test('have as many classes as a file gives them, whatever its classifier', () => {
    const torch = readForwardGolden('googlenet', 'torch').tensors;
    const plan = (tensors: readonly GoldenRow[]) =>
      planWeights(generatedSource(tensors, 'torch'), backbone, of('torch'));
    const shapes = (tensors: readonly GoldenRow[]) => {
      const { rows, classes } = plan(tensors);
      expect(rows.map((row) => row.verdict)).toEqual(rows.map(() => 'ok'));
      const shape = (path: string) => rows.find((row) => row.parameter?.path === path)?.parameter?.shape;
      return [classes, shape('classifier.kernel'), shape('aux1.logits.kernel'), shape('aux2.logits.bias')];
    };
    expect(shapes(torch)).toEqual([1000, [1024, 1000], [1024, 1000], [1000]]);
    const own = torch.map(
      ([name, shape, ...rest]): GoldenRow =>
        name.startsWith('fc.') ? [name, [5, ...shape.slice(1)], ...rest] : [name, shape, ...rest],
    );
    expect(shapes(own)).toEqual([5, [1024, 5], [1024, 1000], [1000]]);
    const headless = torch.filter(([name]) => !name.startsWith('fc.'));
    expect(shapes(headless)).toEqual([undefined, undefined, [1024, 1000], [1000]]);
    const alone = torch.filter(([name]) => !name.startsWith('aux'));
    expect(shapes(alone)).toEqual([1000, [1024, 1000], undefined, undefined]);
  });

  test("torch's take any input size, the notes' those of a 14x14 to 16x16 grid", () => {
    for (const [height, width] of [
      [224, 224],
      [64, 65],
      [193, 257],
      [32, 320],
    ] as const) {
      expect(build('torch', height, width, true).taps.get('aux1.logits')!.shape).toEqual([1000]);
    }
    for (const side of [209, 256]) expect(() => build('notes', side, side, true)).not.toThrow();
    for (const side of [208, 257]) {
      expect(() => build('notes', side, side, true)).toThrow(UsageError);
      expect(() => build('notes', side, side, true)).toThrow(
        expect.objectContaining({ code: 'INPUT_SIZE', hint: 'give a height and width of 209 to 256' }),
      );
    }
  });
});

test.each(['torch', 'slim', 'notes'])('%s takes pictures of any shape', (source) => {
  for (const [height, width] of [
    [15, 15],
    [49, 65],
    [193, 257],
    [512, 100],
  ] as const) {
    expect(build(source, height, width).taps.get('pre_logits')!.shape).toEqual([1024]);
  }
});

test("torch's preprocessing is torchvision's normalisation followed by transform_input", () => {
  const { scale, mean, std, channelOrder } = of('torch').preprocessing;
  expect(channelOrder).toBe('rgb');
  // torchvision.transforms._presets.ImageClassification, then GoogLeNet._transform_input
  const imagenet = [
    [0.485, 0.229],
    [0.456, 0.224],
    [0.406, 0.225],
  ] as const;
  imagenet.forEach(([m, s], c) => {
    for (let pixel = 0; pixel < 256; pixel++) {
      const theirs = ((pixel / 255 - m) / s) * (s / 0.5) + (m - 0.5) / 0.5;
      expect((pixel * scale - mean[c]!) / std[c]!).toBeCloseTo(theirs, 12);
    }
  });
});

describe('layers that Keras counts', () => {
  const golden = readForwardGolden('googlenet', 'notes');

  const partsOf = (name: string) => {
    const [, owner, kind, number, leaf] = /^(\w+\/)(conv2d|dense)(?:_(\d+))?(\/\w+)$/.exec(name) ?? [];
    return owner === undefined ? undefined : { owner, kind, number: Number(number ?? 0), leaf };
  };

  /** The names that Keras gives when so many convolutions and dense layers were built before in the same program. */
  function countedFrom(rows: readonly GoldenRow[], before: number): GoldenRow[] {
    const all = rows.map(([name]) => partsOf(name));
    return rows.map(([name, ...rest], i) => {
      const parts = all[i];
      if (parts === undefined) return [name, ...rest];
      const earlier = all.filter((each) => each?.kind === parts.kind && each!.number < parts.number);
      const number = before + new Set(earlier.map((each) => each!.number)).size;
      return [`${parts.owner}${parts.kind}${number === 0 ? '' : `_${number}`}${parts.leaf}`, ...rest];
    });
  }

  const planOf = (tensors: readonly GoldenRow[]) =>
    planWeights(generatedSource(tensors, 'keras-h5'), backbone, of('notes'));
  const isAuxiliary = ([name]: GoldenRow) => name.startsWith('aux_');

  test.each([0, 1, 57])('are found by their places, with %i built before', (before) => {
    const all = countedFrom(golden.tensors, before);
    if (before === 0) expect(all).toEqual(golden.tensors); // as Keras itself wrote them
    const plan = planOf(all);
    expect(plan.rows.map((row) => row.verdict)).toEqual(plan.rows.map(() => 'ok'));
    const names = new Map(plan.rows.map((row) => [row.parameter!.path, row.tensor!.name]));
    const number = (n: number) => `conv2d_${n + before}`;
    expect(names.get('inception4b.conv1x1.conv.kernel')).toBe(`inception_4b/${number(19)}/kernel`);
    expect(names.get('inception4b.project.conv.bias')).toBe(`inception_4b/${number(24)}/bias`);
    expect(names.get('stem.conv3.conv.kernel')).toBe('conv2d_3/kernel');
    expect(names.get('aux2.reduce.conv.kernel')).toBe(`aux_2/${number(37)}/kernel`);
    expect(names.get('aux2.logits.bias')).toBe(`aux_2/dense_${3 + before}/bias`);
  });

  test('are others without the auxiliary classifiers, which a file need not have', () => {
    const main = golden.tensors.filter((row) => !isAuxiliary(row));
    const plan = planOf(countedFrom(main, 0));
    expect(plan.rows.map((row) => row.verdict)).toEqual(plan.rows.map(() => 'ok'));
    expect(plan.graph.parameters.some(({ path }) => path.startsWith('aux'))).toBe(false);
    const names = new Map(plan.rows.map((row) => [row.parameter!.path, row.tensor!.name]));
    expect(names.get('inception4b.conv1x1.conv.kernel')).toBe('inception_4b/conv2d_18/kernel');
    expect(names.get('inception5b.project.conv.kernel')).toBe('inception_5b/conv2d_53/kernel');
  });
});
