/**
 * A seeded random generator that is split by name. `rng(seed).split('epoch 3').split('image a.jpg')` is the same
 * stream whatever else has drawn numbers before, so that the number of workers never changes a result.
 */

export interface Rng {
  /** Uniform in [0, 1), 32 bits of resolution. */
  uniform(): number;
  /** Uniform integer in [0, n). */
  integer(n: number): number;
  /** Standard normal (Box-Muller). */
  normal(): number;
  /** Beta-distributed in [0, 1]; shapes above 0. */
  beta(a: number, b: number): number;
  /** A new array in random order (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[];
  /** An independent stream; the same name gives the same stream, whatever was drawn from this one. */
  split(name: string | number): Rng;
}

/** @param seed any finite number; only its string form matters. */
export function rng(seed: number | string): Rng {
  return fromKey(hash(String(seed), 0x9e3779b9));
}

function fromKey(key: number): Rng {
  let state = key >>> 0;
  // mulberry32, Tommy Ettinger 2017, public domain: one 32-bit add and three mixes a draw.
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (z ^ (z >>> 14)) >>> 0;
  };
  const self: Rng = {
    uniform: () => next() / 2 ** 32,
    integer: (n) => Math.floor((next() / 2 ** 32) * n),
    normal: () => {
      const radius = Math.sqrt(-2 * Math.log((next() + 1) / 2 ** 32)); // +1: never the log of zero
      return radius * Math.cos(2 * Math.PI * (next() / 2 ** 32));
    },
    beta: (a, b) => {
      // X / (X + Y) of two gamma variates; as a difference of logarithms, since small shapes give numbers below 1e-300.
      const difference = logGamma(self, b) - logGamma(self, a);
      return 1 / (1 + Math.exp(difference));
    },
    shuffle: (items) => {
      const out = [...items];
      for (let i = out.length - 1; i > 0; i--) {
        const j = self.integer(i + 1);
        [out[i], out[j]] = [out[j]!, out[i]!];
      }
      return out;
    },
    split: (name) => fromKey(hash(String(name), key)),
  };
  return self;
}

/**
 * The logarithm of a gamma variate of scale 1. A shape below 1 takes one of shape + 1 times a uniform number's power.
 * @see Marsaglia and Tsang 2000, "A simple method for generating gamma variables", sections 4 and 6
 */
function logGamma(random: Rng, shape: number): number {
  if (shape < 1) return logGamma(random, shape + 1) + Math.log(aboveZero(random)) / shape;
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    if (Math.log(aboveZero(random)) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return Math.log(d * v);
  }
}

/** Uniform in (0, 1]: never the logarithm of zero. */
const aboveZero = (random: Rng): number => random.uniform() + 2 ** -32;

/** FNV-1a over UTF-16 code units, then murmur3's 32-bit finaliser. */
function hash(text: string, seed: number): number {
  let h = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
