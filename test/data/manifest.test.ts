import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/data/dataset.js';
import { DataError } from '../../src/errors.js';
import { folderWith, newFolder, writeFile } from './folder.js';

const files = ['pics/1.jpg', 'pics/2.jpg', 'pics/3.jpg', 'pics/4.png', 'pics/a,b "c".jpg', 'notes.txt'];

function manifest(text: string): string {
  const csv = join(folderWith(files), 'list.csv');
  writeFile(csv, text);
  return csv;
}

function faultOf(text: string): DataError {
  try {
    readManifest(manifest(text), { seed: 1 });
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(DataError);
    return thrown as DataError;
  }
  throw new Error('no fault');
}

describe('a good manifest', () => {
  test('with a split column', () => {
    const csv = manifest(
      'path,label,split\npics/2.jpg,dog,train\npics/1.jpg,cat,train\npics/4.png,dog,VAL\npics/3.jpg,dog,train\n',
    );
    const data = readManifest(csv, { seed: 1 });
    const root = join(csv, '..');
    expect(data).toEqual({
      classes: ['cat', 'dog'],
      root,
      ignored: 0,
      train: [
        { path: join(root, 'pics/1.jpg'), label: 0, split: 'train' },
        { path: join(root, 'pics/2.jpg'), label: 1, split: 'train' },
        { path: join(root, 'pics/3.jpg'), label: 1, split: 'train' },
      ],
      val: [{ path: join(root, 'pics/4.png'), label: 1, split: 'val' }],
    });
  });

  test('without one, split by seed, whatever the order of its lines', () => {
    const lines = ['pics/1.jpg,a', 'pics/2.jpg,a', 'pics/3.jpg,b', 'pics/4.png,b'];
    const relativeTo = (data: ReturnType<typeof readManifest>) => data.val.map((s) => s.path.slice(data.root.length));
    const one = readManifest(manifest(['path,label', ...lines].join('\n')), { seed: 1, valSplit: 0.5 });
    const two = readManifest(manifest(['path,label', ...lines.reverse()].join('\n')), { seed: 1, valSplit: 0.5 });
    expect(one.val).toHaveLength(2);
    expect(relativeTo(one)).toEqual(relativeTo(two));
  });

  test('byte order mark, quotes, Windows line ends, empty lines, spaces, other columns, absolute paths, any case', () => {
    const elsewhere = join(folderWith(['x.jpg']), 'x.jpg');
    const csv = manifest(
      `\ufeffPath, source,LABEL\r\n\r\n"pics/a,b ""c"".jpg",web, caf\u00e9 \r\n${elsewhere},me,cafe\u0301\r\npics/1.jpg,,tea\r\n`,
    );
    const data = readManifest(csv, { seed: 1, valSplit: 0 });
    expect(data.classes).toEqual(['caf\u00e9', 'tea']);
    expect(data.train.map((sample) => sample.path)).toContain(elsewhere);
    expect(data.train).toHaveLength(3);
  });
});

describe('faults', () => {
  test('all are listed with their lines', () => {
    const fault = faultOf(
      [
        'path,label,split',
        'pics/1.jpg,cat,train',
        'pics/none.jpg,cat,train',
        'pics/2.jpg,,train',
        ',dog,train',
        'pics/3.jpg,dog,testing',
        'notes.txt,dog,train',
        'pics/1.jpg,dog,val',
        'pics/4.png,dog',
        '',
        'pics/4.png,dog,',
      ].join('\n'),
    );
    expect(fault.code).toBe('DATA_BAD_MANIFEST');
    const listed = fault.message.split('\n').slice(1);
    expect(listed).toEqual([
      '  - line 3: there is no file pics/none.jpg',
      '  - line 4: no label',
      '  - line 5: no path',
      '  - line 6: split must be train or val, received "testing"',
      expect.stringMatching(/^ {2}- line 7: notes\.txt is no picture by its ending/),
      '  - line 8: pics/1.jpg stands in line 2 already',
      '  - line 9: expected 3 fields, received 2',
      expect.stringMatching(/^ {2}- line 11: /),
    ]);
    expect(fault.hint).toContain('path,label');
  });

  test('more than twenty are counted', () => {
    const lines = Array.from({ length: 25 }, (_, i) => `pics/none${i}.jpg,a`);
    expect(faultOf(['path,label', ...lines].join('\n')).message).toMatch(/25 faults[\s\S]*\.\.\. and 5 more$/);
  });

  test.each<[string, string, string]>([
    ['no header', 'DATA_BAD_MANIFEST', 'pics/1.jpg,cat\npics/2.jpg,dog\n'],
    ['nothing at all', 'DATA_BAD_MANIFEST', ''],
    ['an open quote', 'DATA_BAD_MANIFEST', 'path,label\n"pics/1.jpg,cat\n'],
    ['only a header', 'DATA_EMPTY', 'path,label\n'],
    ['only validation', 'DATA_EMPTY', 'path,label,split\npics/1.jpg,a,val\n'],
    ['one class', 'DATA_SINGLE_CLASS', 'path,label\npics/1.jpg,a\npics/2.jpg,a\n'],
    [
      'a validation class that training does not have',
      'DATA_UNKNOWN_CLASS',
      'path,label,split\npics/1.jpg,a,train\npics/2.jpg,b,train\npics/3.jpg,c,val\n',
    ],
    [
      'one file by two paths, for training and for validation',
      'DATA_DUPLICATE',
      'path,label,split\npics/1.jpg,a,train\npics/2.jpg,b,train\n./pics/1.jpg,a,val\n',
    ],
    ['one file with two labels', 'DATA_DUPLICATE', 'path,label,split\npics/1.jpg,a,train\n./pics/1.jpg,b,train\n'],
  ])('%s: %s', (_, code, text) => {
    expect(faultOf(text).code).toBe(code);
  });

  test('a missing manifest', () => {
    expect(() => readManifest(join(newFolder(), 'no.csv'), { seed: 1 })).toThrowError(
      expect.objectContaining({ code: 'DATA_NOT_FOUND' }),
    );
  });

  test('a validation part out of range', () => {
    const csv = manifest('path,label\npics/1.jpg,a\npics/2.jpg,b\n');
    expect(() => readManifest(csv, { seed: 1, valSplit: 1 })).toThrowError(
      expect.objectContaining({ code: 'BAD_VAL_SPLIT' }),
    );
  });
});
