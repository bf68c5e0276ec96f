/** A model folder gives back what was put into it, to the bit; every damage is an error that says what to do. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import {
  graphOf,
  MODEL_FORMAT_VERSION,
  type ModelRecord,
  openModelFolder,
  saveModelFolder,
} from '../../src/weights/model-folder.js';
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.js';
import { parameterNumbers, readerOf } from '../engine/support/parameters.js';
import { expectFailure, temporary } from './support/temporary.js';

const published = findPublished(findBackbone('mobilenet_v1_0.25'), 'keras');
const record: ModelRecord = {
  formatVersion: MODEL_FORMAT_VERSION,
  backbone: 'mobilenet_v1_0.25',
  source: 'keras',
  inputSize: { height: 64, width: 96 },
  head: { hidden: [16], dropout: 0.25 },
  classes: ['Blume', 'été', '花 "quoted"'],
  preprocessing: published.preprocessing,
  weights: { origin: 'a test', license: 'none' },
  data: { fingerprint: 'abc', valSplit: 0.2, seed: 7 },
  toolkit: '0.0.0',
};
const graph = graphOf(record);

const whole = temporary('whole');
beforeAll(async () => {
  await saveModelFolder(whole, record, readerOf(graph));
});

let copies = 0;
/** A copy of the whole folder, changed. */
function damaged(change: (folder: string) => void): string {
  const folder = temporary(`damaged-${copies++}`);
  cpSync(whole, folder, { recursive: true });
  change(folder);
  return folder;
}

/** A copy whose record has other entries; undefined removes one. */
function edited(changes: { readonly [key in keyof ModelRecord]?: unknown }): string {
  return damaged((folder) => {
    const json = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as ModelRecord;
    writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...json, ...changes }));
  });
}

describe('a whole folder', () => {
  test('is the same bytes when what was read is written again', async () => {
    const training = { trainPictures: 3, valPictures: 1, recipe: { seed: 1, freeze: 'none' } };
    const [first, second] = [temporary('written'), temporary('written again')];
    await saveModelFolder(first, { ...record, channels: 3, training }, readerOf(graph));
    const model = await openModelFolder(first);
    await saveModelFolder(second, model.record, model.read);
    await model.close();
    for (const name of readdirSync(first)) {
      expect(readFileSync(join(second, name)).equals(readFileSync(join(first, name))), name).toBe(true);
    }
  });

  test('gives back the record, and every number to the bit', async () => {
    const model = await openModelFolder(whole);
    expect(model.folder).toBe(whole);
    expect(model.record).toEqual(record);
    expect(model.graph.parameters.map(({ path }) => path)).toEqual(graph.parameters.map(({ path }) => path));
    for (const parameter of graph.parameters) {
      const numbers = await model.read(parameter.path);
      expect(Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength), parameter.path).toEqual(
        Buffer.from(parameterNumbers(parameter).buffer),
      );
    }
    await model.close();
  });

  test('keeps numbers that are no ordinary numbers', async () => {
    const folder = temporary('odd-numbers');
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e-45, 3.4028234663852886e38];
    await saveModelFolder(folder, record, async (path) => {
      const { shape } = graph.parameters.find((parameter) => parameter.path === path)!;
      return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => odd[i % odd.length]!);
    });
    const model = await openModelFolder(folder);
    const numbers = await model.read('head.dense1.bias');
    await model.close();
    expect([...numbers].map((value, i) => Object.is(value, Math.fround(odd[i % odd.length]!)))).toEqual(
      new Array(16).fill(true),
    );
  });

  test('saving the same again gives the same bytes', async () => {
    const again = temporary('again');
    await saveModelFolder(again, record, readerOf(graph));
    for (const file of ['model.json', 'weights.safetensors']) {
      expect(readFileSync(join(again, file)).equals(readFileSync(join(whole, file))), file).toBe(true);
    }
  });

  test('holds canonical names that any safetensors reader shows, and says whose they are', async () => {
    const source = await openSafetensors(join(whole, 'weights.safetensors'));
    expect(source.tensors.map(({ name }) => name)).toEqual(graph.parameters.map(({ path }) => path));
    expect(source.tensors.every(({ dtype }) => dtype === 'float32')).toBe(true);
    expect(source.metadata).toEqual({ format: 'tl', backbone: 'mobilenet_v1_0.25' });
    await source.close();
  });

  test('a run folder opens as its best model; a model folder comes first', async () => {
    const run = temporary('run');
    cpSync(whole, join(run, 'best'), { recursive: true });
    const best = await openModelFolder(run);
    expect(best.folder).toBe(join(run, 'best'));
    await best.close();
  });
});

describe('saving', () => {
  test('replaces a folder whole, old files too, and writes what else belongs there', async () => {
    const folder = temporary('replaced');
    mkdirSync(folder);
    writeFileSync(join(folder, 'old.txt'), 'old');
    await saveModelFolder(folder, record, readerOf(graph), async (fresh) => {
      writeFileSync(join(fresh, 'more.txt'), 'more');
    });
    expect(readdirSync(folder).sort()).toEqual(['README.md', 'model.json', 'more.txt', 'weights.safetensors']);
  });

  test('a failure halfway leaves the old folder as it was, and no rest beside it', async () => {
    const parent = temporary('half');
    const folder = join(parent, 'model');
    cpSync(whole, folder, { recursive: true });
    const before = readFileSync(join(folder, 'weights.safetensors'));
    const read = readerOf(graph, 1);
    const failing = saveModelFolder(folder, { ...record, classes: ['x', 'y', 'z'] }, async (path) => {
      if (path === 'head.logits.kernel') throw new Error('the numbers are gone');
      return read(path);
    });
    await expect(failing).rejects.toThrow('the numbers are gone');
    expect(readFileSync(join(folder, 'weights.safetensors')).equals(before)).toBe(true);
    expect(readdirSync(parent)).toEqual(['model']);
    const model = await openModelFolder(folder);
    expect(model.record.classes).toEqual(record.classes);
    await model.close();
  });
});

describe('damage', () => {
  test('no folder, an empty one, and one without a record', async () => {
    const empty = temporary('empty');
    mkdirSync(empty);
    const noRecord = damaged((folder) => rmSync(join(folder, 'model.json')));
    for (const path of [temporary('nowhere'), empty, noRecord]) {
      const error = await expectFailure(() => openModelFolder(path), 'MODEL_NOT_FOUND', /model\.json/);
      expect(error.message).toContain(path);
    }
  });

  test('no weights beside the record', async () => {
    const folder = damaged((path) => rmSync(join(path, 'weights.safetensors')));
    const error = await expectFailure(() => openModelFolder(folder), 'FILE_NOT_READ', /weights\.safetensors/);
    expect(error.message).toContain(folder);
  });

  test.each([0, 5, 100, -1, -1000])('weights cut to %i bytes', async (bytes) => {
    const folder = damaged((path) => {
      const file = join(path, 'weights.safetensors');
      truncateSync(file, bytes >= 0 ? bytes : readFileSync(file).length + bytes);
    });
    await expectFailure(() => openModelFolder(folder), 'FILE_TRUNCATED', /weights\.safetensors/);
  });

  test('weights that are something else', async () => {
    const folder = damaged((path) => writeFileSync(join(path, 'weights.safetensors'), 'not weights at all, just text'));
    await expectFailure(() => openModelFolder(folder), 'LIMIT_EXCEEDED', /weights\.safetensors/);
  });

  test('tensors of another shape and tensors that are absent are all named at once', async () => {
    const folder = damaged(() => {});
    const entries = graph.parameters
      .filter(({ path }) => path !== 'stem.norm.mean')
      .map(({ path, shape }) => {
        const changed = path === 'head.logits.bias' ? [4] : shape;
        return { name: path, shape: changed, read: () => new Float32Array(changed.reduce((a, b) => a * b, 1)) };
      });
    await writeSafetensors(join(folder, 'weights.safetensors'), entries);
    const error = await expectFailure(() => openModelFolder(folder), 'WEIGHTS_MISMATCH');
    expect(error.message).toContain('absent: stem.norm.mean [8]');
    expect(error.message).toContain('wrong shape: head.logits.bias is [4], expected [3]');
  });

  test('weights of another network', async () => {
    const folder = edited({ backbone: 'mobilenet_v2_0.35' });
    const error = await expectFailure(() => openModelFolder(folder), 'WEIGHTS_MISMATCH', /absent: .*and \d+ more/s);
    expect(error.message.split('\n').length).toBeLessThan(25);
  });

  test('a record that is no JSON, or empty, or a list', async () => {
    const write = (text: string) => damaged((folder) => writeFileSync(join(folder, 'model.json'), text));
    for (const text of ['{"formatVersion": 1,', '', 'hello']) {
      await expectFailure(() => openModelFolder(write(text)), 'JSON_INVALID', /model\.json/);
    }
    for (const text of ['[]', 'null', '3', '{}']) {
      await expectFailure(() => openModelFolder(write(text)), 'MODEL_INVALID', /model\.json/);
    }
  });

  test('a record of a newer format says so', async () => {
    const folder = edited({ formatVersion: MODEL_FORMAT_VERSION + 1 });
    const error = await expectFailure(() => openModelFolder(folder), 'MODEL_INVALID', /formatVersion/);
    expect(error.hint).toContain('newer version');
  });

  test.each<[title: string, changes: Parameters<typeof edited>[0], message: RegExp]>([
    ['one class', { classes: ['only'] }, /classes/],
    ['classes that are numbers', { classes: [1, 2, 3] }, /classes\.0/],
    ['a dropout of 1', { head: { hidden: [], dropout: 1 } }, /head\.dropout/],
    ['no preprocessing', { preprocessing: undefined }, /preprocessing/],
    ['a size of 0', { inputSize: { height: 0, width: 96 } }, /inputSize\.height/],
  ])('%s is named', async (_, changes, message) => {
    await expectFailure(() => openModelFolder(edited(changes)), 'MODEL_INVALID', message);
  });

  test('a backbone, a source or a size that there is not', async () => {
    await expectFailure(
      () => openModelFolder(edited({ backbone: 'resnet5000' })),
      'UNKNOWN_BACKBONE',
      /model\.json: .*resnet5000/,
    );
    await expectFailure(() => openModelFolder(edited({ source: 'moon' })), 'UNKNOWN_SOURCE', /moon/);
    const tiny = { height: 1, width: 1 };
    const small = edited({ backbone: 'resnet50', source: 'torch', inputSize: tiny });
    await expectFailure(() => openModelFolder(small), 'WEIGHTS_MISMATCH', /absent/);
  });

  test('classes more or fewer than the head has', async () => {
    const folder = edited({ classes: ['a', 'b'] });
    const error = await expectFailure(() => openModelFolder(folder), 'WEIGHTS_MISMATCH');
    expect(error.message).toContain('head.logits.kernel is [16, 3], expected [16, 2]');
    expect(existsSync(join(folder, 'model.json'))).toBe(true);
  });
});
