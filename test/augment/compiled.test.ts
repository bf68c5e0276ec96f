import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { picturesAddon } from '../../src/addon.js';
import type { Picture } from '../../src/augment/image.js';
import { normaliseInto, placeInto, placeJpegInto, preprocessInto } from '../../src/augment/pipeline.js';
import {
  caffePreprocessing,
  type Preprocessing,
  type ResizeKernel,
  torchPreprocessing,
  withChannels,
} from '../../src/augment/preprocessing.js';
import { resampleWindow } from '../../src/augment/resample.js';
import { decodeImage } from '../../src/data/decode.js';
import { withAddon } from '../support/addon.js';

const kernels: readonly ResizeKernel[] = [
  'pil_bilinear',
  'pil_bicubic',
  'tf_bilinear',
  'tf1_bilinear',
  'tf1_bilinear_corners',
];

/** The very bits: also where a zero has a sign. */
function expectSameBits(got: Picture['data'], expected: Picture['data']): void {
  expect(got.constructor).toBe(expected.constructor);
  const bytes = ({ buffer, byteOffset, byteLength }: Picture['data']) => Buffer.from(buffer, byteOffset, byteLength);
  expect(Buffer.compare(bytes(got), bytes(expected))).toBe(0);
}

const side = fc.integer({ min: 1, max: 70 });
/** Bytes with hard edges among them, where bicubic sums leave 0..255; now and then within a larger array. */
const anyPicture = (channels: fc.Arbitrary<number>, floats: fc.Arbitrary<boolean>) =>
  fc.tuple(side, side, channels, floats, fc.nat(3)).chain(([width, height, count, asFloats, before]) => {
    const length = width * height * count;
    return fc
      .array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 255)), {
        minLength: length,
        maxLength: length,
        size: 'max',
      })
      .map((values): Picture => {
        const data = Uint8Array.from([...new Array<number>(before).fill(9), ...values]).subarray(before);
        return { data: asFloats ? Float32Array.from(data, (value) => value * 0.973) : data, width, height };
      });
  });

const channels = fc.constantFrom(1, 3, 3, 3, 4);

describe('the same bits by the addon and by JavaScript', () => {
  it('of every resize, of any part to any size, and any window of it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...kernels),
        anyPicture(channels, fc.boolean()),
        side,
        side,
        fc.infiniteStream(fc.nat(1000)),
        async (kernel, image, width, height, numbers) => {
          const draw = (limit: number): number => numbers.next().value % limit;
          const part = (of: { width: number; height: number }) => {
            const [x, y] = [draw(of.width), draw(of.height)];
            return { x, y, width: 1 + draw(of.width - x), height: 1 + draw(of.height - y) };
          };
          const [box, window] = [part(image), part({ width, height })];
          const resized = (): Picture => resampleWindow(image, kernel, { width, height }, window, box);
          const expected = resized();
          const got = await withAddon(resized);
          expect([got.width, got.height]).toEqual([expected.width, expected.height]);
          expectSameBits(got.data, expected.data);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('of every normalisation, mirrored or not', async () => {
    const number = fc.double({ min: -300, max: 300, noNaN: true });
    await fc.assert(
      fc.asyncProperty(
        anyPicture(channels, fc.boolean()),
        fc.array(number, { minLength: 9, maxLength: 9 }),
        fc.boolean(),
        fc.boolean(),
        async (image, numbers, flip, bgr) => {
          const count = image.data.length / (image.width * image.height);
          const record: Preprocessing = {
            ...torchPreprocessing,
            channelOrder: bgr && count > 1 ? 'bgr' : 'rgb',
            scale: 0.01 + Math.abs(numbers[0]!),
            mean: numbers.slice(1, 1 + count),
            std: numbers.slice(5, 5 + count).map((value) => 0.01 + Math.abs(value)),
          };
          const normalised = (): Float32Array => {
            const out = new Float32Array(image.data.length);
            normaliseInto(image, record, out, { flip });
            return out;
          };
          expectSameBits(await withAddon(normalised), normalised());
        },
      ),
      { numRuns: 200 },
    );
  });

  it('of a photograph through whole records, into a slot among others', async () => {
    const data = Uint8Array.from({ length: 500 * 375 * 3 }, (_, i) => (i * 7919 + (i >> 7) * 31) % 256);
    const image: Picture = { data, width: 500, height: 375 };
    const size = { width: 224, height: 192 };
    const slot = size.width * size.height * 3;
    for (const record of [torchPreprocessing, caffePreprocessing, withChannels(torchPreprocessing, 3)]) {
      for (const flip of [false, true]) {
        const filled = (): Float32Array => {
          const out = new Float32Array(3 * slot).fill(7);
          preprocessInto(image, record, size, out, slot, { flip });
          return out;
        };
        const got = await withAddon(filled);
        expectSameBits(got, filled());
        expect([got[slot - 1], got[2 * slot]]).toEqual([7, 7]);
      }
    }
  });

  it('of a JPEG from its file, whatever part of it is shown and how', async () => {
    await withAddon(async () => {
      let done = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...kernels),
          fc.tuple(side, side, side, side),
          fc.integer({ min: 1, max: 8 }),
          fc.record({ flip: fc.boolean(), bgr: fc.boolean(), plain: fc.boolean() }),
          fc.infiniteStream(fc.nat(1000)),
          async (kernel, [width, height, across, down], orientation, { flip, bgr, plain }, numbers) => {
            const draw = (limit: number): number => numbers.next().value % limit;
            const data = Uint8Array.from({ length: width * height * 3 }, () => draw(256));
            const image = sharp(data, { raw: { width, height, channels: 3 } }).withMetadata({ orientation });
            const file = await image.jpeg({ quality: 50 + draw(51) }).toBuffer();
            const picture = await decodeImage(file);
            const part = (of: { width: number; height: number }) => {
              const [x, y] = [draw(of.width), draw(of.height)];
              return { x, y, width: 1 + draw(of.width - x), height: 1 + draw(of.height - y) };
            };
            const scaled = { width: across, height: down };
            const placement = { scaled, window: part(scaled), box: part(picture) };
            const record: Preprocessing = {
              ...torchPreprocessing,
              kernel,
              channelOrder: bgr ? 'bgr' : 'rgb',
              ...(plain ? { scale: 1, std: [1, 1, 1] } : {}),
            };
            const length = placement.window.width * placement.window.height * 3;
            const [expected, got] = [new Float32Array(length), new Float32Array(length + 2).fill(7)];
            placeInto(picture, { placement, view: { flip } }, record, expected, 0);
            const jpeg = { file, width, height, orientation };
            const into = got.subarray(1, 1 + length);
            const placed = placeJpegInto(jpeg, { placement, view: { flip } }, record, into);
            if (picturesAddon() === undefined) return expect(placed).toBeUndefined();
            expect(await placed).toBe(true);
            expectSameBits(into, expected);
            expect([got[0], got.at(-1)]).toEqual([7, 7]);
            done++;
          },
        ),
        { numRuns: 300 },
      );
      expect(done).toBe(picturesAddon() === undefined ? 0 : 300);
    });
  });

  it('of no JPEG that has another size than was said, or is grey', async () => {
    const raw = { width: 20, height: 12, channels: 3 } as const;
    const colour = await sharp(new Uint8Array(20 * 12 * 3), { raw })
      .jpeg()
      .toBuffer();
    const grey = await sharp(new Uint8Array(20 * 12), { raw: { ...raw, channels: 1 } })
      .toColourspace('b-w')
      .jpeg()
      .toBuffer();
    const into = (file: Uint8Array, width: number, height: number, record: Preprocessing) => {
      const box = { x: 0, y: 0, width, height };
      const placement = { scaled: { width: 8, height: 8 }, window: { x: 0, y: 0, width: 8, height: 8 }, box };
      const jpeg = { file, width, height, orientation: 1 };
      return placeJpegInto(jpeg, { placement, view: { flip: false } }, record, new Float32Array(8 * 8 * 3));
    };
    await withAddon(async () => {
      for (const record of [torchPreprocessing, caffePreprocessing]) {
        const taken = picturesAddon() !== undefined;
        expect((await into(colour, 20, 12, record)) ?? false).toBe(taken);
        for (const [file, width, height] of [
          [colour, 12, 20],
          [colour, 20, 13],
          [grey, 20, 12],
          [colour.subarray(0, 100), 20, 12],
        ] as const)
          expect((await into(file, width, height, record)) ?? false).toBe(false);
        expect(into(colour, 20, 12, withChannels(record, 1))).toBeUndefined();
      }
    });
    expect(into(colour, 20, 12, torchPreprocessing)).toBeUndefined();
  });
});
