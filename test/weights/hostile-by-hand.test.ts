/** Files made to do harm: to fill the memory, to never end, to reach outside themselves. Each is refused, and by name. */

import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { maskedCrc32c } from '../../src/weights/crc32.js';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';
import { expectFailure, temporary, temporaryFile, withSource } from './support/temporary.js';
import { floats, p, tensor, torchStream, torchZip, zipOf } from './support/torch-writer.js';

const ours = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));
const reference = (name: string): string => join(fixturesFolder, 'files', name);

/** All that these files together may take; making them takes the test some 100 MB. Without limits each takes all there is. */
const MOST_BYTES = 1e9;
const before = process.resourceUsage().maxRSS * 1024;
afterAll(() => expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(MOST_BYTES));

const varint = (value: bigint): number[] => {
  const out: number[] = [];
  for (; value >= 128n; value >>= 7n) out.push(Number((value & 127n) | 128n));
  return [...out, Number(value)];
};

async function readAll(path: string): Promise<void> {
  await withSource(path, async (source) => {
    for (const { name } of source.tensors) await source.read(name);
  });
}

describe('HDF5', () => {
  it('numbers that lie in another file of the machine', async () => {
    await expectFailure(
      () => readAll(ours('external-storage.h5')),
      'H5_DAMAGED',
      /another file, \/etc\/passwd, .*not read/,
    );
    await expectFailure(() => readAll(ours('virtual.h5')), 'H5_LAYOUT', /assembled from other files/);
  });

  it('groups that hold themselves', async () => {
    await expectFailure(() => readAll(ours('loop.h5')), 'LIMIT_EXCEEDED', /nested deeper than 64/);
  });

  it('numbers that nobody wrote', async () => {
    await expectFailure(() => readAll(ours('unwritten.h5')), 'LIMIT_EXCEEDED', /declares 1600000000 bytes/);
  });
});

describe('zip, npz and gzip', () => {
  const header = (shape: string): Buffer => {
    const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117);
    return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00\x76\x00', 'latin1'), Buffer.from(`${text}\n`)]);
  };

  it('an entry that unpacks to more than it declares', async () => {
    const array = Buffer.concat([header('(25000000,)'), Buffer.alloc(100_000_000)]);
    const zip = await zipOf([['a.npy', array]], { compress: true });
    const directory = zip.lastIndexOf(Buffer.from('504b0102', 'hex'));
    zip.writeUInt32LE(128 + 4000, directory + 24);
    const lying = Buffer.concat([header('(1000,)'), Buffer.alloc(100_000_000)]);
    const bomb = await zipOf([['a.npy', lying]], { compress: true });
    bomb.writeUInt32LE(128 + 4000, bomb.lastIndexOf(Buffer.from('504b0102', 'hex')) + 24);
    await expectFailure(
      () => readAll(temporaryFile('declared.npz', zip)),
      'FILE_TRUNCATED',
      /declares 100000000 bytes/,
    );
    await expectFailure(() => readAll(temporaryFile('bomb.npz', bomb)), 'ZIP_DAMAGED', /unpacks to more/);
  });

  it('more bytes than deflate can unpack to', async () => {
    const zip = await zipOf([['a.npy', Buffer.alloc(1000)]], { compress: true });
    zip.writeUInt32LE(0x7fffffff, zip.lastIndexOf(Buffer.from('504b0102', 'hex')) + 24);
    await expectFailure(() => readAll(temporaryFile('ratio.npz', zip)), 'ZIP_DAMAGED', /which cannot be/);
  });

  it('a header of NumPy of a billion characters', async () => {
    const head = Buffer.from('\x93NUMPY\x02\x00\x00\x00\x00\x00', 'latin1');
    head.writeUInt32LE(1_000_000_000, 8);
    const zip = await zipOf([['a.npy', Buffer.concat([head, Buffer.alloc(100, ' ')])]]);
    await expectFailure(() => readAll(temporaryFile('header.npz', zip)), 'LIMIT_EXCEEDED', /1000000000/);
  });

  it('a gzip of zeros in gzips of zeros', async () => {
    const inner = gzipSync(Buffer.alloc(200_000_000));
    await expectFailure(() => readAll(temporaryFile('zeros.gz', inner)), 'ARCHIVE_EMPTY');
    await expectFailure(() => readAll(temporaryFile('twice.gz', gzipSync(inner))), 'ARCHIVE_NESTED');
  });
});

describe('pickles', () => {
  const storage = { key: '0', type: 'FloatStorage', count: 2 };
  const good = tensor(storage, [2], [1]);
  const storages = [{ ...storage, bytes: floats(1, 2) }];
  const deep = (open: Buffer, close: Buffer, levels: number): Buffer =>
    Buffer.concat([...Array<Buffer>(levels).fill(open), p.none, ...Array<Buffer>(levels).fill(close)]);
  const write = async (name: string, object: Buffer, inside = storages): Promise<[string, string]> => [
    temporaryFile(`${name}-zip.pth`, await torchZip(object, inside)),
    temporaryFile(`${name}-stream.pth`, torchStream(object, inside)),
  ];

  it('ten thousand lists, tuples and dictionaries in each other, beside a tensor', async () => {
    const lists = deep(Buffer.from(']'), Buffer.from('a'), 10_000);
    const tuples = deep(Buffer.from('('), Buffer.from('t'), 10_000);
    const dicts = deep(Buffer.concat([p.emptyDict, p.text('state_dict')]), Buffer.from('s'), 10_000);
    const object = p.dictOf([
      ['w', good],
      ['lists', lists],
      ['tuples', tuples],
      ['dicts', dicts],
    ]);
    for (const path of await write('deep', object)) {
      await withSource(path, async (source) => expect(await source.read('w')).toEqual(Float32Array.of(1, 2)));
    }
    for (const path of await write('only-deep', dicts, []))
      await expectFailure(() => readAll(path), 'TORCH_NO_TENSORS');
  });

  it('forty dictionaries that hold the next one twice', async () => {
    const put = (index: number): Buffer => Buffer.from([0x71, index]); // BINPUT
    const get = (index: number): Buffer => Buffer.from([0x68, index]); // BINGET
    const parts: Buffer[] = [p.dictOf([['w', good]]), put(0)];
    for (let level = 1; level <= 40; level++) {
      parts.push(
        p.dictOf([]),
        put(level),
        p.mark,
        p.text('a'),
        get(level - 1),
        p.text('b'),
        get(level - 1),
        p.setItems,
      );
    }
    for (const path of await write('doubling', Buffer.concat(parts))) {
      const outcome = await openWeights(path).then(
        (source) => source.close().then(() => 'opened'),
        (error: { code?: string }) => error.code,
      );
      expect(['opened', 'TORCH_NO_TENSORS', 'LIMIT_EXCEEDED']).toContain(outcome);
    }
  });

  it('a shape of lists that hold the next one twice', async () => {
    const parts: Buffer[] = [p.emptyList, Buffer.from([0x71, 0])];
    for (let level = 1; level <= 30; level++) {
      const twice = [p.mark, Buffer.from([0x68, level - 1]), Buffer.from([0x68, level - 1]), p.appends];
      parts.push(p.emptyList, Buffer.from([0x71, level]), ...twice);
    }
    const id = [p.text('storage'), p.global('torch', storage.type), p.text(storage.key), p.text('cpu'), p.int(2)];
    const reference = Buffer.concat([p.tupleOf(...id), p.persId]);
    const args = [reference, p.int(0), Buffer.concat([p.mark, ...parts, p.tuple]), p.tupleOf(p.int(1)), p.false];
    const object = p.dictOf([
      ['w', Buffer.concat([p.global('torch._utils', '_rebuild_tensor_v2'), p.tupleOf(...args), p.reduce])],
    ]);
    for (const path of await write('shape', object)) await expectFailure(() => readAll(path), 'TENSOR_SHAPE', /object/);
  });

  it('a dictionary that holds itself', async () => {
    const self = Buffer.concat([
      p.emptyDict,
      Buffer.from([0x71, 0]),
      p.mark,
      p.text('model'),
      Buffer.from([0x68, 0]),
      p.setItems,
    ]);
    for (const path of await write('self', self, [])) await expectFailure(() => readAll(path), 'TORCH_NO_TENSORS');
  });

  it('a long list, copied again and again', async () => {
    const list = Buffer.concat([p.emptyList, p.mark, Buffer.alloc(200_000, 'N'), p.appends, Buffer.from([0x71, 0])]);
    const copy = Buffer.concat([p.global('builtins', 'list'), Buffer.from([0x68, 0]), Buffer.from([0x85]), p.reduce]);
    const copies = Buffer.concat([p.emptyList, p.mark, ...Array<Buffer>(20_000).fill(copy), p.appends]);
    const object = p.dictOf([
      ['list', list],
      ['copies', copies],
      ['w', good],
    ]);
    for (const path of await write('copies', object))
      await expectFailure(() => readAll(path), 'LIMIT_EXCEEDED', /copy more/);
  });
});

describe('pickles of many parts', () => {
  it('an empty dictionary a byte', async () => {
    const object = Buffer.concat([p.emptyList, p.mark, Buffer.alloc(3_000_000, p.emptyDict), p.appends]);
    await expectFailure(() => readAll(temporaryFile('many.pth', torchStream(object, []))), 'LIMIT_EXCEEDED', /values/);
  });
});

describe('protocol buffers', () => {
  const node = (...bytes: number[]): Buffer => Buffer.from([0x0a, ...varint(BigInt(bytes.length)), ...bytes]);
  const named = [0x0a, 1, 0x61, 0x12, 5, ...Buffer.from('Const')];

  it('lengths that overflow, and numbers that do not end', async () => {
    const cases: Record<string, Buffer> = {
      'a length of 2^63': Buffer.concat([node(...named), Buffer.from([0x0a, ...varint(2n ** 63n)])]),
      'a length of 2^64 - 1': Buffer.concat([node(...named), Buffer.from([0x0a, ...varint(2n ** 64n - 1n)])]),
      'a number of eleven bytes': Buffer.concat([
        node(...named),
        Buffer.from([0x0a, ...Array<number>(10).fill(0xff), 1]),
      ]),
      'an inner length of 2^62': node(...named, 0x2a, ...varint(2n ** 62n)),
    };
    for (const [title, bytes] of Object.entries(cases)) {
      const path = temporaryFile('overflow.pb', bytes);
      await expect(readAll(path), title).rejects.toMatchObject({
        code: expect.stringMatching(/^(CHECKPOINT_DAMAGED|FILE_TRUNCATED|LIMIT_EXCEEDED)$/),
      });
    }
  });

  it('five million fields in one node', async () => {
    const fields = Buffer.alloc(10_000_000);
    for (let i = 0; i < fields.length; i += 2) fields[i] = 0x18; // field 3, a number: 0
    const body = Buffer.concat([Buffer.from(named), fields]);
    const large = Buffer.concat([Buffer.from([0x0a, ...varint(BigInt(body.length))]), body]);
    const path = temporaryFile(
      'fields.pb',
      Buffer.concat([node(...named.slice(0, 4), 4, ...Buffer.from('NoOp')), large]),
    );
    await expectFailure(() => readAll(path), 'LIMIT_EXCEEDED', /fields/);
  });
});

describe('tables of checkpoints', () => {
  it('the same block ten thousand times', async () => {
    const block = (entries: Buffer[]): Buffer => {
      const tail = Buffer.alloc(8); // one restart point, at 0
      tail.writeUInt32LE(1, 4);
      const body = Buffer.concat([...entries, tail, Buffer.from([0])]);
      const sum = Buffer.alloc(4);
      sum.writeUInt32LE(maskedCrc32c(body));
      return Buffer.concat([body, sum]);
    };
    const entry = (key: string, value: Buffer): Buffer =>
      Buffer.concat([
        Buffer.from([0, ...varint(BigInt(key.length)), ...varint(BigInt(value.length))]),
        Buffer.from(key),
        value,
      ]);
    const handle = (offset: number, bytes: Buffer): Buffer =>
      Buffer.from([...varint(BigInt(offset)), ...varint(BigInt(bytes.length - 5))]);
    const data = block([entry('a', Buffer.alloc(100_000))]);
    const keys = Array.from({ length: 10_000 }, (_, i) => entry(String(i).padStart(5, '0'), handle(0, data)));
    const index = block(keys);
    const footer = Buffer.alloc(48);
    Buffer.concat([handle(0, data), handle(data.length, index)]).copy(footer);
    footer.write('57fb808b247547db', 40, 'hex');
    const path = temporaryFile('again.ckpt', Buffer.concat([data, index, footer]));
    await expectFailure(() => readAll(path), 'CHECKPOINT_DAMAGED', /its blocks take 1000\d{6} bytes/);
  });
});

describe('JSON', () => {
  const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

  it('a hundred thousand lists in each other, wherever JSON is read', async () => {
    const header = Buffer.from(`{"a":${deep(100_000)}}`);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await expectFailure(
      () => readAll(temporaryFile('deep.safetensors', Buffer.concat([length, header]))),
      'SAFETENSORS_HEADER',
    );
    for (const key of ['modelTopology', 'weightsManifest']) {
      const folder = temporary(`deep-${key}`);
      cpSync(reference('tfjs-layers'), folder, { recursive: true });
      writeFileSync(join(folder, 'model.json'), `{"format":"layers-model","${key}":${deep(100_000)}}`);
      await expect(readAll(folder), key).rejects.toMatchObject({
        code: expect.stringMatching(/^(TFJS|JSON|FORMAT|FILE)_/),
      });
    }
    const nested = `${'{"class_name":"Sequential","config":{"layers":['.repeat(20_000)}${']}}'.repeat(20_000)}`;
    const keras = await zipOf([
      ['metadata.json', '{"keras_version": "3.8.0"}'],
      ['config.json', nested],
      ['model.weights.h5', 'x'],
    ]);
    await expect(readAll(temporaryFile('deep.keras', keras))).rejects.toMatchObject({
      code: expect.stringMatching(/^(KERAS|H5|JSON|LIMIT)_/),
    });
  });
});

describe('TensorFlow.js', () => {
  it('five million empty texts', async () => {
    const folder = temporary('texts');
    mkdirSync(folder);
    const weights = [{ name: 'texts', shape: [5_000_000], dtype: 'string' }];
    const weightsManifest = [{ paths: ['texts.bin'], weights }];
    writeFileSync(
      join(folder, 'model.json'),
      JSON.stringify({ format: 'graph-model', modelTopology: { node: [] }, weightsManifest }),
    );
    writeFileSync(join(folder, 'texts.bin'), Buffer.alloc(20_000_000));
    await withSource(folder, (source) => expect(source.setAside).toEqual([{ name: 'texts', reason: 'text' }]));
  });
});

describe('names that lead elsewhere', () => {
  it('shards of a TensorFlow.js model, and of safetensors', async () => {
    for (const path of [
      '../outside.bin',
      '/etc/passwd',
      'a/../../outside.bin',
      'file:///etc/passwd',
      '..\\outside.bin',
    ]) {
      const folder = temporary(`tfjs-${Buffer.from(path).toString('hex')}`);
      mkdirSync(folder);
      const weights = [{ name: 'a', shape: [1], dtype: 'float32' }];
      const model = { format: 'layers-model', modelTopology: {}, weightsManifest: [{ paths: [path], weights }] };
      writeFileSync(join(folder, 'model.json'), JSON.stringify(model));
      writeFileSync(join(dirname(folder), 'outside.bin'), floats(1));
      await expectFailure(() => readAll(join(folder, 'model.json')), 'SHARD_PATH', /.*/);
      const index = { metadata: {}, weight_map: { a: path } };
      writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
      await expectFailure(() => readAll(join(folder, 'model.safetensors.index.json')), 'SHARD_PATH', /.*/);
    }
  });
});
