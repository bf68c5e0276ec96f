/** What the rows of a history mean, with a learning rate so small that nothing moves. */
import { beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { evaluate } from '../../src/train/evaluate.js';
import { predict } from '../../src/train/predict.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { classNames, historyOf, pictureFolder, train } from './support/training.js';

let data: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 5, 2); // 15 pictures in batches of 4: the last one has 3
});

/** Of a network whose random head already prefers some classes. */
const still = { backbone: 'mobilenet_v2_0.35', lr: 1e-30 } as const;

/** Probabilities of the training pictures, in classes' order, and their labels. */
async function probabilitiesOf(runFolder: string): Promise<{ label: number; probabilities: number[] }[]> {
  const model = await openModelFolder(runFolder);
  const engine = await loadEngine({ engine: 'tensorflow' });
  const pictures = classNames.flatMap((name, label) =>
    Array.from({ length: 5 }, (_, i) => ({ label, path: `${data}/train/${name}/train-${i}.png` })),
  );
  const rows = [];
  const paths = pictures.map(({ path }) => path);
  for await (const prediction of predict(model, paths, engine, { top: 3 })) {
    if ('error' in prediction) throw new Error(prediction.error);
    const { guesses, path } = prediction;
    const probabilities = classNames.map((name) => guesses.find((guess) => guess.class === name)!.probability);
    rows.push({ label: pictures[paths.indexOf(path)]!.label, probabilities });
  }
  await model.close();
  return rows;
}

describe('training loss', () => {
  test('is the mean over pictures, not over batches, and that of evaluate', async () => {
    const { runFolder } = await train({ data, ...still, epochs: 2 });
    const model = await openModelFolder(runFolder);
    const evaluation = await evaluate(model, await loadEngine({ engine: 'tensorflow' }), { data, split: 'train' });
    await model.close();
    for (const row of historyOf(runFolder)) {
      expect(Math.abs(row.trainLoss - evaluation.loss)).toBeLessThan(1e-5);
      expect(row.trainAccuracy).toBeCloseTo(evaluation.top1, 12);
    }
  });

  test('has the label smoothing in it, the validation loss has not', async () => {
    const smoothing = 0.3;
    const { runFolder } = await train({ data, ...still, epochs: 1, labelSmoothing: smoothing });
    const plain = await train({ data, ...still, epochs: 1 });
    const [row] = historyOf(runFolder);
    const rows = await probabilitiesOf(runFolder);
    const losses = rows.map(({ label, probabilities }) =>
      probabilities.reduce((sum, p, c) => sum - ((c === label ? 1 - smoothing : 0) + smoothing / 3) * Math.log(p), 0),
    );
    expect(row!.trainLoss).toBeCloseTo(losses.reduce((a, b) => a + b) / losses.length, 5);
    expect(row!.trainLoss).not.toBeCloseTo(historyOf(plain.runFolder)[0]!.trainLoss, 4);
    expect(row!.valLoss).toBe(historyOf(plain.runFolder)[0]!.valLoss);
  });

  test('differs from epoch to epoch under dropout: every epoch has masks of its own', async () => {
    // Three pictures in one batch have 6 orders; masks that came again would give 6 losses at most.
    const three = await pictureFolder('three', 1, 1);
    const { runFolder } = await train({ data: three, ...still, epochs: 10, head: 'linear', headDropout: 0.5 });
    const rows = historyOf(runFolder);
    expect(new Set(rows.map((row) => row.trainLoss)).size).toBe(10);
    expect(new Set(rows.map((row) => row.valLoss)).size).toBe(1);
  });
});

test('the rate of a row is that of its last step, by the schedule over all steps of the run', async () => {
  const { runFolder } = await train({ data, lr: 0.01, epochs: 4, warmupEpochs: 1, schedule: 'cosine' });
  const rates = historyOf(runFolder).map((row) => row.lr);
  // 4 steps an epoch: 4 of warm-up, then step 7, 11 and 15 of the cosine's 12.
  const cosine = (step: number) => 0.005 * (1 + Math.cos((Math.PI * (step - 4)) / 12));
  expect(rates).toEqual([0.01, cosine(7), cosine(11), cosine(15)].map((rate) => expect.closeTo(rate, 12)));
});
