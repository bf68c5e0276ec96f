import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toFloat16, toFloat32 } from '../../src/weights/float-formats.js';
import { encodeNpy, readNpy } from '../../src/weights/numpy/npy.js';
import { expectFailure, temporaryFile } from './support/temporary.js';

/** A .npy of version 1.0 with this header text. */
function npy(dictionary: string, data: Uint8Array, version = 1): Buffer {
  const head = Buffer.from(`${dictionary}\n`, 'latin1');
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  length.writeUIntLE(head.length, 0, length.length);
  return Buffer.concat([Buffer.from([0x93]), Buffer.from('NUMPY'), Buffer.from([version, 0]), length, head, data]);
}

const plain = (descr: string, shape: string, order = 'False') =>
  `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;

describe('arrays written by numpy 2.4.6', () => {
  const spaces = (n: number) => '20'.repeat(n);
  const cases: [string, string, number[], number[]][] = [
    [
      'Fortran order, big-endian float64',
      `934e554d5059010076007b276465736372273a20273e6638272c2027666f727472616e5f6f72646572273a20547275652c20277368617065273a2028322c2033292c207d${spaces(58)}200a000000000000000040080000000000003ff0000000000000401000000000000040000000000000004014000000000000`,
      [2, 3],
      [0, 1, 2, 3, 4, 5],
    ],
    [
      'booleans',
      `934e554d5059010076007b276465736372273a20277c6231272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028322c292c207d${spaces(59)}200a0100`,
      [2],
      [1, 0],
    ],
    [
      'version 2',
      `934e554d50590200740000007b276465736372273a20273c6932272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028322c292c207d${spaces(57)}200a00000100`,
      [2],
      [0, 1],
    ],
    [
      'a half-precision scalar',
      `934e554d5059010076007b276465736372273a20273c6632272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028292c207d${spaces(61)}200a0041`,
      [],
      [2.5],
    ],
  ];
  for (const [title, hex, shape, data] of cases) {
    it(title, async () => {
      const bytes = Buffer.from(hex, 'hex');
      const dataStart = bytes.indexOf(0x0a) + 1;
      expect(dataStart % 64).toBe(0);
      const array = await readNpy(temporaryFile('real.npy', bytes));
      expect({ shape: array.shape, data: [...array.data] }).toEqual({ shape, data });
    });
  }
});

describe('headers', () => {
  it('takes keys in any order, version 3, trailing commas and the long integers of Python 2', async () => {
    const data = new Uint8Array(Float32Array.of(1, 2).buffer);
    const text = "{'shape': (2L, 1L,), 'descr': '=f4', 'fortran_order': True}";
    for (const version of [1, 2, 3]) {
      const array = await readNpy(temporaryFile('order.npy', npy(text, data, version)));
      expect(array).toEqual({ shape: [2, 1], data: Float32Array.of(1, 2) });
    }
  });

  it('reads V2 as the bfloat16 that JAX saves', async () => {
    const path = temporaryFile(
      'bf16.npy',
      npy(plain('|V2', '(2,)'), new Uint8Array(Uint16Array.of(0x4049, 0xbf80).buffer)),
    );
    expect([...(await readNpy(path)).data]).toEqual([3.140625, -1]);
  });

  it('turns Fortran order of three axes round', async () => {
    // element [i, j, k] is 100i + 10j + k; the first index runs fastest in the file
    const values: number[] = [];
    for (let k = 0; k < 4; k++)
      for (let j = 0; j < 3; j++) for (let i = 0; i < 2; i++) values.push(100 * i + 10 * j + k);
    const data = new Uint8Array(Float32Array.from(values).buffer);
    const { data: read } = await readNpy(temporaryFile('fortran.npy', npy(plain('<f4', '(2, 3, 4)', 'True'), data)));
    expect([...read.subarray(0, 6)]).toEqual([0, 1, 2, 3, 10, 11]);
    expect(read[(1 * 3 + 2) * 4 + 3]).toBe(123);
  });

  const damaged: [string, Buffer, string, RegExp][] = [
    [
      'objects',
      npy(plain('|O', '(1,)'), new Uint8Array(9)),
      'DTYPE_UNSUPPORTED',
      /a pickle that is never executed \(\|O\)/,
    ],
    ['text', npy(plain('<U4', '(1,)'), new Uint8Array(16)), 'DTYPE_UNSUPPORTED', /<U4/],
    ['complex', npy(plain('<c8', '(1,)'), new Uint8Array(8)), 'DTYPE_UNSUPPORTED', /<c8/],
    [
      'structure',
      npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4)),
      'DTYPE_UNSUPPORTED',
      /structure/,
    ],
    ['too short', npy(plain('<f4', '(3,)'), new Uint8Array(11)), 'FILE_TRUNCATED', /declared as 12 bytes/],
    ['too long', npy(plain('<f4', '(3,)'), new Uint8Array(13)), 'NPY_HEADER', /1 bytes follow/],
    ['negative', npy(plain('<f4', '(-3,)'), new Uint8Array(12)), 'NPY_HEADER', /expected a header/],
    ['huge', npy(plain('<f4', '(3000000000, 3000000000)'), new Uint8Array(12)), 'LIMIT_EXCEEDED', /expected at most/],
    ['nonsense shape', npy(plain('<f4', '(3 4)'), new Uint8Array(12)), 'NPY_HEADER', /shape/],
    [
      'code instead of a header',
      npy("__import__('os').system('true')", new Uint8Array(4)),
      'NPY_HEADER',
      /expected a header/,
    ],
    ['version 4', npy(plain('<f4', '(1,)'), new Uint8Array(4), 4), 'NPY_HEADER', /version/],
    ['no magic', Buffer.from('PNG?NUMPY and more than twelve bytes'), 'NPY_HEADER', /begin with/],
    ['only magic', Buffer.from([0x93, ...Buffer.from('NUMPY')]), 'NPY_HEADER', /version/],
    ['header cut off', npy(plain('<f4', '(1,)'), new Uint8Array(4)).subarray(0, 40), 'NPY_HEADER', /only 40 bytes/],
    [
      'header too long',
      npy(plain('<f4', '(1,)').padEnd(20_000), new Uint8Array(4)),
      'LIMIT_EXCEEDED',
      /header has 20001 bytes/,
    ],
  ];
  for (const [title, bytes, code, message] of damaged) {
    it(`refuses: ${title}`, async () => {
      await expectFailure(() => readNpy(temporaryFile('damaged.npy', bytes)), code, message);
    });
  }

  it('says which file is missing', async () => {
    await expectFailure(() => readNpy('/nowhere/x.npy'), 'FILE_NOT_READ', /no such file/);
  });
});

describe('encodeNpy', () => {
  it('writes the bytes of numpy', () => {
    const bytes = encodeNpy({ shape: [2, 2], data: Float32Array.of(0, 1, 2, 3) });
    expect(bytes.toString('latin1', 10, 128)).toBe(`${plain('<f4', '(2, 2)').padEnd(117)}\n`);
    expect(bytes.toString('hex', 0, 10)).toBe('934e554d505901007600');
    expect(bytes.length).toBe(128 + 16);
  });

  it('round trips', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 5 }), fc.infiniteStream(fc.float()), async (shape, stream) => {
        const data = Float32Array.from([...stream.take(shape.reduce((n, size) => n * size, 1))]);
        expect(await readNpy(temporaryFile('round.npy', encodeNpy({ shape, data })))).toEqual({ shape, data });
      }),
      { numRuns: 100, seed: 3 },
    );
  });
});

describe('half precision', () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
  const values = toFloat32(new Uint8Array(halves.buffer), 'float16');

  it('knows the values of the standard', () => {
    const known: [number, number][] = [
      [0x0000, 0],
      [0x0001, 2 ** -24],
      [0x03ff, 1023 * 2 ** -24],
      [0x0400, 2 ** -14],
      [0x3555, 0.333251953125],
      [0x3c00, 1],
      [0xc000, -2],
      [0x7bff, 65504],
      [0x7c00, Number.POSITIVE_INFINITY],
      [0xfc00, Number.NEGATIVE_INFINITY],
    ];
    for (const [bits, value] of known) expect(values[bits]).toBe(value);
    expect(Object.is(values[0x8000], -0)).toBe(true);
    expect(values[0x7e00]).toBeNaN();
  });

  it('round trips every one of the 65,536 values', () => {
    const back = toFloat16(values);
    const wrong = [...halves].filter((bits) => back[bits] !== bits && !Number.isNaN(values[bits]!));
    expect(wrong).toEqual([]);
    expect(
      [...halves].filter((bits) => Number.isNaN(values[bits]!)).every((bits) => (back[bits]! & 0x7fff) > 0x7c00),
    ).toBe(true);
  });

  it('rounds to nearest, ties to even', () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const [low, high] = [values[bits]!, values[bits + 1]!];
      const middle = (low + high) / 2; // exact in float32: 11 bits and one more
      const [down, tie, up] = toFloat16(
        Float32Array.of(middle - (high - low) / 64, middle, middle + (high - low) / 64),
      );
      expect([down, tie, up]).toEqual([bits, bits + (bits & 1), bits + 1]);
    }
    expect([...toFloat16(Float32Array.of(65519, 65520, 1e9, 2 ** -26, -(2 ** -25)))]).toEqual([
      0x7bff, 0x7c00, 0x7c00, 0, 0x8000,
    ]);
  });

  it('gives arrays that are alone in their buffers, so that those can be handed on', () => {
    const part = new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer).subarray(4, 12);
    for (const dtype of ['float32', 'uint8', 'float16'] as const) {
      const values = toFloat32(part, dtype);
      expect([values.byteOffset, values.byteLength]).toEqual([0, values.buffer.byteLength]);
    }
  });

  it('reads big-endian numbers without changing the bytes it is given', () => {
    const bytes = Uint8Array.of(0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0);
    expect([...toFloat32(bytes, 'float32', false)]).toEqual([1, -2]);
    expect([...bytes]).toEqual([0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]);
    const buffer = Buffer.from(bytes); // its slice() copies nothing
    expect([...toFloat32(buffer, 'float32', false)]).toEqual([1, -2]);
    expect(buffer.equals(bytes)).toBe(true);
    expect([...toFloat32(Buffer.from([9, 0, 0, 0x80, 0x3f]).subarray(1), 'float32')]).toEqual([1]);
    expect([...toFloat32(Uint8Array.of(9, 9, 0, 0x3c).subarray(2), 'float16')]).toEqual([1]);
    expect([...toFloat32(Uint8Array.of(9, 0, 0, 0x80, 0x3f).subarray(1), 'float32')]).toEqual([1]);
  });
});
