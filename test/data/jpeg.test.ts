import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { picturesAddon, usePicturesAddon } from '../../src/addon.js';
import type { Channels, Picture } from '../../src/augment/image.js';
import {
  caffePreprocessing,
  fittedBy,
  slimInceptionPreprocessing,
  slimVggPreprocessing,
  tfPreprocessing,
  torchPreprocessing,
  withChannels,
} from '../../src/augment/preprocessing.js';
import { augmentations } from '../../src/augment/recipe.js';
import { decodeImage } from '../../src/data/decode.js';
import { decodeBatch } from '../../src/data/decode-batch.js';
import { plainJpeg } from '../../src/data/jpeg.js';
import { batches, closeLoader, type LoaderOptions } from '../../src/data/loader.js';
import { rng } from '../../src/rng.js';
import { addonFile, withAddon } from '../support/addon.js';
import { newFolder, writeFile } from './folder.js';

afterAll(closeLoader);

const stored = JSON.parse(readFileSync(new URL('jpegs.json', import.meta.url), 'utf8')) as Record<string, string>;
const cjpeg = Object.entries(stored).map(([name, text]) => [name, Buffer.from(text, 'base64')] as const);

/** Smooth colours with noise, of any size. */
function photograph(width: number, height: number, channels: 1 | 3 = 3): Sharp {
  const generator = rng(`${width}x${height}`);
  const pixels = Uint8Array.from({ length: width * height * channels }, (_, i) => {
    const pixel = Math.floor(i / channels);
    return (3 * (pixel % width) + 2 * Math.floor(pixel / width) + 40 * (i % channels) + generator.integer(50)) % 256;
  });
  return sharp(pixels, { raw: { width, height, channels } });
}

/** A segment behind the first marker. */
function withSegment(file: Buffer, marker: number, payload: Uint8Array): Buffer {
  const head = Buffer.from([0xff, marker, (payload.length + 2) >> 8, (payload.length + 2) & 255]);
  return Buffer.concat([file.subarray(0, 2), head, payload, file.subarray(2)]);
}

/** EXIF of one tag, in either order of bytes (EXIF 2.32, 4.6). */
function exif(tag: number, value: number, { little = false, type = 3, count = 1 } = {}): Buffer {
  const out = Buffer.alloc(6 + 8 + 2 + 12 + 4);
  out.write(`Exif\0\0${little ? 'II' : 'MM'}`, 'latin1');
  const [u16, u32] = little
    ? [out.writeUInt16LE.bind(out), out.writeUInt32LE.bind(out)]
    : [out.writeUInt16BE.bind(out), out.writeUInt32BE.bind(out)];
  u16(42, 8);
  u32(8, 10);
  u16(1, 14);
  u16(tag, 16);
  u16(type, 18);
  u32(count, 20);
  u16(value, 24);
  return out;
}

const adobe = (transform: number): Buffer => Buffer.from([...Buffer.from('Adobe'), 0, 100, 0, 0, 0, 0, transform]);
const frameAt = (file: Buffer): number =>
  file.findIndex((byte, i) => byte === 0xff && [0xc0, 0xc2].includes(file[i + 1]!));

/** The picture or the reason why there is none. */
const result = (file: Buffer, channels: Channels = 3): Promise<Picture | string> =>
  decodeImage(file, channels).catch((thrown: Error) => thrown.message);

/** With and without the addon: the same picture or the same words. */
async function expectSame(file: Buffer, channels: Channels = 3): Promise<Picture | string> {
  const expected = await result(file, channels);
  const got = await withAddon(() => result(file, channels));
  if (typeof expected === 'string' || typeof got === 'string') expect(got).toBe(expected);
  else {
    expect([got.width, got.height]).toEqual([expected.width, expected.height]);
    expect(Buffer.compare(Buffer.from(got.data), Buffer.from(expected.data))).toBe(0);
  }
  return expected;
}

/** Whether the addon takes the file, and decodes it. */
async function isTaken(file: Buffer): Promise<boolean> {
  const jpeg = plainJpeg(file);
  if (!jpeg) return false;
  const out = new Uint8Array(jpeg.width * jpeg.height * jpeg.channels);
  return withAddon(() => picturesAddon()?.decodeJpeg(file, jpeg.orientation, out) ?? Promise.resolve(true));
}

describe('the same pixels by the addon and by sharp', () => {
  test.each(cjpeg)('%s', async (name, file) => {
    expect(plainJpeg(file) === undefined).toBe(name === 'arithmetic');
    expect(await isTaken(file)).toBe(name !== 'arithmetic');
    for (const channels of [1, 3, 4] as const) expect(await expectSame(file, channels)).toMatchObject({ width: 37 });
  });

  const sizes = [
    [1, 1],
    [2, 3],
    [8, 8],
    [16, 16],
    [17, 33],
    [255, 3],
    [500, 375],
  ] as const;
  test.each(sizes)('%i x %i, with every sampling and quality', async (width, height) => {
    for (const chromaSubsampling of ['4:4:4', '4:2:0']) {
      for (const progressive of [false, true]) {
        for (const quality of [10, 75, 100]) {
          const file = await photograph(width, height).jpeg({ chromaSubsampling, progressive, quality }).toBuffer();
          expect(plainJpeg(file)).toEqual({ width, height, channels: 3, orientation: 1 });
          expect(await isTaken(file)).toBe(true);
          await expectSame(file);
        }
      }
    }
    const grey = await photograph(width, height, 1).toColourspace('b-w').jpeg().toBuffer();
    expect(plainJpeg(grey)).toMatchObject({ channels: 1 });
    for (const channels of [1, 3, 4] as const) await expectSame(grey, channels);
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('EXIF orientation %i', async (orientation) => {
    for (const channels of [1, 3] as const) {
      const picture = photograph(37, 21, channels);
      const image = channels === 1 ? picture.toColourspace('b-w') : picture;
      const file = await image.withMetadata({ orientation }).jpeg().toBuffer();
      expect(plainJpeg(file)).toMatchObject({ width: 37, height: 21, orientation });
      expect(await isTaken(file)).toBe(true);
      expect(await expectSame(file)).toMatchObject(orientation < 5 ? { width: 37 } : { width: 21 });
    }
  });

  test('metadata of all kinds', async () => {
    const file = await photograph(37, 21).jpeg().toBuffer();
    const plain = { width: 37, height: 21, channels: 3, orientation: 1 };
    const kinds: [Buffer, number | undefined][] = [
      [withSegment(file, 0xfe, Buffer.from('a comment')), 1],
      [withSegment(file, 0xe1, exif(0x0112, 6)), 6],
      [withSegment(file, 0xe1, exif(0x0112, 6, { little: true })), 6],
      [withSegment(file, 0xe1, exif(0x0100, 6)), 1],
      [withSegment(file, 0xe1, Buffer.from('http://ns.adobe.com/xap/1.0/\0<x/>')), 1],
      [withSegment(file, 0xee, adobe(0)), 1],
      [withSegment(file, 0xee, adobe(1)), 1],
      [await photograph(37, 21).withIccProfile('p3', { attach: true }).jpeg().toBuffer(), 1],
      [Buffer.concat([file, Buffer.alloc(99)]), 1],
      // What follows is left to sharp.
      [withSegment(file, 0xe1, exif(0x0112, 9)), undefined],
      [withSegment(file, 0xe1, exif(0x0112, 6, { type: 4 })), undefined],
      [withSegment(file, 0xe1, exif(0x0112, 6, { count: 2 })), undefined],
      [withSegment(withSegment(file, 0xe1, exif(0x0112, 6)), 0xe1, exif(0x0112, 3)), undefined],
      [withSegment(file, 0xe1, exif(0x0112, 6).subarray(0, 20)), undefined],
      [withSegment(file, 0xee, adobe(2)), undefined],
      [Buffer.concat([file.subarray(0, 2), Buffer.from([0xff, 0xff]), file.subarray(2)]), undefined],
    ];
    for (const [kind, orientation] of kinds) {
      expect(plainJpeg(kind)).toEqual(orientation === undefined ? undefined : { ...plain, orientation });
      await expectSame(kind);
    }
  });

  test('many at once, each into its own memory', async () => {
    const files = await Promise.all(
      Array.from({ length: 24 }, (_, i) =>
        photograph(120 + i, 90 + 2 * i)
          .jpeg()
          .toBuffer(),
      ),
    );
    const expected = await Promise.all(files.map((file) => decodeImage(file)));
    const got = await withAddon(() => Promise.all([...files, ...files].map((file) => decodeImage(file))));
    const differing = got.filter(({ data }, i) =>
      Buffer.compare(data as Uint8Array, expected[i % 24]!.data as Uint8Array),
    );
    expect(differing).toHaveLength(0);
  });
});

describe('what is odd, damaged or hostile', () => {
  test('CMYK, other files, and none', async () => {
    const files = [
      await photograph(37, 21).toColourspace('cmyk').jpeg().toBuffer(),
      await photograph(37, 21).png().toBuffer(),
      Buffer.from('hello, I am a text'),
      Buffer.from([0xff, 0xd8]),
      Buffer.from([0xff, 0xd8, 0xff, 0xd9]),
      Buffer.alloc(0),
    ];
    for (const file of files) {
      expect(plainJpeg(file)).toBeUndefined();
      await expectSame(file);
    }
  });

  test('cut off anywhere', async () => {
    for (const [, file] of cjpeg) {
      for (const length of [3, 20, 200, 400, file.length - 40, file.length - 2, file.length - 1]) {
        const part = file.subarray(0, length);
        expect(plainJpeg(part)).toBeUndefined();
        await expectSame(part);
      }
    }
  });

  test.each([
    ['12 bits', 4, 12],
    ['no height', 5, 0],
    ['four components', 9, 4],
  ])('a header that says %s', async (_, at, value) => {
    const file = await photograph(37, 21).jpeg().toBuffer();
    const frame = frameAt(file);
    file[frame + at] = value;
    if (at === 5) file[frame + 6] = 0;
    expect(plainJpeg(file)).toBeUndefined();
    expect(typeof (await expectSame(file))).toBe('string');
  });

  test('a header that says more pixels than memory can hold is refused before any is taken', async () => {
    const file = await photograph(37, 21).jpeg().toBuffer();
    file.writeUInt16BE(20_000, frameAt(file) + 5);
    file.writeUInt16BE(20_000, frameAt(file) + 7);
    expect(plainJpeg(file)).toBeUndefined();
    expect(await expectSame(file)).toMatch(/it has more than 268 million pixels/);
  });

  test('a restart that is missing, or one too many', async () => {
    const file = Buffer.from(stored.restarts!, 'base64');
    const second = file.indexOf(Buffer.from([0xff, 0xd1]));
    const third = file.indexOf(Buffer.from([0xff, 0xd2]));
    const without = Buffer.concat([file.subarray(0, second), file.subarray(third)]);
    const twice = Buffer.concat([file.subarray(0, third), file.subarray(second)]);
    for (const damaged of [without, twice]) {
      expect(plainJpeg(damaged)).toBeUndefined();
      await expectSame(damaged);
    }
  });

  test('bytes changed, lost or put in at random', async () => {
    const whole = [...cjpeg.map(([, file]) => file), await photograph(90, 70).jpeg({ quality: 90 }).toBuffer()];
    let [taken, pictures] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...whole), fc.integer(), async (file, seed) => {
        const draw = rng(seed);
        let damaged: Buffer = Buffer.from(file);
        for (let changes = 1 + draw.integer(2); changes > 0; changes--) {
          const [at, byte] = [draw.integer(damaged.length), Buffer.from([draw.integer(256)])];
          const [lost, put] = [draw.integer(2), draw.integer(2)];
          damaged = Buffer.concat([damaged.subarray(0, at), byte.subarray(put), damaged.subarray(at + lost)]);
        }
        if (typeof (await expectSame(damaged)) !== 'string') pictures++;
        if (plainJpeg(damaged)) taken++;
      }),
      { numRuns: 300 },
    );
    expect(Math.min(taken, pictures)).toBeGreaterThan(50); // else the property says little
  });
});

describe('the loader gives the same batches with and without the addon, on this thread and on others', () => {
  const kinds = [
    'a.jpg',
    'b.JPEG',
    'grey.jpg',
    'c.png',
    'progressive.jpg',
    'cut.jpg',
    'text.jpg',
    'cmyk.jpg',
    'corrupt.jpg',
    'missing.jpg',
  ];
  let dir: string;
  let samples: { path: string; label: number; split: 'train' }[];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'tl-jpeg-'));
    samples = await Promise.all(
      Array.from({ length: kinds.length + 3 }, async (_, i) => {
        const [kind, ending] = kinds[i % kinds.length]!.split('.') as [string, string];
        const path = join(dir, `${i}-${kind}.${ending}`);
        const grey = kind === 'grey';
        const picture = photograph(60 + 7 * i, 80 - 3 * i, grey ? 1 : 3).withMetadata({ orientation: 1 + (i % 8) });
        const space = grey ? 'b-w' : kind === 'cmyk' ? 'cmyk' : 'srgb';
        const jpeg = picture.toColourspace(space).jpeg({ progressive: kind === 'progressive' });
        const file = await (ending === 'png' ? picture.png() : jpeg).toBuffer();
        const corrupt = Buffer.from(file).fill(0x55, file.length >> 1, (file.length >> 1) + 40);
        const odd = {
          text: Buffer.from('hello, I am a text'),
          cut: file.subarray(0, 300),
          corrupt,
          missing: undefined,
        };
        const content = kind in odd ? odd[kind as keyof typeof odd] : file;
        if (content) writeFile(path, content);
        return { path, label: 0, split: 'train' as const };
      }),
    );
  });

  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const bitsOf = (numbers: Float32Array): string => createHash('sha256').update(numbers).digest('hex');
  // Which of libvips' words about a damaged file come first depends on what its other threads do.
  const verdict = (reason: string): string => reason.replace(/(Input file has corrupt|VipsJpeg:).*/s, 'damaged');
  const load = async (options: Partial<LoaderOptions>): Promise<unknown> => {
    const bad: string[] = [];
    const out: unknown[] = [];
    const onBadImage = (path: string, reason: string) => void bad.push(`${path}: ${verdict(reason)}`);
    const how = { preprocessing: torchPreprocessing, size: { height: 32, width: 40 }, augment: 'flip' } as const;
    const rest = { batchSize: 5, seed: 1, epoch: 1, skipBadImages: true, onBadImage };
    for await (const { pixels, second, indices } of batches(samples, { ...how, ...rest, ...options })) {
      out.push({ pixels: bitsOf(pixels), second: second && bitsOf(second), indices });
    }
    return { out, bad };
  };

  const grey = { preprocessing: withChannels(torchPreprocessing, 1), size: { height: 20, width: 30 } };
  const cases: (readonly [string, Partial<LoaderOptions>])[] = [
    ...augmentations.flatMap((augment) =>
      [torchPreprocessing, caffePreprocessing].map((preprocessing) => [augment, { augment, preprocessing }] as const),
    ),
    ['bicubic, as timm', { preprocessing: { ...torchPreprocessing, kernel: 'pil_bicubic' } }],
    ['short side, as slim', { preprocessing: slimVggPreprocessing }],
    ['the middle, as slim', { preprocessing: slimInceptionPreprocessing }],
    ['larger than the pictures', { size: { height: 150, width: 201 } }],
    ['of one pixel', { size: { height: 1, width: 1 }, preprocessing: caffePreprocessing }],
    ['in one view', { view: { flip: true }, preprocessing: tfPreprocessing }],
    ['in one part', { view: { flip: true, part: 'bottom left' } }],
    ['with colour around it', { preprocessing: fittedBy(caffePreprocessing, 'pad') }],
    ['grey', grey],
    ['with a second network', { second: { preprocessing: caffePreprocessing, size: { height: 9, width: 17 } } }],
    ['with a second network of grey pictures', { second: grey }],
  ];
  test.each(cases)('%s', async (_, options) => {
    const expected = await load({ ...options, workers: 0 });
    expect(expected).toMatchObject({ bad: expect.arrayContaining([expect.stringContaining('it is not a picture')]) });
    for (const workers of [0, 2]) expect(await withAddon(() => load({ ...options, workers }))).toEqual(expected);
  });

  test('lends the same batches, in memory that is written over again', async () => {
    for (const second of [undefined, grey]) {
      const expected = await load({ second, workers: 0 });
      for (const workers of [0, 2]) {
        expect(await withAddon(() => load({ second, workers, lend: true }))).toEqual(expected);
        expect(await load({ second, workers, lend: true })).toEqual(expected);
      }
    }
    const how = { preprocessing: torchPreprocessing, size: { height: 9, width: 8 }, augment: 'none' } as const;
    const options = { ...how, batchSize: 2, seed: 1, epoch: 1, skipBadImages: true, lend: true, workers: 1 };
    let first: { lent: Float32Array; copy: Float32Array } | undefined;
    for await (const { pixels } of batches(samples, options)) first ??= { lent: pixels, copy: pixels.slice() };
    expect(bitsOf(first!.lent)).not.toBe(bitsOf(first!.copy));
  });

  test('and stops at the same picture with the same words', async () => {
    const message = async (): Promise<string> =>
      load({ workers: 0, skipBadImages: false }).then(
        () => 'no error',
        (thrown: Error) => verdict(thrown.message),
      );
    const expected = await message();
    expect(expected).toMatch(/cannot read .*5-cut\.jpg/);
    expect(await withAddon(message)).toBe(expected);
  });

  test('and refuses a size of half a pixel once for all', async () => {
    const half = withAddon(() =>
      decodeBatch({
        paths: samples.map(({ path }) => path),
        preprocessing: caffePreprocessing,
        size: { height: 2, width: 1.5 },
        augment: {},
        seed: 1,
        epoch: 1,
        view: undefined,
        stopAtFault: false,
        cancelled: new Int32Array(1),
      }),
    );
    await expect(half).rejects.toMatchObject({ code: 'BAD_SIZE' });
  });
});

describe('a process that decodes', () => {
  const url = (path: string): string => JSON.stringify(new URL(`../../dist/${path}`, import.meta.url).href);
  const run = async (script: string): Promise<{ stdout: string; stderr: string }> => {
    const head = `
      import { readFileSync } from 'node:fs';
      import { usePicturesAddon } from ${url('addon.js')};
      import { decodeImage } from ${url('data/decode.js')};
      usePicturesAddon(${JSON.stringify(addonFile)});`;
    const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' };
    return promisify(execFile)(process.execPath, ['--input-type=module', '-e', head + script], { env });
  };
  const path = fileURLToPath(new URL('jpegs.json', import.meta.url));

  beforeAll(() => expect(existsSync(fileURLToPath(new URL('../../dist/addon.js', import.meta.url)))).toBe(true));

  test('writes nothing to standard error about damaged files, and itself may', async () => {
    const { stdout, stderr } = await run(`
      const files = Object.values(JSON.parse(readFileSync(${JSON.stringify(path)}, 'utf8')));
      let damaged = 0;
      for (const text of files) {
        for (let at = 0.3; at < 0.99; at += 0.02) {
          const file = Buffer.from(text, 'base64');
          file.fill(0x55, Math.floor(at * file.length), Math.floor(at * file.length) + 3);
          await decodeImage(file).catch(() => damaged++);
        }
      }
      console.error('done');
      console.log(damaged > 0);`);
    expect({ stdout, stderr }).toEqual({ stdout: 'true\n', stderr: 'done\n' });
  });

  test('keeps no memory of what it has decoded', async () => {
    const folder = newFolder();
    writeFile(join(folder, 'a.jpg'), await photograph(500, 400).jpeg().toBuffer());
    const { stdout } = await run(`
      const some = async (count) => {
        for (let i = 0; i < count; i++) await decodeImage(${JSON.stringify(join(folder, 'a.jpg'))});
        return process.memoryUsage.rss();
      };
      const before = await some(200);
      console.log(Math.round((await some(800) - before) / 1e6));`);
    expect(Number(stdout)).toBeLessThan(150); // 800 pictures are 480 MB
  });
});

test('the addon is what the set-up built, and can be left again', () => {
  usePicturesAddon(addonFile);
  expect(picturesAddon() === undefined).toBe(addonFile === undefined);
  usePicturesAddon(undefined);
  expect(picturesAddon()).toBeUndefined();
  expect(() => usePicturesAddon('/no/such/pictures.node')).toThrow(/Cannot find module/);
  expect(picturesAddon()).toBeUndefined();
});
