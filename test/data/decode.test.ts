import { Buffer } from 'node:buffer';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from '../../src/data/decode.js';
import { DataError } from '../../src/errors.js';
import { rng } from '../../src/rng.js';
import { newFolder, writeFile } from './folder.js';

const WIDTH = 20;
const HEIGHT = 12;

/** Smooth colours: the lossy formats keep them nearly. */
function gradient(channels: number, width = WIDTH, height = HEIGHT): Uint8Array {
  const out = new Uint8Array(width * height * channels);
  for (let i = 0; i < out.length; i++) {
    const pixel = Math.floor(i / channels);
    out[i] = 20 + 9 * (pixel % width) + 3 * (i % channels) + 2 * Math.floor(pixel / width);
  }
  return out;
}

function picture(channels: 1 | 2 | 3 | 4 = 3): Sharp {
  return sharp(gradient(channels), { raw: { width: WIDTH, height: HEIGHT, channels } });
}

/** What is left of a picture with these channels: grey repeated, alpha dropped. */
function asRgb(data: Uint8Array, channels: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < data.length; i += channels) {
    if (channels >= 3) out.push(data[i]!, data[i + 1]!, data[i + 2]!);
    else out.push(data[i]!, data[i]!, data[i]!);
  }
  return out;
}

async function expectPixels(file: Buffer, expected: ArrayLike<number>, tolerance = 0): Promise<void> {
  const { data, width, height } = await decodeImage(file);
  expect(data).toBeInstanceOf(Uint8Array);
  expect([width, height, data.length]).toEqual([WIDTH, HEIGHT, WIDTH * HEIGHT * 3]);
  let worst = 0;
  for (let i = 0; i < data.length; i++) worst = Math.max(worst, Math.abs(data[i]! - expected[i]!));
  expect(worst).toBeLessThanOrEqual(tolerance);
}

describe('formats', () => {
  const rgb = gradient(3);

  test.each<[string, Sharp, number]>([
    ['png', picture().png(), 0],
    ['png, interlaced', picture().png({ progressive: true }), 0],
    ['jpeg', picture().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }), 4],
    ['jpeg, progressive', picture().jpeg({ quality: 100, progressive: true, chromaSubsampling: '4:4:4' }), 4],
    ['webp, lossless', picture().webp({ lossless: true }), 0],
    ['webp', picture().webp({ quality: 95 }), 12],
    ['tiff, lzw', picture().tiff({ compression: 'lzw' }), 0],
    ['tiff, uncompressed', picture().tiff({ compression: 'none' }), 0],
    ['tiff, jpeg inside', picture().tiff({ compression: 'jpeg', quality: 95 }), 12],
    ['avif, lossless', picture().avif({ lossless: true }), 2],
    ['gif', picture().gif({ dither: 0 }), 12],
    ['png with a palette', picture().png({ palette: true, dither: 0 }), 12],
  ])('%s', async (_, encoder, tolerance) => {
    await expectPixels(await encoder.toBuffer(), rgb, tolerance);
  });

  test('a palette is looked up exactly', async () => {
    const two = Uint8Array.from(rgb, (_, i) => (Math.floor(i / 3) % 2 ? [10, 200, 30] : [250, 0, 90])[i % 3]!);
    const file = await sharp(two, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
      .png({ palette: true })
      .toBuffer();
    expect((await sharp(file).metadata()).isPalette).toBe(true);
    await expectPixels(file, two);
  });

  test.each(['png', 'jpeg', 'tiff', 'webp'] as const)('grey %s is repeated', async (format) => {
    const options = {
      jpeg: { quality: 100 },
      webp: { lossless: true },
      png: {},
      tiff: { compression: 'lzw' },
    } as const;
    const file = await picture(1).toColourspace('b-w').toFormat(format, options[format]).toBuffer();
    await expectPixels(file, asRgb(gradient(1), 1), format === 'jpeg' ? 2 : 0);
  });

  test('grey with alpha: alpha is dropped, not composited', async () => {
    const file = await picture(2).toColourspace('b-w').png().toBuffer();
    expect((await sharp(file).metadata()).channels).toBe(2);
    await expectPixels(file, asRgb(gradient(2), 2));
  });

  test.each(['png', 'webp', 'tiff'] as const)('%s with alpha: alpha is dropped, not composited', async (format) => {
    const options = { webp: { lossless: true, exact: true }, png: {}, tiff: { compression: 'lzw' } } as const;
    const file = await picture(4).toFormat(format, options[format]).toBuffer();
    expect((await sharp(file).metadata()).hasAlpha).toBe(true);
    await expectPixels(file, asRgb(gradient(4), 4));
  });

  test('pictures of one bit', async () => {
    const dots = Uint8Array.from({ length: WIDTH * HEIGHT }, (_, i) => (i % 3 ? 255 : 0));
    const bilevel = sharp(dots, { raw: { width: WIDTH, height: HEIGHT, channels: 1 } }).toColourspace('b-w');
    const file = await bilevel.tiff({ bitdepth: 1, compression: 'ccittfax4' }).toBuffer();
    await expectPixels(file, asRgb(dots, 1));
  });

  test.each(['gif', 'webp'] as const)('animated %s: the first frame', async (format) => {
    const frames = new Uint8Array(WIDTH * HEIGHT * 2 * 3).fill(200).fill(10, 0, WIDTH * HEIGHT * 3);
    const raw = { width: WIDTH, height: HEIGHT * 2, channels: 3, pageHeight: HEIGHT } as const;
    const file = await sharp(frames, { raw }).toFormat(format, { loop: 0 }).toBuffer();
    expect((await sharp(file).metadata()).pages).toBe(2);
    await expectPixels(file, new Uint8Array(WIDTH * HEIGHT * 3).fill(10), 2);
  });

  test('a colour profile is ignored, as Pillow does', async () => {
    const file = await picture().withIccProfile('p3', { attach: true }).png().toBuffer();
    const metadata = await sharp(file).metadata();
    expect(metadata.icc).toBeDefined();
    const stored = await sharp(file, { ignoreIcc: true }).raw().toBuffer();
    await expectPixels(file, stored);
    expect(await sharp(file).raw().toBuffer()).not.toEqual(stored);
  });
});

describe('16 bits', () => {
  test.each([
    ['colour', 3, 'rgb16'],
    ['grey', 1, 'grey16'],
    ['grey with alpha', 2, 'grey16'],
    ['colour with alpha', 4, 'rgb16'],
  ] as const)('%s: divided by 257 and rounded', async (_, channels, space) => {
    const samples = Uint16Array.from({ length: WIDTH * HEIGHT * channels }, (_, i) => (i * 7919) % 65536);
    samples.set([65535, 0, 65406, 65407].slice(0, channels * 1));
    const raw = { width: WIDTH, height: HEIGHT, channels };
    const file = await sharp(samples, { raw }).toColourspace(space).png().toBuffer();
    expect((await sharp(file).metadata()).depth).toBe('ushort');
    const bytes = Uint8Array.from(samples, (value) => Math.round(value / 257));
    await expectPixels(file, asRgb(bytes, channels));
  });
});

describe('CMYK', () => {
  // 4x4 pictures written by Pillow 12.3, and what its convert('RGB') makes of them.
  test('tiff', async () => {
    const file =
      'SUkqAFQAAACAAAWloWjw0pYgnhStIqrRwg4JhEfGsZE09KcjIlbOMCsV5B8MiInnwcF5FrgmJpjvQFtYBjAPjMwI0fG9OMkpKtsAUIOcKEES' +
      'QEAACgAAAQMAAQAAAAQAAAABAQMAAQAAAAQAAAACAQMABAAAANIAAAADAQMAAQAAAAUAAAAGAQMAAQAAAAUAAAARAQQAAQAAAAgAAAAVAQMA' +
      'AQAAAAQAAAAWAQMAAQAAAAQAAAAXAQQAAQAAAEsAAAAcAQMAAQAAAAEAAAAAAAAACAAIAAgACAA=';
    const { data, width, height } = await decodeImage(Buffer.from(file, 'base64'));
    expect([width, height]).toEqual([4, 4]);
    expect([...data]).toEqual([
      210, 173, 136, 145, 112, 78, 90, 60, 30, 69, 28, 223, 191, 155, 119, 129, 96, 64, 116, 72, 27, 52, 12, 202, 172,
      137, 102, 113, 81, 50, 97, 54, 11, 36, 221, 182, 154, 120, 86, 98, 67, 37, 79, 37, 234, 21, 202, 163,
    ]);
  });

  test('jpeg, which stores its inks inverted', async () => {
    const file =
      '/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkKCgoKCgYICwwL' +
      'CgwJCgoK/8AAFAgABAAEBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQEC' +
      'AwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3' +
      'eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBN' +
      'AFkASwAAPwD5G/4LbfHz4mf8PDPGH/E7/u9j/wA9JPevc/2Mv+CcP7Ef/BRPUfi98a/2xvgV/wAJh4n0v4wX2iWOp/8ACX61p/lWEenadOkPl2N7' +
      'DG2JbmdtxUsd+CSAoH1f/wAE2dR8RfCv9mYeOvD3ivUJrv4leMNe8Sa7HeyK0cF1FqU+kKkAVVKxfZ9Kt3Icu3mPKdwUqifq78Ldau7TwBYXNokU' +
      'Ul3Ldy3TxRBTNILydA7EfebYiLk84VR0Ar//2Q==';
    const { data } = await decodeImage(Buffer.from(file, 'base64'));
    const expected = [
      211, 175, 137, 143, 109, 78, 89, 61, 29, 70, 28, 223, 191, 155, 117, 131, 97, 63, 116, 70, 31, 51, 12, 196, 171,
      136, 101, 114, 82, 50, 97, 55, 8, 36, 221, 185, 155, 121, 88, 97, 66, 36, 78, 35, 233, 21, 201, 162,
    ];
    expect(data).toHaveLength(expected.length);
    // Two JPEG decoders may round differently.
    expect(Math.max(...expected.map((value, i) => Math.abs(value - data[i]!)))).toBeLessThanOrEqual(2);
  });
});

describe('EXIF orientation', () => {
  // [row, column] of the stored picture, of h rows and w columns, that is shown at row y, column x (EXIF 2.32, 4.6.4).
  type Source = (y: number, x: number, h: number, w: number) => [number, number];
  const shown: Record<number, Source> = {
    1: (y, x) => [y, x],
    2: (y, x, _, w) => [y, w - 1 - x],
    3: (y, x, h, w) => [h - 1 - y, w - 1 - x],
    4: (y, x, h) => [h - 1 - y, x],
    5: (y, x) => [x, y],
    6: (y, x, h) => [h - 1 - x, y],
    7: (y, x, h, w) => [h - 1 - x, w - 1 - y],
    8: (y, x, _, w) => [x, w - 1 - y],
  };
  const generator = rng('orientation');
  const bytes = Uint8Array.from({ length: WIDTH * HEIGHT * 3 }, () => generator.integer(256));

  test.each(Object.entries(shown))('%s', async (orientation, source) => {
    const stored = sharp(bytes, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } });
    const file = await stored
      .withMetadata({ orientation: Number(orientation) })
      .webp({ lossless: true })
      .toBuffer();
    expect((await sharp(file).metadata()).orientation).toBe(Number(orientation));
    const { data, width, height } = await decodeImage(file);
    const lies = Number(orientation) >= 5;
    expect([width, height]).toEqual(lies ? [HEIGHT, WIDTH] : [WIDTH, HEIGHT]);
    const expected: number[] = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [row, column] = source(y, x, HEIGHT, WIDTH);
        expected.push(...bytes.subarray((row * WIDTH + column) * 3, (row * WIDTH + column) * 3 + 3));
      }
    }
    expect([...data]).toEqual(expected);
  });

  test('applies to 16 bits and CMYK as well', async () => {
    const sixteen = sharp(
      Uint16Array.from(bytes, (b) => b * 257),
      { raw: { width: WIDTH, height: HEIGHT, channels: 3 } },
    );
    const deep = await sixteen.toColourspace('rgb16').withMetadata({ orientation: 6 }).png().toBuffer();
    expect(await decodeImage(deep)).toMatchObject({ width: HEIGHT, height: WIDTH });
    const cmyk = await picture().toColourspace('cmyk').withMetadata({ orientation: 6 }).jpeg().toBuffer();
    expect(await decodeImage(cmyk)).toMatchObject({ width: HEIGHT, height: WIDTH });
  });
});

/** A picture that says it is 20,000 pixels in both directions. */
function bomb(small: Buffer): Buffer {
  const out = Buffer.from(small);
  out.writeUInt32BE(20_000, 16);
  out.writeUInt32BE(20_000, 20);
  out.writeUInt32BE(crc32(out.subarray(12, 29)), 29);
  return out;
}

describe('bad pictures', () => {
  async function faultOf(name: string, content: Uint8Array | string): Promise<DataError> {
    const path = join(newFolder(), name);
    writeFile(path, content);
    const thrown: unknown = await decodeImage(path).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(DataError);
    const fault = thrown as DataError;
    expect(fault.code).toBe('BAD_IMAGE');
    expect(fault.message).toContain(path);
    expect(fault.hint).toBeTruthy();
    return fault;
  }

  test('an empty file', async () => {
    expect((await faultOf('a.jpg', '')).message).toMatch(/a\.jpg: the file is empty$/);
  });

  test('a text called picture', async () => {
    expect((await faultOf('a.jpg', 'hello, I am a text')).message).toMatch(/it is not a picture/);
  });

  test('a drawing program called picture', async () => {
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>';
    expect((await faultOf('a.png', svg)).message).toMatch(/the format svg is not one of photographs/);
  });

  const noise = rng('noise');
  const big = sharp(
    Uint8Array.from({ length: 200 * 150 * 3 }, () => noise.integer(256)),
    {
      raw: { width: 200, height: 150, channels: 3 },
    },
  );
  test.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)('half a %s', async (format) => {
    const whole = await big.clone().toFormat(format).toBuffer();
    expect(await decodeImage(whole)).toMatchObject({ width: 200, height: 150 });
    await faultOf(`half.${format}`, whole.subarray(0, whole.length / 2));
    await faultOf(`most.${format}`, whole.subarray(0, whole.length * 0.95));
  });

  test('a jpeg without its last bytes', async () => {
    const whole = await big.clone().jpeg().toBuffer();
    expect((await faultOf('a.jpg', whole.subarray(0, whole.length - 2))).message).toMatch(/premature end/);
  });

  test('bytes after the end do no harm', async () => {
    const whole = await picture().jpeg().toBuffer();
    expect((await decodeImage(Buffer.concat([whole, Buffer.from('trailing')]))).data).toEqual(
      (await decodeImage(whole)).data,
    );
  });

  test('more pixels than memory can hold', async () => {
    const fault = await faultOf('bomb.png', bomb(await picture().png().toBuffer()));
    expect(fault.message).toMatch(/more than 268 million pixels/);
    expect(fault.hint).toMatch(/smaller/);
  });

  test('samples without an agreed range', async () => {
    const floats = await picture().toColourspace('scrgb').tiff({ compression: 'none' }).toBuffer();
    expect((await faultOf('a.tiff', floats)).message).toMatch(/samples of type float, expected 8 or 16 bits/);
  });

  test('a missing file, and a folder', async () => {
    const dir = newFolder();
    await expect(decodeImage(join(dir, 'no.jpg'))).rejects.toMatchObject({
      code: 'BAD_IMAGE',
      message: `cannot read ${join(dir, 'no.jpg')}: there is no such file`,
    });
    await expect(decodeImage(dir)).rejects.toMatchObject({ message: `cannot read ${dir}: it is a folder` });
  });

  test('bytes in memory have no path', async () => {
    await expect(decodeImage(Buffer.from('no'))).rejects.toThrow(/cannot read the picture in memory: it is not/);
  });
});
