import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { crc32 } from '../../src/weights/crc32.js';
import { encodeNpy } from '../../src/weights/numpy/npy.js';
import { writeNpz } from '../../src/weights/numpy/npz.js';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';
import { expectFailure, readAll, temporary, temporaryFile, withSource } from './support/temporary.js';
import { zipOf } from './support/torch-writer.js';

// numpy 2.4.6: savez_compressed(a=arange(4, float32).reshape(2, 2), s=array('text'), **{'x/y': int64(3)})
const compressed = Buffer.from(
  '504b03042d00000008000000210091f4e7dbffffffffffffffff05001400612e6e70790100100090000000000000005000000000000000' +
    '9bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9366a2aea3a09e965f54529498179f5f94920a12774bcc294e058a17672416a402' +
    'f91a463a0a469a3a0ab50a64032e063068b007120e40e40000504b03042d0000000800000021008d57532dffffffffffffffff05001400' +
    '732e6e70790100100090000000000000004d000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e136aa2aea3a09e96' +
    '5f54529498179f5f94920a12774bcc294e058a17672416a402f91a9a3a0ab50a1401ae120606865420ae0062101b00504b03042d000000' +
    '080000002100d9b6bae8ffffffffffffffff07001400782f792e6e7079010010008800000000000000460000000000000' +
    '09bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9369a1aea3a09e965f54529498179f5f94920a12774bcc294e058a17672416a40' +
    '2f91a9a3a0ab50a14012e6606080000504b01022d032d00000008000000210091f4e7db50000000900000000500000000000000000000' +
    '00800100000000612e6e7079504b01022d032d0000000800000021008d57532d4d00000090000000050000000000000000000000800187' +
    '000000732e6e7079504b01022d032d000000080000002100d9b6bae8460000008800000007000000000000000000000080010b01000078' +
    '2f792e6e7079504b050600000000030003009b0000008a0100000000',
  'hex',
);

const files = join(fixturesFolder, 'files');

const array = (...values: number[]) => ({ shape: [values.length], data: Float32Array.from(values) });

describe('reading', () => {
  it('reads deflated arrays of numpy and names those that are not numbers', async () => {
    await withSource(temporaryFile('real.npz', compressed), async (source) => {
      expect(source.format).toBe('npz');
      expect(source.tensors).toEqual([
        { name: 'a', dtype: 'float32', shape: [2, 2] },
        { name: 'x/y', dtype: 'int64', shape: [] },
      ]);
      expect(source.setAside).toEqual([{ name: 's', reason: 'text (<U4)' }]);
      expect([...(await source.read('a'))]).toEqual([0, 1, 2, 3]);
      expect([...(await source.read('x/y'))]).toEqual([3]);
    });
  });

  it('reads zip64 archives', async () => {
    const bytes = await zipOf([['a.npy', encodeNpy(array(5))]], { forceZip64Format: true });
    expect((await readAll(temporaryFile('64.npz', bytes))).get('a')?.data).toEqual([5]);
  });

  it('reads an archive that begins behind 4 GiB of others', async () => {
    // every offset of the fixture lies in a field of 8 bytes; they move by what is put before
    const bytes = readFileSync(join(files, 'numpy-zip64.npz'));
    const before = 5 * 2 ** 30;
    const move = (at: number) => bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) + BigInt(before), at);
    const end = bytes.indexOf('PK\x06\x06');
    let at = bytes.indexOf('PK\x01\x02');
    for (
      ;
      bytes.readUInt32LE(at) === 0x02014b50;
      at += 46 + bytes.readUInt16LE(at + 28) + bytes.readUInt16LE(at + 30)
    ) {
      const extra = at + 46 + bytes.readUInt16LE(at + 28);
      bytes.writeUInt32LE(0xffffffff, at + 42); // the offset is in the extra field
      if (bytes.readUInt16LE(extra + 2) === 24) move(extra + 4 + 16);
    }
    move(end + 48); // where the directory begins
    move(bytes.indexOf('PK\x06\x07') + 8); // where its end begins
    const path = temporaryFile('large.npz', 'PK\x03\x04');
    const file = openSync(path, 'r+');
    writeSync(file, bytes, 0, bytes.length, before);
    closeSync(file);
    const moved = await readAll(path);
    const plain = await readAll(join(files, 'numpy-zip64.npz'));
    expect([...moved.keys()]).toEqual(['a/kernel', 'a/bias']);
    expect(moved).toEqual(plain);
  });

  it('puts long arrays together from pieces, whatever their type and order', async () => {
    await withSource(join(files, 'numpy-long.npz'), async (source) => {
      expect(source.tensors.map(({ shape }) => shape)).toEqual([[701, 1001], [1300003], [11, 7, 2003]]);
      for (const { name } of source.tensors) {
        const values = await source.read(name);
        expect(values.findIndex((value, i) => value !== i % 251)).toBe(-1);
      }
    });
  });

  it('sets aside by name what is not made of numbers', async () => {
    await withSource(join(files, 'numpy-beside.npz'), (source) => {
      expect(source.setAside).toEqual([
        { name: 'objects', reason: 'Python objects, a pickle that is never executed (|O)' },
        { name: 'text', reason: 'text (<U6)' },
        { name: 'bytes', reason: 'text (|S6)' },
        { name: 'structure', reason: 'structures' },
        { name: 'raw', reason: 'raw bytes (|V5)' },
        { name: 'float8', reason: 'raw bytes (<V1)' },
        { name: 'date', reason: 'dates (<M8[D])' },
        { name: 'time', reason: 'times (<m8[s])' },
      ]);
    });
  });

  it('refuses by name numbers that it would have to change, and files that hold none', async () => {
    const opening = (name: string) => () => openWeights(join(files, name));
    await expectFailure(opening('numpy-longdouble.npz'), 'DTYPE_UNSUPPORTED', /"head\/kernel\.npy": .* of type <f16;/);
    await expectFailure(opening('numpy-complex.npz'), 'DTYPE_UNSUPPORTED', /"spectrum\.npy": .* of type <c8;/);
    await expectFailure(opening('numpy-objects.npz'), 'NPZ_NO_TENSORS', /"arr_0": Python objects/);
  });

  it('notices one changed bit by the checksum', async () => {
    const path = temporary('sum.npz');
    await writeNpz(path, { a: array(1, 2, 3) });
    const bytes = readFileSync(path);
    bytes[bytes.indexOf(Buffer.from(Float32Array.of(2).buffer))]! ^= 1;
    await withSource(temporaryFile('sum.npz', bytes), async (source) => {
      await expectFailure(() => source.read('a'), 'ZIP_DAMAGED', /checksum/);
    });
  });
});

describe('hostile archives', () => {
  const open = (bytes: Uint8Array) => () => openWeights(temporaryFile('hostile.npz', bytes));

  it('refuses one that is cut off, anywhere', async () => {
    for (let length = 4; length < compressed.length; length += 7) {
      await expectFailure(open(compressed.subarray(0, length)), 'ZIP_DAMAGED');
    }
  });

  it('refuses two entries of one name', async () => {
    const bytes = await zipOf([
      ['a.npy', encodeNpy(array(1))],
      ['b.npy', encodeNpy(array(2))],
    ]);
    for (let at = bytes.indexOf('b.npy'); at >= 0; at = bytes.indexOf('b.npy')) bytes.write('a', at);
    await expectFailure(open(bytes), 'ZIP_DAMAGED', /two entries are called "a.npy"/);
  });

  it('refuses an entry that promises more than deflate can give', async () => {
    const bytes = await zipOf([['a.npy', encodeNpy(array(1))]], { compress: true });
    const central = bytes.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'));
    bytes.writeUInt32LE(1_000_000_000, central + 24);
    await expectFailure(open(bytes), 'ZIP_DAMAGED', /declares 1000000000 bytes out of/);
  });

  it('refuses an entry that is larger than the file', async () => {
    const bytes = await zipOf([['a.npy', encodeNpy(array(1))]]);
    const central = bytes.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'));
    bytes.writeUInt32LE(1_000_000, central + 20);
    bytes.writeUInt32LE(1_000_000, central + 24);
    await expectFailure(open(bytes), 'ZIP_DAMAGED', /in a file of/);
  });

  it('refuses an array that is not as long as its header says', async () => {
    const bytes = await zipOf([['a.npy', encodeNpy(array(1, 2)).subarray(0, -1)]]);
    await expectFailure(open(bytes), 'FILE_TRUNCATED', /declares 8 bytes of numbers, but the entry has 7/);
  });

  it('refuses paths out of the archive, encryption and unknown compression', async () => {
    const bytes = await zipOf([['aaa.npy', encodeNpy(array(1))]], { compress: true });
    const central = bytes.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'));
    const changed = (change: (copy: Buffer) => void) => {
      const copy = Buffer.from(bytes);
      change(copy);
      return copy;
    };
    await expectFailure(open(changed((copy) => copy.write('../', central + 46))), 'ARCHIVE_UNSAFE', /relative path/);
    await expectFailure(open(changed((copy) => copy.write('/', central + 46))), 'ARCHIVE_UNSAFE', /absolute path/);
    await expectFailure(open(changed((copy) => copy.write('C:', central + 46))), 'ARCHIVE_UNSAFE', /absolute path/);
    await expectFailure(open(changed((copy) => copy.writeUInt16LE(1, central + 8))), 'ZIP_DAMAGED', /encrypted/);
    await expectFailure(open(changed((copy) => copy.writeUInt16LE(93, central + 10))), 'ZIP_DAMAGED', /method 93/);
  });
});

describe('writing', () => {
  it('gives equal bytes each time', async () => {
    const [one, two] = [temporary('one.npz'), temporary('two.npz')];
    const arrays = {
      logits: { shape: [1, 3], data: Float32Array.of(1, 2, 3) },
      'stage1.block1': { shape: [1, 1, 1, 2], data: Float32Array.of(4, 5) },
      scalar: { shape: [], data: Float32Array.of(6) },
      empty: { shape: [0, 2], data: new Float32Array() },
    };
    await writeNpz(one, arrays);
    await writeNpz(two, arrays);
    expect(readFileSync(one).equals(readFileSync(two))).toBe(true);
    const all = await readAll(one);
    expect([...all.keys()]).toEqual(Object.keys(arrays));
    for (const [name, { shape, data }] of Object.entries(arrays))
      expect(all.get(name)).toEqual({ shape, data: [...data] });
    expect(readFileSync(one).readUInt32LE(14)).toBe(crc32(encodeNpy(arrays.logits)));
  });

  it('refuses arrays that do not fit their shape, and names that no zip can hold', async () => {
    const path = temporary('refused.npz');
    await expectFailure(() => writeNpz(path, { a: { shape: [2], data: Float32Array.of(1) } }), 'TENSOR_SHAPE');
    await expectFailure(() => writeNpz(path, { '../a': array(1) }), 'TENSOR_NAME');
  });
});

describe('crc32', () => {
  it('is that of the standard', () => {
    expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926); // the check value of CRC-32/ISO-HDLC
    expect(crc32(new Uint8Array())).toBe(0);
  });
});
