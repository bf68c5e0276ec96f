import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { type Dataset, scanFolder } from '../../src/data/dataset.js';
import { byCodePoint, stratifiedSplit } from '../../src/data/sample.js';
import { folderWith, newFolder, writeFile } from './folder.js';

const options = { seed: 1 };

/** `n` picture names in a folder. */
function pictures(folder: string, n: number): string[] {
  return Array.from({ length: n }, (_, i) => `${folder}/${i}.jpg`);
}

/** Paths relative to the root, each with its class. */
function listed(data: Dataset, split: 'train' | 'val'): string[] {
  return data[split].map((sample) => `${data.classes[sample.label]}: ${relative(data.root, sample.path)}`);
}

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
  } catch (thrown) {
    return (thrown as { code?: string }).code;
  }
  return undefined;
}

describe('train and val folders', () => {
  test('are taken as they are, sorted by class and path', () => {
    const dir = folderWith(['train/dog/b.jpg', 'train/dog/a.PNG', 'train/cat/c.webp', 'val/dog/d.jpeg']);
    const data = scanFolder(dir, options);
    expect(data.classes).toEqual(['cat', 'dog']);
    expect(listed(data, 'train')).toEqual(['cat: train/cat/c.webp', 'dog: train/dog/a.PNG', 'dog: train/dog/b.jpg']);
    expect(listed(data, 'val')).toEqual(['dog: val/dog/d.jpeg']);
    expect(data.train.every((sample) => sample.split === 'train')).toBe(true);
    expect(data.val.every((sample) => sample.split === 'val')).toBe(true);
    expect(data.root).toBe(dir);
  });

  test('a test folder beside them is left alone', () => {
    const dir = folderWith(['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg', 'test/a/2.jpg', 'test/c/2.jpg']);
    expect(scanFolder(dir, options)).toMatchObject({ classes: ['a', 'b'], ignored: 0 });
  });

  test('train alone is split', () => {
    const data = scanFolder(folderWith([...pictures('train/a', 10), ...pictures('train/b', 10)]), options);
    expect([data.train.length, data.val.length]).toEqual([16, 4]);
  });

  test('a validation class that training does not have is an error, never a shift of indices', () => {
    const dir = folderWith(['train/a/1.jpg', 'train/c/1.jpg', 'val/a/1.jpg', 'val/b/1.jpg', 'val/d/1.jpg']);
    expect(() => scanFolder(dir, options)).toThrowError(
      expect.objectContaining({
        code: 'DATA_UNKNOWN_CLASS',
        message: expect.stringMatching(/"a", "c".*- b\n {2}- d/s),
      }),
    );
  });

  test('a class without validation pictures is fine', () => {
    const data = scanFolder(folderWith(['train/a/1.jpg', 'train/b/1.jpg', 'val/b/2.jpg']), options);
    expect(listed(data, 'val')).toEqual(['b: val/b/2.jpg']);
    expect(data.val[0]!.label).toBe(1);
  });

  test('val without pictures is an error', () => {
    const dir = folderWith(['train/a/1.jpg', 'train/b/1.jpg', 'val/a/readme.txt']);
    expect(codeOf(() => scanFolder(dir, options))).toBe('DATA_EMPTY');
    const loose = folderWith(['train/a/1.jpg', 'train/b/1.jpg', 'val/1.jpg']);
    expect(codeOf(() => scanFolder(loose, options))).toBe('DATA_EMPTY');
  });

  test('one picture in both, by a link, is an error', () => {
    const dir = folderWith(['train/a/1.jpg', 'train/b/1.jpg', 'val/b/2.jpg']);
    mkdirSync(join(dir, 'val/a'));
    symlinkSync(join(dir, 'train/a/1.jpg'), join(dir, 'val/a/copy.jpg'));
    expect(() => scanFolder(dir, options)).toThrowError(
      expect.objectContaining({
        code: 'DATA_DUPLICATE',
        message: expect.stringMatching(
          /val\/a\/copy\.jpg \(val, class "a"\) is .*train\/a\/1\.jpg \(train, class "a"\)/,
        ),
      }),
    );
  });

  test('val as a link to train is an error', () => {
    const dir = folderWith(['train/a/1.jpg', 'train/b/1.jpg']);
    symlinkSync(join(dir, 'train'), join(dir, 'val'));
    expect(codeOf(() => scanFolder(dir, options))).toBe('DATA_DUPLICATE');
  });
});

describe('class folders', () => {
  const dir = (): string => folderWith([...pictures('a', 10), ...pictures('b', 5), ...pictures('c', 2), 'd/only.jpg']);

  test('each class is split by itself, with at least one picture to train on', () => {
    const data = scanFolder(dir(), options);
    const count = (split: 'train' | 'val') =>
      data.classes.map((_, label) => data[split].filter((sample) => sample.label === label).length);
    expect(count('train')).toEqual([8, 4, 1, 1]);
    expect(count('val')).toEqual([2, 1, 1, 0]);
  });

  test('the split depends on the seed, not on where the folder lies', () => {
    const [one, two] = [dir(), dir()];
    expect(listed(scanFolder(one, options), 'val')).toEqual(listed(scanFolder(two, options), 'val'));
    const seeds = [1, 2, 3, 4].map((seed) => listed(scanFolder(one, { seed }), 'val').join());
    expect(new Set(seeds).size).toBeGreaterThan(1);
  });

  test('a new class leaves the split of the others as it was', () => {
    const one = dir();
    const before = listed(scanFolder(one, options), 'val');
    for (const path of pictures('aa', 9)) writeFile(join(one, path), 'x');
    const after = listed(scanFolder(one, options), 'val').filter((line) => !line.startsWith('aa:'));
    expect(after).toEqual(before);
  });

  test('the part for validation is chosen', () => {
    expect(scanFolder(dir(), { seed: 1, valSplit: 0.5 }).val).toHaveLength(5 + 3 + 1);
    expect(scanFolder(dir(), { seed: 1, valSplit: 0 }).val).toHaveLength(0);
    expect(scanFolder(dir(), { seed: 1, valSplit: 0.99 }).train).toHaveLength(4);
  });

  test.each([-0.1, 1, 1.5, Number.NaN])('a validation part of %s is refused', (valSplit) => {
    expect(codeOf(() => scanFolder(dir(), { seed: 1, valSplit }))).toBe('BAD_VAL_SPLIT');
  });

  test('train and val may be the names of classes', () => {
    const data = scanFolder(folderWith(['train/1.jpg', 'plane/1.jpg', 'val/1.jpg']), options);
    expect(data.classes).toEqual(['plane', 'train', 'val']);
  });
});

describe('what is passed over', () => {
  test('hidden files silently, other files with a count', () => {
    const dir = folderWith([
      'a/1.jpg',
      'b/1.jpg',
      '.DS_Store',
      '.hidden/1.jpg',
      'a/.2.jpg',
      'a/notes.txt',
      'b/x.svg',
      'b/deep/y.bmp',
      'readme.md',
    ]);
    const data = scanFolder(dir, options);
    expect(data.classes).toEqual(['a', 'b']);
    expect(data.train).toHaveLength(2);
    expect(data.ignored).toBe(4);
  });

  test('folders in a class belong to it', () => {
    const data = scanFolder(folderWith(['a/x/y/1.jpg', 'a/2.jpg', 'b/1.jpg']), { seed: 1, valSplit: 0 });
    expect(listed(data, 'train')).toEqual(['a: a/2.jpg', 'a: a/x/y/1.jpg', 'b: b/1.jpg']);
  });
});

describe('links', () => {
  test('a linked class folder and a linked picture are followed', () => {
    const store = folderWith(['dogs/1.jpg', 'dogs/2.jpg', 'cat.jpg']);
    const dir = newFolder();
    mkdirSync(join(dir, 'cat'));
    symlinkSync(join(store, 'dogs'), join(dir, 'dog'));
    symlinkSync(join(store, 'cat.jpg'), join(dir, 'cat/1.jpg'));
    const data = scanFolder(dir, { seed: 1, valSplit: 0 });
    expect(listed(data, 'train')).toEqual(['cat: cat/1.jpg', 'dog: dog/1.jpg', 'dog: dog/2.jpg']);
  });

  test('a link to a parent folder ends, and a folder linked twice counts once', () => {
    const dir = folderWith(['a/1.jpg', 'a/sub/2.jpg', 'b/1.jpg']);
    symlinkSync(join(dir, 'a'), join(dir, 'a/sub/loop'));
    symlinkSync(join(dir, 'a/sub'), join(dir, 'a/twice'));
    expect(scanFolder(dir, { seed: 1, valSplit: 0 }).train).toHaveLength(3);
  });

  test('a link to nowhere stays in the list, for decoding to name it', () => {
    const dir = folderWith(['a/1.jpg', 'b/1.jpg']);
    symlinkSync(join(dir, 'gone.jpg'), join(dir, 'a/2.jpg'));
    expect(listed(scanFolder(dir, { seed: 1, valSplit: 0 }), 'train')).toContain('a: a/2.jpg');
  });

  test('one picture in two classes is an error', () => {
    const dir = folderWith(['a/1.jpg', 'b/1.jpg']);
    symlinkSync(join(dir, 'a/1.jpg'), join(dir, 'b/2.jpg'));
    expect(codeOf(() => scanFolder(dir, options))).toBe('DATA_DUPLICATE');
  });
});

describe('faults of a folder', () => {
  test('missing, with the layout in the hint', () => {
    const missing = join(newFolder(), 'data');
    expect(() => scanFolder(missing, options)).toThrowError(
      expect.objectContaining({
        code: 'DATA_NOT_FOUND',
        message: `there is no folder ${missing}`,
        hint: expect.stringContaining('DIR/train/<class>/<picture>'),
      }),
    );
  });

  test('a file', () => {
    const dir = folderWith(['list.csv']);
    expect(codeOf(() => scanFolder(join(dir, 'list.csv'), options))).toBe('DATA_NOT_FOUND');
  });

  test.each<[string, string, string[]]>([
    ['nothing in it', 'DATA_EMPTY', []],
    ['pictures without a class', 'DATA_EMPTY', ['1.jpg', '2.jpg']],
    ['no pictures in any class', 'DATA_EMPTY', ['a/x.txt', 'b/x.txt']],
    ['a class without pictures', 'DATA_EMPTY_CLASS', ['a/1.jpg', 'b/1.jpg', 'c/x.txt']],
    ['a training class without pictures', 'DATA_EMPTY_CLASS', ['train/a/1.jpg', 'train/b/x.txt', 'val/a/1.jpg']],
    ['one class', 'DATA_SINGLE_CLASS', ['a/1.jpg', 'a/2.jpg']],
    ['one training class', 'DATA_SINGLE_CLASS', ['train/a/1.jpg', 'val/a/1.jpg']],
    ['two layouts at once', 'DATA_MIXED_LAYOUT', ['train/a/1.jpg', 'val/a/1.jpg', 'cats/1.jpg']],
    ['val without train', 'DATA_NOT_FOUND', ['val/a/1.jpg', 'val/b/1.jpg']],
  ])('%s: %s', (_, code, paths) => {
    expect(codeOf(() => scanFolder(folderWith(paths), options))).toBe(code);
  });

  test('every empty class is named', () => {
    const dir = folderWith(['a/1.jpg', 'b/x.txt', 'c/x.txt', 'd/1.jpg']);
    expect(() => scanFolder(dir, options)).toThrow(/- b\n {2}- c/);
  });

  test.each(['validation', 'valid'])('%s instead of val: the hint says to rename it', (name) => {
    const dir = folderWith(['train/a/1.jpg', 'train/b/1.jpg', `${name}/a/1.jpg`]);
    expect(() => scanFolder(dir, options)).toThrowError(
      expect.objectContaining({ code: 'DATA_MIXED_LAYOUT', hint: `rename ${join(dir, name)} to ${join(dir, 'val')}` }),
    );
  });
});

describe('names', () => {
  test('of any script, sorted by code point', () => {
    const names = ['Zebra', 'apple', 'éclair', 'зебра', '猫', '🐕', 'a b', '10', '2'];
    const data = scanFolder(folderWith(names.flatMap((name) => pictures(name, 2))), options);
    expect(data.classes).toEqual(['10', '2', 'Zebra', 'a b', 'apple', 'éclair', 'зебра', '猫', '🐕']);
  });

  test('composed and decomposed are one class; files keep the spelling they have on disk', () => {
    const dir = newFolder();
    for (const name of ['caf\u00e9', 'cafe\u0301', 'tea']) {
      mkdirSync(join(dir, name));
      writeFileSync(join(dir, name, `${name.length}.jpg`), 'x');
    }
    const data = scanFolder(dir, { seed: 1, valSplit: 0 });
    expect(data.classes).toEqual(['caf\u00e9', 'tea']);
    expect(data.train.map((sample) => relative(dir, sample.path))).toContain('cafe\u0301/5.jpg');
    expect(data.train).toHaveLength(3);
  });

  it('are ordered by code point, whatever UTF-16 says', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 6 });
    const reference = (a: string, b: string): number =>
      Buffer.compare(Buffer.from(a.normalize('NFC')), Buffer.from(b.normalize('NFC'))); // UTF-8 sorts by code point
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(byCodePoint(a, b))).toBe(Math.sign(reference(a, b)));
      }),
    );
    expect(byCodePoint('\uffee', '\u{1f415}')).toBeLessThan(0);
  });
});

describe('stratified split', () => {
  it('divides every class without loss or overlap', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(sizes, fc.double({ min: 0, max: 0.99, noNaN: true }), fc.integer(), (counts, valSplit, seed) => {
        const classes = new Map(counts.map((n, c) => [`c${c}`, Array.from({ length: n }, (_, i) => `${c}/${i}`)]));
        const { train, val } = stratifiedSplit(classes, { valSplit, seed });
        for (const [name, items] of classes) {
          const [t, v] = [train.get(name)!, val.get(name)!];
          expect([...t, ...v].sort()).toEqual([...items].sort());
          expect(t.length).toBeGreaterThanOrEqual(1);
          if (valSplit > 0 && items.length >= 2) expect(v.length).toBeGreaterThanOrEqual(1);
          if (valSplit === 0) expect(v).toEqual([]);
          expect(Math.abs(v.length - valSplit * items.length)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });
});
