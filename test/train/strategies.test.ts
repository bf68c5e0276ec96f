/** Runs that train something else than all that is behind the cut at one rate: adapters, layer decay, frozen batch norms. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { merged, withLora } from '../../src/engine/lora.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { withHead } from '../../src/heads/heads.js';
import { evaluate } from '../../src/train/evaluate.js';
import type { FinetuneOptions } from '../../src/train/options.js';
import { readArguments } from '../../src/train/run-folder.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  expectEqual,
  historyOf,
  pictureFolder,
  startingWeights,
  temporary,
  tensorsOf,
  traces,
  tracesOf,
  train,
  weightsOf,
} from './support/training.js';

let data: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 4, 2); // 3 batches of 4
});

/** Stops a run after that many steps, and goes on with it. */
async function stoppedAndResumed(steps: number, settings: Partial<FinetuneOptions> & { data: string }) {
  const controller = new AbortController();
  let done = 0;
  const { runFolder, stopped } = await train(
    { ...settings, signal: controller.signal },
    { step: () => void (++done === steps && controller.abort()) },
  );
  expect(stopped).toBe(true);
  await train({ data: temporary('not here'), resume: runFolder });
  return await traces(runFolder);
}

/** Names of the tensors that are not what they were. */
const changed = (before: Map<string, string>, after: Map<string, string>): string[] =>
  [...before].filter(([name, bytes]) => after.has(name) && after.get(name) !== bytes).map(([name]) => name);

describe('--lora', () => {
  let weights: string;
  beforeAll(async () => {
    weights = await startingWeights('vit_ti16', 'torch');
  });
  const vit = { backbone: 'vit_ti16', source: 'torch', epochs: 2, lora: '2,4', lr: 1e-2 } as const;
  const queriesAndValues = (blocks: readonly number[]): string[] =>
    blocks.flatMap((i) => ['query', 'value'].map((name) => `block${i}.attention.${name}.kernel`));
  const from = (first: number): number[] => Array.from({ length: 13 - first }, (_, i) => first + i);

  test('changes the adapted kernels and the head, and nothing else', async () => {
    const start = await tensorsOf(weights);
    const { runFolder, metrics } = await train({ data, weights, ...vit });
    for (const folder of ['best', 'last']) {
      const after = await weightsOf(join(runFolder, folder));
      expect([...after.keys()].filter((name) => !start.has(name))).toEqual(['head.logits.kernel', 'head.logits.bias']);
      expect(changed(start, after)).toEqual(queriesAndValues(from(1)));
    }
    const adapters = 24 * 2 * (2 * 192);
    expect(metrics.trainableParameters).toBe(adapters + 192 * 3 + 3);
    const { resolved } = await readArguments(runFolder);
    expect(resolved.cut).toBe('embedding');
    expect(resolved.stages!.filter(({ state }) => state === 'adapted').map(({ stage }) => stage)).toEqual(
      from(1).map((i) => `block${i}`),
    );
    expect(metrics.parameters).toBe(resolved.stages!.reduce((sum, { parameters }) => sum + parameters, 0));

    // The optimiser has two slots of every adapter and of the head, and of nothing that is frozen.
    const slots = [...(await tensorsOf(join(runFolder, 'last', 'optimizer.safetensors'))).keys()];
    expect(slots).toHaveLength(2 * (2 * 24 + 2));
    expect(slots.every((name) => /\.lora\.[ab]\/|^head\./.test(name))).toBe(true);

    // The checkpoint has what was merged, and what it was merged of: the kernels as they were.
    const kept = await tensorsOf(join(runFolder, 'last', 'adapters.safetensors'));
    const kernels = queriesAndValues(from(1));
    expect(kernels.every((name) => kept.get(name) === start.get(name))).toBe(true);
    const numbers = (hex: string): Float32Array => new Float32Array(new Uint8Array(Buffer.from(hex, 'hex')).buffer);
    const plain = buildBackbone(findPublished(findBackbone('vit_ti16'), 'torch'), { size: { height: 64, width: 64 } });
    const graph = withLora(withHead(plain, { hidden: [], dropout: 0 }, 3), { rank: 2, alpha: 4, targets: 'qv' });
    const whole = merged(graph, async (path) => numbers(kept.get(path)!));
    const last = await weightsOf(join(runFolder, 'last'));
    for (const kernel of kernels) expect(await whole(kernel), kernel).toEqual(numbers(last.get(kernel)!));
    expect(readdirSync(join(runFolder, 'best'))).not.toContain('adapters.safetensors');

    // The merged model is as it was validated with its adapters.
    const model = await openModelFolder(join(runFolder, 'last'));
    const { loss } = await evaluate(model, await loadEngine({ engine: 'tensorflow' }), { data });
    await model.close();
    expect(Math.abs(loss / historyOf(runFolder).at(-1)!.valLoss - 1)).toBeLessThan(1e-5);
  });

  test.each([
    { how: 'plainly', more: {} },
    {
      how: 'averages, other projections of the last blocks, blocks run again',
      more: { ema: 0.9, freeze: 'last:3', loraTargets: 'qkvo', recompute: true },
    },
  ] as const)('goes on to the bit after a stop: $how', async ({ more }) => {
    const settings = { data, weights, ...vit, ...more };
    const whole = await tracesOf(settings);
    expectEqual(await stoppedAndResumed(4, settings), whole);
  });

  test('with --freeze last:N adapts the last blocks alone, from the cut before them', async () => {
    const start = await tensorsOf(weights);
    const { runFolder } = await train({ data, weights, ...vit, epochs: 1, freeze: 'last:3' });
    expect(changed(start, await weightsOf(join(runFolder, 'last')))).toEqual(queriesAndValues(from(10)));
    expect((await readArguments(runFolder)).resolved.cut).toBe('block9');
  });

  test('says what it cannot adapt', async () => {
    const fault = await expectFailure(() => train({ data, lora: '4' }), 'NO_ATTENTION', /mobilenet_v1_0\.25 has none/);
    expect(fault.hint).toContain('vit_ti16');
    expect(fault.hint).toContain('r50_vit_b16');
    expect(fault.hint).not.toMatch(/resnet|mobilenet|convnext/);
    await expectFailure(() => train({ data, weights, ...vit, freeze: 'none' }), 'BAD_FREEZE', /--freeze none/);
    await expectFailure(() => train({ data, weights, ...vit, lora: '192' }), 'LORA_RANK', /192/);
    for (const lora of ['0', '4,0', '4,', 'x', '4,8,2', '-1', '1.5']) {
      await expectFailure(() => train({ data, weights, ...vit, lora }), 'BAD_LORA', /is not a rank/);
    }
    const { lora: _, ...without } = vit;
    await expectFailure(() => train({ data, weights, ...without, loraTargets: 'qkv' }), 'BAD_OPTION', /--lora-targets/);
  });
});

describe('--bn eval', () => {
  test('trains gamma and beta, leaves the statistics, and goes on after a stop', async () => {
    const weights = await startingWeights('mobilenet_v1_0.25', 'keras');
    const start = await tensorsOf(weights);
    const settings = { data, weights, freeze: 'last:2', batchNorm: 'eval', epochs: 2 } as const;
    const whole = await tracesOf(settings);
    const isStatistic = (name: string): boolean => /\.(mean|variance)$/.test(name);
    const names = changed(start, whole.last);
    expect(names.filter(isStatistic)).toEqual([]);
    expect(names.filter((name) => /\.(gamma|beta)$/.test(name))).toHaveLength(2 * 2 * 2);
    const trained = await tracesOf({ ...settings, batchNorm: 'train' });
    expect(changed(start, trained.last).filter(isStatistic)).toHaveLength(2 * 2 * 2);
    expectEqual(await stoppedAndResumed(4, settings), whole);
  });
});

describe('--layer-decay', () => {
  test('moves a layer by its share of the rate', async () => {
    // One step of plain descent changes everything in proportion to its rate.
    const weights = await startingWeights('mobilenet_v1_0.25', 'keras');
    const one = await pictureFolder('one batch', 1, 1);
    const settings = {
      data: one,
      weights,
      freeze: 'none',
      epochs: 1,
      schedule: 'constant',
      optimizer: 'sgd',
      momentum: 0,
    } as const;
    const plain = await numbersAfter({ ...settings, lr: 0.1 });
    const decayed = await numbersAfter({ ...settings, lr: 0.1, layerDecay: 0.5 });
    const start = await numbersIn(weights);
    /** How far a tensor moved of how far it moved without. */
    const share = (name: string): number => {
      const moved = (to: Float32Array): number => Math.hypot(...start.get(name)!.map((value, i) => to[i]! - value));
      return moved(decayed.get(name)!) / moved(plain.get(name)!);
    };
    expect(share('block13.pointwise.conv.kernel')).toBeCloseTo(0.5, 2);
    expect(share('block12.pointwise.conv.kernel')).toBeCloseTo(0.25, 2);
    expect(share('block10.pointwise.norm.beta')).toBeCloseTo(0.0625, 2);
  });

  async function numbersAfter(settings: Partial<FinetuneOptions> & { data: string }) {
    return await numbersIn(join((await train(settings)).runFolder, 'last', 'weights.safetensors'));
  }
  async function numbersIn(file: string): Promise<Map<string, Float32Array>> {
    const tensors = await tensorsOf(file);
    return new Map(
      [...tensors].map(([name, hex]) => [name, new Float32Array(new Uint8Array(Buffer.from(hex, 'hex')).buffer)]),
    );
  }
});
