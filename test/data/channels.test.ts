/** Grey and RGBA pictures, as Pillow converts and resizes them. */
import { readFileSync } from 'node:fs';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { type Channels, channelsOf } from '../../src/augment/image.js';
import type { ResizeKernel } from '../../src/augment/preprocessing.js';
import { resample } from '../../src/augment/resample.js';
import { decodeImage } from '../../src/data/decode.js';
import { fixturesFolder } from '../support/golden.js';

interface Fixture {
  readonly conversions: readonly {
    readonly name: string;
    readonly file: string;
    readonly width: number;
    readonly height: number;
    readonly L: string;
    readonly RGB: string;
    readonly RGBA: string;
  }[];
  readonly resizes: readonly {
    readonly channels: Channels;
    readonly width: number;
    readonly height: number;
    readonly kernel: ResizeKernel;
    readonly pixels: string;
    readonly results: readonly { readonly width: number; readonly height: number; readonly expected: string }[];
  }[];
}

const { conversions, resizes } = JSON.parse(readFileSync(`${fixturesFolder}channels.json`, 'utf8')) as Fixture;
const bytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));

describe.each(conversions)('$name', ({ file, width, height, ...modes }) => {
  test.each([
    ['L', 1],
    ['RGB', 3],
    ['RGBA', 4],
  ] as const)('becomes %s', async (mode, channels) => {
    const picture = await decodeImage(Buffer.from(file, 'base64'), channels);
    expect({ ...picture, data: [...picture.data] }).toEqual({ data: [...bytes(modes[mode])], width, height });
    expect(channelsOf(picture)).toBe(channels);
  });
});

describe.each(resizes)('$channels channels by $kernel', ({ width, height, kernel, pixels, results }) => {
  test.each(results)('to $width x $height', (wanted) => {
    const resized = resample({ data: bytes(pixels), width, height }, kernel, wanted.width, wanted.height);
    expect([...resized.data]).toEqual([...bytes(wanted.expected)]);
  });
});

test('16-bit alpha is divided by 257, and CMYK has none', async () => {
  const samples = Uint16Array.of(65535, 0, 257, 32896);
  const deep = sharp(samples, { raw: { width: 1, height: 1, channels: 4 } }).toColourspace('rgb16');
  expect([...(await decodeImage(await deep.png().toBuffer(), 4)).data]).toEqual([255, 0, 1, 128]);
  const inks = sharp({ create: { width: 1, height: 1, channels: 3, background: 'white' } }).toColourspace('cmyk');
  const white = await decodeImage(await inks.jpeg({ quality: 100 }).toBuffer(), 4);
  expect([...white.data]).toEqual([255, 255, 255, 255]);
  expect((await decodeImage(await inks.jpeg({ quality: 100 }).toBuffer(), 1)).data).toEqual(Uint8Array.of(255));
});
