/** `tl summary` in text: what every kind of layer is called, what it sees, and in which steps. */
import { describe, expect, test } from 'vitest';
import { json, tl } from './harness.js';

/** The cells of a network's rows by path. */
async function rowsOf(...argv: string[]): Promise<Map<string, string[]>> {
  const { code, stdout, stderr } = await tl(['summary', ...argv]);
  if (code !== 0) throw new Error(stderr);
  const [, , heading, ...lines] = stdout.split('\n');
  expect(heading!.split(/ {2,}/)).toEqual([
    'path',
    'operation',
    'output',
    'parameters',
    'MACs',
    'receptive field',
    'stride',
    'tap',
  ]);
  return new Map(
    lines.slice(0, lines.indexOf('')).map((line) => [/^\S+/.exec(line)![0], line.split(/ {2,}/).slice(1)]),
  );
}

describe('layers', () => {
  test.each<[network: string, rows: Record<string, readonly string[]>]>([
    [
      'resnet18',
      {
        'stem.conv': ['conv 7x7 /2 pad 3', '32x48x64', '9,408', '14,450,688', '7', '2'],
        'stem.norm': ['batch norm, epsilon 1e-5', '32x48x64', '256', '7', '2'],
        'stem.pool.max_pool': ['max pool 3x3 /2 pad 1', '16x24x64', '11', '4', 'stem.pool'],
        'stage1.block1.add': ['add', '16x24x64', '27', '4'],
        classifier: ['dense 512 to 1000', '1000', '513,000', '512,000', '467x499', 'logits'],
      },
    ],
    ['resnext50_32x4d', { 'stage1.block1.conv3x3.conv': ['conv 3x3 in 32 groups pad 1'] }],
    [
      'mobilenet_v3_small_1.0',
      {
        'block0.depthwise.conv': ['depthwise conv 3x3 /2 same', '16x24x16', '144', '55,296', '7', '4'],
        'block0.scale': ['scale channels', '16x24x16'],
        'block0.excite.hard_sigmoid': ['hard sigmoid', '16'],
        'top.conv': ['conv 1x1 same', '2x3x576', '55,296', '331,776'],
        'pool.average': ['average pool over 2x3', '576'],
      },
    ],
    [
      'r50_vit_b16',
      {
        'stem.conv': ['conv 7x7 /2 same, standardised kernel', '32x48x64'],
        'stem.norm': ['group norm, 32 groups, epsilon 1e-6', '32x48x64'],
        position_embedding: ['position embedding of 4x6 places', '25x768', '19,200'],
        class_token: ['class token', '25x768', '768'],
        'block1.attention.norm': ['layer norm, epsilon 1e-6', '25x768', '1,536'],
        'block1.attention.attention': ['attention, 12 heads', '25x768'],
        'block1.mlp.gelu_tanh': ['GELU, tanh form', '25x3072'],
        'norm.token': ['token 0', '768'],
      },
    ],
    ['convnext_tiny', { 'stage1.block1.scale': ['layer scale', '16x24x96', '96', '28', '4'] }],
    ['googlenet', { 'inception3a.concat': ['concat 4', '8x12x256', '43', '8', 'inception3a'] }],
    ['densenet121', { 'transition1.average_pool': ['average pool 2x2 /2'] }],
  ])('of %s', async (network, expected) => {
    const rows = await rowsOf(network, '--size', '64x96');
    for (const [path, cells] of Object.entries(expected)) {
      expect([path, ...(rows.get(path) ?? [])].slice(0, cells.length + 1)).toEqual([path, ...cells]);
    }
  });

  test('the stride of a picture is its input divided by its grid, gates or not', async () => {
    const ran = await tl(['summary', 'mobilenet_v3_small_1.0', '--json']);
    for (const { output, jump } of json<{ layers: { output: number[]; jump: number[] }[] }>(ran).layers) {
      if (output.length === 3) expect(jump).toEqual([224 / output[0]!, 224 / output[1]!]);
    }
  });
});
