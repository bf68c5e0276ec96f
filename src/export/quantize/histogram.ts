/** How often a value's numbers lie where, while they come in, and the range of 8 bits that rounds them best. */

/** Of one value. The bins span -reach..reach; reach is a power of two, so that the order of the numbers is no matter. */
export interface Histogram {
  reach: number;
  min: number;
  max: number;
  readonly counts: Float64Array;
}

const BINS = 4096;

export const emptyHistogram = (): Histogram => ({
  reach: 0,
  min: Infinity,
  max: -Infinity,
  counts: new Float64Array(BINS),
});

/** Adds finite numbers. */
export function count(histogram: Histogram, values: Float32Array): void {
  let { min, max } = histogram;
  for (const value of values) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  histogram.min = min;
  histogram.max = max;
  const top = Math.max(-min, max);
  if (top === 0) {
    histogram.counts[BINS / 2]! += values.length;
    return;
  }
  widen(histogram, 2 ** Math.ceil(Math.log2(top)));
  const { counts, reach } = histogram;
  const perUnit = BINS / 2 / reach;
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(value * perUnit) + BINS / 2)]!++;
}

/** Each doubling joins bins by twos, towards the middle. */
function widen(histogram: Histogram, reach: number): void {
  const { counts } = histogram;
  if (histogram.reach === 0) histogram.reach = reach; // zeros are in the middle, whatever the reach
  for (; histogram.reach < reach; histogram.reach *= 2) {
    const joined = new Float64Array(BINS);
    counts.forEach((each, i) => {
      joined[BINS / 4 + (i >> 1)]! += each;
    });
    counts.set(joined);
  }
}

export interface Range {
  readonly min: number;
  readonly max: number;
}

export interface RoundedRange extends Range {
  /** Mean square of what rounding to 256 levels of the range takes from a number, as a share of their variance. */
  readonly noise: number;
}

/** Candidates, as shares of the least and of the greatest number; each end is chosen in turn, this often. */
const SHRINKS = Array.from({ length: 16 }, (_, i) => 1 - 0.05 * i);
const ROUNDS = 2;

/**
 * The range between zero or shares of the least and greatest number that has the least mean squared error: cutting off
 * what is rare makes all others finer.
 * @see Nagel et al. 2021, A White Paper on Neural Network Quantization, section 3.1, https://arxiv.org/abs/2106.08295
 */
export function bestRange(histogram: Histogram): RoundedRange {
  const { counts, reach } = histogram;
  const [min, max] = [Math.min(0, histogram.min), Math.max(0, histogram.max)];
  const middles = Float64Array.from(counts, (_, i) => ((i + 0.5 - BINS / 2) * reach) / (BINS / 2));
  const variance = varianceOf(counts, middles);
  const rate = (low: number, high: number): RoundedRange => {
    const noise = variance === 0 ? 0 : roundingError(counts, middles, low, high) / variance;
    return { min: low, max: high, noise };
  };
  const least = (ranges: readonly RoundedRange[]): RoundedRange =>
    ranges.reduce((best, each) => (each.noise < best.noise ? each : best));
  let best = rate(min, max);
  for (let round = 0; round < ROUNDS; round++) {
    if (max > 0) best = least([best, ...SHRINKS.map((shrink) => rate(best.min, max * shrink))]);
    if (min < 0) best = least([best, ...SHRINKS.map((shrink) => rate(min * shrink, best.max))]);
  }
  return best;
}

function varianceOf(counts: Float64Array, middles: Float64Array): number {
  let [total, sum, squares] = [0, 0, 0];
  for (let i = 0; i < BINS; i++) {
    const [each, x] = [counts[i]!, middles[i]!];
    total += each;
    sum += each * x;
    squares += each * x * x;
  }
  return Math.max(0, squares / total - (sum / total) ** 2);
}

/** Levels above the lowest that 8 bits have. */
const STEPS = 255;

function roundingError(counts: Float64Array, middles: Float64Array, low: number, high: number): number {
  const scale = (high - low) / STEPS || 1;
  let [total, error] = [0, 0];
  for (let i = 0; i < BINS; i++) {
    const each = counts[i]!;
    if (each === 0) continue;
    const level = Math.min(STEPS, Math.max(0, Math.round((middles[i]! - low) / scale)));
    total += each;
    error += each * (level * scale + low - middles[i]!) ** 2;
  }
  return error / total;
}
