/** The addresses, sizes and checksums of publishers' files are those that the publishers' own code states. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { backbones, type Download } from '../../src/backbones/index.js';
import { fixturesFolder } from '../support/golden.js';

type Stated = Record<string, Record<string, Download & { readonly writer: string }>>;

/** By tools/golden/addresses.py, from the installed packages. */
const stated = JSON.parse(readFileSync(`${fixturesFolder}addresses.json`, 'utf8')) as Stated;

const entries = backbones.flatMap(({ name, published }) =>
  published.map((each) => ({ id: `${name} ${each.source}`, name, ...each })),
);
const statedOf = ({ name, source }: (typeof entries)[number]) => stated[name]?.[source];

describe.each(entries.filter((entry) => statedOf(entry) !== undefined))('$id', (entry) => {
  const { writer, ...expected } = statedOf(entry)!;
  test(`is fetched as ${writer} does`, () => {
    expect(entry.download).toEqual(expected);
  });
});

test('every address that some package states is in an entry', () => {
  const ids = Object.entries(stated).flatMap(([name, sources]) =>
    Object.keys(sources).map((each) => `${name} ${each}`),
  );
  expect(ids.length).toBeGreaterThanOrEqual(98);
  expect(ids.filter((id) => !entries.some((entry) => entry.id === id))).toEqual([]);
});

test('the others are archives of slim, Google’s ImageNet-21k files, and nothing', () => {
  const others = entries.filter((entry) => statedOf(entry) === undefined);
  const without = others.filter(({ download }) => download === undefined);
  expect(new Set(without.map(({ source }) => source))).toEqual(new Set(['notes', 'tfjs', 'torch']));
  expect(without.filter(({ source }) => source === 'torch').map(({ origin }) => origin)).toEqual([
    'timm mobilenetv2_075, untrained',
    'timm mobilenetv2_035, untrained',
  ]);
  for (const { id, source, origin, download } of others) {
    if (download === undefined) continue;
    expect(['slim', 'flax'], id).toContain(source);
    // `origin` is the address of the publisher's own documentation, which for some has no https
    const bucket = origin.replace(/,.*/, '').replace(/^(storage\.googleapis\.com\/)?/, '');
    expect(download.url, id).toBe(`https://storage.googleapis.com/${bucket}`);
    expect(download.member === undefined, id).toBe(source === 'flax');
  }
});

test('checksums are written as they are compared', () => {
  for (const { id, download } of entries) {
    if (download === undefined) continue;
    if (download.md5 !== undefined) expect(download.md5, id).toMatch(/^[0-9a-f]{32}$/);
    if (download.sha256 !== undefined) expect(download.sha256, id).toMatch(/^[0-9a-f]{64}$/);
    if (download.sha256Prefix !== undefined) expect(download.sha256Prefix, id).toMatch(/^[0-9a-f]{8}$/);
    if (download.url !== undefined) expect(new URL(download.url).protocol, id).toBe('https:');
    expect(download.hub?.repo ?? 'timm/x', id).toMatch(/^timm\/[\w.]+$/);
  }
});
