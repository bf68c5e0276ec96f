/** The operators of a network in plain JavaScript and double precision, as their papers write them. */
import type { ActivationName, KernelStandardization, Pair } from '../../../src/engine/operations.js';

/** Numbers in C order. */
export interface Numbers {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

export type Reference = (inputs: readonly Numbers[]) => Numbers;

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Numbers of a shape, each from its place. */
function fill(shape: readonly number[], value: (index: readonly number[]) => number): Numbers {
  const index = shape.map(() => 0);
  const values = Float64Array.from({ length: product(shape) }, () => {
    const result = value(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]! += 1;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
    return result;
  });
  return { shape, values };
}

function at({ shape, values }: Numbers, index: readonly number[]): number {
  return values[shape.reduce((offset, length, axis) => offset * length + index[axis]!, 0)]!;
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const varianceOf = (values: readonly number[]): number => {
  const mean = meanOf(values);
  return meanOf(values.map((value) => (value - mean) ** 2));
};

/** Maclaurin's series near zero, and Laplace's continued fraction: to 1e-12. */
function erf(x: number): number {
  if (Math.abs(x) > 2.5) {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (Math.abs(x) + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (Math.abs(x) + fraction));
  }
  let [term, sum] = [x, x];
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const clip = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x));

export const functions: Readonly<Record<ActivationName, (x: number) => number>> = {
  relu: (x) => Math.max(0, x),
  relu6: (x) => clip(x, 0, 6),
  sigmoid,
  tanh: Math.tanh,
  hard_sigmoid: (x) => clip(x / 6 + 0.5, 0, 1),
  swish: (x) => x * sigmoid(x),
  hard_swish: (x) => x * clip(x / 6 + 0.5, 0, 1),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

export const activation =
  (name: ActivationName): Reference =>
  ([x]) => ({ shape: x!.shape, values: x!.values.map(functions[name]) });

/** `same` puts two places into one group. */
function normalise(
  [x, gamma, beta]: readonly Numbers[],
  epsilon: number,
  groupOf: (index: readonly number[]) => string,
): Numbers {
  const groups = new Map<string, number[]>();
  fill(x!.shape, (index) => {
    const name = groupOf(index);
    groups.set(name, [...(groups.get(name) ?? []), at(x!, index)]);
    return 0;
  });
  const statistics = new Map([...groups].map(([name, group]) => [name, [meanOf(group), varianceOf(group)] as const]));
  return fill(x!.shape, (index) => {
    const [mean, variance] = statistics.get(groupOf(index))!;
    const channel = index.slice(-1);
    return ((at(x!, index) - mean) / Math.sqrt(variance + epsilon)) * at(gamma!, channel) + at(beta!, channel);
  });
}

export const groupNorm =
  (groups: number, epsilon: number): Reference =>
  (inputs) => {
    const size = inputs[0]!.shape.at(-1)! / groups;
    return normalise(inputs, epsilon, ([n, , , c]) => `${n} ${Math.floor(c! / size)}`);
  };

export const layerNorm =
  (epsilon: number): Reference =>
  (inputs) =>
    normalise(inputs, epsilon, (index) => index.slice(0, -1).join());

export const standardizeKernel =
  ({ epsilon, addedTo }: KernelStandardization): Reference =>
  ([kernel]) => {
    const { shape, values } = kernel!;
    const columns = shape.at(-1)!;
    const statistics = Array.from({ length: columns }, (_, channel) => {
      const column = [...values].filter((_, i) => i % columns === channel);
      const variance = varianceOf(column);
      const deviation = addedTo === 'variance' ? Math.sqrt(variance + epsilon) : Math.sqrt(variance) + epsilon;
      return [meanOf(column), deviation] as const;
    });
    return {
      shape,
      values: values.map((value, i) => (value - statistics[i % columns]![0]) / statistics[i % columns]![1]),
    };
  };

export const scaleChannels: Reference = ([x, scale]) =>
  fill(x!.shape, (index) => at(x!, index) * at(scale!, [index[0]!, index.at(-1)!]));

export const layerScale: Reference = ([x, gamma]) =>
  fill(x!.shape, (index) => at(x!, index) * at(gamma!, index.slice(-1)));

export const concat: Reference = (inputs) => {
  const origin = inputs.flatMap((input, part) =>
    Array.from({ length: input.shape.at(-1)! }, (_, c) => [part, c] as const),
  );
  return fill([...inputs[0]!.shape.slice(0, -1), origin.length], (index) => {
    const [part, channel] = origin[index.at(-1)!]!;
    return at(inputs[part]!, [...index.slice(0, -1), channel]);
  });
};

export const reshape =
  (to: readonly number[]): Reference =>
  ([x]) => ({ shape: [x!.shape[0]!, ...to], values: x!.values });

export const classToken: Reference = ([x, token]) => {
  const [count, tokens, depth] = x!.shape as [number, number, number];
  return fill([count, 1 + tokens, depth], ([n, t, d]) => (t === 0 ? at(token!, [d!]) : at(x!, [n!, t! - 1, d!])));
};

export const addPosition: Reference = ([x, embedding]) =>
  fill(x!.shape, (index) => at(x!, index) + at(embedding!, index.slice(1)));

export const takeToken =
  (token: number): Reference =>
  ([x]) =>
    fill([x!.shape[0]!, x!.shape[2]!], ([n, d]) => at(x!, [n!, token, d!]));

export const attention =
  (heads: number): Reference =>
  ([query, key, value]) => {
    const [, tokens, depth] = query!.shape as [number, number, number];
    const size = depth / heads;
    return fill(query!.shape, ([n, row, d]) => {
      const first = Math.floor(d! / size) * size;
      const scores = Array.from({ length: tokens }, (_, column) => {
        let dot = 0;
        for (let i = first; i < first + size; i++) dot += at(query!, [n!, row!, i]) * at(key!, [n!, column, i]);
        return Math.exp(dot / Math.sqrt(size));
      });
      const total = scores.reduce((a, b) => a + b);
      return scores.reduce((sum, score, column) => sum + (score / total) * at(value!, [n!, column, d!]), 0);
    });
  };

/** Means of windows; `starts` and `ends` say where each begins and ends in the picture. */
function windows(x: Numbers, rows: readonly Pair[], columns: readonly Pair[]): Numbers {
  const [count, , , channels] = x.shape as [number, number, number, number];
  return fill([count, rows.length, columns.length, channels], ([n, i, j, c]) => {
    const seen: number[] = [];
    for (let y = rows[i!]![0]; y < rows[i!]![1]; y++)
      for (let z = columns[j!]![0]; z < columns[j!]![1]; z++) seen.push(at(x, [n!, y, z, c!]));
    return meanOf(seen);
  });
}

export const averagePool =
  (size: Pair, strides: Pair, padding: 'same' | 'valid'): Reference =>
  ([x]) => {
    const spans = (axis: 0 | 1): Pair[] => {
      const [length, k, stride] = [x!.shape[axis + 1]!, size[axis], strides[axis]];
      const count = padding === 'same' ? Math.ceil(length / stride) : Math.floor((length - k) / stride) + 1;
      const before = padding === 'same' ? Math.floor(Math.max(0, (count - 1) * stride + k - length) / 2) : 0;
      return Array.from({ length: count }, (_, i) => {
        const start = i * stride - before;
        return [Math.max(0, start), Math.min(length, start + k)];
      });
    };
    return windows(x!, spans(0), spans(1));
  };

export const adaptiveAveragePool =
  (size: Pair): Reference =>
  ([x]) => {
    const spans = (axis: 0 | 1): Pair[] => {
      const length = x!.shape[axis + 1]!;
      return Array.from({ length: size[axis] }, (_, i) => [
        Math.floor((i * length) / size[axis]),
        Math.ceil(((i + 1) * length) / size[axis]),
      ]);
    };
    return windows(x!, spans(0), spans(1));
  };

export const globalAveragePool: Reference = ([x]) => {
  const pooled = windows(x!, [[0, x!.shape[1]!]], [[0, x!.shape[2]!]]);
  return { shape: [x!.shape[0]!, x!.shape[3]!], values: pooled.values };
};

export const matMul: Reference = ([x, kernel]) => {
  const [inputs, units] = kernel!.shape as [number, number];
  return fill([...x!.shape.slice(0, -1), units], (index) => {
    let sum = 0;
    for (let i = 0; i < inputs; i++) sum += at(x!, [...index.slice(0, -1), i]) * at(kernel!, [i, index.at(-1)!]);
    return sum;
  });
};

/** Gradients of `sum(dy * reference(inputs))` by central differences: exact to about 1e-8. */
export function gradients(reference: Reference, inputs: readonly Numbers[], dy: ArrayLike<number>): Float64Array[] {
  const step = 1e-4;
  const value = (): number => reference(inputs).values.reduce((sum, y, i) => sum + y * dy[i]!, 0);
  return inputs.map(({ values }) =>
    Float64Array.from(values, (x, i) => {
      const [above, below] = [x + step, x - step].map((moved) => {
        values[i] = moved;
        return value();
      });
      values[i] = x;
      return (above! - below!) / (2 * step);
    }),
  );
}
