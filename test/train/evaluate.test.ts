/** Evaluation and prediction from a model folder alone: every picture counts once, and both say the same. */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { parse } from 'csv-parse/sync';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { evaluate } from '../../src/train/evaluate.js';
import type { HistoryRow } from '../../src/train/options.js';
import { type Prediction, type PredictOptions, predict } from '../../src/train/predict.js';
import { writePredictions } from '../../src/train/predictions-file.js';
import { type OpenedModel, openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure } from '../weights/support/temporary.js';
import { classNames, historyOf, pictureFolder, temporary, train, writePicture } from './support/training.js';

let engine: Engine;
let data: string;
let run: string;
let best: HistoryRow;
let model: OpenedModel;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 6, 5);
  // A rate and a size at which some pictures are right and some are not.
  run = (await train({ data, lr: 0.1, epochs: 8, labelSmoothing: 0.1, augment: 'flip' })).runFolder;
  best = historyOf(run).findLast((row) => row.best)!;
  model = await openModelFolder(run);
});
afterAll(async () => {
  await model.close();
});

const picturesOf = (split: string): { path: string; label: string }[] =>
  classNames.flatMap((label) =>
    Array.from({ length: split === 'train' ? 6 : 5 }, (_, i) => ({
      path: join(data, split, label, `${split}-${i}.png`),
      label,
    })),
  );

async function predictions(paths: readonly string[], options: Partial<PredictOptions> = {}): Promise<Prediction[]> {
  const all: Prediction[] = [];
  for await (const prediction of predict(model, paths, engine, { top: 3, ...options })) all.push(prediction);
  return all;
}

const guessesOf = (prediction: Prediction) => {
  if ('error' in prediction) throw new Error(`${prediction.path}: ${prediction.error}`);
  return prediction.guesses;
};

describe('evaluate', () => {
  test('gives the validation loss and accuracy of the epoch that the model is from', async () => {
    const tensors = tf.memory().numTensors;
    const evaluation = await evaluate(model, engine, { data });
    expect(evaluation.split).toBe('val');
    expect(evaluation.pictures).toBe(15);
    expect(Math.abs(evaluation.loss - best.valLoss)).toBeLessThan(1e-5);
    expect(evaluation.top1).toBeCloseTo(best.valAccuracy, 12);
    expect(evaluation.top5).toBe(1);
    expect(evaluation.badPictures).toEqual([]);
    expect(tf.memory().numTensors).toBe(tensors);
    const order = picturesOf('val');
    expect(evaluation.outcomes.map(({ path, label }) => ({ path, label: classNames[label] }))).toEqual(order);
    expect(evaluation.outcomes.map(({ index }) => index)).toEqual(order.map((_, i) => i));
  });

  test('a row a picture as CSV says what predict says', async () => {
    const file = temporary('deep', 'predictions.csv');
    const { outcomes } = await evaluate(model, engine, { data, batchSize: 4 });
    await writePredictions(file, outcomes, model.record.classes);
    const rows: Record<string, string>[] = parse(readFileSync(file, 'utf8'), { columns: true });
    const said = (await predictions(picturesOf('val').map(({ path }) => path))).map(guessesOf);
    expect(rows).toHaveLength(15);
    rows.forEach((row, i) => {
      const { path, label } = picturesOf('val')[i]!;
      const own = said[i]!.find((guess) => guess.class === label)!.probability;
      expect(row).toMatchObject({ path, label, prediction: said[i]![0]!.class });
      expect(row.correct).toBe(row.prediction === label ? '1' : '0');
      expect(Number(row.label_probability)).toBeCloseTo(own, 6);
      expect(Number(row.loss)).toBeCloseTo(-Math.log(own), 5);
      said[i]!.forEach((guess, k) => {
        expect(row[`class_${k + 1}`]).toBe(guess.class);
        expect(Number(row[`probability_${k + 1}`])).toBeCloseTo(guess.probability, 6);
      });
      expect(row).not.toHaveProperty('class_4');
    });
  });

  test.each([1, 4, 15, 64])('counts every picture once in batches of %i', async (batchSize) => {
    const progress: [number, number][] = [];
    const evaluation = await evaluate(model, engine, {
      data,
      batchSize,
      onProgress: (done, total) => void progress.push([done, total]),
    });
    expect(evaluation.pictures).toBe(15);
    expect(evaluation.confusion.flat().reduce((a, b) => a + b, 0)).toBe(15);
    expect(evaluation.confusion.map((row) => row.reduce((a, b) => a + b, 0))).toEqual([5, 5, 5]);
    expect(Math.abs(evaluation.loss - best.valLoss)).toBeLessThan(1e-5);
    expect(progress).toHaveLength(Math.ceil(15 / batchSize));
    expect(progress.at(-1)).toEqual([15, 15]);
  });

  test.each(['train', 'val', 'all'] as const)('agrees with predict on every picture of %s', async (split) => {
    const evaluation = await evaluate(model, engine, { data, split, batchSize: 4 });
    const pictures = split === 'all' ? [...picturesOf('train'), ...picturesOf('val')] : picturesOf(split);
    expect(evaluation.pictures).toBe(pictures.length);
    const results = await predictions(
      pictures.map(({ path }) => path),
      { batchSize: 7 },
    );
    const confusion = classNames.map(() => classNames.map(() => 0));
    let loss = 0;
    results.forEach((result, i) => {
      const guesses = guessesOf(result);
      const { label } = pictures[i]!;
      confusion[classNames.indexOf(label as never)]![classNames.indexOf(guesses[0]!.class as never)]!++;
      loss -= Math.log(guesses.find((guess) => guess.class === label)!.probability);
    });
    expect(evaluation.confusion).toEqual(confusion);
    expect(evaluation.loss).toBeCloseTo(loss / pictures.length, 6);
    const right = confusion.reduce((sum, row, i) => sum + row[i]!, 0);
    expect(evaluation.top1).toBe(right / pictures.length);
    const { recall, support } = evaluation.classes[0]!;
    expect([recall, support]).toEqual([confusion[0]![0]! / confusion[0]!.reduce((a, b) => a + b), pictures.length / 3]);
  });

  test('the folder a model was trained on is split as then; any other counts whole', async () => {
    const flat = temporary('flat');
    cpSync(join(data, 'train'), flat, { recursive: true });
    const trained = await train({ data: flat, seed: 4, valSplit: 0.3, epochs: 2 });
    const flatModel = await openModelFolder(trained.runFolder);
    const bestRow = historyOf(trained.runFolder).findLast((row) => row.best)!;
    const same = await evaluate(flatModel, engine, { data: flat });
    expect(same).toMatchObject({ split: 'val', pictures: trained.metrics.valPictures });
    expect(Math.abs(same.loss - bestRow.valLoss)).toBeLessThan(1e-5);
    const elsewhere = temporary('moved', 'flat');
    cpSync(flat, elsewhere, { recursive: true });
    expect(await evaluate(flatModel, engine, { data: elsewhere })).toMatchObject({ split: 'val', loss: same.loss });

    renameSync(join(elsewhere, 'sky', 'train-0.png'), join(elsewhere, 'sky', 'other.png'));
    expect(await evaluate(flatModel, engine, { data: elsewhere })).toMatchObject({ split: 'all', pictures: 18 });
    await flatModel.close();
  });

  test('labels go by the names of the classes, not by their order in the folder', async () => {
    const two = temporary('two-classes'); // without the first class, every index is another
    for (const label of classNames.slice(1)) cpSync(join(data, 'val', label), join(two, label), { recursive: true });
    const evaluation = await evaluate(model, engine, { data: two, split: 'all' });
    expect(evaluation.confusion[0]).toEqual([0, 0, 0]);
    const whole = await evaluate(model, engine, { data });
    expect(evaluation.confusion.slice(1)).toEqual(whole.confusion.slice(1));
    expect(evaluation.classes[0]).toMatchObject({ class: 'brick', support: 0, recall: Number.NaN });
  });

  test('a manifest is evaluated as a folder is', async () => {
    const file = temporary('pictures.csv');
    const rows = picturesOf('val').map(({ path, label }) => `${path},${label},val`);
    const training = picturesOf('train').map(({ path, label }) => `${path},${label},train`);
    writeFileSync(file, ['path,label,split', ...rows, ...training].join('\n'));
    const evaluation = await evaluate(model, engine, { data: 'data', manifest: file });
    expect(evaluation).toMatchObject({ split: 'val', pictures: 15 });
    expect(Math.abs(evaluation.loss - best.valLoss)).toBeLessThan(1e-5);
  });

  test('a class that the model does not know is an error that names it, before anything is computed', async () => {
    const strange = temporary('strange');
    cpSync(join(data, 'val'), strange, { recursive: true });
    mkdirSync(join(strange, 'zebra'));
    await writePicture(join(strange, 'zebra', 'a.png'), 0, 'zebra');
    await writePicture(join(strange, 'zebra', 'b.png'), 0, 'zebra 2');
    const error = await expectFailure(() => evaluate(model, engine, { data: strange }), 'DATA_UNKNOWN_CLASS', /zebra/);
    expect(error.message).toContain('brick, moss, sky');
    expect(error.message).not.toContain('- moss');
  });

  test('a split without pictures is an error', async () => {
    const flat = temporary('train-only');
    cpSync(join(data, 'train'), flat, { recursive: true });
    const unsplit = { ...model, record: { ...model.record, data: { ...model.record.data, valSplit: 0 } } };
    await expectFailure(() => evaluate(unsplit, engine, { data: flat, split: 'val' }), 'DATA_EMPTY', /"val"/);
  });

  test('bad pictures stop it, or are left out and listed', async () => {
    const damaged = temporary('damaged');
    cpSync(data, damaged, { recursive: true });
    const bad = join(damaged, 'val', 'moss', 'val-2.png');
    truncateSync(bad, 200);
    const tensors = tf.memory().numTensors;
    await expectFailure(() => evaluate(model, engine, { data: damaged }), 'BAD_IMAGE', /val-2\.png/);
    expect(tf.memory().numTensors).toBe(tensors);
    const evaluation = await evaluate(model, engine, { data: damaged, skipBadImages: true });
    expect(evaluation.pictures).toBe(14);
    expect(evaluation.classes.map(({ support }) => support)).toEqual([5, 4, 5]);
    expect(evaluation.badPictures).toEqual([{ path: bad, reason: expect.any(String) }]);
  });

  test('can be stopped', async () => {
    const controller = new AbortController();
    const stopping = evaluate(model, engine, {
      data,
      batchSize: 2,
      signal: controller.signal,
      onProgress: (done) => void (done >= 4 && controller.abort()),
    });
    await expectFailure(() => stopping, 'STOPPED');
  });
});

describe('predict', () => {
  test('gives the most probable classes first, probabilities that sum to one, in the order of the paths', async () => {
    const paths = picturesOf('val')
      .map(({ path }) => path)
      .reverse();
    const results = await predictions(paths);
    expect(results.map(({ path }) => path)).toEqual(paths);
    for (const result of results) {
      const probabilities = guessesOf(result).map(({ probability }) => probability);
      expect(probabilities).toEqual([...probabilities].sort((a, b) => b - a));
      expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
      expect(
        guessesOf(result)
          .map((guess) => guess.class)
          .sort(),
      ).toEqual([...classNames]);
    }
  });

  test.each([1, 2, 50])('names the top %i', async (top) => {
    const [result] = await predictions([picturesOf('val')[0]!.path], { top });
    expect(guessesOf(result!)).toHaveLength(Math.min(top, 3));
  });

  test('few and many pictures, whatever the batches, have the same probabilities', async () => {
    const paths = picturesOf('val').map(({ path }) => path);
    const many = (await predictions(paths, { batchSize: 4 })).map(guessesOf);
    const alone = [];
    for (const path of paths) alone.push(guessesOf((await predictions([path]))[0]!));
    alone.forEach((guesses, i) => {
      expect(guesses.map((guess) => guess.class)).toEqual(many[i]!.map((guess) => guess.class));
      for (const [k, { probability }] of guesses.entries()) {
        expect(probability).toBeCloseTo(many[i]![k]!.probability, 6);
      }
    });
  });

  test('a corrupt picture among good ones, a missing one and a text are errors of their own', async () => {
    const folder = temporary('mixed');
    mkdirSync(folder);
    const good = picturesOf('val').map(({ path }) => path);
    const [cut, text] = [join(folder, 'cut.png'), join(folder, 'text.jpg')];
    cpSync(good[0]!, cut);
    truncateSync(cut, 300);
    writeFileSync(text, 'hello');
    const paths = [cut, ...good.slice(0, 6), join(folder, 'missing.png'), ...good.slice(6), text];
    for (const batchSize of [1, 3, 100]) {
      const results = await predictions(paths, { batchSize });
      expect(results.map(({ path }) => path)).toEqual(paths);
      const failed = results.filter((result) => 'error' in result);
      expect(failed.map(({ path }) => path)).toEqual([cut, join(folder, 'missing.png'), text]);
      for (const result of failed) expect((result as { error: string }).error.length).toBeGreaterThan(5);
      const expected = (await predictions(good, { batchSize: 1 })).map((result) => guessesOf(result)[0]!.class);
      expect(results.filter((result) => 'guesses' in result).map((result) => guessesOf(result)[0]!.class)).toEqual(
        expected,
      );
    }
  });

  test('nothing but corrupt pictures, one picture twice, and no picture at all', async () => {
    const bad = temporary('bad.png');
    writeFileSync(bad, 'x');
    expect(await predictions([bad, bad])).toEqual([
      { path: bad, error: expect.any(String) },
      { path: bad, error: expect.any(String) },
    ]);
    const { path } = picturesOf('val')[3]!;
    const [first, second] = await predictions([path, path]);
    expect(first).toEqual(second);
    expect(await predictions([])).toEqual([]);
  });

  test('results come as they are done, and who has seen enough leaves nothing behind', async () => {
    const tensors = tf.memory().numTensors;
    const paths = picturesOf('train').map(({ path }) => path);
    const seen: string[] = [];
    for await (const { path } of predict(model, paths, engine, { top: 1, batchSize: 2 })) {
      seen.push(path);
      if (seen.length === 3) break;
    }
    expect(seen).toEqual(paths.slice(0, 3));
    expect(tf.memory().numTensors).toBe(tensors);

    const controller = new AbortController();
    let count = 0;
    for await (const _ of predict(model, paths, engine, { top: 1, batchSize: 2, signal: controller.signal })) {
      if (++count === 2) controller.abort();
    }
    expect(count).toBeLessThan(paths.length);
    expect(tf.memory().numTensors).toBe(tensors);
  });

  test('the model folder is enough: data and run may be gone', async () => {
    const alone = temporary('alone');
    cpSync(join(run, 'best'), alone, { recursive: true });
    const lonely = await openModelFolder(alone);
    const { path } = picturesOf('val')[0]!;
    const copy = temporary('copy.png');
    cpSync(path, copy);
    const results: Prediction[] = [];
    for await (const prediction of predict(lonely, [copy], engine, { top: 3 })) results.push(prediction);
    expect(guessesOf(results[0]!)).toEqual(guessesOf((await predictions([path]))[0]!));
    await lonely.close();
    rmSync(alone, { recursive: true });
  });
});
