import { describe, expect, it } from 'vitest';
import { openWeights } from '../../src/weights/source.js';
import { expectFailure, readAll, temporaryFile, withSource } from './support/temporary.js';
import { floats, p, type TorchStorageSpec, tensor, torchStream, torchZip, zipOf } from './support/torch-writer.js';

/** Both formats of one object: every test of meaning runs over both. */
const FORMATS: [string, (object: Buffer, storages: TorchStorageSpec[]) => Promise<Buffer>][] = [
  ['zip', (object, storages) => torchZip(object, storages)],
  ['stream', async (object, storages) => torchStream(object, storages)],
];

const storage = (key: string, type: string, bytes: Uint8Array, count: number): TorchStorageSpec => ({
  key,
  type,
  bytes,
  count,
});
const six = storage('0', 'FloatStorage', floats(0, 1, 2, 3, 4, 5), 6);

for (const [format, write] of FORMATS) {
  describe(`the ${format} format`, () => {
    const open = async (object: Buffer, storages: TorchStorageSpec[]) =>
      temporaryFile(`${format}.pth`, await write(object, storages));

    it('reads shapes, strides and offsets, and storages that tensors share', async () => {
      const object = p.dictOf([
        ['whole', tensor(six, [2, 3], [3, 1])],
        ['transposed', tensor(six, [3, 2], [1, 3])],
        ['column', tensor(six, [2], [3], 1)],
        ['last', tensor(six, [], [], 5)],
        ['repeated', tensor(six, [2, 2], [0, 0], 4)],
        ['empty', tensor(six, [0, 3], [3, 1])],
        ['single', tensor(six, [1, 1, 2], [77, 5, 1], 2)],
      ]);
      await withSource(await open(object, [six]), async (source) => {
        expect(source.format).toBe('torch');
        expect(source.metadata.container).toBe(format);
        expect(source.tensors[1]).toEqual({ name: 'transposed', dtype: 'float32', shape: [3, 2] });
        const read = async (name: string) => [...(await source.read(name))];
        expect(await read('whole')).toEqual([0, 1, 2, 3, 4, 5]);
        expect(await read('transposed')).toEqual([0, 3, 1, 4, 2, 5]);
        expect(await read('column')).toEqual([1, 4]);
        expect(await read('last')).toEqual([5]);
        expect(await read('repeated')).toEqual([4, 4, 4, 4]);
        expect(await read('empty')).toEqual([]);
        expect(await read('single')).toEqual([2, 3]);
      });
    });

    it('converts every number type', async () => {
      const types: [string, ArrayBufferLike, number[]][] = [
        ['DoubleStorage', Float64Array.of(0.1).buffer, [Math.fround(0.1)]],
        ['HalfStorage', Uint16Array.of(0x3e00, 0xc000).buffer, [1.5, -2]],
        ['BFloat16Storage', Uint16Array.of(0x3fc0, 0xc000).buffer, [1.5, -2]],
        ['CharStorage', Int8Array.of(-1).buffer, [-1]],
        ['ByteStorage', Uint8Array.of(255).buffer, [255]],
        ['ShortStorage', Int16Array.of(-300).buffer, [-300]],
        ['IntStorage', Int32Array.of(-70000).buffer, [-70000]],
        ['LongStorage', BigInt64Array.of(1431430n).buffer, [1431430]],
        ['BoolStorage', Uint8Array.of(1, 0).buffer, [1, 0]],
      ];
      const storages = types.map(([type, buffer, values], i) =>
        storage(String(i), type, new Uint8Array(buffer), values.length),
      );
      const object = p.dictOf(storages.map((s) => [s.type, tensor(s, [s.count], [1])] as const));
      const all = await readAll(await open(object, storages));
      for (const [type, , values] of types) expect(all.get(type)?.data, type).toEqual(values);
    });

    it('finds the state dict in a checkpoint, strips module. where every name has it, counts the rest', async () => {
      const state = p.dictOf([
        ['module.fc.weight', tensor(six, [2, 3], [3, 1])],
        ['module.fc.bias', tensor(six, [2], [1])],
        ['version', p.int(2)],
      ]);
      const object = p.dictOf([
        ['epoch', p.int(3)],
        ['optimizer', p.dictOf([['state', tensor(six, [1], [1])]])],
        ['state_dict', state],
      ]);
      await withSource(await open(object, [six]), (source) => {
        expect(source.tensors.map(({ name }) => name)).toEqual(['fc.weight', 'fc.bias']);
        expect(source.metadata).toMatchObject({
          wrapper: 'state_dict',
          strippedPrefix: 'module.',
          ignoredEntries: '1',
        });
      });
      const mixed = p.dictOf([
        ['module.a', tensor(six, [1], [1])],
        ['b', tensor(six, [1], [1])],
      ]);
      await withSource(await open(p.dictOf([['model', p.dictOf([['model_state_dict', mixed]])]]), [six]), (source) => {
        expect(source.tensors.map(({ name }) => name)).toEqual(['module.a', 'b']);
        expect(source.metadata.wrapper).toBe('model.model_state_dict');
        expect(source.metadata.strippedPrefix).toBeUndefined();
      });
    });

    it('takes parameters for their tensors, and __proto__ for a name', async () => {
      const parameter = Buffer.concat([
        p.global('torch._utils', '_rebuild_parameter'),
        p.tupleOf(tensor(six, [1], [1], 3), p.false, p.none),
        p.reduce,
      ]);
      const all = await readAll(await open(p.dictOf([['__proto__', parameter]]), [six]));
      expect(all).toEqual(new Map([['__proto__', { shape: [1], data: [3] }]]));
    });

    it('says what is there instead of tensors', async () => {
      const keys = p.dictOf([
        ['epoch', p.int(1)],
        ['encoder', p.dictOf([['w', tensor(six, [1], [1])]])],
      ]);
      await expectFailure(async () => openWeights(await open(keys, [six])), 'TORCH_NO_TENSORS', /"epoch", "encoder"/);
      await expectFailure(async () => openWeights(await open(p.emptyDict, [])), 'TORCH_NO_TENSORS', /empty dictionary/);
      await expectFailure(
        async () => openWeights(await open(tensor(six, [1], [1]), [six])),
        'TORCH_NO_TENSORS',
        /single tensor without a name/,
      );
    });

    it('refuses programs by name', async () => {
      const evil = Buffer.concat([p.global('posix', 'system'), p.tupleOf(p.text('touch /tmp/pwned')), p.reduce]);
      const object = p.dictOf([
        ['a', tensor(six, [1], [1])],
        ['b', evil],
      ]);
      const error = await expectFailure(
        async () => openWeights(await open(object, [six])),
        'PICKLE_REFUSED',
        /posix\.system/,
      );
      expect(error.hint).toContain('torch.save');
      const complex = { ...six, type: 'ComplexFloatStorage', count: 3 };
      await expectFailure(
        async () => openWeights(await open(p.dictOf([['a', tensor(complex, [1], [1])]]), [complex])),
        'DTYPE_UNSUPPORTED',
        /complex/,
      );
    });

    it('refuses tensors that reach out of their storage, before anything is allocated', async () => {
      const cases: [Buffer, string, RegExp][] = [
        [tensor(six, [7], [1]), 'TORCH_DAMAGED', /reaches to byte 28 of storage "0", which declares 24 bytes/],
        [tensor(six, [2], [1], 5), 'TORCH_DAMAGED', /reaches to byte 28/],
        [tensor(six, [2, 2], [5, 1]), 'TORCH_DAMAGED', /reaches to byte 28/],
        [tensor(six, [2_000_000_000], [1]), 'LIMIT_EXCEEDED', /expected at most/],
        [tensor(six, [2 ** 30, 2 ** 30], [0, 0]), 'LIMIT_EXCEEDED', /expected at most/],
        [tensor(six, [5000, 5000], [0, 0]), 'LIMIT_EXCEEDED', /repeats 1 numbers to 25000000/],
        [tensor(six, [-1], [1]), 'TENSOR_SHAPE', /-1/],
        [tensor(six, [1], [-1]), 'TORCH_DAMAGED', /strides \[-1\]/],
        [tensor(six, [1, 2], [1]), 'TORCH_DAMAGED', /strides \[1\] for shape \[1, 2\]/],
        [tensor(six, [1], [1], -1), 'TORCH_DAMAGED', /arguments of a tensor/],
        [tensor({ ...six, count: 600 }, [600], [1]), 'TORCH_DAMAGED', /declares 2400 bytes and has 24/],
        [tensor({ ...six, key: '9' }, [1], [1]), 'TORCH_DAMAGED', /storage "9"/],
      ];
      for (const [object, code, message] of cases) {
        const file = await open(
          p.dictOf([['a', object]]),
          format === 'stream' && /"9"/.test(String(message)) ? [] : [six],
        );
        await expectFailure(() => openWeights(file), code, message);
      }
    });
  });
}

describe('a whole checkpoint of a training script', () => {
  const named = (...names: string[]) => p.dictOf(names.map((name, i) => [name, tensor(six, [1], [1], i)] as const));
  const open = async (object: Buffer) => temporaryFile('training.pth', await torchZip(object, [six]));

  it('gives the weights, the averages beside them, and says what else there is', async () => {
    const object = p.dictOf([
      ['best_acc1', tensor(six, [], [], 5)], // a tensor, but no state dict
      ['epoch', p.int(3)],
      ['model', named('module._orig_mod.fc.weight', 'module._orig_mod.fc.bias')],
      ['optimizer', named('momentum')],
      [
        'model_ema',
        p.dictOf([
          ['n_averaged', tensor(six, [], [])],
          ['module.fc.weight', tensor(six, [1], [1], 4)],
        ]),
      ],
    ]);
    await withSource(await open(object), async (source) => {
      expect(source.tensors.map(({ name }) => name)).toEqual([
        'fc.weight',
        'fc.bias',
        'model_ema.n_averaged',
        'model_ema.fc.weight',
      ]);
      expect(source.metadata).toMatchObject({ wrapper: 'model', strippedPrefix: 'module._orig_mod.' });
      expect(source.averages).toEqual(new Map([['fc.weight', 'model_ema.fc.weight']]));
      expect(await source.read('fc.weight')).toEqual(Float32Array.of(0));
      expect(await source.read('model_ema.fc.weight')).toEqual(Float32Array.of(4));
      expect(source.setAside).toEqual([
        { name: 'best_acc1', reason: 'of the training, beside the weights' },
        { name: 'epoch', reason: 'of the training, beside the weights' },
        { name: 'optimizer', reason: 'state of the optimiser' },
        { name: 'model_ema.fc.weight', reason: 'running average of fc.weight' },
        { name: 'model_ema.n_averaged', reason: 'the number of models that were averaged' },
      ]);
    });
  });

  it('takes averages for the weights where there are no others, in timm’s order of names', async () => {
    const object = p.dictOf([
      ['model_ema', named('a')],
      ['state_dict_ema', named('b')],
    ]);
    await withSource(await open(object), (source) => {
      expect(source.metadata.wrapper).toBe('state_dict_ema');
      expect(source.tensors.map(({ name }) => name)).toEqual(['b', 'model_ema.a']);
    });
  });

  it('reads whole numbers that torch.save leaves to its version 3 of a tensor', async () => {
    const bytes = new Uint8Array(Uint16Array.of(1, 65535).buffer);
    const untyped = p.tupleOf(
      p.text('storage'),
      p.global('torch.storage', 'UntypedStorage'),
      p.text('0'),
      p.text('cpu'),
      p.int(4),
    );
    const args = p.tupleOf(
      Buffer.concat([untyped, p.persId]),
      p.int(0),
      p.tupleOf(p.int(2)),
      p.tupleOf(p.int(1)),
      p.false,
      p.none,
      p.global('torch', 'uint16'),
    );
    const object = p.dictOf([['a', Buffer.concat([p.global('torch._utils', '_rebuild_tensor_v3'), args, p.reduce])]]);
    const file = temporaryFile('v3.pth', await torchZip(object, [{ key: '0', type: '', bytes, count: 4 }]));
    expect((await readAll(file)).get('a')?.data).toEqual([1, 65535]);
  });
});

describe('the zip format alone', () => {
  const object = p.dictOf([['a', tensor(six, [6], [1])]]);

  it('has any folder name, any byte order, zip64, and may even be deflated', async () => {
    const big = storage('0', 'FloatStorage', Uint8Array.of(0x3f, 0x80, 0, 0), 1);
    const bigObject = p.dictOf([['a', tensor(big, [1], [1])]]);
    const files: [Buffer, number[]][] = [
      [await torchZip(object, [six], { prefix: 'mobilenet_v2-b0353104/' }), [0, 1, 2, 3, 4, 5]],
      [await torchZip(object, [six], { byteorder: 'little', forceZip64Format: true }), [0, 1, 2, 3, 4, 5]],
      [await torchZip(object, [six], { compress: true }), [0, 1, 2, 3, 4, 5]],
      [await torchZip(bigObject, [big], { byteorder: 'big' }), [1]],
    ];
    for (const [bytes, data] of files) {
      expect((await readAll(temporaryFile('zip.pth', bytes))).get('a')?.data).toEqual(data);
    }
  });

  it('notices a changed number by the checksum', async () => {
    const bytes = await torchZip(object, [six]);
    bytes[bytes.indexOf(Buffer.from(floats(4))) + 1]! ^= 1;
    await withSource(temporaryFile('sum.pth', bytes), async (source) => {
      await expectFailure(() => source.read('a'), 'ZIP_DAMAGED', /data\/0" does not match its checksum/);
    });
  });

  it('notices it too where tensors share the storage', async () => {
    const views = p.dictOf([
      ['first', tensor(six, [2], [1])],
      ['last', tensor(six, [2], [1], 4)],
    ]);
    const bytes = await torchZip(views, [six]);
    bytes[bytes.indexOf(Buffer.from(floats(4))) + 1]! ^= 1;
    await withSource(temporaryFile('shared.pth', bytes), async (source) => {
      await expectFailure(() => source.read('last'), 'ZIP_DAMAGED', /does not match its checksum/);
    });
  });

  it('names what else such an archive can be', async () => {
    const script = await zipOf([
      ['m/data.pkl', Buffer.concat([p.proto, p.emptyDict, p.stop])],
      ['m/constants.pkl', ''],
    ]);
    await expectFailure(() => openWeights(temporaryFile('script.pt', script)), 'TORCH_SCRIPT', /TorchScript/);
    await expectFailure(
      async () => openWeights(temporaryFile('order.pth', await torchZip(object, [six], { byteorder: 'middle' }))),
      'TORCH_DAMAGED',
      /byteorder says "middle"/,
    );
  });
});

describe('the stream format alone', () => {
  const object = p.dictOf([['a', tensor(six, [6], [1])]]);
  const open = (bytes: Buffer) => () => openWeights(temporaryFile('stream.pth', bytes));

  it('may be big-endian', async () => {
    const big = storage('0', 'FloatStorage', Uint8Array.of(0x3f, 0x80, 0, 0), 1);
    const bytes = torchStream(p.dictOf([['a', tensor(big, [1], [1])]]), [big], { littleEndian: false });
    expect((await readAll(temporaryFile('big.pth', bytes))).get('a')?.data).toEqual([1]);
  });

  it('reads pickles longer than the first read', async () => {
    const long = p.dictOf([
      ['note', p.text('x'.repeat(3_000_000))],
      ['a', tensor(six, [6], [1])],
    ]);
    expect((await readAll(temporaryFile('long.pth', torchStream(long, [six])))).get('a')?.data).toEqual([
      0, 1, 2, 3, 4, 5,
    ]);
  });

  it('is refused when cut off or when it is not what it says', async () => {
    const bytes = torchStream(object, [six]);
    await expectFailure(open(bytes.subarray(0, -1)), 'FILE_TRUNCATED', /storage "0" is declared as 24 bytes/);
    await expectFailure(open(bytes.subarray(0, -28)), 'FILE_TRUNCATED', /length of storage "0"/);
    await expectFailure(open(bytes.subarray(0, 40)), 'PICKLE_DAMAGED', /ends in the middle/);
    await expectFailure(open(torchStream(object, [six], { magic: 123n })), 'PICKLE_NOT_TORCH', /magic number/);
    for (const other of [p.dictOf([['a', p.int(1)]]), p.global('builtins', 'print'), p.text('x'.repeat(100))]) {
      await expectFailure(
        open(Buffer.concat([p.proto, other, p.stop])),
        'PICKLE_NOT_TORCH',
        /torch\.save did not write/,
      );
    }
    await expectFailure(open(torchStream(object, [six], { protocol: 1000 })), 'TORCH_DAMAGED', /protocol version 1001/);
    await expectFailure(open(torchStream(object, [six, six])), 'TORCH_DAMAGED', /listed twice/);
    await expectFailure(
      open(torchStream(object, [six, { ...six, key: '1' }])),
      'TORCH_DAMAGED',
      /"1" belongs to no tensor/,
    );
    await expectFailure(open(torchStream(object, [{ ...six, count: 2 ** 52 }])), 'FILE_TRUNCATED');
    const twoTypes = p.dictOf([
      ['a', tensor(six, [6], [1])],
      ['b', tensor({ ...six, type: 'DoubleStorage' }, [6], [1])],
    ]);
    await expectFailure(open(torchStream(twoTypes, [six])), 'TORCH_DAMAGED', /two number types/);
  });
});
