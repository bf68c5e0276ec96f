/**
 * The history of a run as TensorBoard reads it: in `tensorboard/train` and `tensorboard/validation`, under the tags of
 * Keras' callback, with the number of the epoch as the step, which is from 1 as in `history.csv` (Keras counts from 0).
 * @see https://github.com/keras-team/keras/blob/v3.3.3/keras/src/callbacks/tensorboard.py, _log_epoch_metrics
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine, NativeEvents } from '../engine/tensorflow.js';
import { EngineError, messageOf, ToolkitError } from '../errors.js';
import { fileError } from '../files.js';
import { fieldsOf, numberOf } from '../weights/checkpoint/protobuf.js';
import { maskedCrc32c } from '../weights/crc32.js';
import type { HistoryRow } from './options.js';

const FOLDER = 'tensorboard';

type Part = 'train' | 'validation';

/** Where a column of the history is shown; undefined for what is none of the run's numbers. */
const places: Readonly<Record<keyof HistoryRow, readonly [Part, string] | undefined>> = {
  epoch: undefined, // it is the step
  trainLoss: ['train', 'epoch_loss'],
  trainHardLoss: ['train', 'epoch_hard_loss'],
  trainSoftLoss: ['train', 'epoch_soft_loss'],
  trainAccuracy: ['train', 'epoch_accuracy'],
  valLoss: ['validation', 'epoch_loss'],
  valAccuracy: ['validation', 'epoch_accuracy'],
  lr: ['train', 'epoch_learning_rate'],
  seconds: undefined,
  imagesPerSecond: undefined,
  best: undefined,
};

/** The events of a run, open for writing. */
export interface RunEvents {
  /** Adds an epoch; its numbers are in the files when this is done. @throws FILE_NOT_WRITTEN */
  epoch(row: HistoryRow): void;
  close(): void;
}

/**
 * Opens the events of a run. What is in them of later epochs is cut off: these will be trained again.
 * @param run the run folder
 * @param epochs how many of them are there
 * @throws ENGINE_NO_EVENTS, FILE_NOT_WRITTEN
 */
export async function openEvents(run: string, epochs: number, engine: Engine): Promise<RunEvents> {
  assertEvents(engine);
  const folder = join(run, FOLDER);
  for (const part of ['train', 'validation'] as const) await cutEvents(join(folder, part), epochs);
  const open = new Map<Part, NativeEvents>();
  const partOf = (part: Part): NativeEvents => {
    const events = open.get(part) ?? engine.native!.openEvents(join(folder, part));
    open.set(part, events);
    return events;
  };
  return {
    epoch: (row) =>
      writing(folder, () => {
        for (const [column, place] of Object.entries(places)) {
          const value = row[column as keyof HistoryRow];
          if (place === undefined || typeof value !== 'number' || Number.isNaN(value)) continue; // it has none
          partOf(place[0]).scalar(row.epoch, place[1], value);
        }
        for (const events of open.values()) events.flush();
      }),
    close: () => {
      for (const events of open.values()) events.close();
    },
  };
}

/** @throws ENGINE_NO_EVENTS */
export function assertEvents(engine: Engine): void {
  if (engine.native !== undefined) return;
  throw new EngineError({
    code: 'ENGINE_NO_EVENTS',
    message: `TensorBoard's files are written by TensorFlow, and the ${engine.name} engine has none`,
    hint: 'run `tl setup` for the native engine, or leave --tensorboard out: history.csv holds the same numbers',
  });
}

function writing(folder: string, write: () => void): void {
  try {
    write();
  } catch (cause) {
    // TensorFlow's status, and then what the system said of the file.
    const said = messageOf(cause).replace(/^Invalid TF_Status: \d+\s*Message: /, '');
    throw new ToolkitError({
      code: 'FILE_NOT_WRITTEN',
      message: `${folder}: TensorBoard's files cannot be written: ${said.split('\n')[0]}`,
      hint: 'free some space or change the permissions of the folder, and go on with --resume',
      cause,
    });
  }
}

/** @throws FILE_NOT_WRITTEN */
async function cutEvents(folder: string, epochs: number): Promise<void> {
  if (!existsSync(folder)) return;
  if (epochs === 0) return await rm(folder, { recursive: true, force: true });
  for (const name of await readdir(folder)) {
    if (!name.startsWith('events.out.tfevents.')) continue;
    const path = join(folder, name);
    try {
      const bytes = await readFile(path);
      const end = lengthUpTo(bytes, epochs);
      if (end < bytes.length) await truncate(path, end);
    } catch (error) {
      throw fileError('FILE_NOT_WRITTEN', path, 'cannot be cut', error);
    }
  }
}

/** Of a record: its length (uint64), the masked CRC-32C of that, and behind the record that of the record. */
const [LENGTH_BYTES, CHECKSUM_BYTES] = [8, 4];

/** Field of `Event` with the step (tensorflow/core/util/event.proto). */
const STEP = 2;

/**
 * Bytes of a file of events up to the first of a later step, or to one that was not written whole.
 * @see https://www.tensorflow.org/tutorials/load_data/tfrecord, TFRecords format details
 */
function lengthUpTo(bytes: Buffer, step: number): number {
  let at = 0;
  while (at + LENGTH_BYTES + CHECKSUM_BYTES <= bytes.length) {
    const length = Number(bytes.readBigUInt64LE(at));
    const start = at + LENGTH_BYTES + CHECKSUM_BYTES;
    const next = start + length + CHECKSUM_BYTES;
    if (next > bytes.length) break;
    const event = bytes.subarray(start, start + length);
    if (maskedCrc32c(event) !== bytes.readUInt32LE(start + length)) break;
    if (numberOf(fieldsOf('event', event), STEP) > step) break;
    at = next;
  }
  return at;
}
