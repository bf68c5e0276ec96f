/**
 * What values a network's channels take, told from its weights alone: after a batch norm a channel has the mean beta
 * and the standard deviation gamma, and what follows is computed from that. Quantisation uses it to move the mean
 * error of a rounded kernel into the bias.
 * @see Nagel et al. 2019, Data-Free Quantization, sections 4.2 and appendix C, https://arxiv.org/abs/1906.04721
 */
import { gammaOf, type ReadParameter } from '../../engine/fold.js';
import type { Graph, Node } from '../../engine/graph.js';
import type { ActivationName } from '../../engine/operations.js';

/** Mean and variance of each channel, over pictures and places. */
export interface Moments {
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

/**
 * The moments of every node that they can be told of, by path; channels count as independent normal distributions.
 * @param graph before its batch norms are folded away
 */
export async function channelMoments(graph: Graph, read: ReadParameter): Promise<Map<string, Moments>> {
  const known = new Map<Node, Moments>();
  for (const node of graph.nodes) {
    const moments = await momentsOf(node, graph, known, read);
    if (moments !== undefined) known.set(node, moments);
  }
  return new Map([...known].map(([node, moments]) => [node.path, moments]));
}

async function momentsOf(
  node: Node,
  graph: Graph,
  known: ReadonlyMap<Node, Moments>,
  read: ReadParameter,
): Promise<Moments | undefined> {
  const inputs = node.inputs.map((input) => known.get(input));
  const x = inputs[0];
  const { operation } = node;
  switch (operation.kind) {
    case 'batch_norm': {
      const [beta, gamma] = [await read(`${node.path}.beta`), await gammaOf(node, read)];
      return { mean: Float64Array.from(beta), variance: Float64Array.from(gamma, (g) => g * g) };
    }
    case 'activation':
      return x === undefined ? undefined : activated(x, operation.name);
    case 'add': {
      const y = inputs[1];
      if (x === undefined || y === undefined) return undefined;
      return { mean: x.mean.map((m, i) => m + y.mean[i]!), variance: x.variance.map((v, i) => v + y.variance[i]!) };
    }
    case 'scale_channels': {
      const gate = inputs[1];
      return x === undefined || gate === undefined ? undefined : product(x, gate);
    }
    case 'layer_scale': {
      const gamma = await read(`${node.path}.gamma`);
      return x === undefined ? undefined : product(x, { mean: gamma, variance: new Float64Array(gamma.length) });
    }
    case 'concat':
      return inputs.every((each) => each !== undefined) ? joined(inputs) : undefined;
    case 'max_pool':
    case 'average_pool':
    case 'adaptive_average_pool':
    case 'global_average_pool':
    case 'dropout':
    case 'drop_path':
    case 'take_token':
      return x; // a pool moves them somewhat, which matters less than to know them at all
    case 'reshape':
      return x === undefined ? undefined : repeated(x, node.shape.at(-1)!);
    case 'dense':
    case 'conv2d':
    case 'depthwise_conv2d': {
      const normalised = graph.nodes.filter((each) => each.inputs.includes(node));
      if (x === undefined || normalised.every((each) => each.operation.kind === 'batch_norm')) return undefined;
      if (operation.kind === 'conv2d' && (operation.groups > 1 || operation.standardization)) return undefined;
      return weighted(node, x, read);
    }
    // Their statistics are those of a picture or a token, and say little about one channel over many.
    case 'group_norm':
    case 'layer_norm':
    case 'class_token':
    case 'position_embedding':
    case 'attention':
    case 'low_rank':
    case 'input':
      return undefined;
  }
}

/** Of products of independent values. */
function product(x: Moments, y: Values): Moments {
  const mean = x.mean.map((m, i) => m * y.mean[i]!);
  const square = (of: Values, i: number): number => of.variance[i]! + of.mean[i]! ** 2;
  return { mean, variance: mean.map((m, i) => Math.max(0, square(x, i) * square(y, i) - m * m)) };
}

interface Values {
  readonly mean: ArrayLike<number>;
  readonly variance: ArrayLike<number>;
}

function joined(parts: readonly (Moments | undefined)[]): Moments {
  const all = (of: (part: Moments) => Float64Array): Float64Array =>
    Float64Array.from(parts.flatMap((part) => [...of(part!)]));
  return { mean: all((part) => part.mean), variance: all((part) => part.variance) };
}

/** Of a flattened picture: its places follow each other, each with all channels. */
function repeated({ mean, variance }: Moments, length: number): Moments | undefined {
  if (length % mean.length !== 0) return undefined;
  const over = (values: Float64Array): Float64Array =>
    Float64Array.from({ length }, (_, i) => values[i % values.length]!);
  return { mean: over(mean), variance: over(variance) };
}

/** Of a weighted sum: the means add up, and so do the variances. */
async function weighted(node: Node, x: Moments, read: ReadParameter): Promise<Moments> {
  const channels = node.shape.at(-1)!;
  const kernel = await read(`${node.path}.kernel`);
  const biases = node.parameters.some((each) => each.role === 'bias') ? await read(`${node.path}.bias`) : undefined;
  const mean = Float64Array.from({ length: channels }, (_, i) => biases?.[i] ?? 0);
  const variance = new Float64Array(channels);
  const { shape } = node.parameters.find((each) => each.role.endsWith('.kernel'))!;
  const inputOf = inputChannel(shape);
  for (let i = 0; i < kernel.length; i++) {
    const [w, from] = [kernel[i]!, inputOf(i)];
    mean[i % channels]! += w * x.mean[from]!;
    variance[i % channels]! += w * w * x.variance[from]!;
  }
  return { mean, variance };
}

/** Which input channel the i-th number of a kernel multiplies: `[..., in, out]`, or `[h, w, in, multiplier]`. */
export function inputChannel(shape: readonly number[]): (i: number) => number {
  const [inputs, outputs] = shape.slice(-2) as [number, number];
  return (i) => Math.floor(i / outputs) % inputs;
}

/** Of a function of x where x is normally distributed. */
function activated(x: Moments, name: ActivationName): Moments {
  switch (name) {
    case 'relu':
      return clipped(x, Infinity);
    case 'relu6':
      return clipped(x, 6);
    default:
      return integrated(x, functions[name]);
  }
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const hardSigmoid = (x: number): number => Math.min(6, Math.max(0, x + 3)) / 6;

const functions: Readonly<Record<Exclude<ActivationName, 'relu' | 'relu6'>, (x: number) => number>> = {
  sigmoid,
  hard_sigmoid: hardSigmoid,
  swish: (x) => x * sigmoid(x),
  hard_swish: (x) => x * hardSigmoid(x),
  gelu: (x) => x * cumulative(x),
  // Hendrycks and Gimpel 2016, section 2
  gelu_tanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  tanh: Math.tanh,
};

/** Deviations on either side of the mean, and values in each of them: the sum is then exact to seven digits. */
const [REACH, FINENESS] = [6, 16] as const;

/** By the trapezoidal rule. */
function integrated({ mean, variance }: Moments, value: (x: number) => number): Moments {
  const out = { mean: new Float64Array(mean.length), variance: new Float64Array(mean.length) };
  for (let i = 0; i < mean.length; i++) {
    const [m, s] = [mean[i]!, Math.sqrt(variance[i]!)];
    let [first, second] = [0, 0];
    for (let k = -REACH * FINENESS; k <= REACH * FINENESS; k++) {
      const z = k / FINENESS;
      const [y, weight] = [value(m + s * z), density(z) / FINENESS];
      first += weight * y;
      second += weight * y * y;
    }
    out.mean[i] = first;
    out.variance[i] = Math.max(0, second - first * first);
  }
  return out;
}

/** Of `min(max(x, 0), upper)` where x is normally distributed. */
function clipped({ mean, variance }: Moments, upper: number): Moments {
  const out = { mean: new Float64Array(mean.length), variance: new Float64Array(mean.length) };
  for (let i = 0; i < mean.length; i++) {
    const [m, s] = [mean[i]!, Math.sqrt(variance[i]!)];
    if (s < 1e-12) {
      out.mean[i] = Math.min(upper, Math.max(0, m));
      continue;
    }
    const [low, high] = [-m / s, (upper - m) / s];
    const [densityLow, densityHigh] = [density(low), density(high)];
    const [above, inside] = [1 - cumulative(high), cumulative(high) - cumulative(low)];
    const edge = high === Infinity ? { first: 0, second: 0 } : { first: upper * above, second: upper * upper * above };
    const tail = high === Infinity ? 0 : high * densityHigh;
    const first = m * inside + s * (densityLow - densityHigh) + edge.first;
    const second =
      (m * m + s * s) * inside +
      2 * m * s * (densityLow - densityHigh) +
      s * s * (low * densityLow - tail) +
      edge.second;
    out.mean[i] = first;
    out.variance[i] = Math.max(0, second - first * first);
  }
  return out;
}

const density = (z: number): number => Math.exp(-(z * z) / 2) / Math.sqrt(2 * Math.PI);

/** Normal distribution function, to 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26, for erf(|z| / sqrt 2). */
function cumulative(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const erf = x === Infinity ? 1 : 1 - series * Math.exp(-x * x);
  return z < 0 ? (1 - erf) / 2 : (1 + erf) / 2;
}
