import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.js';
import { expectFailure, readAll, temporary, temporaryFile, withSource } from './support/temporary.js';

function file(name: string, header: unknown, data: Uint8Array = new Uint8Array()): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return temporaryFile(name, Buffer.concat([length, json, data]));
}

const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

// safetensors 0.8.0 from PyPI: save({'a': arange(3, float32), 'b': float16 [[1.5]]}, {'format': 'np'})
const real = Buffer.from(
  '90000000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a226e70227d2c2261223a7b226474797065223a224633' +
    '32222c227368617065223a5b335d2c22646174615f6f666673657473223a5b302c31325d7d2c2262223a7b226474797065223a22463136' +
    '222c227368617065223a5b312c315d2c22646174615f6f666673657473223a5b31322c31345d7d7d20000000000000803f00000040003e',
  'hex',
);

describe('reading', () => {
  it('reads names, shapes, metadata and numbers', async () => {
    await withSource(temporaryFile('real.safetensors', real), async (source) => {
      expect(source.format).toBe('safetensors');
      expect(source.metadata).toEqual({ format: 'np' });
      expect(source.tensors).toEqual([
        { name: 'a', dtype: 'float32', shape: [3] },
        { name: 'b', dtype: 'float16', shape: [1, 1] },
      ]);
      expect([...(await source.read('a'))]).toEqual([0, 1, 2]);
      expect([...(await source.read('b'))]).toEqual([1.5]);
    });
  });

  it('converts every number type', async () => {
    const parts: [string, string, Uint8Array, number[]][] = [
      ['f64', 'F64', new Uint8Array(Float64Array.of(0.1, -1e300).buffer), [Math.fround(0.1), -Infinity]],
      ['i64', 'I64', new Uint8Array(BigInt64Array.of(-5n, 1431430n).buffer), [-5, 1431430]],
      ['u64', 'U64', new Uint8Array(BigUint64Array.of(2n ** 63n).buffer), [2 ** 63]],
      ['i32', 'I32', new Uint8Array(Int32Array.of(-7).buffer), [-7]],
      ['u32', 'U32', new Uint8Array(Uint32Array.of(2 ** 32 - 1).buffer), [2 ** 32]],
      ['bf16', 'BF16', new Uint8Array(Uint16Array.of(0x3f80, 0xc000, 0x7f80).buffer), [1, -2, Infinity]],
      ['i16', 'I16', new Uint8Array(Int16Array.of(-300).buffer), [-300]],
      ['u16', 'U16', new Uint8Array(Uint16Array.of(65535).buffer), [65535]],
      ['i8', 'I8', Uint8Array.of(0x80), [-128]],
      ['u8', 'U8', Uint8Array.of(200), [200]],
      ['bool', 'BOOL', Uint8Array.of(0, 1, 2), [0, 1, 1]],
      ['empty', 'F32', new Uint8Array(), []],
    ];
    let at = 0;
    const header: Record<string, unknown> = {};
    for (const [name, dtype, bytes, values] of parts) {
      header[name] = { dtype, shape: [values.length], data_offsets: [at, at + bytes.length] };
      at += bytes.length;
    }
    const all = await readAll(file('types.safetensors', header, Buffer.concat(parts.map((part) => part[2]))));
    for (const [name, , , values] of parts)
      expect(all.get(name), name).toEqual({ shape: [values.length], data: values });
  });

  it('takes __proto__ for a name like any other', async () => {
    const header = '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    const all = await readAll(file('proto.safetensors', header, f32(7)));
    expect(all.get('__proto__')).toEqual({ shape: [1], data: [7] });
    expect(({} as { dtype?: unknown }).dtype).toBeUndefined();
  });

  it('says what is absent', async () => {
    const path = file('absent.safetensors', { a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }, f32(1));
    await withSource(path, async (source) => {
      await expectFailure(() => source.read('b'), 'TENSOR_ABSENT', /no tensor is called "b"; the file has 1 tensors/);
      await expectFailure(() => source.read('toString'), 'TENSOR_ABSENT');
    });
  });
});

describe('damaged and hostile headers', () => {
  const a = (range: number[], shape: unknown = [1], dtype = 'F32') => ({ dtype, shape, data_offsets: range });
  const cases: [string, unknown, Uint8Array, string, RegExp][] = [
    [
      'cut off',
      { a: a([0, 4]) },
      f32(1).subarray(0, 3),
      'FILE_TRUNCATED',
      /declares 4 bytes of numbers, but the file has 3/,
    ],
    [
      'trailing bytes',
      { a: a([0, 4]) },
      f32(1, 2),
      'SAFETENSORS_RANGE',
      /declares 4 bytes of numbers, but the file has 8/,
    ],
    ['overlap', { a: a([0, 8], [2]), b: a([4, 8]) }, f32(1, 2), 'SAFETENSORS_RANGE', /begins at byte 4.*overlaps/],
    ['same range twice', { a: a([0, 4]), b: a([0, 4]) }, f32(1), 'SAFETENSORS_RANGE', /overlaps/],
    ['gap', { a: a([0, 4]), b: a([8, 12]) }, f32(1, 2, 3), 'SAFETENSORS_RANGE', /belong to no tensor/],
    ['first gap', { a: a([4, 8]) }, f32(1, 2), 'SAFETENSORS_RANGE', /begins at byte 4/],
    ['wrong length', { a: a([0, 4], [2]) }, f32(1), 'SAFETENSORS_HEADER', /takes 8 bytes, but its data_offsets span 4/],
    ['backwards', { a: a([4, 0], [0]) }, f32(1), 'SAFETENSORS_HEADER', /span -4/],
    ['negative', { a: a([-4, 0]) }, f32(1), 'SAFETENSORS_HEADER', /two whole numbers/],
    ['fraction', { a: a([0, 4], [1.5]) }, f32(1), 'TENSOR_SHAPE', /whole, non-negative sizes/],
    ['negative size', { a: a([0, 4], [-1]) }, f32(1), 'TENSOR_SHAPE', /-1/],
    ['shape of text', { a: a([0, 4], ['1']) }, f32(1), 'TENSOR_SHAPE', /whole/],
    ['no shape', { a: a([0, 4], 1) }, f32(1), 'SAFETENSORS_HEADER', /no shape/],
    ['huge', { a: a([0, 4], [2 ** 31, 2 ** 31, 2 ** 31]) }, f32(1), 'LIMIT_EXCEEDED', /expected at most/],
    ['rank', { a: a([0, 4], Array(33).fill(1)) }, f32(1), 'LIMIT_EXCEEDED', /33 dimensions/],
    ['long name', { ['x'.repeat(5000)]: a([0, 4]) }, f32(1), 'LIMIT_EXCEEDED', /5000 characters/],
    ['unknown type', { a: a([0, 4], [4], 'F8_E4M3') }, f32(1), 'DTYPE_UNSUPPORTED', /F8_E4M3/],
    ['type of inheritance', { a: a([0, 4], [1], 'constructor') }, f32(1), 'DTYPE_UNSUPPORTED', /constructor/],
    ['metadata of numbers', { __metadata__: { a: 1 } }, f32(), 'SAFETENSORS_HEADER', /every value of __metadata__/],
    ['entry of text', { a: 'b' }, f32(), 'SAFETENSORS_HEADER', /"a" to be a JSON object/],
    [
      'name twice',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      f32(1),
      'SAFETENSORS_HEADER',
      /received one twice/,
    ],
    [
      'name twice, escaped',
      '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
      f32(),
      'SAFETENSORS_HEADER',
      /received one twice/,
    ],
    ['no JSON', '{"a":', f32(), 'SAFETENSORS_HEADER', /not valid JSON/],
    ['no UTF-8', Buffer.from('{"\xff":1}', 'latin1').toString('latin1'), f32(), 'SAFETENSORS_HEADER', /JSON object/],
  ];
  for (const [title, header, data, code, message] of cases) {
    it(`refuses: ${title}`, async () => {
      const path = file(`${title}.safetensors`, header, data);
      await expectFailure(() => openSafetensors(path), code, message);
    });
  }

  it('refuses a header that is not UTF-8, and one that is longer than the file', async () => {
    const bytes = Buffer.concat([Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"\xff"', 'latin1')]);
    await expectFailure(() => openSafetensors(temporaryFile('utf8.safetensors', bytes)), 'SAFETENSORS_HEADER');
    bytes.writeUInt32LE(5_000_000, 0);
    await expectFailure(() => openSafetensors(temporaryFile('long.safetensors', bytes)), 'FILE_TRUNCATED', /5000000/);
    bytes.writeBigUInt64LE(2n ** 63n, 0);
    await expectFailure(() => openSafetensors(temporaryFile('max.safetensors', bytes)), 'LIMIT_EXCEEDED');
    await expectFailure(() => openSafetensors(temporaryFile('7.safetensors', 'abcdefg')), 'FILE_TRUNCATED');
  });
});

describe('writing', () => {
  it('gives back what was written, aligned, in equal bytes each time', async () => {
    const entries = [
      { name: 'half', shape: [3], dtype: 'float16' as const, read: () => Float32Array.of(1, -0.5, 65504) },
      { name: '10', shape: [2, 1], read: async () => Float32Array.of(1.25, -2) },
      { name: '2', shape: [], read: () => Float32Array.of(Number.NaN) },
      { name: 'empty', shape: [0, 4], read: () => new Float32Array() },
      { name: '__proto__', shape: [1], read: () => Float32Array.of(9) },
    ];
    const [one, two] = [temporary('one.safetensors'), temporary('two.safetensors')];
    await writeSafetensors(one, entries, { b: '2', a: 'é "quoted"' });
    await writeSafetensors(two, entries, { a: 'é "quoted"', b: '2' });
    const bytes = readFileSync(one);
    expect(bytes.equals(readFileSync(two))).toBe(true);
    expect(Number(bytes.readBigUInt64LE()) % 8).toBe(0);
    await withSource(one, async (source) => {
      expect(source.metadata).toEqual({ a: 'é "quoted"', b: '2' });
      expect(source.tensors.map(({ name }) => name)).toEqual(['10', '2', 'empty', '__proto__', 'half']);
      expect([...(await source.read('10'))]).toEqual([1.25, -2]);
      expect(await source.read('2')).toEqual(Float32Array.of(Number.NaN));
      expect([...(await source.read('half'))]).toEqual([1, -0.5, 65504]);
    });
  });

  it('writes the bytes that the reference implementation writes', async () => {
    const path = temporary('reference.safetensors');
    const entries = [
      { name: 'a', shape: [3], read: () => Float32Array.of(0, 1, 2) },
      { name: 'b', shape: [1, 1], dtype: 'float16' as const, read: () => Float32Array.of(1.5) },
    ];
    await writeSafetensors(path, entries, { format: 'np' });
    expect(readFileSync(path).toString('hex')).toBe(real.toString('hex'));
  });

  it('reads each tensor when its turn comes, and leaves nothing behind when one fails', async () => {
    const order: string[] = [];
    const path = temporary('fails.safetensors');
    const entries = ['a', 'b', 'c'].map((name) => ({
      name,
      shape: [1],
      read: () => {
        order.push(name);
        if (name === 'b') throw new Error('no such tensor');
        return Float32Array.of(1);
      },
    }));
    await expect(writeSafetensors(path, entries)).rejects.toThrow('no such tensor');
    expect(order).toEqual(['a', 'b']);
    expect(readdirSync(dirname(path)).filter((name) => name.includes('fails'))).toEqual([]);
  });

  it('refuses what it could not read back', async () => {
    const path = temporary('refused.safetensors');
    const entry = (name: string, shape: number[]) => ({ name, shape, read: () => Float32Array.of(1) });
    await expectFailure(() => writeSafetensors(path, [entry('a', [2])]), 'TENSOR_SHAPE', /needs 2 numbers, received 1/);
    await expectFailure(() => writeSafetensors(path, [entry('a', [1]), entry('a', [1])]), 'TENSOR_TWICE');
    await expectFailure(() => writeSafetensors(path, [entry('__metadata__', [1])]), 'TENSOR_NAME');
    await expectFailure(() => writeSafetensors(path, [entry('a', [-1])]), 'TENSOR_SHAPE');
  });

  it('round trips any names, shapes and numbers', async () => {
    const path = temporary('any.safetensors');
    const tensor = fc.array(fc.nat(4), { maxLength: 4 }).chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        data: fc.float32Array({ minLength: product(shape), maxLength: product(shape) }),
      }),
    );
    const names = fc.string({ unit: 'binary', maxLength: 20 }).filter((name) => name !== '__metadata__');
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(names, tensor), { selector: ([name]) => name, maxLength: 6 }),
        async (tensors) => {
          await writeSafetensors(
            path,
            tensors.map(([name, { shape, data }]) => ({ name, shape, read: () => data })),
          );
          await withSource(path, async (source) => {
            expect(source.tensors).toEqual(tensors.map(([name, { shape }]) => ({ name, dtype: 'float32', shape })));
            for (const [name, { data }] of tensors) expect(await source.read(name)).toEqual(data);
          });
        },
      ),
      { numRuns: 100, seed: 7 },
    );
  });
});

const product = (shape: readonly number[]) => shape.reduce((n, size) => n * size, 1);
