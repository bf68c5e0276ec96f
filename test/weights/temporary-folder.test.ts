import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeTemporaryFolder } from '../../src/weights/archive/temporary-folder.js';
import { setHome } from '../support/home.js';
import { expectFailure, temporary } from './support/temporary.js';

beforeAll(() => {
  setHome(temporary('home'));
});

describe('a folder for unpacked weights', () => {
  it('is private, lies in $TL_HOME/tmp, and is gone with all that it holds', async () => {
    const folder = await makeTemporaryFolder();
    expect(folder.path.startsWith(join(temporary('home'), 'tmp', '/'))).toBe(true);
    if (process.platform !== 'win32') expect(statSync(folder.path).mode & 0o777).toBe(0o700);
    mkdirSync(join(folder.path, 'variables'));
    writeFileSync(join(folder.path, 'variables', 'a'), 'b');
    await folder.remove();
    await folder.remove();
    expect(existsSync(folder.path)).toBe(false);
  });

  it('listens for the end of the process only while it is there', async () => {
    const listeners = () => ['exit', 'SIGINT', 'SIGTERM', 'SIGHUP'].map((event) => process.listenerCount(event));
    const none = listeners();
    const [one, two] = [await makeTemporaryFolder(), await makeTemporaryFolder()];
    expect(listeners()).toEqual(none.map((count) => count + 1));
    await one.remove();
    expect(listeners()).toEqual(none.map((count) => count + 1));
    await two.remove();
    expect(listeners()).toEqual(none);
  });

  it('sweeps what a killed process left a day ago, and nothing else', async () => {
    const parent = temporary('home/tmp');
    const old = (name: string, hours: number) => {
      mkdirSync(join(parent, name), { recursive: true });
      const then = Date.now() / 1000 - hours * 3600;
      utimesSync(join(parent, name), then, then);
    };
    old('unpacked-abandoned', 25);
    old('unpacked-working', 23);
    old('of-the-user', 1000);
    const folder = await makeTemporaryFolder();
    await folder.remove();
    expect(readdirSync(parent).sort()).toEqual(['of-the-user', 'unpacked-working']);
  });

  it('says where it cannot be made', async () => {
    process.env.TL_HOME = join(temporary('home'), 'file');
    writeFileSync(process.env.TL_HOME, '');
    await expectFailure(makeTemporaryFolder, 'FILE_NOT_WRITTEN', /home.file.tmp/);
    process.env.TL_HOME = temporary('home');
  });
});
