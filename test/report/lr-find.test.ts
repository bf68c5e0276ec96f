/** The picture of a range test shows its losses, and names the rates that they suggest. */
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { pngOf } from '../../src/report/chart.js';
import { drawRangeTest } from '../../src/report/lr-find.js';

const points = Array.from({ length: 80 }, (_, i) => {
  const lr = 1e-7 * 10 ** (i / 10);
  const smoothed = 2 - 1.5 / (1 + Math.exp((40 - i) / 6)) + Math.exp((i - 70) / 4);
  return { lr, smoothed, loss: smoothed + 0.1 * Math.sin(7 * i) };
});

test('it has the curve, and the suggestions by their names', async () => {
  const drawing = await drawRangeTest(points, [
    { name: 'steep', lr: points[38]!.lr },
    { name: 'valley', lr: points[45]!.lr },
  ]);
  expect(drawing.svg).toContain('steep: 0.000631');
  expect(drawing.svg).toContain('valley: 0.00316');
  const png = await pngOf(drawing);
  expect(await sharp(png).metadata()).toMatchObject({ format: 'png', width: 900, height: 500 });
  const { data } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  let blue = 0; // the smoothed curve's #0072B2
  for (let i = 0; i < data.length; i += 3) if (data[i]! < 60 && data[i + 2]! > 130) blue++;
  expect(blue).toBeGreaterThan(800);
});

test('without suggestions it says so; one point is enough', async () => {
  expect((await drawRangeTest(points.slice(0, 1), [])).svg).toContain('no suggestion');
  await expect(drawRangeTest([], [])).rejects.toThrow('no rates');
});
