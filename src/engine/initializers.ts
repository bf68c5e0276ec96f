/** Starting values of parameters that no file supplies: new heads, and networks trained from scratch. */
import type { Rng } from '../rng.js';

export type Initializer =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  | { readonly kind: 'constant'; readonly value: number }
  /** Normal, or normal and drawn again beyond two deviations. */
  | { readonly kind: 'normal' | 'truncated_normal'; readonly deviation: number }
  /**
   * Variance `scale / n` where n is fan in, fan out or their mean; a truncated normal is widened to keep that variance.
   * @see https://www.tensorflow.org/api_docs/python/tf/keras/initializers/VarianceScaling
   */
  | {
      readonly kind: 'variance_scaling';
      readonly scale: number;
      readonly mode: 'fan_in' | 'fan_out' | 'fan_avg';
      readonly distribution: 'truncated_normal' | 'normal' | 'uniform';
    }
  /** Normal with standard deviation sqrt(2 / fan out): He 2015, section 2.2, backward form. */
  | { readonly kind: 'he_normal_fan_out' }
  /** Uniform in +-sqrt(6 / (fan in + fan out)): Glorot 2010, equation 16; the default of Keras' layers. */
  | { readonly kind: 'glorot_uniform' };

/** Fan in and fan out of a kernel: receptive field times channels on either side. */
export function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  const field = shape.slice(0, -2).reduce((a, b) => a * b, 1);
  return { fanIn: field * (shape.at(-2) ?? 1), fanOut: field * (shape.at(-1) ?? 1) };
}

/** Deviation of a standard normal that is cut at two deviations: what Keras' VarianceScaling divides by. */
const TRUNCATED_DEVIATION = 0.87962566103423978;

/** Draws starting values in C order. */
export function initialize(initializer: Initializer, shape: readonly number[], random: Rng): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  const { fanIn, fanOut } = fans(shape);
  switch (initializer.kind) {
    case 'zeros':
      return values;
    case 'ones':
      return values.fill(1);
    case 'constant':
      return values.fill(initializer.value);
    case 'normal':
      return values.map(() => random.normal() * initializer.deviation);
    case 'truncated_normal':
      return values.map(() => truncatedNormal(random) * initializer.deviation);
    case 'variance_scaling': {
      const n = { fan_in: fanIn, fan_out: fanOut, fan_avg: (fanIn + fanOut) / 2 }[initializer.mode];
      const deviation = Math.sqrt(initializer.scale / Math.max(1, n));
      return values.map(() => unitVariance(initializer.distribution, random) * deviation);
    }
    case 'he_normal_fan_out': {
      const deviation = Math.sqrt(2 / fanOut);
      return values.map(() => random.normal() * deviation);
    }
    case 'glorot_uniform': {
      const limit = Math.sqrt(6 / (fanIn + fanOut));
      return values.map(() => (random.uniform() * 2 - 1) * limit);
    }
  }
}

function unitVariance(distribution: 'truncated_normal' | 'normal' | 'uniform', random: Rng): number {
  switch (distribution) {
    case 'normal':
      return random.normal();
    case 'truncated_normal':
      return truncatedNormal(random) / TRUNCATED_DEVIATION;
    case 'uniform':
      return (random.uniform() * 2 - 1) * Math.sqrt(3);
  }
}

/** Drawn again beyond two deviations. */
function truncatedNormal(random: Rng): number {
  for (;;) {
    const value = random.normal();
    if (Math.abs(value) <= 2) return value;
  }
}
