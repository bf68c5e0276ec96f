/** TensorFlow's checkpoints, both versions, against what their writers stored; and damaged ones. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ToolkitError } from '../../src/errors.js';
import { assemble, sliceKey } from '../../src/weights/checkpoint/names.js';
import { crc32c, maskedCrc32c } from '../../src/weights/crc32.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { openWeights } from '../../src/weights/source.js';
import { readFileFixtures } from '../support/golden.js';

const fixtures = readFileFixtures('tensorflow');
const folder = mkdtempSync(join(tmpdir(), 'tl-checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(fixtures)('$file: $about', ({ file, path, tensors }) => {
  test('every tensor is what the writer stored, bit for bit', async () => {
    const source = await openWeights(path);
    expect(source.format).toBe(file.endsWith('.pb') ? 'tf-graph' : 'tf-checkpoint');
    expect(source.tensors.map(({ name }) => name).sort()).toEqual(tensors.map(({ name }) => name).sort());
    for (const { name, dtype, shape, values } of tensors) {
      expect(source.tensors.find((each) => each.name === name)).toEqual({ name, dtype, shape });
      expect(await source.read(name), name).toEqual(values);
    }
    await source.close();
  });
});

describe('what a user may call a checkpoint of version 2', () => {
  const names = ['keras-weights.ckpt', 'keras-weights.ckpt.index', 'keras-weights.ckpt.data-00000-of-00001'];
  const here = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);

  test.each(names)('%s', async (name) => {
    const source = await openWeights(join(here, name));
    expect(source.tensors.length).toBe(15);
    expect(source.metadata).toMatchObject({ version: '2', naming: 'objects' });
    await source.close();
  });

  test('the folder it lies in, by the file `checkpoint` or alone', async () => {
    const alone = mkdtempSync(join(folder, 'alone-'));
    for (const name of names.slice(1)) copyFileSync(join(here, name), join(alone, name));
    await (await openWeights(alone)).close();
    for (const name of names.slice(1)) copyFileSync(join(here, name), join(alone, name.replace('keras', 'other')));
    await expect(openWeights(alone)).rejects.toMatchObject({ code: 'FILE_IS_FOLDER' }); // which of the two?
    writeFileSync(join(alone, 'checkpoint'), 'model_checkpoint_path: "other-weights.ckpt"\n');
    const source = await openWeights(alone);
    expect(basename(source.path)).toBe('other-weights.ckpt.index');
    await source.close();
  });
});

test('constants of a graph that are no weights are counted', async () => {
  const source = await openWeights(fixtures.find(({ file }) => file === 'frozen.pb')!.path);
  expect(source.metadata.ignored).toMatch(/^\d+ constants/);
  await source.close();
});

test('the variables of a SavedModel are found by its folder', async () => {
  const saved = join(folder, 'saved');
  mkdirSync(join(saved, 'variables'), { recursive: true });
  const from = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);
  for (const end of ['index', 'data-00000-of-00001']) {
    copyFileSync(join(from, `saver-v2.ckpt.${end}`), join(saved, 'variables', `variables.${end}`));
  }
  const source = await openWeights(saved);
  expect(source.tensors.some(({ name }) => name === 'Tiny/conv1/kernel')).toBe(true);
  await source.close();
});

test('texts are named and left out', async () => {
  const source = await openWeights(fixtures.find(({ file }) => file === 'objects.ckpt.index')!.path);
  expect(source.metadata.ignored).toContain('text');
  await source.close();
});

test('CRC-32C has the values of RFC 3720, section B.4', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
  expect(maskedCrc32c(Buffer.alloc(0))).toBe(0xa282ead8);
});

test('weights may be a checkpoint by its prefix, or a folder that is one', async () => {
  const here = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);
  for (const weights of [join(here, 'saver-v2.ckpt'), join(folder, 'saved')]) {
    // found and read, and of another network
    await expect(resolveWeights({ backbone: 'resnet18', weights })).rejects.toMatchObject({ code: 'WEIGHTS_MISMATCH' });
  }
  await expect(resolveWeights({ backbone: 'resnet18', weights: folder })).rejects.toMatchObject({
    code: 'WEIGHTS_NOT_FOUND',
  });
});

describe('slices', () => {
  test('keys are TensorFlow’s ordered code', () => {
    // 00 | name, 00 01 | 01 02 two dimensions | 0 and 2 | all (-1) from 0
    const key = sliceKey('ab', [
      { start: 0, length: 2 },
      { start: 0, length: -1 },
    ]);
    expect(key.toString('hex')).toBe('00616200010102808280' + '7f');
    expect(sliceKey('', [{ start: 100, length: -100 }]).toString('hex')).toBe('0000010101c0643f9c');
  });

  test('are put together in three dimensions', () => {
    const shape = [2, 3, 4];
    const whole = Float32Array.from({ length: 24 }, (_, i) => i);
    const box = (starts: number[], lengths: number[]) => ({
      slice: starts.map((start, axis) => ({ start, length: lengths[axis]! })),
      values: whole.filter((i) =>
        [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4].every(
          (at, axis) => at >= starts[axis]! && at < starts[axis]! + lengths[axis]!,
        ),
      ),
    });
    const pieces = [box([0, 0, 0], [2, 3, 1]), box([0, 0, 1], [2, 1, 3]), box([0, 1, 1], [2, 2, 3])];
    expect(assemble('x', shape, pieces)).toEqual(whole);
    expect(() => assemble('x', shape, pieces.slice(1))).toThrow(/18 of 24/);
    expect(() => assemble('x', [2, 2, 4], pieces)).toThrow(/does not fit/);
  });
});

describe('damage', () => {
  const mutate = async (file: string, bytes: Buffer): Promise<void> => {
    writeFileSync(file, bytes);
    const source = await openWeights(file);
    try {
      for (const { name } of source.tensors) await source.read(name);
    } finally {
      await source.close();
    }
  };

  test.each(['saver-v1.ckpt', 'saver-v2.ckpt.index', 'saver-v2.ckpt.data-00000-of-00001'])(
    'a flipped bit, or an end that is missing, anywhere in %s is an error or changes nothing',
    async (name) => {
      const from = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);
      const all = ['saver-v1.ckpt', 'saver-v2.ckpt.index', 'saver-v2.ckpt.data-00000-of-00001'];
      for (const each of all) copyFileSync(join(from, each), join(folder, each));
      const file = join(folder, name);
      const whole = readFileSync(file);
      const codes = new Map<string, number>();
      const note = async (bytes: Buffer): Promise<void> => {
        try {
          await mutate(file, bytes);
          codes.set('read', (codes.get('read') ?? 0) + 1);
        } catch (error) {
          if (!(error instanceof ToolkitError)) throw error;
          codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
        }
      };
      for (let at = 0; at < whole.length; at += 7) {
        const flipped = Buffer.from(whole);
        flipped[at]! ^= 1 << (at % 8);
        await note(flipped);
        if (at % 70 === 0) await note(whole.subarray(0, at));
      }
      console.log(`${name}: ${[...codes].map((each) => each.join(' ')).join(', ')}`);
      // Only what no checksum covers can change unseen: padding of the footer, the meta index.
      expect(codes.get('read') ?? 0).toBeLessThan(12);
    },
  );
});
