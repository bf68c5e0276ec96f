/** The pictures of a run folder besides its curves: confusion matrices of few and many classes, tiles, calibration. */
import { writeFileSync } from 'node:fs';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { drawReliability } from '../../src/report/calibration.js';
import { pngOf } from '../../src/report/chart.js';
import { drawConfusion } from '../../src/report/confusion.js';
import { THUMBNAIL, thumbnailOf, thumbnailOfPixels } from '../../src/report/thumbnails.js';
import { drawTiles } from '../../src/report/tiles.js';
import { temporary } from '../weights/support/temporary.js';

interface Place {
  readonly x: number;
  readonly y: number;
}

/** Where the pixels of a picture are that have such a colour. */
async function places(picture: Uint8Array, wanted: (r: number, g: number, b: number) => boolean): Promise<Place[]> {
  const { data, info } = await sharp(picture).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const found: Place[] = [];
  for (let i = 0; i < data.length; i += 3) {
    const pixel = i / 3;
    if (wanted(data[i]!, data[i + 1]!, data[i + 2]!)) {
      found.push({ x: pixel % info.width, y: Math.floor(pixel / info.width) });
    }
  }
  return found;
}

const isBlue = (r: number, g: number, b: number): boolean => b > r + 60 && b > g + 20;
const spread = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);
const textsOf = (svg: string): string[] => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `class ${i}`);
const matrix = (count: number, value: (label: number, prediction: number) => number): number[][] =>
  Array.from({ length: count }, (_, label) =>
    Array.from({ length: count }, (__, prediction) => value(label, prediction)),
  );

describe('a confusion matrix', () => {
  test('has counts, shares of each class, names, and nothing where there is no picture', async () => {
    const { svg } = await drawConfusion(
      [
        [7, 1, 0],
        [0, 5, 0],
        [0, 0, 0],
      ],
      ['cat', 'dog', 'owl'],
    );
    const texts = textsOf(svg);
    expect(texts.filter((text) => ['7', '1', '5'].includes(text)).sort()).toEqual(['1', '5', '7', '7']); // one of the scale
    expect(texts.filter((text) => / %$/.test(text)).sort()).toEqual(['100 %', '100 %', '13 %', '88 %']); // one of the scale
    expect(texts.filter((text) => text === 'owl')).toHaveLength(4); // of two axes in two panels
    expect(texts).toContain('13 pictures of 3 classes; what is on the diagonal is right');
    expect(svg).not.toContain('NaN');
  });

  test('labels are rows, predictions are columns', async () => {
    const png = async (value: (label: number, prediction: number) => number) =>
      places(await pngOf(await drawConfusion(matrix(30, value), names(30))), isBlue);
    const left = (all: readonly Place[]): Place[] => all.filter(({ x, y }) => x < 500 && y < 500);
    const firstLabel = left(await png((label) => (label === 0 ? 9 : 0)));
    expect(spread(firstLabel.map(({ x }) => x))).toBeGreaterThan(10 * spread(firstLabel.map(({ y }) => y)));
    const firstPrediction = left(await png((_, prediction) => (prediction === 0 ? 9 : 0)));
    expect(spread(firstPrediction.map(({ y }) => y))).toBeGreaterThan(10 * spread(firstPrediction.map(({ x }) => x)));
    expect(Math.min(...firstLabel.map(({ y }) => y))).toBeLessThan(140); // the first row is the uppermost
  });

  test('of a thousand classes is a map without numbers, on which a single picture can be seen', async () => {
    const count = 1000;
    const one = (label: number, prediction: number): number =>
      label === prediction ? 50 : label + 1 === prediction ? 1 : 0;
    const drawing = await drawConfusion(matrix(count, one), names(count));
    expect(textsOf(drawing.svg).filter((text) => text === '50' || text === '1')).toEqual(['50']); // of the scale
    const png = await pngOf(drawing);
    expect(await sharp(png).metadata()).toMatchObject(drawing.size);
    const half = drawing.size.width / 2;
    const blue = (await places(png, (r, _, b) => b > r + 55)).filter(({ x, y }) => x < half && y < 1120);
    const across = blue.map(({ x, y }) => x - y);
    expect(blue.length).toBeGreaterThan(1500);
    expect(spread(across)).toBeLessThan(8); // the diagonal, and the line beside it
  });

  test('long names are cut, names of any letters are drawn', async () => {
    const { svg } = await drawConfusion(
      matrix(2, () => 1),
      ['x'.repeat(80), '<b>薔薇 & زهرة'],
    );
    expect(svg).toContain(`${'x'.repeat(23)}…`);
    expect(svg).not.toContain('<b>');
    for (const pair of [
      ['薔薇', 'زهرة'],
      ['a & <b> "c"', "d'"],
      ['a\u0001\u001bb', '\ud800 \uffff'],
    ]) {
      const drawing = await drawConfusion(
        matrix(2, () => 1),
        pair,
      );
      expect(await sharp(await pngOf(drawing)).metadata()).toMatchObject({ width: drawing.size.width });
    }
  });
});

describe('tiles', () => {
  const solid = (r: number, g: number, b: number): Promise<Buffer> =>
    sharp({ create: { width: 64, height: 64, channels: 3, background: { r, g, b } } })
      .jpeg()
      .toBuffer()
      .then(async (jpeg) => sharp(jpeg).resize(THUMBNAIL).jpeg().toBuffer());

  test('show every picture with its lines, and say which cannot be read', async () => {
    const [red, green] = [await solid(250, 0, 0), await solid(0, 250, 0)];
    const drawing = await drawTiles(
      [
        { picture: red, lines: ['daisy 91.0 %', 'label: the same'], right: true },
        { picture: green, lines: ['tulip 51.0 %', 'label: daisy'], right: false },
        { picture: undefined, lines: ['gone'] },
        { picture: red, lines: ['y'.repeat(100)] },
        { picture: green, lines: ['z', `${'A long name '.repeat(4)}35.1 %`] },
      ],
      { title: 'A title', subtitle: 'below' },
    );
    const texts = textsOf(drawing.svg);
    for (const text of [
      'A title',
      'below',
      '✓ daisy 91.0 %',
      '✗ tulip 51.0 %',
      'label: daisy',
      'cannot be read',
      'gone',
    ]) {
      expect(texts).toContain(text);
    }
    expect(texts.some((text) => /^y{15,30}…$/.test(text))).toBe(true);
    expect(texts.some((text) => /^A long name A long[^…]*… 35\.1 %$/.test(text))).toBe(true);
    const png = await pngOf(drawing);
    const area = THUMBNAIL * THUMBNAIL;
    const reds = await places(png, (r, g, b) => r > 230 && g < 25 && b < 25);
    const greens = await places(png, (r, g, b) => g > 230 && r < 25 && b < 25);
    for (const found of [reds, greens]) {
      expect(found.length).toBeGreaterThan(1.9 * area); // the frames of two take their edges
      expect(found.length).toBeLessThanOrEqual(2 * area);
    }
    expect(spread(greens.map(({ y }) => y))).toBeGreaterThan(THUMBNAIL); // the fifth is in a second row
  });
});

describe('a small picture', () => {
  test('is whole and upright, transparent parts are white', async () => {
    const wide = temporary('wide.jpg');
    const half = { width: 200, height: 100, channels: 3 as const };
    const data = Buffer.alloc(200 * 100 * 3, 10);
    for (let y = 0; y < 100; y++) for (let x = 0; x < 100; x++) data[(y * 200 + x) * 3] = 240; // red on the left
    await sharp(data, { raw: half }).withMetadata({ orientation: 6 }).jpeg().toFile(wide); // to be turned clockwise
    const jpeg = await thumbnailOf(wide);
    expect(await sharp(jpeg).metadata()).toMatchObject({ format: 'jpeg', width: THUMBNAIL, height: THUMBNAIL });
    const red = await places(jpeg!, (r, g) => r > 180 && g < 80);
    expect(Math.max(...red.map(({ y }) => y))).toBeLessThan(THUMBNAIL / 2 + 4); // its left has become its top
    expect(spread(red.map(({ x }) => x))).toBeLessThan(THUMBNAIL / 2 + 4); // it is tall, with grey on both sides

    const clear = temporary('clear.png');
    await sharp({ create: { width: 8, height: 8, channels: 4, background: '#00000000' } })
      .png()
      .toFile(clear);
    expect((await places((await thumbnailOf(clear))!, (r, g, b) => Math.min(r, g, b) > 250)).length).toBe(
      THUMBNAIL ** 2,
    );
  });

  test('is made of grey, RGB and RGBA pixels', async () => {
    for (const channels of [1, 3, 4]) {
      const data = new Uint8Array(16 * 8 * channels).fill(255);
      const jpeg = await thumbnailOfPixels({ data, width: 16, height: 8 });
      expect(await sharp(jpeg).metadata()).toMatchObject({ width: THUMBNAIL, height: THUMBNAIL, channels: 3 });
    }
  });

  test('is none of a file that is gone or no picture', async () => {
    writeFileSync(temporary('text.jpg'), 'hello');
    expect(await thumbnailOf(temporary('text.jpg'))).toBeUndefined();
    expect(await thumbnailOf(temporary('nowhere.jpg'))).toBeUndefined();
  });
});

test('a reliability diagram has a bar for each bin with pictures', async () => {
  const bins = Array.from({ length: 15 }, (_, i) => ({
    from: i / 15,
    to: (i + 1) / 15,
    pictures: i < 10 ? 0 : 100 + i,
    accuracy: i < 10 ? Number.NaN : 0.5,
  }));
  const drawing = await drawReliability(bins);
  expect(textsOf(drawing.svg).filter((text) => /^1\d\d$/.test(text))).toEqual(['110', '111', '112', '113', '114']);
  expect(drawing.svg).not.toContain('NaN');
  const blue = await places(await pngOf(drawing), isBlue);
  expect(Math.min(...blue.map(({ x }) => x))).toBeGreaterThan(drawing.size.width / 2);
});
