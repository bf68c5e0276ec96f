/** A small network that learns from a trained one: what it is taught, whatever is kept, and what is refused. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { FinetuneOptions, HistoryRow } from '../../src/train/options.js';
import { predict } from '../../src/train/predict.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure } from '../weights/support/temporary.js';
import {
  classNames,
  expectEqual,
  historyOf,
  numbersOf,
  pictureFolder,
  startingWeights,
  temporary,
  traces,
  tracesOf,
  train,
  weightsOf,
} from './support/training.js';

let data: string;
/** Takes pictures as the student does. */
let same: string;
/** Takes larger pictures, cropped out of their middle, and has its classes in another order. */
let other: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 5, 2); // 15 pictures in batches of 4: the last one has 3
  const learning = { data, lr: 0.03, epochs: 3, freeze: 'backbone' } as const;
  same = (await train({ ...learning, weights: await startingWeights('mobilenet_v1_0.25', 'keras') })).runFolder;
  const torch = { backbone: 'mobilenet_v2_0.35', source: 'torch', inputSize: 48 } as const;
  const weights = await startingWeights('mobilenet_v2_0.35', 'torch');
  const trained = await train({ ...learning, ...torch, weights });
  other = temporary('other');
  cpSync(join(trained.runFolder, 'best'), other, { recursive: true });
  const file = join(other, 'model.json');
  const record = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...record, classes: [classNames[2], classNames[0], classNames[1]] }));
});

/** Logarithms of the probabilities of the training pictures, which are the logits but for a number a picture. */
async function logitsOf(folder: string): Promise<Map<string, number[]>> {
  const model = await openModelFolder(folder);
  const paths = classNames.flatMap((name) =>
    Array.from({ length: 5 }, (_, i) => join(data, 'train', name, `train-${i}.png`)),
  );
  const found = new Map<string, number[]>();
  for await (const said of predict(model, paths, await loadEngine({ engine: 'tensorflow' }), { top: 3 })) {
    if ('error' in said) throw new Error(said.error);
    const probability = (name: string) => said.guesses.find((guess) => guess.class === name)!.probability;
    found.set(said.path, classNames.map(probability).map(Math.log));
  }
  await model.close();
  return found;
}

const softmax = (logits: readonly number[], temperature: number): number[] => {
  const powers = logits.map((logit) => Math.exp(logit / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
};

describe('the loss', () => {
  test.each(['same', 'other'])('is that of what both say of each picture; the %s preprocessing', async (which) => {
    const teacher = which === 'same' ? same : other;
    const [weight, temperature] = [0.7, 3];
    const still = { lr: 1e-30, epochs: 1, freeze: 'backbone' } as const;
    const { runFolder } = await train({ data, ...still, teacher, distillWeight: weight, temperature });
    const [row] = historyOf(runFolder);
    const [teachers, students] = [await logitsOf(teacher), await logitsOf(runFolder)];
    let soft = 0;
    for (const [path, logits] of students) {
      const [p, q] = [softmax(teachers.get(path)!, temperature), softmax(logits, temperature)];
      soft += p.reduce((sum, share, c) => sum + share * Math.log(share / q[c]!), 0);
    }
    expect(row!.trainSoftLoss).toBeCloseTo((temperature ** 2 * soft) / students.size, 4);
    expect(row!.trainSoftLoss).toBeGreaterThan(0.01);
    const plain = historyOf((await train({ data, ...still })).runFolder);
    expect(row!.trainHardLoss).toBeCloseTo(plain[0]!.trainLoss, 6);
    expect(row!.trainLoss).toBeCloseTo((1 - weight) * row!.trainHardLoss! + weight * row!.trainSoftLoss!, 5);
    expect(row!.valLoss).toBe(plain[0]!.valLoss);
    expect(plain[0]).not.toHaveProperty('trainSoftLoss');
  });

  test('with a weight of 0 is that of plain training, and so is the network, to the bit', async () => {
    const how = { data, freeze: 'none', epochs: 2, augment: 'flip', labelSmoothing: 0.1 } as const;
    const plain = await train(how);
    const taught = await train({ ...how, teacher: other, distillWeight: 0 });
    expect(await weightsOf(join(taught.runFolder, 'last'))).toEqual(await weightsOf(join(plain.runFolder, 'last')));
    // The best epoch is another question: see below.
    const rows = historyOf(taught.runFolder).map(({ trainHardLoss: _, trainSoftLoss: __, ...row }) => row);
    const plainly = (all: readonly HistoryRow[]) => numbersOf(all.map((row) => ({ ...row, best: false })));
    expect(plainly(rows)).toEqual(plainly(historyOf(plain.runFolder)));
  });

  test('makes a student that says what its teacher says', async () => {
    const how = { data, epochs: 30, lr: 0.03 } as const;
    const rows = historyOf((await train({ ...how, teacher: other, distillWeight: 1 })).runFolder);
    expect(rows.at(-1)!.trainSoftLoss).toBeLessThan(0.5 * rows[0]!.trainSoftLoss!);

    // Its best epoch is the most accurate, and among equals that of the lowest loss; without a teacher the loss decides.
    const bestBy = (of: readonly HistoryRow[], better: (a: HistoryRow, b: HistoryRow) => boolean) =>
      of.reduce((best, row) => (better(row, best) ? row : best)).epoch;
    const moreAccurate = (a: HistoryRow, b: HistoryRow): boolean =>
      a.valAccuracy > b.valAccuracy || (a.valAccuracy === b.valAccuracy && a.valLoss < b.valLoss);
    expect(rows.findLast((row) => row.best)!.epoch).toBe(bestBy(rows, moreAccurate));
    const plain = historyOf((await train(how)).runFolder);
    expect(plain.findLast((row) => row.best)!.epoch).toBe(bestBy(plain, (a, b) => a.valLoss < b.valLoss));
  });

  test('in bfloat16 is that in float32, roughly', async () => {
    const how = { data, freeze: 'last:1', epochs: 1, lr: 1e-30, teacher: other } as const;
    const [float32, bfloat16] = [await train(how), await train({ ...how, precision: 'bfloat16' })];
    const [a, b] = [float32, bfloat16].map(({ runFolder }) => historyOf(runFolder)[0]!.trainSoftLoss!);
    expect(Math.abs(a! - b!) / a!).toBeLessThan(0.05);
  });
});

/** Numbers of a history without the clock. */
const rowsOf = async (how: Partial<FinetuneOptions>) => numbersOf(historyOf((await train({ data, ...how })).runFolder));

describe('teacher and student see the same', () => {
  test.each([
    { augment: 'flip', freeze: 'backbone', which: 'other' },
    { augment: 'flip', freeze: 'last:1', which: 'same' }, // one picture serves both
    { augment: 'standard', freeze: 'backbone', cacheViews: 2, which: 'other' },
  ] as const)('--augment $augment --freeze $freeze: kept logits are those of every step', async ({ which, ...how }) => {
    const base = { ...how, teacher: which === 'same' ? same : other, epochs: 2, lr: 1e-3 };
    const kept = await rowsOf({ ...base, cache: 'memory' });
    const { cacheViews: _, ...anew } = { cacheViews: undefined, ...base };
    const asked = await rowsOf({ ...anew, cache: 'off' });
    expect(kept).toHaveLength(2);
    for (const [i, row] of kept.entries()) {
      expect(row.trainSoftLoss).toBeCloseTo(asked[i]!.trainSoftLoss!, 4);
      expect(row.trainLoss).toBeCloseTo(asked[i]!.trainLoss, 4);
    }
  });
});

describe('stopped and resumed', () => {
  const settings = { epochs: 3, lr: 1e-3, distillWeight: 0.6, temperature: 4 } as const;

  async function stopAfter(steps: number, how: Partial<FinetuneOptions>) {
    const controller = new AbortController();
    let done = 0;
    const signal = controller.signal;
    const { runFolder } = await train(
      { data, ...how, signal },
      { step: () => void (++done === steps && controller.abort()) },
    );
    return runFolder;
  }

  test.each([
    { freeze: 'last:2', augment: 'flip' },
    { freeze: 'backbone', augment: 'standard' },
  ] as const)('--freeze $freeze --augment $augment: to the bit', async (how) => {
    const whole = await tracesOf({ data, ...settings, ...how, teacher: other });
    const runFolder = await stopAfter(6, { ...settings, ...how, teacher: other }); // 4 steps an epoch
    expect(historyOf(runFolder)).toHaveLength(1);
    await train({ data: temporary('not here'), resume: runFolder });
    expectEqual(await traces(runFolder), whole);
    expect(historyOf(runFolder).every(({ trainSoftLoss }) => trainSoftLoss! > 0)).toBe(true);
  });

  test('with another teacher: refused', async () => {
    const teacher = temporary('replaced');
    cpSync(other, teacher, { recursive: true });
    const runFolder = await stopAfter(6, { ...settings, teacher });
    const { resolved } = JSON.parse(readFileSync(join(runFolder, 'args.json'), 'utf8'));
    expect(resolved.teacher).toMatchObject({ backbone: 'mobilenet_v2_0.35', weight: 0.6, temperature: 4 });
    expect(resolved.teacher.print).toMatch(/^[0-9a-f]{64}$/);
    const file = join(teacher, 'weights.safetensors');
    const bytes = readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 4) ^ 1, bytes.length - 4); // the last digit of the last number
    writeFileSync(file, bytes);
    const error = await expectFailure(() => train({ data, resume: runFolder }), 'RESUME_TEACHER_CHANGED', /replaced/);
    expect(error.message).toContain(resolved.teacher.print.slice(0, 12));
    cpSync(other, teacher, { recursive: true });
    expect((await train({ data, resume: runFolder })).metrics.epochs).toBe(3);
  });
});

test('a teacher that may have seen the validation pictures is told of', async () => {
  const teacher = temporary('elsewhere');
  cpSync(other, teacher, { recursive: true });
  const file = join(teacher, 'model.json');
  const record = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...record, data: { ...record.data, fingerprint: 'of other pictures' } }));
  const warnings = async (from: string): Promise<string[]> => {
    const lines: string[] = [];
    const { runFolder } = await train({ data, teacher: from, epochs: 1 }, { warn: (line) => void lines.push(line) });
    const card = JSON.parse(readFileSync(join(runFolder, 'best', 'model.json'), 'utf8')).training.recipe;
    expect(card).toMatchObject({ teacher: 'mobilenet_v2_0.35 (torch)', 'distillation weight': 0.9, temperature: 2 });
    return lines;
  };
  expect(await warnings(teacher)).toEqual([expect.stringContaining('flatters the student')]);
  expect(await warnings(other)).toEqual([]);
});

describe('what is refused', () => {
  test('a teacher for other classes: every one is named', async () => {
    const teacher = temporary('classes');
    cpSync(other, teacher, { recursive: true });
    const file = join(teacher, 'model.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"moss"', '"fern"').replace('"sky"', '"sea"'));
    const error = await expectFailure(
      () => train({ data, teacher }),
      'TEACHER_CLASSES',
      /the teacher does not know: moss/,
    );
    for (const line of ['does not know: sky', 'no pictures of: fern', 'no pictures of: sea']) {
      expect(error.message).toContain(line);
    }
  });

  test('settings that mean nothing', async () => {
    const refused = (how: Partial<FinetuneOptions>, message: RegExp) =>
      expectFailure(() => train({ data, ...how }), 'BAD_OPTION', message);
    await refused({ distillWeight: 0.5 }, /--distill-weight: has no meaning without --teacher/);
    await refused({ temperature: 2 }, /--temperature: has no meaning without --teacher/);
    await refused({ teacher: same, distillWeight: 1.1 }, /at most 1, received 1.1/);
    await refused({ teacher: same, distillWeight: Number.NaN }, /received NaN/);
    for (const temperature of [0, -1, Number.POSITIVE_INFINITY]) {
      await refused({ teacher: same, temperature }, /--temperature: expected a number above 0/);
    }
  });

  test('no model, and one that the run would replace', async () => {
    await expectFailure(() => train({ data, teacher: temporary('nowhere') }), 'MODEL_NOT_FOUND');
    const replaced = () => train({ data, teacher: join(same, 'best'), out: same, overwrite: true });
    await expectFailure(replaced, 'TEACHER_IN_RUN', /would replace/);
    await expectFailure(() => train({ data, teacher: same, out: same, overwrite: true }), 'TEACHER_IN_RUN');
  });
});
