/** Learning-rate schedules over optimiser steps. */

export const scheduleNames = ['constant', 'cosine'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

export interface ScheduleOptions {
  readonly name: ScheduleName;
  /** The highest rate. */
  readonly lr: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** Steps in which the rate rises linearly from `lr / warmupSteps` to `lr`: Goyal et al. 2017, section 2.2. */
  readonly warmupSteps: number;
}

/**
 * The rate of a step, counted from 0. `cosine` falls from `lr` to 0 over what the warm-up leaves: Loshchilov and Hutter
 * 2017, equation 5, without restarts.
 */
export function learningRate(step: number, { name, lr, totalSteps, warmupSteps }: ScheduleOptions): number {
  if (step < warmupSteps) return (lr * (step + 1)) / warmupSteps;
  if (name === 'constant') return lr;
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  return 0.5 * lr * (1 + Math.cos(Math.PI * Math.min(1, progress)));
}
