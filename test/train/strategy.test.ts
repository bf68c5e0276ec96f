import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone } from '../../src/backbones/index.js';
import { buildGraph, cutAt, type Graph } from '../../src/engine/graph.js';
import { activation, add, conv2d, dense, globalAveragePool } from '../../src/engine/layers.js';
import { UsageError } from '../../src/errors.js';
import { withHead } from '../../src/heads/heads.js';
import { parseStrategy } from '../../src/train/strategy.js';

const networkOf = (name: string): Graph => {
  const published = findBackbone(name).published[0]!;
  return withHead(buildBackbone(published, { size: { height: 64, width: 64 } }), { hidden: [], dropout: 0 }, 5);
};

/** Parameters that are trained under a strategy, by the first part of their paths. */
function trained(graph: Graph, freeze: string): string[] {
  const { cut } = parseStrategy(freeze, graph);
  const nodes = cut === undefined ? graph.nodes : cutAt(graph, cut, 'logits').after;
  return nodes.flatMap((node) => node.parameters.map(({ path }) => path));
}

function faultOf(freeze: string, graph: Graph): UsageError {
  try {
    parseStrategy(freeze, graph);
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return error as UsageError;
  }
  throw new Error(`${freeze} was accepted`);
}

describe.each([
  { name: 'resnet50', blocks: 16, stem: 'stem.pool', last: 'stage4.block3', tap: 'stage3' },
  { name: 'googlenet', blocks: 9, stem: 'stem', last: 'inception5b', tap: 'inception4c' },
  { name: 'mobilenet_v1_0.25', blocks: 13, stem: 'stem', last: 'block13', tap: 'block7' },
  { name: 'mobilenet_v2_0.35', blocks: 17, stem: 'stem', last: 'block16', tap: 'block9' },
])('$name', ({ name, blocks, stem, last, tap }) => {
  const graph = networkOf(name);
  const everything = graph.parameters.map(({ path }) => path);

  test('none freezes nothing, backbone all but the head', () => {
    expect(parseStrategy('none', graph)).toEqual({ freeze: 'none', cut: undefined });
    expect(trained(graph, 'none')).toEqual(everything);
    expect(parseStrategy('backbone', graph)).toEqual({ freeze: 'backbone', cut: 'pre_logits' });
    expect(trained(graph, 'backbone')).toEqual(['head.logits.kernel', 'head.logits.bias']);
  });

  test('last:N trains the last N blocks, what follows them, and the head', () => {
    expect(graph.blocks).toHaveLength(blocks);
    expect(graph.blocks.at(-1)).toBe(last);
    for (let n = 1; n <= blocks; n++) {
      const of = (path: string) => graph.blocks.findIndex((block) => path.startsWith(`${block}.`));
      const frozen = new Set(everything);
      for (const path of trained(graph, `last:${n}`)) frozen.delete(path);
      // Exactly the parameters of the first blocks, and those before any block, are frozen.
      const before = everything.indexOf(everything.find((path) => of(path) >= 0)!);
      const expected = everything.filter((path, i) => (of(path) >= 0 ? of(path) < blocks - n : i < before));
      expect([...frozen], `last:${n}`).toEqual(expected);
    }
  });

  test('last:1 is cut at the end of the block before, last:all at the end of the stem', () => {
    expect(parseStrategy('last:1', graph).cut).toBe(graph.blocks.at(-2));
    expect(parseStrategy(`last:${blocks}`, graph).cut).toBe(stem);
  });

  test('until:TAP freezes up to and with a tap', () => {
    expect(parseStrategy(`until:${tap}`, graph)).toEqual({ freeze: `until:${tap}`, cut: tap });
    const paths = trained(graph, `until:${tap}`);
    expect(paths.some((path) => path.startsWith(`${tap}.`))).toBe(false);
    expect(paths.length).toBeGreaterThan(2);
    expect(paths.length).toBeLessThan(everything.length);
    expect(trained(graph, 'until:pre_logits')).toEqual(trained(graph, 'backbone'));
    expect(trained(graph, 'until:stem')[0]).not.toContain('stem.conv');
  });

  test.each(['last:0', `last:${blocks + 1}`, 'last:1000000000000000000000'])(
    '%s has too few or too many blocks',
    (freeze) => {
      const fault = faultOf(freeze, graph);
      expect(fault.code).toBe('BAD_FREEZE');
      expect(fault.message).toContain(`${blocks} blocks`);
      expect(fault.hint).toContain(`last:1 to last:${blocks}`);
    },
  );
});

describe('what cannot be understood', () => {
  const graph = networkOf('mobilenet_v1_0.25');

  test.each([
    '',
    'all',
    'head',
    'None',
    'last',
    'last:',
    'last:-1',
    'last:1.5',
    'last:two',
    'until:',
    'until',
    'backbone ',
    '3',
  ])('BAD_FREEZE "%s"', (freeze) => {
    const fault = faultOf(freeze, graph);
    expect(fault.code).toBe('BAD_FREEZE');
    expect(fault.message).toContain(`"${freeze}"`);
    for (const word of ['none', 'backbone', 'last:N', 'until:TAP']) expect(fault.hint).toContain(word);
  });

  test('UNKNOWN_TAP lists the taps', () => {
    const fault = faultOf('until:stage3', graph);
    expect(fault.code).toBe('UNKNOWN_TAP');
    expect(fault.hint).toContain('block7');
  });

  test('NOT_A_CUT for a tap in a branch, and for the logits themselves', () => {
    const branched = buildGraph([8, 8, 3], (s, x) => {
      const stem = s.at('stem').tap(conv2d(s.at('stem.conv'), x, 4, 3));
      const inside = s
        .at('inside')
        .tap(activation(s.at('block1.a'), conv2d(s.at('block1.a.conv'), stem, 4, 3), 'relu'));
      const sum = s.at('block1').endBlock(add(s.at('block1'), inside, stem));
      const pooled = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), sum));
      return s.at('logits').tap(dense(s.at('head.logits'), pooled, 3));
    });
    const fault = faultOf('until:inside', branched);
    expect(fault.code).toBe('NOT_A_CUT');
    expect(fault.message).toContain('"inside"');
    expect(fault.hint).toContain('stem, block1, pre_logits');
    expect(faultOf('until:logits', branched).code).toBe('NOT_A_CUT');
  });
});
