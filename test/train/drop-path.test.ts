/** Stochastic depth: at what rate each block drops its path, and that a run repeats it. */
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { withDropPath } from '../../src/engine/drop-path.js';
import type { Graph } from '../../src/engine/graph.js';
import { readArguments } from '../../src/train/run-folder.js';
import { historyOf, numbersOf, pictureFolder, temporary, tracesOf, train } from './support/training.js';

const build = (name: string, source: string, side = 64): Graph =>
  buildBackbone(findPublished(findBackbone(name), source), { size: { height: side, width: side } });

/** Block -> the rates of its branches. */
function ratesOf(graph: Graph): Record<string, number[]> {
  const rates: Record<string, number[]> = {};
  for (const { path, operation } of graph.nodes) {
    if (operation.kind !== 'drop_path') continue;
    const block = graph.blocks.find((each) => path.startsWith(`${each}.`))!;
    rates[block] = [...(rates[block] ?? []), operation.rate];
  }
  return rates;
}

describe('rates', () => {
  test('grow linearly over the blocks, both branches of a block alike', () => {
    const graph = withDropPath(build('vit_ti16', 'flax'), 0.22);
    const rates = Object.values(ratesOf(graph));
    expect(rates).toHaveLength(12);
    rates.forEach((branches, i) => {
      expect(branches).toHaveLength(2);
      for (const rate of branches) expect(rate).toBeCloseTo(0.02 * i, 12);
    });
  });

  test("of the hybrid are its transformer's: the ResNet drops nothing", () => {
    const rates = ratesOf(withDropPath(build('r50_vit_b16', 'flax'), 0.1));
    expect(Object.keys(rates)).toEqual(Array.from({ length: 12 }, (_, i) => `block${i + 1}`));
    expect(rates.block12).toEqual([0.1, 0.1]);
  });

  test('are those that ConvNeXt was published with, at its own rate', () => {
    const graph = build('convnext_tiny', 'torch');
    const published = Object.values(ratesOf(graph)).flat();
    const set = Object.values(ratesOf(withDropPath(graph, 0.1))).flat();
    expect(published).toHaveLength(18);
    set.forEach((rate, i) => {
      expect(rate).toBeCloseTo(published[i]!, 12);
    });
  });

  test('without any in the network are refused', () => {
    expect(() => withDropPath(build('resnet18', 'torch'), 0.1)).toThrowError(
      expect.objectContaining({ code: 'NO_DROP_PATH' }),
    );
  });

  test('are none unless asked for, and leave names, taps and parameters as they are', () => {
    const graph = build('vit_ti16', 'flax');
    expect(new Set(Object.values(ratesOf(graph)).flat())).toEqual(new Set([0]));
    const dropping = withDropPath(graph, 0.1);
    expect(dropping.nodes.map(({ path }) => path)).toEqual(graph.nodes.map(({ path }) => path));
    expect([...dropping.taps.keys()]).toEqual([...graph.taps.keys()]);
    expect([...dropping.taps.values()].every((node) => dropping.nodes.includes(node))).toBe(true);
    expect(dropping.parameters).toEqual(graph.parameters);
  });
});

describe('a run', () => {
  let data: string;
  beforeAll(async () => {
    data = await pictureFolder('pictures', 4, 2);
  });
  const settings = {
    backbone: 'vit_ti16',
    source: 'flax',
    inputSize: 32,
    freeze: 'last:2',
    epochs: 2,
    optimizer: 'adam',
  } as const;

  test('drops paths as it was told, keeps that in args.json, and goes on with it', async () => {
    const whole = await tracesOf({ data, ...settings, dropPath: 0.9 });
    const without = await tracesOf({ data, ...settings });
    expect(whole.history).not.toEqual(without.history);
    const controller = new AbortController();
    let steps = 0;
    const { runFolder } = await train(
      { data, ...settings, dropPath: 0.9, signal: controller.signal },
      { step: () => void (++steps === 4 && controller.abort()) },
    );
    expect((await readArguments(runFolder)).settings.dropPath).toBe(0.9);
    await train({ data: temporary('not here'), resume: runFolder });
    expect(numbersOf(historyOf(runFolder))).toEqual(whole.history);
  });
});
