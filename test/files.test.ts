import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ToolkitError } from '../src/errors.js';
import {
  isLeftBehind,
  isUnfinished,
  makeTemporaryFolder,
  readJsonFile,
  recoverFolder,
  removeUnfinished,
  replaceFolderAtomic,
  sha256File,
  writeFileAtomic,
  writeStreamAtomic,
} from '../src/files.js';

const root = mkdtempSync(join(tmpdir(), 'tl-files-'));
let folder = root;
let count = 0;

beforeEach(() => {
  folder = join(root, String(++count));
  mkdirSync(folder);
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

async function failure(run: () => Promise<unknown>): Promise<ToolkitError> {
  const thrown = await run().then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(ToolkitError);
  expect((thrown as ToolkitError).hint).toBeTruthy();
  return thrown as ToolkitError;
}

describe('writeFileAtomic', () => {
  it('writes text and bytes, over what was there, and makes the folder', async () => {
    const path = join(folder, 'a', 'b', 'c.txt');
    await writeFileAtomic(path, 'one');
    await writeFileAtomic(path, Uint8Array.of(0xc3, 0xa9));
    expect(readFileSync(path, 'utf8')).toBe('é');
    expect(readdirSync(join(folder, 'a', 'b'))).toEqual(['c.txt']);
  });

  it('says what is in the way', async () => {
    writeFileSync(join(folder, 'file'), '');
    mkdirSync(join(folder, 'taken', 'inside'), { recursive: true });
    const inFile = await failure(() => writeFileAtomic(join(folder, 'file', 'x'), ''));
    expect(inFile).toMatchObject({
      code: 'FILE_NOT_WRITTEN',
      message: expect.stringContaining('a part of the path is a file'),
    });
    const onFolder = await failure(() => writeFileAtomic(join(folder, 'taken'), ''));
    expect(onFolder).toMatchObject({ code: 'FILE_NOT_WRITTEN', message: expect.stringContaining('it is a folder') });
    expect(readdirSync(folder).sort()).toEqual(['file', 'taken']);
  });
});

describe('writeStreamAtomic', () => {
  it('shows nothing under the final name before all is written', async () => {
    const path = join(folder, 'x.bin');
    writeFileSync(path, 'old');
    await writeStreamAtomic(path, async (file) => {
      await file.writeFile('new ');
      expect(readFileSync(path, 'utf8')).toBe('old');
      await file.writeFile('content');
    });
    expect(readFileSync(path, 'utf8')).toBe('new content');
  });

  it('keeps the old file and removes the unfinished one when the writing fails', async () => {
    const path = join(folder, 'x.bin');
    writeFileSync(path, 'old');
    const writing = writeStreamAtomic(path, async (file) => {
      await file.writeFile('half');
      throw new RangeError('stop');
    });
    await expect(writing).rejects.toThrow(RangeError);
    expect(readdirSync(folder)).toEqual(['x.bin']);
    expect(readFileSync(path, 'utf8')).toBe('old');
  });

  it('lets two writers of one name both end whole', async () => {
    const path = join(folder, 'x.txt');
    const texts = ['a'.repeat(100_000), 'b'.repeat(100_000)];
    await Promise.all(texts.map((text) => writeFileAtomic(path, text)));
    expect(texts).toContain(readFileSync(path, 'utf8'));
    expect(readdirSync(folder)).toEqual(['x.txt']);
  });
});

describe('replaceFolderAtomic', () => {
  it('puts the new folder in place of the old one, content and all', async () => {
    const target = join(folder, 'model');
    for (const name of ['one', 'two']) {
      await replaceFolderAtomic(target, async (fresh) => {
        writeFileSync(join(fresh, name), name);
      });
      expect(readdirSync(target)).toEqual([name]);
    }
    expect(readdirSync(folder)).toEqual(['model']);
  });

  it('keeps the old folder when filling the new one fails', async () => {
    const target = join(folder, 'model');
    mkdirSync(target);
    writeFileSync(join(target, 'old'), 'old');
    const replacing = replaceFolderAtomic(target, async (fresh) => {
      writeFileSync(join(fresh, 'half'), '');
      throw new Error('stop');
    });
    await expect(replacing).rejects.toThrow('stop');
    expect(readdirSync(folder)).toEqual(['model']);
    expect(readdirSync(target)).toEqual(['old']);
  });

  it('makes missing folders above', async () => {
    await replaceFolderAtomic(join(folder, 'runs', 'best'), async (fresh) => writeFileSync(join(fresh, 'x'), ''));
    expect(readdirSync(join(folder, 'runs'))).toEqual(['best']);
  });
});

describe('what a process that is killed leaves', () => {
  /** Replaces `model`, and stops as a killed process does: `moment` sees the folder and the new one in it. */
  async function killedWhile(moment: (target: string, fresh: string) => void): Promise<string> {
    const target = join(folder, 'model');
    await replaceFolderAtomic(target, async (fresh) => writeFileSync(join(fresh, 'file'), 'old'));
    const stopped = new Error('killed');
    await replaceFolderAtomic(target, async (fresh) => {
      writeFileSync(join(fresh, 'file'), 'new');
      moment(target, fresh);
      renameSync(folder, `${folder}.kept`); // out of reach of what cleans up after an error
      throw stopped;
    }).catch((error: unknown) => expect(error).toBe(stopped));
    rmSync(folder, { recursive: true, force: true });
    renameSync(`${folder}.kept`, folder);
    return target;
  }
  const oldName = (fresh: string): string => fresh.replace(/tmp$/, 'old');

  it('while it fills the new folder: the old one stands, and what is unfinished is removed', async () => {
    const target = await killedWhile(() => {});
    expect(readdirSync(folder).filter(isUnfinished)).toHaveLength(1);
    await recoverFolder(target);
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('old');
    await removeUnfinished(folder);
    expect(readdirSync(folder)).toEqual(['model']);
  });

  it('between the two renames: the new folder takes its place', async () => {
    const target = await killedWhile((standing, fresh) => renameSync(standing, oldName(fresh)));
    expect(existsSync(target)).toBe(false);
    await removeUnfinished(folder); // must not take what is needed
    await recoverFolder(target);
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('new');
    expect(readdirSync(folder)).toEqual(['model']);
    await recoverFolder(target);
    expect(readdirSync(folder)).toEqual(['model']);
  });

  it('before it removes the old folder: the new one stands', async () => {
    const target = await killedWhile((standing, fresh) => {
      renameSync(standing, oldName(fresh));
      renameSync(fresh, standing);
    });
    await recoverFolder(target);
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('new');
    await removeUnfinished(folder);
    expect(readdirSync(folder)).toEqual(['model']);
  });

  it('a folder that was removed later does not come back', async () => {
    const target = await killedWhile((standing, fresh) => {
      renameSync(standing, oldName(fresh));
      renameSync(fresh, standing);
    });
    rmSync(target, { recursive: true });
    await recoverFolder(target);
    expect(existsSync(target)).toBe(false);
  });

  it('of other names nothing is removed', async () => {
    const names = ['.hidden', 'a.tmp', '.a.1-2.tmp', '.model.12345678-1-0123456789ab.tmp.gz'];
    for (const name of names) writeFileSync(join(folder, name), '');
    await removeUnfinished(folder);
    expect(readdirSync(folder).sort()).toEqual([...names].sort());
    await removeUnfinished(join(folder, 'nowhere'));
    await recoverFolder(join(folder, 'nowhere', 'model'));
  });

  it('who left it is known on this machine', async () => {
    const names: string[] = [];
    await writeStreamAtomic(join(folder, 'x'), async () => void names.push(...readdirSync(folder)));
    const own = names.find(isUnfinished)!;
    expect(isLeftBehind(own)).toBe(false);
    const { pid } = spawnSync(process.execPath, ['--version']); // it has ended
    const ended = own.replace(`-${process.pid}-`, `-${pid}-`);
    expect(ended).not.toBe(own);
    expect(isLeftBehind(ended)).toBe(true);
    expect(isLeftBehind(ended.replace(/\.[0-9a-f]{8}-/, '.00000000-'))).toBe(false); // another machine's
    expect(isLeftBehind('x')).toBe(false);
  });
});

it('a reader that completes a replacement does the writer no harm', async () => {
  const target = join(folder, 'model');
  mkdirSync(target);
  let stop = false;
  const reading = (async () => {
    while (!stop) {
      await recoverFolder(target);
      await new Promise((done) => setImmediate(done));
    }
  })();
  for (let i = 0; i < 200; i++) {
    await replaceFolderAtomic(target, async (fresh) => writeFileSync(join(fresh, 'file'), String(i)));
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe(String(i));
  }
  stop = true;
  await reading;
  expect(readdirSync(folder)).toEqual(['model']);
});

describe('makeTemporaryFolder', () => {
  const before = process.env.TMPDIR;
  afterEach(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });

  it('makes a folder for this user alone, and removes what killed processes left of its kind', () => {
    process.env.TMPDIR = folder;
    const first = makeTemporaryFolder('tl-test');
    expect(statSync(first).mode & 0o777).toBe(0o700);
    const { pid } = spawnSync(process.execPath, ['--version']); // it has ended
    const ended = (kind: string): string =>
      join(folder, basename(first).replace(`-${process.pid}-`, `-${pid}-`).replace('tl-test', kind));
    for (const kind of ['tl-test', 'tl-other']) {
      mkdirSync(ended(kind));
      writeFileSync(join(ended(kind), 'graph'), '');
    }
    const second = makeTemporaryFolder('tl-test');
    expect(readdirSync(folder).sort()).toEqual([first, second, ended('tl-other')].map((path) => basename(path)).sort());
  });

  it('says how to mend it', async () => {
    process.env.TMPDIR = join(folder, 'nowhere');
    const error = await failure(async () => makeTemporaryFolder('tl-test'));
    expect(error).toMatchObject({ code: 'FILE_NOT_WRITTEN', message: expect.stringContaining('no such file') });
    expect(error.hint).toContain('TMPDIR');
  });
});

describe('sha256File', () => {
  it('is that of the standard, also over several reads', async () => {
    const path = join(folder, 'abc');
    writeFileSync(path, 'abc');
    // FIPS 180-2, appendix B.1
    expect(await sha256File(path)).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    const large = Buffer.alloc(3_000_000, 'xyz');
    writeFileSync(path, large);
    expect(await sha256File(path)).toBe(createHash('sha256').update(large).digest('hex'));
  });

  it('says what is missing', async () => {
    expect(await failure(() => sha256File(join(folder, 'none')))).toMatchObject({
      code: 'FILE_NOT_READ',
      message: expect.stringContaining('no such file or folder'),
    });
    expect(await failure(() => sha256File(folder))).toMatchObject({ code: 'FILE_NOT_READ' });
  });

  it('a large file is hashed apart, and can be stopped', async () => {
    const path = join(folder, 'hundred');
    const content = Buffer.alloc(100e6, 'tl');
    writeFileSync(path, content);
    expect(await sha256File(path)).toBe(createHash('sha256').update(content).digest('hex'));
    const stop = new AbortController();
    const hashing = sha256File(path, stop.signal);
    stop.abort();
    await expect(hashing).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('readJsonFile', () => {
  it('reads JSON, with or without a byte order mark', async () => {
    const path = join(folder, 'a.json');
    writeFileSync(path, '\uFEFF{"a": [1]}');
    expect(await readJsonFile(path)).toEqual({ a: [1] });
  });

  it('says what is wrong with a file', async () => {
    const path = join(folder, 'a.json');
    const cases: [string, string, RegExp][] = [
      ['{"a": ', 'JSON_INVALID', /not valid JSON/],
      ['  \n', 'JSON_INVALID', /the file is empty/],
    ];
    for (const [content, code, message] of cases) {
      writeFileSync(path, content);
      const error = await failure(() => readJsonFile(path));
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    }
    expect(await failure(() => readJsonFile(join(folder, 'b.json')))).toMatchObject({ code: 'FILE_NOT_READ' });
    expect(await failure(() => readJsonFile(folder))).toMatchObject({ code: 'FILE_NOT_READ' });
  });

  it('refuses to read hundreds of megabytes as JSON', async () => {
    const path = join(folder, 'large.json');
    await writeStreamAtomic(path, async (file) => file.truncate(65 * 1024 * 1024)); // a hole, no disk
    expect(await failure(() => readJsonFile(path))).toMatchObject({ code: 'JSON_TOO_LARGE' });
  });
});
