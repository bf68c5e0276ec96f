/**
 * Folds batch normalisation into the convolution before it, for parts of a network that are not trained:
 * `kernel' = kernel * gamma / sqrt(variance + epsilon)`, `bias' = beta + (bias - mean) * gamma / sqrt(variance + epsilon)`.
 * @see Jacob et al. 2018, section 3.2, https://arxiv.org/abs/1712.05877
 */
import type { Graph, Node, Parameter } from './graph.js';
import type { OperationOf } from './operations.js';

/** Reads the numbers of a parameter, in C order. */
export type ReadParameter = (path: string) => Promise<Float32Array>;

export interface Folded {
  /** The same function; batch norms that followed a convolution are gone, and the convolution has a bias. */
  readonly graph: Graph;
  /** Reads the folded network's parameters, given a reader of the original's. */
  read(original: ReadParameter): ReadParameter;
}

interface Pair {
  readonly conv: Node;
  readonly norm: Node;
  readonly epsilon: number;
}

export function foldBatchNorm(graph: Graph): Folded {
  const pairs = pairsOf(graph);
  const byNorm = new Map(pairs.map((pair) => [pair.norm, pair]));
  const byConv = new Map(pairs.map((pair) => [pair.conv.path, pair]));

  const replaced = new Map<Node, Node>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    if (byNorm.has(node)) {
      replaced.set(node, replaced.get(node.inputs[0]!)!);
      continue;
    }
    const parameters = byConv.has(node.path) ? [node.parameters[0]!, biasOf(node)] : node.parameters;
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    const copy: Node = { ...node, id: nodes.length, inputs, parameters };
    nodes.push(copy);
    replaced.set(node, copy);
  }
  const taps = new Map([...graph.taps].map(([name, node]) => [name, replaced.get(node)!]));
  return {
    graph: { input: nodes[0]!, nodes, taps, blocks: graph.blocks, parameters: nodes.flatMap((n) => n.parameters) },
    read: (original) => async (path) => {
      const dot = path.lastIndexOf('.');
      const pair = byConv.get(path.slice(0, dot));
      return pair === undefined ? original(path) : foldedValue(pair, path.slice(dot + 1), original);
    },
  };
}

/** Convolutions whose only consumer is a batch norm, and which nobody can ask for by name. */
function pairsOf(graph: Graph): Pair[] {
  const consumers = new Map<Node, number>();
  for (const node of graph.nodes)
    for (const input of node.inputs) consumers.set(input, (consumers.get(input) ?? 0) + 1);
  const tapped = new Set(graph.taps.values());
  return graph.nodes.flatMap((norm) => {
    if (norm.operation.kind !== 'batch_norm') return [];
    const conv = norm.inputs[0]!;
    const { kind } = conv.operation;
    if (kind !== 'conv2d' && kind !== 'depthwise_conv2d') return [];
    if (consumers.get(conv) !== 1 || tapped.has(conv)) return [];
    return [{ conv, norm, epsilon: (norm.operation as OperationOf<'batch_norm'>).epsilon }];
  });
}

function biasOf(conv: Node): Parameter {
  const existing = conv.parameters.find((parameter) => parameter.role === 'bias');
  return (
    existing ?? {
      path: `${conv.path}.bias`,
      role: 'bias',
      shape: [conv.shape.at(-1)!],
      trainable: true,
      initializer: { kind: 'zeros' },
    }
  );
}

async function foldedValue({ conv, norm, epsilon }: Pair, leaf: string, read: ReadParameter): Promise<Float32Array> {
  const [gamma, variance] = [await read(`${norm.path}.gamma`), await read(`${norm.path}.variance`)];
  // In double precision, and rounded once.
  const scale = Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + epsilon));
  if (leaf === 'kernel') {
    // The output channel is the last axis of a kernel; of a depthwise one with multiplier 1, the one before.
    const kernel = await read(`${conv.path}.kernel`);
    const folded = new Float32Array(kernel.length);
    for (let i = 0; i < kernel.length; i++) folded[i] = kernel[i]! * scale[i % scale.length]!;
    return folded;
  }
  const [beta, mean] = [await read(`${norm.path}.beta`), await read(`${norm.path}.mean`)];
  const hadBias = conv.parameters.some((parameter) => parameter.role === 'bias');
  const bias = hadBias ? await read(`${conv.path}.bias`) : new Float32Array(scale.length);
  return Float32Array.from(bias, (b, i) => beta[i]! + (b - mean[i]!) * scale[i]!);
}
