/** TensorFlow's checkpoints, both versions, against what their writers stored; and damaged ones. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ToolkitError } from '../../src/errors.js';
import { assemble, type Slice, sliceKey } from '../../src/weights/checkpoint/names.js';
import { trainingTensors } from '../../src/weights/checkpoint/set-aside.js';
import { crc32c, maskedCrc32c } from '../../src/weights/crc32.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { openWeights } from '../../src/weights/source.js';
import { readFileFixtures } from '../support/golden.js';
import { expectFailure, withSource } from './support/temporary.js';

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

describe('what else a user may give', () => {
  const here = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);

  test.each([
    ['saved-model', 15],
    ['saved-model/saved_model.pb', 15],
    ['saved-model/variables', 15],
    ['saver-v2-two', 3],
    ['saver-v2-two.data-00001-of-00002', 3],
    ['saver-v1-two', 3],
    ['saver-v1-two-00001-of-00002', 3],
    ['saver-v1-two-?????-of-00002', 3],
  ])('%s', async (name, count) => {
    await withSource(join(here, name), ({ tensors }) => {
      expect(tensors).toHaveLength(count);
    });
  });

  test('a graph beside a checkpoint, or the file that names it, wherever it was written', async () => {
    const moved = mkdtempSync(join(folder, 'moved-'));
    copyFileSync(join(here, 'saver-v1.ckpt'), join(moved, 'old.ckpt'));
    writeFileSync(join(moved, 'old.ckpt.meta'), 'a graph');
    writeFileSync(join(moved, 'checkpoint'), 'model_checkpoint_path: "/home/somebody/train/old.ckpt"\n');
    for (const name of ['old.ckpt.meta', 'checkpoint', '.']) {
      await withSource(join(moved, name), ({ metadata }) => {
        expect(metadata.version).toBe('1');
      });
    }
    writeFileSync(join(moved, 'checkpoint'), 'model_checkpoint_path: "../other/old.ckpt"\n');
    await withSource(join(moved, 'checkpoint'), ({ path }) => {
      expect(path).toBe(join(moved, 'old.ckpt'));
    });
  });
});

describe('what belongs to no network is set aside with the reason', () => {
  const asideOf = async (file: string): Promise<Record<string, string>> => {
    const source = await openWeights(fixtures.find((each) => each.file === file)!.path);
    await source.close();
    return Object.fromEntries(source.setAside!.map(({ name, reason }) => [name, reason]));
  };

  test('by name, as TensorFlow 1 trains', async () => {
    expect(await asideOf('training.ckpt.index')).toEqual({
      'Tiny/conv1/weights/ExponentialMovingAverage': 'running average of Tiny/conv1/weights',
      'Tiny/conv1/weights/Momentum': 'slot of an optimiser, for Tiny/conv1/weights',
      'Tiny/fc/biases/Adam': 'slot of an optimiser, for Tiny/fc/biases',
      'Tiny/fc/biases/Adam_1': 'slot of an optimiser, for Tiny/fc/biases',
      'Tiny/fc/biases/ExponentialMovingAverage': 'running average of Tiny/fc/biases',
      beta1_power: 'state of the optimiser',
      beta2_power: 'state of the optimiser',
      global_step: 'the number of training steps',
    });
    for (const file of ['saver-v1.ckpt', 'saver-v2.ckpt.index']) {
      expect(await asideOf(file)).toEqual({
        'Tiny/conv1/kernel/ExponentialMovingAverage': 'running average of Tiny/conv1/kernel',
        global_step: 'the number of training steps',
        mean_rgb: 'the mean colour of the training pictures',
      });
    }
  });

  test('by the graph of objects, as Keras trains', async () => {
    const training = await asideOf('keras-training.ckpt.index');
    expect(Object.keys(training)).toHaveLength(24);
    expect(training).toMatchObject({
      iteration: 'state of the optimiser',
      'SGD/m/conv1/kernel': 'state of the optimiser',
      'SGD/average/conv1/kernel': 'running average of conv1/kernel, kept by the optimiser',
    });
    const legacy = await asideOf('keras-legacy.ckpt.index');
    expect(legacy).toMatchObject({
      step: 'a counter',
      'SGD/iter': 'state of the optimiser',
      'net/layer_with_weights-0/kernel/.OPTIMIZER_SLOT/opt/momentum': 'slot of an optimiser',
    });
    expect(Object.keys(legacy).some((name) => /^(conv|bn|dw|fc)\d?\//.test(name))).toBe(false);
  });

  test('the generators of random numbers that Keras 3 exports for its dropouts', () => {
    const generator = { dtype: 'uint32', shape: [2] } as const;
    const names = ['seed_generator/seed_generator_state', 'seed_generator_1/seed_generator_state', 'conv1/kernel'];
    expect(trainingTensors(names.map((name) => ({ name, ...generator })))).toEqual(
      names.slice(0, 2).map((name) => ({ name, reason: 'state of a random number generator' })),
    );
  });

  test('what is no plain number is named, and is no tensor', async () => {
    expect(await asideOf('types.ckpt.index')).toMatchObject({ complex64: 'numbers of type complex64', words: 'text' });
    expect(await asideOf('objects.ckpt.index')).toEqual({ note: 'text' });
    expect(await asideOf('frozen-kinds.pb')).toEqual({
      axes: 'a constant of the graph',
      scalar: 'a constant of the graph',
      words: 'text',
    });
  });
});

test('constants of a graph that are no weights are counted', async () => {
  const source = await openWeights(fixtures.find(({ file }) => file === 'frozen.pb')!.path);
  expect(source.metadata.ignored).toMatch(/^\d+ constants/);
  await source.close();
});

test('a graph whose numbers were kept apart says where they are', async () => {
  const field = (number: number, bytes: Buffer) => Buffer.concat([Buffer.of(8 * number + 2, bytes.length), bytes]);
  const shape = field(2, field(2, Buffer.of(8, 3))); // [3]
  const value = field(8, Buffer.concat([Buffer.of(8, 1), shape])); // float32, and no numbers
  const attribute = field(5, Buffer.concat([field(1, Buffer.from('value')), field(2, value)]));
  const node = (name: string) =>
    field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from('Const')), attribute]));
  const path = join(folder, 'tensorflowjs_model.pb');
  writeFileSync(path, Buffer.concat([node('a'), node('b')]));
  const error = await expectFailure(() => openWeights(path), 'GRAPH_WITHOUT_NUMBERS', /names 2 constants/);
  expect(error.hint).toContain('weights_manifest.json');
  writeFileSync(path, node('a')); // one alone is zeros, which are not written down
  await withSource(path, async (source) => {
    expect(await source.read('a')).toEqual(new Float32Array(3));
  });
});

test('CRC-32C has the values of RFC 3720, section B.4', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
  expect(maskedCrc32c(Buffer.alloc(0))).toBe(0xa282ead8);
});

test('a checksum is the same from any address and in any pieces', () => {
  const bytes = Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 37 + (i >> 3)) & 0xff));
  /** The definition, bit by bit: RFC 3720, section 12.1. */
  const plain = (of: Uint8Array) => {
    let sum = ~0;
    for (const byte of of) {
      sum ^= byte;
      for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0x82f63b78 : 0);
    }
    return ~sum >>> 0;
  };
  for (let start = 0; start < 20; start++) {
    for (let end = start; end < bytes.length; end += 7) {
      const part = bytes.subarray(start, end);
      expect(crc32c(part)).toBe(plain(part));
      const middle = start + Math.floor((end - start) / 3);
      expect(crc32c(bytes.subarray(middle, end), crc32c(bytes.subarray(start, middle)))).toBe(plain(part));
    }
  }
});

test('weights may be a checkpoint by its prefix, or a folder that is one', async () => {
  const here = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);
  for (const weights of [join(here, 'saver-v2.ckpt'), join(here, 'saved-model')]) {
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

  test('are put together in three dimensions', async () => {
    const shape = [2, 3, 4];
    const whole = Float32Array.from({ length: 24 }, (_, i) => i);
    const box = (starts: number[], lengths: number[]) =>
      starts.map((start, axis) => ({ start, length: lengths[axis]! }));
    const read = async (slice: Slice) =>
      whole.filter((i) =>
        [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4].every((at, axis) => {
          const { start, length } = slice[axis]!;
          return at >= start && at < start + length;
        }),
      );
    const slices = [box([0, 0, 0], [2, 3, 1]), box([0, 0, 1], [2, 1, 3]), box([0, 1, 1], [2, 2, 3])];
    expect(await assemble('x', shape, slices, read)).toEqual(whole);
    await expect(assemble('x', shape, slices.slice(1), read)).rejects.toThrow(/18 of 24/);
    await expect(assemble('x', [2, 2, 4], slices, read)).rejects.toThrow(/does not fit/);
    const twice = [box([0, 0, 0], [1, 3, 4]), box([0, 0, 0], [1, 3, 4])];
    await expect(assemble('x', shape, twice, read)).rejects.toThrow(/overlap/);
    await expect(assemble('x', shape, slices, async () => new Float32Array(5))).rejects.toThrow(/has 5 numbers/);
  });
});

describe('a checkpoint in parts', () => {
  const here = fixtures[0]!.path.slice(0, -fixtures[0]!.file.length);
  const names = ['saver-v2-two.index', 'saver-v2-two.data-00000-of-00002', 'saver-v2-two.data-00001-of-00002'];
  /** Bytes of its only block, as the handle at the table's end says; behind them its compression and checksum. */
  const BLOCK = 0xca;
  const some = (kept: readonly string[]): string => {
    const at = mkdtempSync(join(folder, 'parts-'));
    for (const name of kept) copyFileSync(join(here, name), join(at, name));
    return at;
  };

  test('is missed as soon as it is opened', async () => {
    const at = some([names[0]!]);
    const error = await expectFailure(() => openWeights(join(at, 'saver-v2-two')), 'CHECKPOINT_PARTS', /in 2 files/);
    expect(error.message).toContain('data-00000-of-00002');
    expect(error.message).toContain('data-00001-of-00002');
    await expectFailure(() => openWeights(some(names.slice(0, 2))), 'CHECKPOINT_PARTS', /data-00001-of-00002/);
    const alone = join(some([names[1]!]), names[1]!);
    await expectFailure(() => openWeights(alone), 'CHECKPOINT_PARTS', /expected .*saver-v2-two\.index beside/);
  });

  test('is missed when it is cut off', async () => {
    const at = some(names);
    const part = join(at, names[2]!);
    writeFileSync(part, readFileSync(part).subarray(0, -1));
    await expectFailure(() => openWeights(at), 'FILE_TRUNCATED', /64 bytes at offset 0, but the file has 63/);
  });

  test('is missed beside its graph', async () => {
    const graph = join(some([]), 'model.ckpt.meta');
    writeFileSync(graph, Buffer.from('0a00', 'hex'));
    await expectFailure(() => openWeights(graph), 'CHECKPOINT_PARTS', /model\.ckpt\.index or .*model\.ckpt beside/);
  });

  test('of version 1 is missed too', async () => {
    const name = 'saver-v1-two-00000-of-00002';
    await expectFailure(() => openWeights(join(some([name]), name)), 'CHECKPOINT_PARTS', /1 of its 2/);
  });

  test('has no part in a file that is called as its files begin', async () => {
    const at = some(names);
    copyFileSync(join(here, 'saver-v1.ckpt'), join(at, 'saver-v2-two'));
    await withSource(join(at, 'saver-v2-two'), ({ metadata }) => {
      expect(metadata.version).toBe('1');
    });
  });

  test('with a compressed block is refused by name', async () => {
    const at = some(names);
    const file = join(at, names[0]!);
    const index = readFileSync(file);
    index[BLOCK] = 1; // kSnappyCompression of tensorflow/core/lib/io/table_options.h
    index.writeUInt32LE(maskedCrc32c(index.subarray(0, BLOCK + 1)), BLOCK + 1);
    writeFileSync(file, index);
    await expectFailure(() => openWeights(at), 'CHECKPOINT_COMPRESSED', /compressed \(kind 1\)/);
  });

  test('written on a big-endian machine is refused by name', async () => {
    const at = some(names);
    const file = join(at, names[0]!);
    const index = readFileSync(file);
    // BundleHeaderProto: 2 shards, version 1; endianness 1 instead of what the version says
    Buffer.from('080210011a00', 'hex').copy(index, index.indexOf(Buffer.from('08021a020801', 'hex')));
    index.writeUInt32LE(maskedCrc32c(index.subarray(0, BLOCK + 1)), BLOCK + 1);
    writeFileSync(file, index);
    await expectFailure(() => openWeights(at), 'CHECKPOINT_BIG_ENDIAN', /big-endian/);
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
