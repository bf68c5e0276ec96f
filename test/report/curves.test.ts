/** The curves of a run are a picture of a known size, for one epoch as for two hundred. */
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { pngOf } from '../../src/report/chart.js';
import { type CurveMarks, type CurveRow, drawCurves } from '../../src/report/curves.js';

const curvesPng = async (history: readonly CurveRow[], marks?: CurveMarks) => pngOf(await drawCurves(history, marks));

const history = (epochs: number, valLoss = (epoch: number) => 1 / epoch): CurveRow[] =>
  Array.from({ length: epochs }, (_, i) => ({
    epoch: i + 1,
    trainLoss: 2 / (i + 1),
    trainAccuracy: 1 - 1 / (i + 2),
    valLoss: valLoss(i + 1),
    valAccuracy: Number.isNaN(valLoss(i + 1)) ? Number.NaN : 1 - 1 / (i + 3),
    best: true,
  }));

/** Colours that appear, as a share of all pixels that are not white. */
async function inked(png: Uint8Array): Promise<number> {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  let dark = 0;
  for (let i = 0; i < data.length; i += info.channels) if (data[i]! + data[i + 1]! + data[i + 2]! < 700) dark++;
  return dark / (info.width * info.height);
}

describe('curves', () => {
  test.each([1, 20, 200])('%i epochs', async (epochs) => {
    const png = await curvesPng(history(epochs));
    expect(await sharp(png).metadata()).toMatchObject({ format: 'png', width: 1200, height: 500 });
    // Titles, axes and two lines in two panels: neither an empty sheet nor a black one.
    const share = await inked(png);
    expect(share).toBeGreaterThan(0.005);
    expect(share).toBeLessThan(0.3);
  });

  test('a run without validation pictures has its training curve', async () => {
    const png = await curvesPng(history(5, () => Number.NaN));
    expect(await inked(png)).toBeGreaterThan(0.005);
  });

  test('other histories give other pictures, equal ones the same bytes', async () => {
    const [a, again, b] = [await curvesPng(history(10)), await curvesPng(history(10)), await curvesPng(history(11))];
    expect(Buffer.compare(a, again)).toBe(0);
    expect(Buffer.compare(a, b)).not.toBe(0);
  });

  test('overfitting is shaded from its epoch on, and named', async () => {
    const rows = history(10);
    const marked = await drawCurves(rows, { overfitsSince: 4 });
    expect(marked.svg).toContain('overfitting since epoch 4');
    expect((await drawCurves(rows)).svg).not.toContain('overfitting');
    expect(Buffer.compare(await pngOf(marked), await curvesPng(rows))).not.toBe(0);
  });

  test('no epochs is a mistake of the caller', async () => {
    await expect(curvesPng([])).rejects.toThrow('no epochs');
  });
});
