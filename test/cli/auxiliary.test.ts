/** What the command line tells of auxiliary classifiers. */
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { writeSafetensors } from '../../src/weights/safetensors.js';
import { json, tl, workplace, writeInput } from './harness.js';

const place = workplace();
afterAll(() => place.remove());

interface Summary {
  readonly layers: readonly { readonly path: string; readonly taps: readonly string[] }[];
  readonly totals: { readonly trainable: number; readonly statistics: number };
  readonly auxiliary: readonly { readonly name: string; readonly trainable: number; readonly statistics: number }[];
}

const summary = async (...words: string[]): Promise<Summary> =>
  json<Summary>(await tl(['summary', 'googlenet', ...words, '--json']));

test.each([
  ['notes', 6_998_552, 13_378_280],
  ['torch', 6_624_904, 13_004_888],
])('summary counts %s without and with them', async (source, without, withThem) => {
  const plain = await summary('--source', source);
  expect(plain.totals.trainable).toBe(without);
  expect(plain.auxiliary).toMatchObject([
    { name: 'aux1', tap: 'inception4a', weight: 0.3 },
    { name: 'aux2', tap: 'inception4d', weight: 0.3 },
  ]);
  expect(plain.auxiliary.reduce((sum, { trainable }) => sum + trainable, without)).toBe(withThem);
  expect(plain.layers.filter(({ path }) => path.startsWith('aux'))).toEqual([]);
  const shown = await summary('--source', source, '--auxiliary');
  expect(shown.totals.trainable).toBe(withThem);
  expect(shown.layers.at(-1)).toMatchObject({ path: 'aux2.logits', taps: ['aux2.logits'] });
  expect(shown.auxiliary).toEqual(plain.auxiliary);
});

test('summary says it in one line, at every size and with every number of classes', async () => {
  const line = /aux1 on inception4a, aux2 on inception4d; trainable parameters 6,998,552 without them, 13,378,280 with/;
  for (const words of [[], ['--auxiliary'], ['--size', '64']]) {
    const { stdout } = await tl(['summary', 'googlenet', '--source', 'notes', ...words]);
    expect(stdout).toMatch(line);
  }
  const five = await tl(['summary', 'googlenet', '--source', 'notes', '--classes', '5', '--auxiliary']);
  expect(five.stdout).toMatch(/^aux1\.logits +dense .* 5 +5,125 /m);
});

test('wrong usage says what has them, and which sizes they take', async () => {
  const none = await tl(['summary', 'googlenet', '--source', 'slim', '--auxiliary']);
  expect(none).toMatchObject({ code: 2, stdout: '' });
  expect(none.stderr).toMatch(/^error\[NO_AUXILIARY\].*\nfix: those from torch and notes have them\n$/s);
  expect((await tl(['summary', 'resnet50', '--auxiliary'])).stderr).toContain('fix: leave it out');
  const size = await tl(['summary', 'googlenet', '--source', 'notes', '--auxiliary', '--size', '300']);
  expect(size.code).toBe(2);
  expect(size.stderr).toContain('fix: give a height and width of 209 to 256');
});

test('forward writes their logits where they are asked for by name and the weights have them', async () => {
  const published = findPublished(findBackbone('googlenet'), 'torch');
  const weights = join(place.folder, 'googlenet.safetensors');
  const size = { height: 32, width: 32 };
  const { parameters } = buildBackbone(published, { size, classes: 5, auxiliary: 7 });
  await writeSafetensors(
    weights,
    parameters.map(({ path, shape, role }) => ({
      name: path,
      shape,
      read: () => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(role === 'norm.variance' ? 1 : 0),
    })),
    { format: 'tl', backbone: 'googlenet', source: 'torch' },
  );
  const input = join(place.folder, 'x.npy');
  writeInput(input, [1, 32, 32, 3]);
  const forward = async (...words: string[]) => {
    const files = ['--weights', weights, '--input', input, '--output', join(place.folder, 'y.npz')];
    return json<{ arrays: Record<string, number[]> }>(
      await tl(['forward', '--backbone', 'googlenet', ...files, ...words, '--json']),
    ).arrays;
  };
  expect(await forward()).toEqual({ pre_logits: [1, 1024], logits: [1, 5] });
  expect(await forward('--tap', 'aux2.logits')).toEqual({
    pre_logits: [1, 1024],
    logits: [1, 5],
    'aux2.logits': [1, 7],
  });
});
