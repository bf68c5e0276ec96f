/** Whether a run went on learning its training pictures by heart after it had stopped getting better. */
import type { HistoryRow } from './options.js';
import { percent } from './percent.js';

/** Losses are means over pictures; `before` is that epoch, `after` the mean of the last {@link STRIP}. */
export interface Overfitting {
  /** The epoch of the lowest validation loss, from which on it rises. */
  readonly since: number;
  readonly valLoss: { readonly before: number; readonly after: number };
  readonly trainLoss: { readonly before: number; readonly after: number };
  readonly valAccuracy: { readonly before: number; readonly after: number };
}

/** Epochs that must all show it: one alone may be noise. */
const STRIP = 3;

/** How far above its lowest the validation loss must be: Prechelt 1998, "Early Stopping - But When?", criterion GL with alpha 5. */
const RISE = 0.05;

/** And at least so far, in nats: where a run is nearly always right, a multiple of nearly nothing says nothing. */
const LEAST_RISE = 0.01;

/**
 * A run overfits where each of its last three epochs has a validation loss more than 5 %, and more than 0.01, above the
 * lowest of the run, and their mean training loss is below that of the epoch with that lowest validation loss.
 */
export function overfittingOf(history: readonly HistoryRow[]): Overfitting | undefined {
  const validated = history.filter(({ valLoss }) => Number.isFinite(valLoss));
  if (validated.length <= STRIP) return undefined;
  const lowest = validated.reduce((a, b) => (b.valLoss < a.valLoss ? b : a));
  const last = validated.slice(-STRIP);
  const mean = (key: 'trainLoss' | 'valLoss' | 'valAccuracy'): number =>
    last.reduce((sum, row) => sum + row[key], 0) / STRIP;
  const bound = Math.max(lowest.valLoss * (1 + RISE), lowest.valLoss + LEAST_RISE);
  const rises = last.every(({ valLoss }) => valLoss > bound);
  if (!rises || !(mean('trainLoss') < lowest.trainLoss)) return undefined;
  const beforeAndAfter = (key: Parameters<typeof mean>[0]) => ({ before: lowest[key], after: mean(key) });
  return {
    since: lowest.epoch,
    valLoss: beforeAndAfter('valLoss'),
    trainLoss: beforeAndAfter('trainLoss'),
    valAccuracy: beforeAndAfter('valAccuracy'),
  };
}

/** One sentence for people, without a full stop. */
export function describeOverfitting({ since, valLoss, trainLoss, valAccuracy }: Overfitting): string {
  const loss = ({ before, after }: Overfitting['valLoss']): string => `${before.toFixed(3)} to ${after.toFixed(3)}`;
  return (
    `overfitting since epoch ${since}: the validation loss rose from ${loss(valLoss)} while the training loss fell from ` +
    `${loss(trainLoss)}; validation accuracy ${percent(valAccuracy.before)} then, ${percent(valAccuracy.after)} at the end`
  );
}
