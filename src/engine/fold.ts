/**
 * Does once, with the numbers of a network that is not trained, what it would do anew for every picture: a batch norm
 * or layer scale goes into the convolution or dense layer before it, and a kernel that is standardised is kept so.
 *
 * `kernel' = kernel * scale`, `bias' = (bias - mean) * scale + beta`, where the scale of a batch norm is
 * `gamma / sqrt(variance + epsilon)`; a layer scale has neither mean nor beta.
 * @see Jacob et al. 2018, section 3.2, https://arxiv.org/abs/1712.05877
 */
import { type Graph, hasBias, hasGamma, type Node, type Parameter } from './graph.js';
import type { KernelStandardization, Operation } from './operations.js';

/** Reads the numbers of a parameter, in C order. */
export type ReadParameter = (path: string) => Promise<Float32Array>;

export interface Folded {
  /** The same function in fewer nodes; a convolution whose batch norm is gone has a bias. */
  readonly graph: Graph;
  /** Reads the folded network's parameters, given a reader of the original's. */
  read(original: ReadParameter): ReadParameter;
}

/** A convolution or dense layer, and what becomes part of it. */
interface Layer {
  readonly node: Node;
  /** A batch norm or layer scale. */
  readonly affine: Node | undefined;
  readonly standardization: KernelStandardization | undefined;
}

export function foldGraph(graph: Graph): Folded {
  const layers = new Map(layersOf(graph).map((layer) => [layer.node.path, layer]));
  const folded = new Set([...layers.values()].map((layer) => layer.affine));

  const replaced = new Map<Node, Node>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    if (folded.has(node)) {
      replaced.set(node, replaced.get(node.inputs[0]!)!);
      continue;
    }
    const layer = layers.get(node.path);
    const inputs = node.inputs.map((input) => replaced.get(input)!);
    const changed = layer === undefined ? {} : { operation: plainOperation(node), parameters: parametersOf(layer) };
    const copy: Node = { ...node, ...changed, id: nodes.length, inputs };
    nodes.push(copy);
    replaced.set(node, copy);
  }
  const taps = new Map([...graph.taps].map(([name, node]) => [name, replaced.get(node)!]));
  return {
    graph: { input: nodes[0]!, nodes, taps, blocks: graph.blocks, parameters: nodes.flatMap((n) => n.parameters) },
    read: (original) => {
      const scales = new Map<Layer, Promise<Channelwise>>(); // a kernel and its bias have the same
      const scaleOf = (layer: Layer): Promise<Channelwise> => {
        const scale = scales.get(layer) ?? channelwise(layer.affine, layer.node.shape.at(-1)!, original);
        scales.set(layer, scale);
        return scale;
      };
      return async (path) => {
        const dot = path.lastIndexOf('.');
        const layer = layers.get(path.slice(0, dot));
        if (layer === undefined) return await original(path);
        return await foldedValue(layer, path.slice(dot + 1), original, await scaleOf(layer));
      };
    },
  };
}

/** The layers that something is folded into: what follows is their only consumer, and nobody can ask for it by name. */
function layersOf(graph: Graph): Layer[] {
  const consumers = new Map<Node, Node[]>();
  for (const node of graph.nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
  const tapped = new Set(graph.taps.values());
  return graph.nodes.flatMap((node) => {
    const { operation } = node;
    if (operation.kind !== 'conv2d' && operation.kind !== 'depthwise_conv2d' && operation.kind !== 'dense') return [];
    const next = consumers.get(node) ?? [];
    const affine = next.length === 1 && !tapped.has(node) && isAffine(next[0]!.operation) ? next[0] : undefined;
    const standardization = operation.kind === 'conv2d' ? operation.standardization : undefined;
    return affine === undefined && standardization === undefined ? [] : [{ node, affine, standardization }];
  });
}

const isAffine = ({ kind }: Operation): boolean => kind === 'batch_norm' || kind === 'layer_scale';

function plainOperation({ operation }: Node): Operation {
  if (operation.kind !== 'conv2d') return operation;
  const { standardization: _, ...plain } = operation;
  return plain;
}

function parametersOf({ node, affine }: Layer): readonly Parameter[] {
  if (affine?.operation.kind !== 'batch_norm' || hasBias(node)) return node.parameters;
  const bias: Parameter = {
    path: `${node.path}.bias`,
    role: 'bias',
    shape: [node.shape.at(-1)!],
    trainable: true,
    initializer: { kind: 'zeros' },
  };
  return [...node.parameters, bias];
}

/** In double precision, and rounded once. */
async function foldedValue(
  { node, standardization }: Layer,
  leaf: string,
  read: ReadParameter,
  { scale, mean, beta }: Channelwise,
): Promise<Float32Array> {
  if (leaf === 'kernel') {
    // The output channel is the last axis of a kernel; of a depthwise one with multiplier 1, the one before.
    const kernel = await read(`${node.path}.kernel`);
    const values = standardization === undefined ? kernel : standardized(kernel, scale.length, standardization);
    return scaled(values, scale);
  }
  const bias = hasBias(node) ? await read(`${node.path}.bias`) : new Float32Array(scale.length);
  return Float32Array.from(bias, (b, i) => (b - mean[i]!) * scale[i]! + beta[i]!);
}

/** Two loops: the remainder of a division takes longer than all the rest of it. */
function scaled(values: Float32Array | Float64Array, scale: Float64Array): Float32Array {
  const folded = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += scale.length) {
    for (let c = 0; c < scale.length; c++) folded[start + c] = values[start + c]! * scale[c]!;
  }
  return folded;
}

interface Channelwise {
  readonly scale: Float64Array;
  readonly mean: ArrayLike<number>;
  readonly beta: ArrayLike<number>;
}

async function channelwise(affine: Node | undefined, channels: number, read: ReadParameter): Promise<Channelwise> {
  const zeros = new Float32Array(channels);
  if (affine === undefined) return { scale: new Float64Array(channels).fill(1), mean: zeros, beta: zeros };
  const { operation, path } = affine;
  if (operation.kind !== 'batch_norm') {
    return { scale: Float64Array.from(await read(`${path}.gamma`)), mean: zeros, beta: zeros };
  }
  const gamma = await gammaOf(affine, read);
  const variance = await read(`${path}.variance`);
  const scale = Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + operation.epsilon));
  return { scale, mean: await read(`${path}.mean`), beta: await read(`${path}.beta`) };
}

/** The gamma of a norm, or ones where it has none. */
export async function gammaOf(norm: Node, read: ReadParameter): Promise<Float32Array> {
  return hasGamma(norm) ? read(`${norm.path}.gamma`) : new Float32Array(norm.shape.at(-1)!).fill(1);
}

/** Each output channel with mean 0 and deviation 1, as {@link KernelStandardization} says. */
function standardized(
  kernel: Float32Array,
  channels: number,
  { epsilon, addedTo }: KernelStandardization,
): Float64Array {
  const count = kernel.length / channels;
  const [mean, variance] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < kernel.length; i++) mean[i % channels]! += kernel[i]! / count;
  for (let i = 0; i < kernel.length; i++) variance[i % channels]! += (kernel[i]! - mean[i % channels]!) ** 2 / count;
  const deviation = variance.map((v) => (addedTo === 'variance' ? Math.sqrt(v + epsilon) : Math.sqrt(v) + epsilon));
  const result = new Float64Array(kernel.length);
  for (let i = 0; i < kernel.length; i++) result[i] = (kernel[i]! - mean[i % channels]!) / deviation[i % channels]!;
  return result;
}
