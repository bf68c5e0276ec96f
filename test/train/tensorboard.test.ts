/** Files of events, read byte by byte: the framing of records, their checksums, and the messages in them. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import type { HistoryRow } from '../../src/train/options.js';
import { openEvents } from '../../src/train/tensorboard.js';
import { allOf, fieldsOf, numberOf, textOf } from '../../src/weights/checkpoint/protobuf.js';
import { maskedCrc32c } from '../../src/weights/crc32.js';
import { expectFailure } from '../weights/support/temporary.js';
import { historyOf, pictureFolder, temporary, train } from './support/training.js';

interface Scalar {
  readonly step: number;
  readonly tag: string;
  readonly value: number;
}

const filesIn = (run: string, part: string): string[] =>
  readdirSync(join(run, 'tensorboard', part))
    .sort()
    .map((name) => join(run, 'tensorboard', part, name));

/** Every scalar of a part of a run, in the order of the files and of the records in them; both checksums are compared. */
function scalarsOf(run: string, part: string): Scalar[] {
  const scalars: Scalar[] = [];
  for (const file of filesIn(run, part)) {
    const bytes = readFileSync(file);
    for (let at = 0, record = 0; at < bytes.length; record++) {
      const length = Number(bytes.readBigUInt64LE(at));
      expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc32c(bytes.subarray(at, at + 8)));
      const event = bytes.subarray(at + 12, at + 12 + length);
      expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc32c(event));
      at += 12 + length + 4;
      // event.proto: 1 wall_time, 2 step, 3 file_version, 5 summary; summary.proto: 1 value of 1 tag, 2 simple_value
      const fields = fieldsOf(file, event);
      if (record === 0) expect(textOf(fields, 3)).toBe('brain.Event:2');
      const wall = fields.find(({ number }) => number === 1)!.bytes.readDoubleLE();
      expect(Math.abs(wall - Date.now() / 1000)).toBeLessThan(600);
      for (const summary of allOf(fields, 5)) {
        for (const value of allOf(fieldsOf(file, summary), 1)) {
          const parts = fieldsOf(file, value);
          const number = parts.find((each) => each.number === 2)!.bytes.readFloatLE();
          scalars.push({ step: numberOf(fields, 2), tag: textOf(parts, 1), value: number });
        }
      }
    }
  }
  return scalars;
}

const row = (epoch: number, changes: Partial<HistoryRow> = {}): HistoryRow => ({
  ...{ epoch, trainLoss: 1 / epoch, trainAccuracy: 0.1 * epoch, valLoss: 2 / epoch, valAccuracy: 0.05 * epoch },
  ...{ lr: 1e-3 / epoch, seconds: 1, imagesPerSecond: 10, best: true },
  ...changes,
});

const expected = (rows: readonly HistoryRow[]): { train: Scalar[]; validation: Scalar[] } => ({
  train: rows.flatMap(({ epoch, trainLoss, trainAccuracy, lr }) => [
    { step: epoch, tag: 'epoch_loss', value: Math.fround(trainLoss) },
    { step: epoch, tag: 'epoch_accuracy', value: Math.fround(trainAccuracy) },
    { step: epoch, tag: 'epoch_learning_rate', value: Math.fround(lr) },
  ]),
  validation: rows.flatMap(({ epoch, valLoss, valAccuracy }) => [
    { step: epoch, tag: 'epoch_loss', value: Math.fround(valLoss) },
    { step: epoch, tag: 'epoch_accuracy', value: Math.fround(valAccuracy) },
  ]),
});

/** Writes epochs as one process does. */
async function write(run: string, known: number, rows: readonly HistoryRow[]): Promise<void> {
  const events = await openEvents(run, known, await loadEngine({ engine: 'tensorflow' }));
  for (const each of rows) events.epoch(each);
  events.close();
}

const rows = (from: number, to: number): HistoryRow[] => Array.from({ length: to - from + 1 }, (_, i) => row(from + i));

const both = (run: string) => ({ train: scalarsOf(run, 'train'), validation: scalarsOf(run, 'validation') });

test('every epoch is there as float32, under the tags of Keras, at once', async () => {
  const run = temporary('events');
  const events = await openEvents(run, 0, await loadEngine({ engine: 'tensorflow' }));
  for (let epoch = 1; epoch <= 3; epoch++) {
    events.epoch(row(epoch));
    expect(both(run)).toEqual(expected(rows(1, epoch))); // without waiting for the end
  }
  events.close();
});

test('a run without validation pictures has no folder for it; a teacher’s parts have tags', async () => {
  const run = temporary('alone');
  const parts = { valLoss: Number.NaN, valAccuracy: Number.NaN, trainHardLoss: 0.5, trainSoftLoss: 0.25 };
  await write(run, 0, [row(1, parts)]);
  expect(readdirSync(join(run, 'tensorboard'))).toEqual(['train']);
  const tags = scalarsOf(run, 'train').map(({ tag, value }) => [tag, value]);
  expect(tags).toContainEqual(['epoch_hard_loss', 0.5]);
  expect(tags).toContainEqual(['epoch_soft_loss', 0.25]);
});

test('a run that goes on has each epoch once, whatever the one before it wrote', async () => {
  const run = temporary('resumed');
  await write(run, 0, rows(1, 5));
  await write(run, 3, rows(4, 6)); // its checkpoint was that of the third epoch
  expect(both(run)).toEqual(expected(rows(1, 6)));
  await write(run, 6, rows(7, 7));
  expect(both(run)).toEqual(expected(rows(1, 7)));
  await write(run, 0, rows(1, 2)); // begun anew
  expect(both(run)).toEqual(expected(rows(1, 2)));
});

test('what was killed in the middle of a record is cut off', async () => {
  const run = temporary('torn');
  await write(run, 0, rows(1, 2));
  const [file] = filesIn(run, 'train');
  const { size } = statSync(file!);
  const record = readFileSync(file!).subarray(-40);
  for (const torn of [record.subarray(0, 20), record.subarray(0, 4), Buffer.alloc(64)]) {
    appendFileSync(file!, torn);
    await write(run, 2, []);
    expect(statSync(file!).size).toBe(size);
  }
  await write(run, 2, rows(3, 3));
  expect(both(run)).toEqual(expected(rows(1, 3)));
});

test('what cannot be written is an error', async () => {
  const run = temporary('blocked');
  mkdirSync(run);
  writeFileSync(join(run, 'tensorboard'), 'a file');
  const failed = await expectFailure(
    () => write(run, 0, rows(1, 1)),
    'FILE_NOT_WRITTEN',
    /tensorboard.*not a directory/,
  );
  expect(failed.hint).toContain('--resume');
});

const built = (file: string): string => new URL(`../../dist/${file}`, import.meta.url).href;

test('a file that may not grow ends the run', () => {
  const run = temporary('full');
  const script = `
    const { loadEngine } = await import('${built('engine/tensorflow.js')}');
    const { openEvents } = await import('${built('train/tensorboard.js')}');
    const events = await openEvents(${JSON.stringify(run)}, 0, await loadEngine({ engine: 'tensorflow' }));
    const row = { trainLoss: 1, trainAccuracy: 1, valLoss: 1, valAccuracy: 1, lr: 1, seconds: 1, best: true };
    try {
      for (let epoch = 1; epoch < 100; epoch++) events.epoch({ ...row, epoch });
    } catch ({ code, message }) {
      console.log(code, message);
    }`;
  const limited = ['-c', 'ulimit -f 4; exec "$0" --input-type=module --eval "$1"', process.execPath, script];
  const printed = execFileSync('bash', limited, { encoding: 'utf8', env: process.env });
  expect(printed).toMatch(/^FILE_NOT_WRITTEN .*File too large/);
});

test('a run that was stopped and goes on has what its history has', async () => {
  const data = await pictureFolder('events-pictures', 4, 2);
  const controller = new AbortController();
  const { runFolder } = await train(
    { data, tensorboard: true, epochs: 3, signal: controller.signal },
    { step: ({ epoch, step }) => void (epoch === 2 && step === 2 && controller.abort()) },
  );
  expect(both(runFolder)).toEqual(expected(historyOf(runFolder)));
  await train({ data, resume: runFolder });
  const history = historyOf(runFolder);
  expect(history).toHaveLength(3);
  expect(both(runFolder)).toEqual(expected(history));
});

test('an engine without TensorFlow writes none', async () => {
  const engine = await loadEngine({ engine: 'wasm' });
  const failed = await expectFailure(() => openEvents(temporary('none'), 0, engine), 'ENGINE_NO_EVENTS', /wasm/);
  expect(failed.hint).toContain('tl setup');
  const out = temporary('none-run');
  const run = { data: temporary('nowhere'), tensorboard: true, out, engine: { engine: 'wasm' } } as const;
  await expectFailure(() => train(run), 'ENGINE_NO_EVENTS'); // before anything else is looked at
  expect(existsSync(out)).toBe(false);
  await loadEngine({ engine: 'tensorflow' });
});
