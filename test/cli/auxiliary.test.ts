/** What the command line tells of auxiliary classifiers. */
import { expect, test } from 'vitest';
import { json, tl } from './harness.js';

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
