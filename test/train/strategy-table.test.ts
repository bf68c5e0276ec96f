/** The table at the start of a run. */
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished, withAuxiliary } from '../../src/backbones/index.js';
import type { Graph } from '../../src/engine/graph.js';
import { withLora } from '../../src/engine/lora.js';
import { withHead } from '../../src/heads/heads.js';
import { groupsOf } from '../../src/train/groups.js';
import {
  formatStages,
  type StageOptions,
  type StageRow,
  stagesOf,
  withoutEffect,
} from '../../src/train/strategy-table.js';

const networkOf = (backbone: string, source: string, side = 64): Graph =>
  withHead(
    buildBackbone(findPublished(findBackbone(backbone), source), { size: { height: side, width: side } }),
    { hidden: [], dropout: 0 },
    5,
  );

interface Given extends Partial<StageOptions> {
  readonly layerDecay?: number;
}

function rowsOf(graph: Graph, { cut, layerDecay, ...rest }: Given): StageRow[] {
  return stagesOf(graph, { cut, groups: groupsOf(graph, layerDecay), lr: 1e-3, batchNorm: 'train', ...rest });
}

describe('a ResNet-50', () => {
  const graph = networkOf('resnet50', 'torch');

  test('of which the last block trains', () => {
    const rows = rowsOf(graph, { cut: 'stage4.block2' });
    // He 2015, table 1: torchvision's parameters by module, means and variances among them
    expect(rows).toEqual([
      { stage: 'stem', state: 'frozen', trained: 0, parameters: 9_664 },
      { stage: 'stage1', state: 'frozen', trained: 0, parameters: 218_624 },
      { stage: 'stage2', state: 'frozen', trained: 0, parameters: 1_226_752 },
      { stage: 'stage3', state: 'frozen', trained: 0, parameters: 7_118_848 },
      {
        stage: 'stage4',
        state: 'part',
        batchNorm: 'train',
        lr: [1e-3, 1e-3],
        trained: 4_462_592,
        parameters: 14_987_264,
      },
      { stage: 'head', state: 'trained', lr: [1e-3, 1e-3], trained: 10_245, parameters: 10_245 },
    ]);
  });

  test('whose layers train at falling rates, batch norms in inference mode', () => {
    const rows = rowsOf(graph, { cut: undefined, layerDecay: 0.5, batchNorm: 'eval' });
    expect(rows.map(({ stage, state, batchNorm }) => [stage, state, batchNorm])).toEqual([
      ...['stem', 'stage1', 'stage2', 'stage3', 'stage4'].map((stage) => [stage, 'trained', 'eval']),
      ['head', 'trained', undefined],
    ]);
    expect(rows[0]!.lr![0]).toBeCloseTo(1e-3 * 0.5 ** 17, 12);
    expect(rows[4]!.lr).toEqual([1e-3 * 0.5 ** 3, 1e-3 * 0.5]);
    const text = formatStages(rows).split('\n');
    expect(text[5]).toMatch(
      /^stage4 +trained, batch norms in inference mode +1\.25e-4 to 5e-4 +14,964,736 +14,987,264$/,
    );
    expect(text.at(-1)).toMatch(/^all +23,518,277 +23,571,397$/);
    expect(new Set(text.map(({ length }) => length)).size).toBe(1);
  });

  test('of which nothing but the head trains', () => {
    const rows = rowsOf(graph, { cut: 'pre_logits' });
    expect(rows.filter(({ state }) => state !== 'frozen').map(({ stage }) => stage)).toEqual(['head']);
    expect(rows.every(({ batchNorm }) => batchNorm === undefined)).toBe(true);
  });
});

test('a vision transformer with adapters: blocks that are treated alike are one line', () => {
  const graph = withLora(networkOf('vit_ti16', 'torch'), { rank: 8, alpha: 8, targets: 'qv', behind: 'block4' });
  const trains = (path: string) => path.includes('.lora.') || path.startsWith('head.');
  const rows = rowsOf(graph, { cut: 'block4', trains });
  expect(rows.map(({ stage }) => stage)).toEqual([
    'stem',
    ...Array.from({ length: 12 }, (_, i) => `block${i + 1}`),
    'norm',
    'head',
  ]);
  // 4 x (192^2 + 192) of attention, 192 x 768 x 2 + 960 of the MLP, 4 x 192 of the norms; adapters 2 x 8 x 2 x 192
  expect(rows[5]).toEqual({ stage: 'block5', state: 'adapted', lr: [1e-3, 1e-3], trained: 6_144, parameters: 444_864 });
  const lines = formatStages(rows)
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/));
  expect(lines.slice(1)).toEqual([
    ['stem', 'frozen', '-', '0', '151,104'],
    ['block1 to block4', 'frozen', '-', '0', '1,779,456'],
    ['block5 to block12', 'frozen, adapters trained', '0.001', '49,152', '3,558,912'],
    ['norm', 'frozen', '-', '0', '384'],
    ['head', 'trained', '0.001', '965', '965'],
    ['all', '50,117', '5,490,821'],
  ]);
});

test('auxiliary classifiers are told apart from what the model has', () => {
  const published = findPublished(findBackbone('googlenet'), 'torch');
  const graph = withAuxiliary(networkOf('googlenet', 'torch', 224), published.auxiliary!, 5);
  const rows = rowsOf(graph, { cut: 'inception4d' });
  expect(rows.filter(({ state }) => state === 'auxiliary').map(({ stage }) => stage)).toEqual(['aux1', 'aux2']);
  const inModel = rows
    .filter(({ state }) => state !== 'auxiliary')
    .reduce((sum, { parameters }) => sum + parameters, 0);
  expect(formatStages(rows).split('\n').at(-1)).toContain(inModel.toLocaleString('en'));
});

test('what was asked for in vain is named', () => {
  const resnet = networkOf('resnet18', 'torch');
  const all = { batchNorm: 'eval', layerDecay: 0.5 } as const;
  const words = (graph: Graph, cut: string | undefined, asked: Parameters<typeof withoutEffect>[1]): string =>
    withoutEffect(rowsOf(graph, { cut, batchNorm: 'eval' }), asked).join('; ');
  expect(words(resnet, 'stage3', all)).toBe('');
  expect(words(resnet, 'pre_logits', {})).toBe('');
  expect(words(resnet, 'pre_logits', all)).toMatch(/^--bn eval .* no batch norm.*; --layer-decay .* only the head/);
  expect(words(networkOf('vit_ti16', 'torch'), 'block9', all)).toMatch(/^--bn eval [^;]*$/);
});
