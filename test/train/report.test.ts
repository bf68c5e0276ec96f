/** What the report of a run says is true of its best model and of its pictures, whether or not it was stopped in between. */
import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { evaluate } from '../../src/train/evaluate.js';
import { validationOf } from '../../src/train/metrics.js';
import type { RunMetrics } from '../../src/train/options.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { classNames, historyOf, pictureFolder, temporary, train } from './support/training.js';

let data: string;
let swapped: string;
beforeAll(async () => {
  await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 6, 5);
  // Validation pictures of other classes than they are called: the better it learns, the more wrong it is.
  swapped = await pictureFolder('swapped', 6, 5);
  const val = (name: string): string => join(swapped, 'val', name);
  renameSync(val('brick'), val('other'));
  renameSync(val('moss'), val('brick'));
  renameSync(val('sky'), val('moss'));
  renameSync(val('other'), val('sky'));
});

const metricsOf = (run: string): RunMetrics => JSON.parse(readFileSync(join(run, 'metrics.json'), 'utf8'));
const pageOf = (run: string): string => readFileSync(join(run, 'report.html'), 'utf8');
const sectionOf = (page: string, heading: string): string =>
  page.split('<section>').find((each) => each.includes(`<h2>${heading}</h2>`)) ?? '';

/** Figures of the best model by evaluating its folder. */
async function evaluated(run: string, folder: string) {
  const model = await openModelFolder(run);
  const evaluation = await evaluate(model, await loadEngine({ engine: 'tensorflow' }), { data: folder, split: 'val' });
  await model.close();
  return evaluation;
}

const near = (values: unknown): unknown =>
  JSON.parse(JSON.stringify(values), (_, value: unknown) =>
    typeof value === 'number' ? expect.closeTo(value, 5) : value,
  );

describe('figures', () => {
  test('are those of the best model, not of the last', async () => {
    const { runFolder, metrics } = await train({ data: swapped, epochs: 6, lr: 0.02 });
    expect(metrics.bestEpoch).toBeLessThan(6);
    const evaluation = await evaluated(runFolder, swapped);
    expect(metrics.validation).toEqual(near(validationOf(evaluation)));
    expect(metricsOf(runFolder)).toEqual(metrics);
    expect(evaluation.loss).toBeCloseTo(metrics.valLoss!, 5);
  });

  test('are taken from the folder of the best model where the run goes on without a better one', async () => {
    const controller = new AbortController();
    let epochs = 0;
    const epoch = (): void => void (++epochs === 4 && controller.abort());
    const stopped = await train({ data: swapped, epochs: 6, lr: 0.02, signal: controller.signal }, { epoch });
    expect(stopped).toMatchObject({ stopped: true, metrics: { epochs: 4 } });
    expect(stopped.metrics.bestEpoch).toBeLessThan(4);
    expect(pageOf(stopped.runFolder)).toContain('Stopped after epoch 4 of 6');
    const made = ['confusion_matrix.png', 'report.html', 'top_losses.png', 'train_batch.png', 'val_predictions.png'];
    for (const name of made) rmSync(join(stopped.runFolder, name));
    const resumed = await train({ data: swapped, resume: stopped.runFolder });
    expect(resumed.metrics.bestEpoch).toBe(stopped.metrics.bestEpoch);
    expect(resumed.metrics.validation).toEqual(near(stopped.metrics.validation));
    expect(readdirSync(resumed.runFolder)).toEqual(expect.arrayContaining(made));
    expect(pageOf(resumed.runFolder)).not.toContain('Stopped after');
  });
});

describe('overfitting', () => {
  test('is in the metrics, on the page and on the curve, with its epoch', async () => {
    const { runFolder, metrics } = await train({ data: swapped, epochs: 10, lr: 0.2 });
    const history = historyOf(runFolder);
    const lowest = history.reduce((a, b) => (b.valLoss < a.valLoss ? b : a));
    expect(metrics.overfitting).toMatchObject({ since: lowest.epoch, valLoss: { before: lowest.valLoss } });
    const page = pageOf(runFolder);
    expect(sectionOf(page, 'Summary')).toContain(`Overfitting since epoch ${lowest.epoch}: the validation loss rose`);
    const [, curves] = /src="data:image\/svg\+xml;base64,([^"]+)"/.exec(sectionOf(page, 'Curves'))!;
    expect(Buffer.from(curves!, 'base64').toString()).toContain(`overfitting since epoch ${lowest.epoch}`);
  });

  test('is not where there is none', async () => {
    const { runFolder, metrics } = await train({ data, epochs: 5, lr: 0.01 });
    expect(metrics.overfitting).toBeNull();
    expect(pageOf(runFolder)).not.toContain('verfitting');
  });
});

describe('the first batch', () => {
  /** Which class a tile's colour is nearest to: the mean of the middle, which is picture in every tile. */
  async function lookOf(jpeg: Buffer): Promise<string> {
    const { channels } = await sharp(jpeg).extract({ left: 70, top: 70, width: 52, height: 52 }).stats();
    const [r, g, b] = channels.map(({ mean }) => mean) as [number, number, number];
    return r > g && r > b ? 'brick' : g > b ? 'moss' : 'sky';
  }

  test.each([
    { augment: 'none', cache: 'auto' },
    { augment: 'strong', cache: 'off' },
  ] as const)('shows what its labels say ($augment)', async (how) => {
    const { runFolder } = await train({ data, epochs: 1, batchSize: 8, ...how });
    const section = sectionOf(pageOf(runFolder), 'First training batch');
    const labels = [...section.matchAll(/<strong dir="auto">([^<]*)<\/strong>/g)].map(([, label]) => label);
    const tiles = [...section.matchAll(/base64,([^"]+)"/g)].map(([, text]) => Buffer.from(text!, 'base64'));
    expect(tiles).toHaveLength(8);
    expect(await Promise.all(tiles.map(lookOf))).toEqual(labels);
    expect(new Set(labels)).toEqual(new Set(classNames));
  });

  test('says of what each picture is mixed, and of how much', async () => {
    const { runFolder } = await train({ data, epochs: 1, batchSize: 8, cache: 'off', mixup: 1, labelSmoothing: 0.05 });
    const section = sectionOf(pageOf(runFolder), 'First training batch');
    const tiles = section.split('<li>').slice(1);
    expect(tiles).toHaveLength(8);
    const shares = tiles.map((tile) =>
      [...tile.matchAll(/>(\w+) (\d+)\s%</g)].map(([, name, share]) => ({ name: name!, share: Number(share) })),
    );
    for (const parts of shares) {
      for (const { name } of parts) expect(classNames).toContain(name);
      const sum = parts.reduce((all, { share }) => all + share, 0);
      expect(sum).toBeGreaterThan(85); // what label smoothing gives to the others is left out
      expect(sum).toBeLessThanOrEqual(101);
      expect(parts.map(({ share }) => share)).toEqual(parts.map(({ share }) => share).sort((a, b) => b - a));
    }
    expect(shares.some((parts) => parts.length === 2)).toBe(true);
  });
});

describe('worst mistakes', () => {
  test('are those with the highest loss, by their files', async () => {
    const { runFolder } = await train({ data: swapped, epochs: 3, lr: 0.02 });
    const { outcomes } = await evaluated(runFolder, swapped);
    const wrong = outcomes
      .filter(({ label, top }) => top[0]!.class !== label)
      .sort((a, b) => b.loss - a.loss)
      .map(({ loss }) => loss.toFixed(1));
    const shown = [...sectionOf(pageOf(runFolder), 'Worst mistakes').matchAll(/loss (\d+\.\d)/g)].map(
      ([, loss]) => loss,
    );
    expect(wrong.length).toBeGreaterThan(3);
    expect([...new Set(shown)]).toEqual([...new Set(wrong)]);
  });
});

test('the same run has the same pictures, another seed other ones', async () => {
  const pictures = async (seed: number): Promise<Map<string, string>> => {
    const { runFolder } = await train({ data, epochs: 2, seed, augment: 'standard', cache: 'off' });
    const names = readdirSync(runFolder).filter((name) => name.endsWith('.png'));
    return new Map(names.sort().map((name) => [name, readFileSync(join(runFolder, name), 'base64')]));
  };
  const [first, again, other] = [await pictures(1), await pictures(1), await pictures(2)];
  const differing = (a: Map<string, string>, b: Map<string, string>): string[] =>
    [...a.keys()].filter((name) => a.get(name) !== b.get(name));
  expect([...first.keys()]).toEqual([
    'confusion_matrix.png',
    'curves.png',
    'top_losses.png',
    'train_batch.png',
    'val_predictions.png',
  ]);
  expect(differing(first, again)).toEqual([]);
  expect(differing(first, other)).toEqual(expect.arrayContaining(['train_batch.png', 'val_predictions.png']));
});

test('without validation pictures only what makes sense is there', async () => {
  const flat = temporary('flat');
  renameSync(join(data, 'train'), flat);
  const { runFolder, metrics } = await train({ data: flat, valSplit: 0, epochs: 2 });
  expect(metrics).toMatchObject({ validation: null, overfitting: null });
  const pictures = readdirSync(runFolder).filter((name) => /\.(png|html)$/.test(name));
  expect(pictures.sort()).toEqual(['curves.png', 'report.html', 'train_batch.png']);
  expect(pageOf(runFolder)).toContain('There were no validation pictures');
});
