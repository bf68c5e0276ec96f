/** Test-time augmentation: the mean of what is said of each view, the same by evaluate and predict. */
import { cpSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parts, plainView, preprocessInto, type View } from '../../src/augment/pipeline.js';
import { decodeImage } from '../../src/data/index.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { type Classifier, loadClassifier } from '../../src/train/classifier.js';
import { evaluate } from '../../src/train/evaluate.js';
import { predict } from '../../src/train/predict.js';
import type { TestTimeAugmentation } from '../../src/train/test-time.js';
import { type OpenedModel, openModelFolder } from '../../src/weights/model-folder.js';
import { classNames, pictureFolder, temporary, train } from './support/training.js';

let engine: Engine;
let data: string;
let model: OpenedModel;
let classifier: Classifier;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 4, 3);
  model = await openModelFolder((await train({ data, lr: 0.1, epochs: 2 })).runFolder);
  classifier = await loadClassifier(model, engine, { pictures: 1 });
});
afterAll(async () => {
  await classifier.dispose();
  await model.close();
});

const paths = (): string[] =>
  classNames.flatMap((name) => [0, 1, 2].map((i) => join(data, 'val', name, `val-${i}.png`)));

/** What the model says of a picture in these views, one after the other. */
async function said(path: string, views: readonly View[]): Promise<number[]> {
  const { preprocessing, inputSize } = model.record;
  const image = await decodeImage(path);
  const sum = classNames.map(() => 0);
  for (const view of views) {
    const pixels = new Float32Array(inputSize.height * inputSize.width * 3);
    preprocessInto(image, preprocessing, inputSize, pixels, 0, view);
    const probabilities = await classifier.probabilities(pixels, 1);
    for (const c of sum.keys()) sum[c]! += probabilities[c]! / views.length;
  }
  return sum;
}

const both = (view: View): View[] => [view, { ...view, flip: true }];
const kinds: [TestTimeAugmentation | undefined, View[]][] = [
  [undefined, [plainView]],
  ['flip', both(plainView)],
  ['crops', parts.flatMap((part) => both({ flip: false, part }))],
];

describe.each(kinds)('%s', (testTime, views) => {
  const how = testTime === undefined ? {} : { testTime };

  test('is the mean over its views, by predict and by evaluate', async () => {
    const wanted = await Promise.all(paths().map((path) => said(path, views)));
    const guesses: number[][] = [];
    for await (const each of predict(model, paths(), engine, { top: 3, batchSize: 4, ...how })) {
      if ('error' in each) throw new Error(each.error);
      guesses.push(classNames.map((name) => each.guesses.find((guess) => guess.class === name)!.probability));
    }
    expect(guesses).toHaveLength(9);
    for (const [i, row] of wanted.entries()) {
      for (const [c, value] of row.entries()) expect(guesses[i]![c]).toBeCloseTo(value, 6);
    }
    const evaluation = await evaluate(model, engine, { data, batchSize: 4, ...how });
    const loss = wanted.reduce((sum, row, i) => sum - Math.log(row[Math.floor(i / 3)]!), 0) / 9;
    expect(evaluation.loss).toBeCloseTo(loss, 5);
    const right = wanted.filter((row, i) => row.indexOf(Math.max(...row)) === Math.floor(i / 3)).length;
    expect(evaluation.top1).toBeCloseTo(right / 9, 12);
  });
});

test('views differ from each other, and so do their means from the picture alone', async () => {
  const [path] = paths();
  const rows = await Promise.all(kinds.map(([, views]) => said(path!, views)));
  expect(new Set(rows.map((row) => row[0])).size).toBe(3);
});

test('a damaged picture is reported once, and the others are there', async () => {
  const damaged = temporary('damaged');
  cpSync(data, damaged, { recursive: true });
  const bad = join(damaged, 'val', classNames[1]!, 'val-1.png');
  truncateSync(bad, 300);
  const evaluation = await evaluate(model, engine, { data: damaged, testTime: 'crops', skipBadImages: true });
  expect(evaluation.badPictures.map(({ path }) => path)).toEqual([bad]);
  expect(evaluation.pictures).toBe(8);
});
