/** Starting numbers for tests that hide nothing: no gamma is 1, no bias, beta or mean 0, no variance 1. */
import type { Graph, Parameter } from '../../../src/engine/graph.js';
import { initialize } from '../../../src/engine/initializers.js';
import type { ReadParameter } from '../../../src/engine/network.js';
import { rng } from '../../../src/rng.js';

/** The numbers of one parameter, always the same for a path and a seed. */
export function parameterNumbers({ path, role, shape, initializer }: Parameter, seed = 0): Float32Array {
  const random = rng(seed).split(path);
  const values = initialize(initializer, shape, random);
  switch (role) {
    case 'bias':
    case 'norm.beta':
    case 'norm.mean':
      return values.map(() => 0.2 * random.normal());
    case 'norm.gamma':
      return values.map(() => 1 + 0.2 * random.normal());
    case 'norm.variance':
      return values.map(() => 0.5 + random.uniform());
    default:
      return values;
  }
}

/** Reads the numbers of a whole graph; a path that it does not have is a fault of the caller. */
export function readerOf(graph: Graph, seed = 0): ReadParameter {
  const parameters = new Map(graph.parameters.map((parameter) => [parameter.path, parameter]));
  return async (path) => {
    const parameter = parameters.get(path);
    if (parameter === undefined) throw new Error(`the graph has no parameter ${path}`);
    return parameterNumbers(parameter, seed);
  };
}

/** Pixels in about -1..1, `[count, height, width, 3]` in C order. */
export function pixels(shape: readonly number[], seed = 0): Float32Array {
  const random = rng(seed).split('pixels');
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.uniform() * 2 - 1);
}

/** Largest difference, as a share of the largest absolute value of the second. */
export function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let [apart, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= apart)) apart = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return size === 0 ? apart : apart / size;
}
