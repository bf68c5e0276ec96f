/** Starting values of parameters that no file supplies: new heads, and networks trained from scratch. */
import type { Rng } from '../rng.js';

export type Initializer =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  /** Normal with standard deviation sqrt(2 / fan out): He 2015, section 2.2, backward form. */
  | { readonly kind: 'he_normal_fan_out' }
  /** Uniform in +-sqrt(6 / (fan in + fan out)): Glorot 2010, equation 16; the default of Keras' layers. */
  | { readonly kind: 'glorot_uniform' };

/** Fan in and fan out of a kernel: receptive field times channels on either side. */
export function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  const field = shape.slice(0, -2).reduce((a, b) => a * b, 1);
  return { fanIn: field * (shape.at(-2) ?? 1), fanOut: field * (shape.at(-1) ?? 1) };
}

/** Draws starting values in C order. */
export function initialize(initializer: Initializer, shape: readonly number[], random: Rng): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  const { fanIn, fanOut } = fans(shape);
  switch (initializer.kind) {
    case 'zeros':
      return values;
    case 'ones':
      return values.fill(1);
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
