/**
 * Real weights, real photographs: fine-tuning transfers, and what is exported says the same as what was trained, in
 * stock TensorFlow.js in a process of its own.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { batches, closeLoader, scanFolder } from '../../src/data/index.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { type ExportReport, exportModel } from '../../src/export/export.js';
import { evaluate } from '../../src/train/evaluate.js';
import { finetune } from '../../src/train/finetune.js';
import type { FinetuneResult, Reporter } from '../../src/train/options.js';
import { type Prediction, predict } from '../../src/train/predict.js';
import { settings } from '../../src/train/settings/table.js';
import { type OpenedModel, openModelFolder } from '../../src/weights/model-folder.js';
import { asset, foodPictures } from '../../tools/assets.mjs';

/** Which pictures validate differs by seed, and with it the accuracy: a mean of two is judged. */
const SEEDS = [0, 1] as const;

const folder = mkdtempSync(join(tmpdir(), 'tl-transfer-'));
const data = join(folder, 'food');
const quiet: Reporter = { info() {}, warn() {}, epochStart() {}, step() {}, epoch() {} };
let weights: string;
beforeAll(async () => {
  weights = await asset('mobilenet_v2-b0353104.pth');
  expect(await foodPictures(data)).toMatchObject({ pictures: 406 });
});
afterAll(async () => {
  await closeLoader();
  rmSync(folder, { recursive: true, force: true });
});

/** The defaults of `tl finetune`, the backbone frozen. */
async function train(from: string, seed: number, out: string): Promise<FinetuneResult> {
  const wanted = { data, weights: from, seed, backbone: 'mobilenet_v2', source: 'torch', out: join(folder, out) };
  return finetune({ ...wanted, engine: { engine: 'tensorflow' } }, quiet);
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

test('a head on ImageNet weights learns what food it is; on random weights it does not', async () => {
  const pretrained: number[] = [];
  for (const seed of SEEDS) pretrained.push((await train(weights, seed, `pretrained-${seed}`)).metrics.valAccuracy!);
  // one seed is enough here: over five its standard deviation is 0.04, a tenth of the difference
  const random = (await train('none', SEEDS[0]!, 'random')).metrics.valAccuracy!;
  const said = `with real weights ${pretrained.join(', ')}, with random ones ${random}`;
  expect(mean(pretrained), said).toBeGreaterThanOrEqual(0.65);
  expect(mean(pretrained) - random, said).toBeGreaterThanOrEqual(0.25);
});

/** Probabilities of an exported model, `[pictures][classes]`, by stock TensorFlow.js that knows nothing of this toolkit. */
function stockProbabilities(model: string, pixels: Float32Array, count: number, size: number): number[][] {
  const input = join(folder, 'pixels.bin');
  writeFileSync(input, Buffer.from(pixels.buffer, pixels.byteOffset, pixels.byteLength));
  const program = fileURLToPath(new URL('./stock-predict.mjs', import.meta.url));
  const run = spawnSync(process.execPath, [program, model, input, String(count), String(size)], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as number[][];
}

describe('of the run with real weights', () => {
  let model: OpenedModel;
  beforeAll(async () => {
    model = await openModelFolder(join(folder, 'pretrained-0'));
  });
  afterAll(() => model.close());

  const write = async (quantize: 'none' | 'uint8'): Promise<ExportReport> =>
    exportModel(
      model,
      { format: 'tfjs', quantize, out: join(folder, quantize), overwrite: true, allowDifference: true },
      await loadEngine(),
    );

  const predicted = async (paths: readonly string[]): Promise<Map<string, number>[]> => {
    const said: Prediction[] = [];
    for await (const each of predict(model, paths, await loadEngine(), { top: model.record.classes.length }))
      said.push(each);
    return said.map((each) => {
      if ('error' in each) throw new Error(each.error);
      return new Map(each.guesses.map((guess) => [guess.class, guess.probability]));
    });
  };

  /** The validation pictures, as the exported model wants them. */
  const validation = async (): Promise<{ paths: string[]; labels: Int32Array; pixels: Float32Array }> => {
    const { val } = scanFolder(data, { valSplit: settings.valSplit.default!, seed: 0 });
    const { preprocessing, inputSize: size } = model.record;
    const how = { preprocessing, size, batchSize: val.length, seed: 0, epoch: 0, skipBadImages: false };
    for await (const { pixels, labels, indices } of batches(val, { ...how, augment: 'none' }))
      return { paths: [...indices].map((i) => val[i]!.path), labels, pixels };
    throw new Error('no validation pictures');
  };

  test('predict, the float32 export, and evaluate agree; 8 bits keep the accuracy in 30 % of the size', async () => {
    const engine = await loadEngine();
    const { paths, labels, pixels } = await validation();
    const evaluated = await evaluate(model, engine, { data });
    expect(evaluated).toMatchObject({ split: 'val', pictures: paths.length });
    const run = JSON.parse(readFileSync(join(folder, 'pretrained-0', 'metrics.json'), 'utf8'));
    // the folded network against the trained one: a picture on the edge between two classes may fall either way
    expect(Math.abs(evaluated.top1 - run.valAccuracy)).toBeLessThan(1.5 / paths.length);

    const [float32, uint8] = [await write('none'), await write('uint8')];
    const ours = await predicted(paths);
    const classes = model.record.classes;
    const size = model.record.inputSize.height;
    const stock = stockProbabilities(float32.out, pixels, paths.length, size);
    let worst = 0;
    stock.forEach((row, i) => {
      row.forEach((probability, c) => {
        worst = Math.max(worst, Math.abs(probability - ours[i]!.get(classes[c]!)!));
      });
      expect(ours[i]!.size).toBe(classes.length);
    });
    expect(stock).toHaveLength(paths.length);
    expect(worst).toBeLessThan(1e-4);

    const accuracyOf = (rows: readonly number[][]): number =>
      mean(rows.map((row, i) => (row.indexOf(Math.max(...row)) === labels[i] ? 1 : 0)));
    expect(accuracyOf(stock)).toBeCloseTo(evaluated.top1, 6);
    const small = accuracyOf(stockProbabilities(uint8.out, pixels, paths.length, size));
    expect(Math.abs(small - evaluated.top1), `${small}, float32 ${evaluated.top1}`).toBeLessThanOrEqual(0.02);
    expect(uint8.bytes).toBeLessThanOrEqual(0.3 * float32.bytes);
  });
});
