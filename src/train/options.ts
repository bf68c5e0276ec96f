/** What a fine-tuning run is told besides its settings, and what it tells back. */
import type { EngineOptions } from '../engine/tensorflow.js';
import type { ValidationMetrics } from './metrics.js';
import type { Overfitting } from './overfitting.js';
import type { GivenSettings } from './settings/settings.js';

/** Settings, of which all but the backbone have defaults, and what concerns this call alone. */
export interface FinetuneOptions extends GivenSettings {
  /** The run folder; `runs/finetune-N` when absent. */
  readonly out?: string;
  /** Whether a run in that folder is replaced. */
  readonly overwrite?: boolean;
  /** A run folder that was stopped; all settings are its own. */
  readonly resume?: string;
  /** What computes; the native engine where it is ready when absent. */
  readonly engine?: EngineOptions;
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
  /** One update of a range test. */
  rateTest?(info: { step: number; steps: number; lr: number; loss: number; secondsLeft: number }): void;
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

/** Tells nobody. */
export const silent: Reporter = {
  info: () => {},
  warn: () => {},
  epochStart: () => {},
  step: () => {},
  epoch: () => {},
};

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
  /** Of the best epoch's model; null where there are no validation pictures. */
  readonly validation: ValidationMetrics | null;
  /** Where the validation loss rises while the training loss falls; null where it does not. */
  readonly overfitting: Overfitting | null;
  readonly seconds: number;
}
