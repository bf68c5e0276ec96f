/** Numbers brought to another network shape, against PyTorch, timm and scipy. */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { withChannels } from '../../src/augment/preprocessing.js';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { buildGraph, type Graph, type Places } from '../../src/engine/graph.js';
import { conv2d, dense, globalAveragePool, positionEmbedding, reshape } from '../../src/engine/layers.js';
import { adaptWeights } from '../../src/weights/adapt.js';
import {
  graphOf,
  MODEL_FORMAT_VERSION,
  type ModelRecord,
  openModelFolder,
  saveModelFolder,
} from '../../src/weights/model-folder.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { readerOf } from '../engine/support/parameters.js';
import { decodeFloats, fixturesFolder, generateTensor } from '../support/golden.js';
import { temporary } from './support/temporary.js';

type Grid = Places['grid'];

interface Fixture {
  readonly positions: readonly {
    readonly before: number;
    readonly grid: Grid;
    readonly wanted: Grid;
    readonly resampling: Places['resampling'];
    readonly expected: { readonly shape: [number, number]; readonly values: string };
  }[];
  readonly kernels: readonly {
    readonly shape: readonly [number, number, number, number];
    readonly channels: number;
    readonly expected: { readonly values: string };
  }[];
}

const { positions, kernels } = JSON.parse(readFileSync(`${fixturesFolder}adapt.json`, 'utf8')) as Fixture;

/** A network of one position embedding, `[before + grid, depth]`. */
function positioned(before: number, grid: Grid, depth: number, resampling: Places['resampling']): Graph {
  const tokens = before + grid[0] * grid[1];
  return buildGraph([tokens, 1, depth], (s, x) =>
    positionEmbedding(s.at('position'), reshape(s, x, [tokens, depth]), { grid, resampling }, { kind: 'zeros' }),
  );
}

/** A network whose first convolution reads `channels`, with a dense layer after it. */
const convolving = (channels: number, filters = 4, height = 2, width = 3): Graph =>
  buildGraph([8, 8, channels], (s, x) =>
    dense(s.at('dense'), globalAveragePool(s.at('pool'), conv2d(s.at('stem'), x, filters, [height, width])), 2),
  );

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), a.length === b.length ? 0 : Infinity);

describe('position embeddings', () => {
  test.each(positions)('$resampling from $grid to $wanted, $before before', async (each) => {
    const { before, grid, wanted, resampling, expected } = each;
    const [tokens, depth] = expected.shape;
    const stored = positioned(before, grid, depth, resampling).parameters;
    const values = generateTensor('position', stored[0]!.shape);
    const target = positioned(before, wanted, depth, resampling);
    const { read, adaptations } = adaptWeights(target, stored, async () => values);
    const adapted = await read('position.embedding');
    expect(adapted).toHaveLength(tokens * depth);
    expect(largestDifference(adapted, decodeFloats(expected.values))).toBeLessThan(1e-6);
    expect(adapted.subarray(0, before * depth)).toEqual(values.subarray(0, before * depth));
    expect(adaptations).toHaveLength(1);
    expect(adaptations[0]).toMatchObject({ kind: 'resampled', tensors: [stored[0]!.path] });
    expect(adaptations[0]!.text).toContain(`from ${grid.join('x')} to ${wanted.join('x')} places`);
  });

  test('with as many places on another grid are resampled too', async () => {
    const stored = positioned(1, [2, 6], 2, 'linear_corners').parameters;
    const target = positioned(1, [4, 3], 2, 'linear_corners');
    expect(adaptWeights(target, stored, async () => new Float32Array(26)).adaptations).toHaveLength(1);
    expect(adaptWeights(target, target.parameters, async () => new Float32Array(26)).adaptations).toEqual([]);
  });

  test('keep the last place where scipy loses it to a rounding', async () => {
    const stored = positioned(0, [24, 24], 1, 'linear_corners').parameters;
    const values = new Float32Array(24 * 24).fill(1);
    const { read } = adaptWeights(positioned(0, [22, 22], 1, 'linear_corners'), stored, async () => values);
    for (const value of await read('position.embedding')) expect(value).toBeCloseTo(1, 6);
  });
});

describe('the first convolution', () => {
  test.each(kernels)('for $channels channels', async ({ shape, channels, expected }) => {
    const stored = convolving(shape[2]).parameters;
    const values = generateTensor('kernel', shape);
    const { read, adaptations } = adaptWeights(convolving(channels), stored, async () => values);
    expect(largestDifference(await read('stem.kernel'), decodeFloats(expected.values))).toBeLessThan(1e-6);
    expect(adaptations).toHaveLength(1);
    expect(adaptations[0]).toMatchObject({ kind: 'channels', tensors: ['stem.kernel'] });
    expect(adaptations[0]!.text).toMatch(/^stem\.kernel: /);
  });

  test.each([
    [1, 3],
    [1, 4],
    [3, 1],
    [4, 1],
  ])('from %i to %i channels answers equal channels as before', async (from, to) => {
    const values = generateTensor('kernel', [2, 3, from, 4]);
    const { read } = adaptWeights(convolving(to), convolving(from).parameters, async () => values);
    const sums = (kernel: Float32Array, channels: number): number[] =>
      Array.from({ length: 24 }, (_, i) => {
        const [cell, filter] = [Math.floor(i / 4), i % 4];
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += kernel[(cell * channels + c) * 4 + filter]!;
        return sum;
      });
    const [before, after] = [sums(values, from), sums(await read('stem.kernel'), to)];
    for (const [i, sum] of after.entries()) expect(sum).toBeCloseTo(before[i]!, 5);
  });
});

describe('what no rule covers', () => {
  test('is named, all of it', () => {
    const adapt = () => adaptWeights(convolving(3, 5, 3, 3), convolving(3).parameters, async () => new Float32Array());
    expect(adapt).toThrow(/stem\.kernel is \[2, 3, 3, 4\], expected \[3, 3, 3, 5\][\s\S]*dense\.kernel/);
    expect(adapt).toThrow(expect.objectContaining({ code: 'WEIGHTS_MISMATCH' }));
  });

  test('and what has its shape is passed on', async () => {
    const graph = convolving(3);
    const { read, adaptations } = adaptWeights(graph, graph.parameters, async (path) => Float32Array.of(path.length));
    expect(adaptations).toEqual([]);
    expect(await read('head.kernel')).toEqual(Float32Array.of(11));
  });
});

describe('a model folder of its own grid and channels', () => {
  const folder = temporary('grey-vit');
  const network = { backbone: 'vit_ti16', source: 'torch', classes: ['a', 'b'], head: { hidden: [], dropout: 0 } };
  const own = { ...network, inputSize: { height: 48, width: 80 }, channels: 1 as const };
  beforeAll(async () => {
    const { preprocessing } = findPublished(findBackbone('vit_ti16'), 'torch');
    const record: ModelRecord = {
      ...own,
      formatVersion: MODEL_FORMAT_VERSION,
      preprocessing: withChannels(preprocessing, 1),
      weights: { origin: 'a test', license: 'none' },
      data: { fingerprint: 'abc', valSplit: 0.2, seed: 7 },
      toolkit: '0.0.0',
    };
    await saveModelFolder(folder, record, readerOf(graphOf(own)));
  });

  test('keeps its numbers where it is opened as it is', async () => {
    const { graph, read, close } = await openModelFolder(folder);
    expect(adaptWeights(graphOf(own), graph.parameters, read).adaptations).toEqual([]);
    await close();
  });

  test('starts another run from 3x5 places and one channel', async () => {
    const weights = await resolveWeights({ backbone: 'vit_ti16', weights: folder });
    try {
      expect(weights.channels).toBe(1);
      const wanted = graphOf({ ...network, inputSize: { height: 64, width: 32 }, channels: 3 });
      const { read, adaptations } = adaptWeights(wanted, weights.parameters, weights.read!);
      expect(adaptations.map(({ text }) => text)).toEqual([
        'patch_embedding.kernel: its 1 input channels repeated for pictures of 3, times 1/3',
        'position_embedding.embedding: resampled from 3x5 to 4x2 places with the antialiased bicubic filter',
      ]);
      for (const path of ['patch_embedding.kernel', 'position_embedding.embedding', 'norm.gamma']) {
        const { shape } = wanted.parameters.find((each) => each.path === path)!;
        expect(await read(path)).toHaveLength(shape.reduce((a, b) => a * b, 1));
      }
    } finally {
      await weights.close();
    }
  });
});
