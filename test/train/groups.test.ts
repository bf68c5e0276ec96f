/** Groups of parameters, against timm's: tools/golden/groups_torch.py. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished, withAuxiliary } from '../../src/backbones/index.js';
import { type Graph, ownerOf } from '../../src/engine/graph.js';
import { withHead } from '../../src/heads/heads.js';
import { groupsOf, type ParameterGroup } from '../../src/train/groups.js';
import { dialectOf } from '../../src/weights/plan/dialects.js';
import { fixturesFolder } from '../support/golden.js';

type Row = readonly [scale: number, decays: boolean, names: readonly string[]];
const fixture = JSON.parse(readFileSync(join(fixturesFolder, 'groups.json'), 'utf8')) as {
  readonly layerDecay: number;
  readonly networks: Readonly<Record<string, readonly Row[]>>;
  readonly coarse: Readonly<Record<string, readonly (readonly string[])[]>>;
};

const networkOf = (backbone: string, source: string): Graph => {
  const found = findBackbone(backbone);
  const size = { height: found.inputSize, width: found.inputSize };
  return withHead(buildBackbone(findPublished(found, source), { size }), { hidden: [], dropout: 0 }, 10);
};

/** timm's name of a parameter -> what timm does with it. */
function timmGroups(network: string): Map<string, { lrScale: number; decays: boolean }> {
  const rows = fixture.networks[network]!;
  return new Map(rows.flatMap(([lrScale, decays, names]) => names.map((name) => [name, { lrScale, decays }] as const)));
}

/** Names that a published file may have for a parameter. */
function publishedNames(backbone: string, source: string, graph: Graph, path: string): string[] {
  const published = findPublished(findBackbone(backbone), source);
  const dialect = dialectOf(published.dialect);
  const owners = ownerOf(path) === 'head.logits' ? ['head', 'fc', 'classifier'] : published.ownerNames(ownerOf(path));
  const { role } = graph.parameters.find((each) => each.path === path)!;
  return owners.flatMap((owner) => {
    const layer = owner.slice(owner.lastIndexOf(dialect.separator) + 1);
    return dialect.leafs(role, layer).map((leaf) => (owner === '' ? leaf : `${owner}${dialect.separator}${leaf}`));
  });
}

describe.each([
  { backbone: 'vit_ti16', source: 'torch', network: 'vit_tiny_patch16_224', without: /^$/ },
  { backbone: 'resnet50', source: 'torch', network: 'resnet50', without: /^$/ },
  // The norm after the last block, which timm's matcher leaves to the head.
  { backbone: 'densenet121', source: 'torch', network: 'densenet121', without: /^top\.norm\./ },
])('$backbone, parameter by parameter', ({ backbone, source, network, without }) => {
  const graph = networkOf(backbone, source);
  const timm = timmGroups(network);
  const trained = graph.parameters.filter(({ trainable }) => trainable).map(({ path }) => path);

  test('trains at the share of the rate that timm gives it, and decays where it does there', () => {
    const groups = groupsOf(graph, fixture.layerDecay);
    const met = new Set<string>();
    for (const path of trained) {
      const name = publishedNames(backbone, source, graph, path).find((each) => timm.has(each))!;
      met.add(name);
      const { lrScale, decays } = groups.get(path)!;
      const { lrScale: expected, decays: decaying } = timm.get(name)!;
      if (without.test(path)) expect(lrScale, path).toBeCloseTo(fixture.layerDecay, 12);
      else expect(lrScale / expected, path).toBeCloseTo(1, 12);
      expect(decays, path).toBe(decaying);
    }
    expect(met).toEqual(new Set(timm.keys()));
  });

  test('trains at one rate without a decay', () => {
    expect(new Set([...groupsOf(graph).values()].map(({ lrScale }) => lrScale))).toEqual(new Set([1]));
  });
});

/** A block of ours -> how timm's names of it begin. */
const prefixes: Record<string, { source: string; network: string; prefix: (block: string) => string }> = {
  convnext_tiny: {
    source: 'torch',
    network: 'convnext_tiny',
    prefix: (path) =>
      path.replace(
        /^stage(\d)\.(?:block(\d+))?/,
        (_, s, b) => `stages.${s - 1}.${b === undefined ? '' : `blocks.${b - 1}`}`,
      ),
  },
  efficientnet_b0: {
    source: 'torch',
    network: 'efficientnet_b0',
    prefix: (path) => {
      if (path === 'stem') return 'conv_stem';
      if (path === 'top') return 'conv_head';
      return path.replace(/^stage(\d)\.block(\d+)/, (_, s, b) => `blocks.${s - 1}.${b - 1}`);
    },
  },
};

test.each(Object.entries(prefixes))('%s, block by block, as timm', (backbone, { source, network, prefix }) => {
  const graph = networkOf(backbone, source);
  const timm = timmGroups(network);
  const places = new Map<string, ParameterGroup>(); // stem, stage2.downsample, stage2.block1, top
  for (const [path, group] of groupsOf(graph, fixture.layerDecay)) {
    const place = /^(stage\d+\.\w+|stem|top)\./.exec(path)?.[1];
    if (place !== undefined) places.set(place, group);
  }
  expect(places.size).toBeGreaterThan(graph.blocks.length);
  for (const [place, { lrScale }] of places) {
    const found = [...timm].filter(([name]) => name.startsWith(`${prefix(place)}.`));
    expect(found.length, place).toBeGreaterThan(0);
    for (const [name, { lrScale: expected }] of found)
      expect(lrScale / expected, `${place} ${name}`).toBeCloseTo(1, 12);
  }
});

test('the stages of a ResNet are the coarse groups of timm, and its head', () => {
  const graph = networkOf('resnet50', 'torch');
  const stages = new Map<string, Set<string>>();
  for (const [path, { stage }] of groupsOf(graph)) {
    if (!graph.parameters.find((each) => each.path === path)!.trainable) continue;
    const name = publishedNames('resnet50', 'torch', graph, path);
    const group = fixture.coarse.resnet50!.findIndex((names) => name.some((each) => names.includes(each)));
    stages.set(stage, (stages.get(stage) ?? new Set()).add(String(group)));
  }
  expect([...stages].map(([stage, groups]) => [stage, ...groups])).toEqual([
    ['stem', '0'],
    ['stage1', '1'],
    ['stage2', '2'],
    ['stage3', '3'],
    ['stage4', '4'],
    ['head', '5'],
  ]);
});

test('a hidden layer of the head, and an auxiliary classifier, train at the whole rate', () => {
  const published = findPublished(findBackbone('googlenet'), 'torch');
  const backbone = buildBackbone(published, { size: { height: 224, width: 224 } });
  const graph = withAuxiliary(withHead(backbone, { hidden: [8], dropout: 0 }, 3), published.auxiliary!, 3);
  const groups = groupsOf(graph, 0.5);
  const rateOf = (scope: string): number[] =>
    [...groups].filter(([path]) => path.startsWith(`${scope}.`)).map(([, { lrScale }]) => lrScale);
  for (const scope of ['head.dense1', 'head.logits', 'aux1', 'aux2']) {
    expect(new Set(rateOf(scope)), scope).toEqual(new Set([1]));
  }
  expect(new Set(rateOf('inception5b'))).toEqual(new Set([0.5]));
  expect(groups.get('aux1.logits.kernel')?.stage).toBe('aux1');
  expect(groups.get('head.dense1.kernel')?.stage).toBe('head');
});

test('every parameter of every network has a layer, and layers never fall on the way to the logits', () => {
  for (const { name, published, inputSize } of backbones) {
    for (const { source } of published) {
      const graph = networkOf(name, source);
      const groups = groupsOf(graph, 0.9);
      const layers = graph.parameters.map(({ path }) => groups.get(path)!.layer);
      expect(layers.length, `${name} ${source} ${inputSize}`).toBe(graph.parameters.length);
      expect(
        layers.toSorted((a, b) => a - b),
        `${name} ${source}`,
      ).toEqual(layers);
      expect(layers.at(-1), name).toBe(graph.blocks.length + 1);
    }
  }
});
