/**
 * Low-rank adaptation: a kernel W stays as it is, and x W becomes x W + alpha / rank x A B, of which A and B are trained.
 * Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1
 */
import { UsageError } from '../errors.js';
import { cutAt, type Graph, type Node, type Parameter, rebuilt, type Unplaced } from './graph.js';
import type { Initializer } from './initializers.js';
import { channels } from './layers.js';
import type { ReadParameter } from './network.js';

/** The projections of attention: of queries, keys and values, and of what comes out. */
export const loraTargets = ['qv', 'qkv', 'qkvo'] as const;
export type LoraTargets = (typeof loraTargets)[number];

export interface Lora {
  /** Columns of A and rows of B, from 1. */
  readonly rank: number;
  /** The product counts `alpha / rank`. */
  readonly alpha: number;
  readonly targets: LoraTargets;
  /** A tap of the network: what comes before it is left as it is. */
  readonly behind?: string | undefined;
}

/** A Kaiming-uniform kernel with a = sqrt(5), limits of 1 / sqrt(fan in): lora_A of Hu's loralib and of peft; B begins at zero. */
const INITIAL_A: Initializer = { kind: 'variance_scaling', scale: 1 / 3, mode: 'fan_in', distribution: 'uniform' };

/**
 * The same network with adapters beside the projections of its attention; before training the same function to the bit.
 * @throws NO_ATTENTION when there is none, LORA_RANK when a rank is no lower than the kernel's
 */
export function withLora(graph: Graph, { rank, alpha, targets, behind }: Lora): Graph {
  const adapted = new Set(projectionsOf(graph, targets, behind));
  if (adapted.size === 0) {
    throw new UsageError({
      code: 'NO_ATTENTION',
      message: `this network has no attention${behind === undefined ? '' : ` behind ${behind}`} whose projections could be adapted`,
      hint: 'leave --lora out',
    });
  }
  assertLow(rank, [...adapted]);
  return rebuilt(graph, (twin, place, old) => {
    const plain = place(twin);
    return adapted.has(old) ? place(adapter(plain, rank, alpha / rank)) : plain;
  });
}

/** `x [..., in]` and `x W [..., out]` -> `x W + scale x A B`. */
function adapter(layer: Node, rank: number, scale: number): Unplaced {
  const [x] = layer.inputs as readonly [Node];
  const path = `${layer.path}.lora`;
  const parameter = (leaf: 'a' | 'b', shape: Parameter['shape'], initializer: Initializer): Parameter => ({
    path: `${path}.${leaf}`,
    role: 'dense.kernel',
    shape,
    trainable: true,
    initializer,
  });
  return {
    path,
    operation: { kind: 'low_rank', scale },
    inputs: [x, layer],
    shape: layer.shape,
    parameters: [
      parameter('a', [channels(x), rank], INITIAL_A),
      parameter('b', [rank, channels(layer)], { kind: 'zeros' }),
    ],
  };
}

function projectionsOf(graph: Graph, targets: LoraTargets, behind: string | undefined): Node[] {
  const within = behind === undefined ? graph.nodes : cutAt(graph, behind, 'logits').after;
  return within
    .filter(({ operation }) => operation.kind === 'attention')
    .flatMap((attention) => {
      const [query, key, value] = attention.inputs as readonly [Node, Node, Node];
      const out = graph.nodes.filter((node) => node.inputs.includes(attention));
      const found = { qv: [query, value], qkv: [query, key, value], qkvo: [query, key, value, ...out] }[targets];
      return found.filter(({ operation }) => operation.kind === 'dense');
    });
}

/** @throws LORA_RANK */
function assertLow(rank: number, layers: readonly Node[]): void {
  const widest = Math.min(...layers.map((layer) => Math.min(channels(layer), channels(layer.inputs[0]!))));
  if (rank < widest) return;
  throw new UsageError({
    code: 'LORA_RANK',
    message: `--lora ${rank}: its projections are of ${widest} channels, which is as many or fewer`,
    hint: `give a rank below ${widest}; 4 to 64 are usual`,
  });
}

/** An adapter of a kernel. */
export interface Adapter {
  /** Path of the adapted kernel. */
  readonly kernel: string;
  readonly a: string;
  readonly b: string;
  readonly scale: number;
}

/** Those of a network, in its order. */
export function adaptersOf(graph: Graph): Adapter[] {
  return graph.nodes.flatMap(({ operation, path, inputs: [, layer] }) =>
    operation.kind === 'low_rank'
      ? [{ kernel: `${layer!.path}.kernel`, a: `${path}.a`, b: `${path}.b`, scale: operation.scale }]
      : [],
  );
}

/**
 * Reads a network with adapters as the one without, whose kernels are W + scale A B: in double precision, and rounded
 * once.
 */
export function merged(graph: Graph, read: ReadParameter): ReadParameter {
  const adapters = new Map(adaptersOf(graph).map((adapter) => [adapter.kernel, adapter]));
  const shapes = new Map(graph.parameters.map(({ path, shape }) => [path, shape]));
  return async (path) => {
    const adapter = adapters.get(path);
    if (adapter === undefined) return await read(path);
    const [kernel, a, b] = [await read(path), await read(adapter.a), await read(adapter.b)];
    const [rank, out] = shapes.get(adapter.b) as readonly [number, number];
    const row = new Float64Array(out);
    const sum = new Float32Array(kernel.length);
    for (let start = 0, from = 0; start < kernel.length; start += out, from += rank) {
      row.fill(0);
      for (let r = 0; r < rank; r++) {
        const factor = a[from + r]! * adapter.scale;
        for (let c = 0; c < out; c++) row[c]! += factor * b[r * out + c]!;
      }
      for (let c = 0; c < out; c++) sum[start + c] = kernel[start + c]! + row[c]!;
    }
    return sum;
  };
}
