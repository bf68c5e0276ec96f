/** Learning-rate schedules over optimiser steps. */

export const scheduleNames = ['constant', 'step', 'cosine', 'one-cycle'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

export interface ScheduleOptions {
  readonly name: ScheduleName;
  /** The highest rate. */
  readonly lr: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /**
   * Steps in which the rate rises linearly from `lr / warmupSteps` to `lr`: Goyal et al. 2017, section 2.2. Of
   * `one-cycle`: those in which it rises as that schedule has it; {@link ONE_CYCLE} when 0.
   */
  readonly warmupSteps: number;
  /** Of `step`: steps between two falls, counted from the start of the run, the warm-up in them; no fall when absent. */
  readonly stepSize?: number;
  /** Of `step`: the steps that falls come before, in the place of `stepSize`. */
  readonly falls?: readonly number[];
  /** Of `step`: what a fall multiplies the rate by, above 0 and below 1; a tenth when absent (He et al. 2016, section 3.4). */
  readonly stepGamma?: number;
  /** Of `cosine`: the rate that it falls to; 0 when absent. */
  readonly minLr?: number;
}

/** What a run's settings say of its schedule, in epochs. */
export interface ScheduleSettings extends Pick<ScheduleOptions, 'stepGamma' | 'minLr'> {
  readonly schedule: ScheduleName;
  readonly epochs: number;
  readonly warmupEpochs: number;
  /** Between two falls; or those that falls come after, with commas between them. */
  readonly stepEpochs?: number | string;
}

/** The schedule of a run of so many steps an epoch. */
export function scheduleOf(
  { schedule: name, epochs, warmupEpochs, stepEpochs = epochs / 3, stepGamma, minLr }: ScheduleSettings,
  lr: number,
  steps: number,
): ScheduleOptions {
  const falls = String(stepEpochs).split(',').map(Number);
  return {
    name,
    lr,
    totalSteps: steps * epochs,
    warmupSteps: Math.round(steps * warmupEpochs),
    ...(falls.length === 1
      ? { stepSize: Math.max(1, Math.round(steps * falls[0]!)) }
      : { falls: falls.map((epoch) => Math.round(steps * epoch)) }),
    ...(stepGamma === undefined ? {} : { stepGamma }),
    ...(minLr === undefined ? {} : { minLr }),
  };
}

/** A fall of `step`. */
export const STEP_GAMMA = 0.1;

/**
 * Defaults of torch.optim.lr_scheduler.OneCycleLR, which are fastai's: the rate rises from `lr / 25` in the first 30 % of
 * the run, and falls to `lr / 25 / 10000`.
 */
const ONE_CYCLE = { rising: 0.3, divideFirst: 25, divideLast: 25e4 };

/**
 * The rate of a step, counted from 0.
 *
 * - `step`: times gamma after every `stepSize` steps, or before each of `falls`: torch.optim.lr_scheduler.StepLR and
 *   MultiStepLR.
 * - `cosine`: falls from `lr` to `minLr` over what the warm-up leaves: Loshchilov and Hutter 2017, equation 5, without
 *   restarts; keras.optimizers.schedules.CosineDecay, torch.optim.lr_scheduler.CosineAnnealingLR.
 * - `one-cycle`: rises and falls along half a cosine each: Smith 2018, section 4, in the form of
 *   torch.optim.lr_scheduler.OneCycleLR without a third phase. The momentum stays as it is.
 */
export function learningRate(step: number, options: ScheduleOptions): number {
  const { name, lr, totalSteps, warmupSteps, minLr = 0 } = options;
  if (name === 'one-cycle') return oneCycle(step, options);
  if (step < warmupSteps) return (lr * (step + 1)) / warmupSteps;
  if (name === 'constant') return lr;
  if (name === 'step') return lr * (options.stepGamma ?? STEP_GAMMA) ** fallsUntil(step, options);
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  return between(lr, Math.min(minLr, lr), progress);
}

/** How often the rate of `step` has fallen. */
function fallsUntil(step: number, { falls, stepSize, totalSteps }: ScheduleOptions): number {
  return falls?.filter((fall) => fall <= step).length ?? Math.floor(step / (stepSize ?? totalSteps));
}

/** Along half a cosine from `start` to `end`; `progress` is 0 to 1. */
function between(start: number, end: number, progress: number): number {
  return end + 0.5 * (start - end) * (1 + Math.cos(Math.PI * Math.min(1, progress)));
}

function oneCycle(step: number, { lr, totalSteps, warmupSteps }: ScheduleOptions): number {
  const [first, last] = [lr / ONE_CYCLE.divideFirst, lr / ONE_CYCLE.divideLast];
  const top = (warmupSteps > 0 ? warmupSteps : ONE_CYCLE.rising * totalSteps) - 1; // between two steps, as a rule
  if (step <= top) return top <= 0 ? lr : between(first, lr, step / top);
  return between(lr, last, (step - top) / Math.max(1, totalSteps - 1 - top));
}
