/** What a fine-tuning run is told, what it tells back, and the defaults. */
import type { Augmentation } from '../augment/augment.js';
import { augmentations } from '../augment/augment.js';
import { type Channels, channelCounts, type ImageSize } from '../augment/image.js';
import { type Precision, precisions } from '../engine/precision.js';
import type { EngineOptions } from '../engine/tensorflow.js';
import { listFaults, UsageError } from '../errors.js';
import type { Head } from '../heads/heads.js';
import { type CachePlace, cachePlaces, type RowPrecision, rowPrecisions } from './features/places.js';
import { type OptimizerName, optimizerNames } from './optimizers.js';
import { type ScheduleName, scheduleNames } from './schedule.js';

/** Everything that decides a run's numbers; written to `args.json`. */
export interface FinetuneSettings {
  /** Folder of class folders. */
  readonly data?: string;
  /** CSV of path, label and split, instead of `data`. */
  readonly manifest?: string;
  readonly backbone: string;
  /** Which published variant; by default that of the imported weights. */
  readonly source?: string;
  /** `auto` (the local store), `none` (from scratch) or a file. */
  readonly weights: string;
  /** `none`, `backbone`, `last:N` or `until:TAP`. */
  readonly freeze: string;
  readonly head: Head;
  readonly epochs: number;
  readonly batchSize: number;
  /** The highest learning rate; {@link defaultLr} when absent. */
  readonly lr?: number;
  readonly optimizer: OptimizerName;
  readonly schedule: ScheduleName;
  readonly warmupEpochs: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly labelSmoothing: number;
  /** Model or run folder of a teacher for the same classes, whose logits are learned beside the labels. */
  readonly teacher?: string;
  /** Share of the teacher's part in the training loss, 0 to 1; that of {@link distillationDefaults} when absent. */
  readonly distillWeight?: number;
  /** Divides the logits of both in the teacher's part, above 0; that of {@link distillationDefaults} when absent. */
  readonly temperature?: number;
  /** Rate of the last block's dropped path, growing linearly from 0 in the first; as the network has it when absent. */
  readonly dropPath?: number;
  /** Whether auxiliary classifiers take part, where the network has them on what is trained; `on` when absent. */
  readonly auxiliary?: 'on' | 'off';
  readonly seed: number;
  readonly augment: Augmentation;
  readonly valSplit: number;
  readonly skipBadImages: boolean;
  /** Height and width, one number for both; the backbone's own when absent. */
  readonly inputSize?: number | ImageSize;
  /** Of the pictures: 1 grey, 3 RGB, 4 RGBA; those that the weights were trained on when absent. */
  readonly channels?: Channels;
  /** What convolutions and matrix products compute in; `float32` when absent. */
  readonly precision?: Precision;
  /** Whether trained blocks are run again where their gradients are taken, instead of kept; not when absent. */
  readonly recompute?: boolean;
  /** Where the frozen part's output is kept; `off` computes it anew in every epoch. */
  readonly cache: CachePlace;
  /** Numbers that it is kept in; `float32` when absent. */
  readonly cachePrecision?: RowPrecision;
  /** How many random views of each picture are kept with `standard` and `strong`, from 1; none when absent. */
  readonly cacheViews?: number;
}

export interface FinetuneOptions extends FinetuneSettings {
  /** The run folder; `runs/finetune-N` when absent. */
  readonly out?: string;
  readonly overwrite: boolean;
  /** A run folder that was stopped; all settings are its own. */
  readonly resume?: string;
  readonly engine: EngineOptions;
  /** Stops at the next step. */
  readonly signal?: AbortSignal;
}

/** One epoch. Losses are means over pictures; accuracies lie in 0 to 1. */
export interface HistoryRow {
  /** From 1. */
  readonly epoch: number;
  /** What the optimiser lowers: dropout on, label smoothing and the losses of auxiliary classifiers in it. */
  readonly trainLoss: number;
  /** Under a teacher, the part of the labels before it is weighted. */
  readonly trainHardLoss?: number;
  /** Under a teacher, the teacher's part, times the square of the temperature, before it is weighted. */
  readonly trainSoftLoss?: number;
  readonly trainAccuracy: number;
  /** Of the logits alone, without label smoothing; NaN where there are no validation pictures. */
  readonly valLoss: number;
  readonly valAccuracy: number;
  /** Of the epoch's last step. */
  readonly lr: number;
  readonly seconds: number;
  /** Training pictures a second. */
  readonly imagesPerSecond: number;
  /** The lowest validation loss so far; under a teacher the highest accuracy, and then the lowest loss. */
  readonly best: boolean;
}

/** Where a run reports to. */
export interface Reporter {
  info(line: string): void;
  warn(line: string): void;
  /** While the frozen part's output is computed, once. */
  featureProgress?(info: { done: number; total: number; imagesPerSecond: number }): void;
  epochStart(info: { epoch: number; epochs: number; steps: number }): void;
  step(info: {
    epoch: number;
    step: number;
    steps: number;
    loss: number;
    accuracy: number;
    imagesPerSecond: number;
    /** Of the whole run. */
    secondsLeft: number;
  }): void;
  epoch(row: HistoryRow, waiting: Waiting): void;
}

/** How well the trainer was fed. */
export interface Waiting {
  /** Share of an epoch's training in which it had no pictures, 0 to 1. */
  readonly share: number;
}

export interface FinetuneResult {
  readonly runFolder: string;
  readonly metrics: RunMetrics;
  /** True when a signal ended the run early. */
  readonly stopped: boolean;
}

/** `metrics.json`. */
export interface RunMetrics {
  readonly bestEpoch: number;
  readonly epochs: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly valLoss: number | null;
  readonly valAccuracy: number | null;
  readonly trainPictures: number;
  readonly valPictures: number;
  readonly badPictures: number;
  readonly classes: number;
  readonly trainableParameters: number;
  readonly parameters: number;
  readonly seconds: number;
}

type Defaults = Omit<
  FinetuneSettings,
  | ('data' | 'manifest' | 'backbone' | 'source' | 'head' | 'lr' | 'inputSize' | 'channels' | 'cacheViews')
  | ('teacher' | 'distillWeight' | 'temperature')
> & {
  /** As on the command line. */
  readonly head: string;
  readonly headDropout: number;
};

/** What a run does unless told otherwise. */
export const defaults: Defaults = {
  weights: 'auto',
  freeze: 'backbone',
  head: 'linear',
  headDropout: 0,
  epochs: 20,
  batchSize: 16, // the notes' recipe
  optimizer: 'adam',
  schedule: 'cosine',
  warmupEpochs: 0,
  momentum: 0.9,
  weightDecay: 0,
  labelSmoothing: 0,
  auxiliary: 'on',
  seed: 0,
  augment: 'flip',
  valSplit: 0.2,
  skipBadImages: false,
  precision: 'float32',
  recompute: false,
  cache: 'auto',
  cachePrecision: 'float32',
};

/**
 * Learning rates that work without tuning: a new head learns from scratch and takes Adam's own default, 1e-3 (Kingma
 * and Ba 2015, algorithm 1); pretrained layers move ten times slower (Keras' transfer-learning guide and the notes'
 * recipes have 1e-5 to 2e-4), and SGD takes rates ten times larger than Adam.
 */
export function defaultLr(optimizer: OptimizerName, freeze: string): number {
  const adam = freeze === 'backbone' ? 1e-3 : 1e-4;
  return optimizer === 'sgd' ? 10 * adam : adam;
}

/** Height and width of an input size that may be one number for both. */
export function sizeOf(size: number | ImageSize): ImageSize {
  return typeof size === 'number' ? { height: size, width: size } : size;
}

/** Weight decay of AdamW when none is named: Loshchilov and Hutter 2019, and PyTorch's default. */
export const ADAMW_WEIGHT_DECAY = 0.01;

/** Checks every setting and names all that are wrong. @throws BAD_OPTION */
export function checkSettings(settings: FinetuneSettings): void {
  const faults: string[] = [];
  const check = (good: boolean, fault: string): void => {
    if (!good) faults.push(fault);
  };
  const wholeFrom = (name: string, value: number, least: number): void =>
    check(
      Number.isInteger(value) && value >= least,
      `${name}: expected a whole number from ${least}, received ${value}`,
    );
  const share = (name: string, value: number): void =>
    check(value >= 0 && value < 1, `${name}: expected at least 0 and below 1, received ${value}`);
  const oneOf = (name: string, value: string, values: readonly string[]): void =>
    check(values.includes(value), `${name}: expected one of ${values.join(', ')}, received "${value}"`);

  wholeFrom('epochs', settings.epochs, 1);
  wholeFrom('batch size', settings.batchSize, 1);
  if (settings.inputSize !== undefined) {
    const { height, width } = sizeOf(settings.inputSize);
    wholeFrom('input height', height, 1);
    wholeFrom('input width', width, 1);
  }
  if (settings.channels !== undefined) oneOf('channels', String(settings.channels), channelCounts.map(String));
  if (settings.lr !== undefined) {
    check(settings.lr > 0 && Number.isFinite(settings.lr), `learning rate: expected above 0, received ${settings.lr}`);
  }
  check(
    settings.warmupEpochs >= 0 && settings.warmupEpochs < settings.epochs,
    `warm-up: expected 0 to less than the ${settings.epochs} epochs, received ${settings.warmupEpochs}`,
  );
  check(settings.weightDecay >= 0, `weight decay: expected 0 or more, received ${settings.weightDecay}`);
  check(Number.isFinite(settings.seed), `seed: expected a number, received ${settings.seed}`);
  share('momentum', settings.momentum);
  share('label smoothing', settings.labelSmoothing);
  const { teacher, distillWeight, temperature } = settings;
  if (distillWeight !== undefined) {
    check(teacher !== undefined, 'distill weight: there is no teacher; expected teacher beside it');
    check(
      distillWeight >= 0 && distillWeight <= 1,
      `distill weight: expected at least 0 and at most 1, received ${distillWeight}`,
    );
  }
  if (temperature !== undefined) {
    check(teacher !== undefined, 'temperature: there is no teacher; expected teacher beside it');
    check(temperature > 0 && Number.isFinite(temperature), `temperature: expected above 0, received ${temperature}`);
  }
  if (settings.dropPath !== undefined) share('drop path', settings.dropPath);
  share('validation split', settings.valSplit);
  oneOf('optimizer', settings.optimizer, optimizerNames);
  oneOf('schedule', settings.schedule, scheduleNames);
  oneOf('augment', settings.augment, augmentations);
  if (settings.precision !== undefined) oneOf('precision', settings.precision, precisions);
  oneOf('cache', settings.cache, cachePlaces);
  if (settings.cachePrecision !== undefined) oneOf('cache precision', settings.cachePrecision, rowPrecisions);
  if (settings.cacheViews !== undefined) {
    wholeFrom('cache views', settings.cacheViews, 1);
    check(
      settings.augment === 'standard' || settings.augment === 'strong',
      `cache views: ${settings.augment} has no random views to keep; expected augment standard or strong`,
    );
  }
  if (settings.auxiliary !== undefined) oneOf('auxiliary', settings.auxiliary, ['on', 'off']);
  if (faults.length === 0) return;
  throw new UsageError({
    code: 'BAD_OPTION',
    message: `these settings cannot be used:\n${listFaults(faults)}`,
    hint: '`tl finetune --help` lists every option',
  });
}
