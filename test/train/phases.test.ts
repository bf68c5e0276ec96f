/** Runs in phases: two stages, gradual unfreezing, and runs that end early. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { withHead } from '../../src/heads/heads.js';
import { endsEarly, phasesOf } from '../../src/train/phases.js';
import { completeSettings } from '../../src/train/settings/complete.js';
import type { GivenSettings } from '../../src/train/settings/settings.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  expectEqual,
  historyOf,
  pictureFolder,
  startingWeights,
  temporary,
  traces,
  train,
  weightsOf,
} from './support/training.js';

function graphFor(backbone: string, source: string) {
  const body = buildBackbone(findPublished(findBackbone(backbone), source), { size: { height: 64, width: 64 } });
  return withHead(body, { hidden: [], dropout: 0 }, 3);
}

function phases(backbone: string, source: string, given: GivenSettings, cut: string | undefined = undefined) {
  const settings = completeSettings({ backbone, ...given });
  return phasesOf(settings, graphFor(backbone, source), { cut, lr: 1e-3 });
}

describe('the phases of a run', () => {
  test('one, unless told otherwise', () => {
    expect(phases('resnet18', 'torch', { epochs: 7 }, 'stage1.block1')).toEqual([
      { first: 1, last: 7, cut: 'stage1.block1', lr: 1e-3, schedule: { first: 1, last: 7 } },
    ]);
  });

  test('two stages have schedules of their own, the second a tenth of the rate', () => {
    expect(phases('resnet18', 'torch', { epochs: 10, twoStage: 3 })).toEqual([
      { first: 1, last: 3, cut: 'pre_logits', lr: 1e-3, schedule: { first: 1, last: 3 } },
      { first: 4, last: 10, cut: undefined, lr: 1e-4, schedule: { first: 4, last: 10 } },
    ]);
    expect(phases('resnet18', 'torch', { epochs: 10, twoStage: 3, unfreezeLr: 2e-5 })[1]!.lr).toBe(2e-5);
  });

  test('gradual unfreezing goes back a stage at a time, to what stays frozen', () => {
    const all = phases('resnet18', 'torch', { epochs: 20, gradual: 2 });
    const graph = graphFor('resnet18', 'torch');
    const trained = (cut: string | undefined) =>
      new Set(
        graph.nodes
          .filter(({ id }) => cut === undefined || id > graph.taps.get(cut)!.id)
          .map(({ path }) => path.split('.')[0]!),
      );
    const stages = ['stage4', 'stage3', 'stage2', 'stage1'];
    expect(all.map(({ first, last }) => [first, last])).toEqual([
      [1, 2],
      [3, 4],
      [5, 6],
      [7, 8],
      [9, 10],
      [11, 20],
    ]);
    for (const [i, { cut }] of all.entries()) {
      const names = trained(cut);
      expect(
        stages.filter((stage) => names.has(stage)),
        `phase ${i + 1}`,
      ).toEqual(stages.slice(0, i));
    }
    expect(all.at(-1)!.cut).toBeUndefined();
    expect(new Set(all.map(({ schedule }) => JSON.stringify(schedule)))).toEqual(new Set(['{"first":1,"last":20}']));
    const less = phases('resnet18', 'torch', { epochs: 20, gradual: 2, freeze: 'last:2' }, all[1]!.cut);
    expect(less.map(({ cut }) => cut)).toEqual(['pre_logits', all[1]!.cut]);
  });

  test.each([
    ['mobilenet_v2_1.0', 'keras', ['block13', 'block6', 'block3', 'block1', 'block0', undefined]],
    ['vit_ti16', 'flax', ['block10', 'block7', 'block4', 'block1', undefined]],
    ['vgg16', 'torch', ['pool', 'stage5', 'stage4', 'stage3', 'stage2', undefined]],
  ] as const)('%s has no stages in its names: those of equal size, or quarters', (backbone, source, firsts) => {
    const graph = graphFor(backbone, source);
    const first = (cut: string | undefined) =>
      graph.nodes.find(({ id }) => cut !== undefined && id > graph.taps.get(cut)!.id);
    const all = phases(backbone, source, { epochs: 20, gradual: 1 });
    expect(all.slice(1).map(({ cut }) => first(cut)?.path.split('.')[0])).toEqual(firsts);
  });

  test('too few epochs', async () => {
    const message = /unfrozen in 5 steps, which takes 11 epochs/;
    await expectFailure(() => phases('resnet18', 'torch', { epochs: 10, gradual: 2 }), 'BAD_OPTION', message);
    await expectFailure(() => phases('resnet18', 'torch', { epochs: 3, twoStage: 3 }), 'BAD_OPTION', /less than the 3/);
    const backbone = { epochs: 9, twoStage: 3, freeze: 'backbone' };
    await expectFailure(() => phases('resnet18', 'torch', backbone), 'BAD_OPTION', /leaves nothing/);
  });

  test('patience counts from the best epoch, in the last phase alone', () => {
    const [, last] = phases('resnet18', 'torch', { epochs: 10, twoStage: 3 });
    const ends = (epoch: number, best: number) => endsEarly({ patience: 2 }, last!, { epoch, best });
    expect([ends(3, 1), ends(4, 1), ends(5, 1), ends(6, 5), ends(7, 5)]).toEqual([false, false, true, false, true]);
    expect(endsEarly({}, last!, { epoch: 9, best: 1 })).toBe(false);
  });
});

describe('runs', () => {
  let data: string;
  let weights: string;
  beforeAll(async () => {
    data = await pictureFolder('phases');
    weights = await startingWeights('mobilenet_v1_0.25', 'keras');
  });
  const twoStage = { twoStage: 2, epochs: 4, optimizer: 'adamw', augment: 'flip' } as const;

  test('the first stage leaves the backbone as it was, bit for bit, and the second trains it', async () => {
    const { runFolder } = await train({ data, weights, ...twoStage });
    const head = await train({ data, weights, epochs: 2, optimizer: 'adamw', augment: 'flip', freeze: 'backbone' });
    expect(
      historyOf(runFolder)
        .slice(0, 2)
        .map(({ trainLoss, valLoss }) => [trainLoss, valLoss]),
    ).toEqual(historyOf(head.runFolder).map(({ trainLoss, valLoss }) => [trainLoss, valLoss]));
    const [before, after] = [await weightsOf(join(head.runFolder, 'last')), await weightsOf(join(runFolder, 'last'))];
    expect(after.get('stem.conv.kernel')).not.toBe(before.get('stem.conv.kernel'));
    expect(historyOf(runFolder).map(({ lr }) => lr > 1e-4)).toEqual([true, false, false, false]);
  });

  test.each([
    ['two stages', twoStage, [1, 2, 3]],
    ['gradually', { gradual: 1, epochs: 3, freeze: 'last:2', optimizer: 'adam', augment: 'none', ema: 0.9 }, [1, 2]],
  ] as const)('%s: stopped after any epoch and resumed, the same bits', async (_, how, stops) => {
    const whole = await traces((await train({ data, weights, ...how })).runFolder);
    for (const epoch of stops) {
      const aborting = new AbortController();
      const onEpoch = (row: { epoch: number }) => {
        if (row.epoch === epoch) aborting.abort();
      };
      const first = await train({ data, weights, ...how, signal: aborting.signal }, { epoch: onEpoch });
      expect(first).toMatchObject({ stopped: true, metrics: { epochs: epoch } });
      const rest = await train({ data, resume: first.runFolder });
      expect(rest.stopped).toBe(false);
      expectEqual(await traces(first.runFolder), whole);
    }
  });

  test('one that gets no better ends early, says so, and is done', async () => {
    const lines: string[] = [];
    const how = { epochs: 30, patience: 2, lr: 1e-9, optimizer: 'sgd', momentum: 0, schedule: 'constant' } as const;
    const out = temporary('early');
    const { metrics, stopped } = await train({ data, weights, ...how, out }, { info: (line) => lines.push(line) });
    expect(stopped).toBe(false);
    expect(metrics.epochs - metrics.bestEpoch).toBe(2);
    expect(lines.at(-1)).toBe(`ended after epoch ${metrics.epochs}: for 2 epochs no model was better`);
    const metricsBefore = readFileSync(join(out, 'metrics.json'), 'utf8');
    const again = await train({ data, resume: out });
    expect(again).toMatchObject({ stopped: false, metrics: { epochs: metrics.epochs } });
    expect(readFileSync(join(out, 'metrics.json'), 'utf8')).toBe(metricsBefore);
  });
});
