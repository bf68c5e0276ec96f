/**
 * The range test of a learning rate: updates at rates that grow exponentially, the loss that each finds, and which rates
 * that suggests. What the test changed is put back to the bit.
 * @see Smith 2017, section 3.3, https://arxiv.org/abs/1506.01186; fastai 2.7's `LRFinder`, `lr_find`, `steep`, `valley`
 */
import type { Variable } from '../engine/variables.js';
import type { Rng } from '../rng.js';
import { type BatchTargets, stepOn } from './epochs.js';
import type { EntrySource } from './features/entries.js';
import type { Optimising } from './optimising.js';
import type { TrainableNetwork } from './trainable.js';

/** fastai's defaults: from where to where the rate grows, and over how many updates. */
export const rangeDefaults = { from: 1e-7, to: 10, steps: 100 } as const;

/** Share of the old loss that the smoothed one keeps: fastai's `AvgSmoothLoss`. */
const BETA = 0.98;
/** Times the lowest smoothed loss: where a test ends, as fastai's does. */
const DIVERGED = 4;
/** What suggestions leave out: the first tenth of the updates, and the last five. */
const LEFT_OUT = { first: 0.1, last: 5 } as const;

/** One update. */
export interface RangePoint {
  /** From 1. */
  readonly step: number;
  /** Of this update. */
  readonly lr: number;
  /** Mean over its pictures, before it. */
  readonly loss: number;
  /** Mean of the losses so far, the newest counting most. */
  readonly smoothed: number;
}

/** Rates by which to train; absent where the curve is too short to tell. */
export interface Suggestions {
  /** Where the smoothed loss falls the steepest. */
  readonly steep?: number;
  /** Two thirds of the way through the longest fall. */
  readonly valley?: number;
}

export interface RangeTest {
  readonly points: readonly RangePoint[];
  readonly suggestions: Suggestions;
  /** `diverged`: the loss was no number, or above four times its lowest; `stopped`: by the caller. */
  readonly ended: 'at the highest rate' | 'diverged' | 'stopped';
}

export interface RangeOptions extends BatchTargets {
  readonly network: TrainableNetwork;
  readonly optimising: Optimising;
  readonly source: EntrySource;
  /** Batches that make one update, as in `optimising`. */
  readonly accumulate?: number;
  /** Split by step for the dropout masks; nothing is drawn from it. */
  readonly random: Rng;
  /** The first rate, above 0; that of {@link rangeDefaults} when absent. */
  readonly from?: number;
  /** The rate that the last update comes close to. */
  readonly to?: number;
  /** Updates at the most. */
  readonly steps?: number;
  /** Called after each update; false stops. */
  readonly onStep?: (point: RangePoint) => boolean;
}

/** Runs the test on a network that is being trained, and leaves it, and its optimiser, as they were. */
export async function rangeTest(options: RangeOptions): Promise<RangeTest> {
  const { network, optimising } = options;
  const { optimizer, updater, kept } = optimising;
  const before = snapshotOf([network.variables, optimizer.slots, kept.variables]);
  const { steps } = optimizer;
  try {
    const { points, ended } = await run(options);
    return { points, ended, suggestions: suggestionsOf(points, options.steps) };
  } finally {
    updater.dispose();
    optimizer.steps = steps;
    for (const [variable, value] of before) {
      variable.assign(value);
      value.dispose();
    }
  }
}

/** What variables hold: TensorFlow copies them only when they are written to. */
function snapshotOf(many: readonly ReadonlyMap<string, Variable>[]): Map<Variable, ReturnType<Variable['read']>> {
  const all = new Set(many.flatMap((variables) => [...variables.values()]));
  return new Map([...all].map((variable) => [variable, variable.read()]));
}

async function run(options: RangeOptions): Promise<Pick<RangeTest, 'points' | 'ended'>> {
  const { network, optimising, source, random, accumulate = 1, onStep = () => true } = options;
  const { from, to, steps } = { ...rangeDefaults, ...options };
  const course = startCourse({ from, to, steps });
  let batch = 0;
  let group = { loss: 0, pictures: 0, batches: 0 };
  for (let epoch = 1; ; epoch++) {
    const shown = batch;
    for await (const entries of source.epoch({ shuffled: epoch })) {
      const { count } = entries;
      const { loss, gradients } = stepOn(entries, network, options, random.split(batch++));
      optimising.updater.take(gradients, count, course.lr());
      group = {
        loss: group.loss + loss * count,
        pictures: group.pictures + count,
        batches: group.batches + 1,
      };
      if (group.batches < accumulate) continue;
      const value = group.loss / group.pictures;
      group = { loss: 0, pictures: 0, batches: 0 };
      const ended = course.took(value);
      if (ended !== undefined) return { points: course.points, ended };
      if (!onStep(course.points.at(-1)!)) return { points: course.points, ended: 'stopped' };
    }
    if (batch === shown) return { points: course.points, ended: 'stopped' }; // there are no pictures
  }
}

/** How far a test is. */
export interface Course {
  readonly points: readonly RangePoint[];
  /** The rate of the next update. */
  lr(): number;
  /** Takes the loss in that an update found; tells whether it is the last. */
  took(loss: number): Exclude<RangeTest['ended'], 'stopped'> | undefined;
}

export function startCourse({ from, to, steps }: Readonly<Record<keyof typeof rangeDefaults, number>>): Course {
  const points: RangePoint[] = [];
  let [lowest, mean] = [Number.POSITIVE_INFINITY, 0];
  const lr = (): number => from * (to / from) ** (points.length / steps);
  return {
    points,
    lr,
    took: (loss) => {
      if (!Number.isFinite(loss)) return 'diverged';
      mean = BETA * mean + (1 - BETA) * loss;
      const step = points.length + 1;
      const smoothed = mean / (1 - BETA ** step);
      points.push({ step, lr: lr(), loss, smoothed });
      lowest = Math.min(lowest, smoothed);
      if (smoothed > DIVERGED * lowest) return 'diverged';
      return step >= steps ? 'at the highest rate' : undefined;
    },
  };
}

/** @param steps that the test was to have */
export function suggestionsOf(points: readonly RangePoint[], steps: number = rangeDefaults.steps): Suggestions {
  const looked = points.slice(Math.floor(LEFT_OUT.first * steps), -LEFT_OUT.last);
  if (looked.length < 2) return {};
  const [rates, losses] = [looked.map(({ lr }) => lr), looked.map(({ smoothed }) => smoothed)];
  return { steep: rates[steepest(rates, losses)]!, valley: rates[inValley(losses)]! };
}

/** Where the loss falls the most to the next rate, over the logarithm of the rate: fastai's `steep`. */
function steepest(rates: readonly number[], losses: readonly number[]): number {
  const slopes = rates
    .slice(1)
    .map((rate, i) => (losses[i + 1]! - losses[i]!) / (Math.log(rate) - Math.log(rates[i]!)));
  return slopes.indexOf(Math.min(...slopes));
}

/** Half a third behind the first third of the longest series of falling losses: fastai's `valley`. */
function inValley(losses: readonly number[]): number {
  const lengths = losses.map(() => 1); // of the longest falling series that ends there
  let [start, end] = [0, 0];
  for (let i = 1; i < losses.length; i++) {
    for (let j = 0; j < i; j++) {
      if (losses[i]! < losses[j]! && lengths[i]! < lengths[j]! + 1) lengths[i] = lengths[j]! + 1;
      if (lengths[end]! < lengths[i]!) {
        end = i;
        start = end - lengths[end]!;
      }
    }
  }
  const third = (end - start) / 3;
  return Math.max(0, start + Math.floor(third) + Math.floor(third / 2)); // in Python -1 would be the last
}
