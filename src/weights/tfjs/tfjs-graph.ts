/**
 * Graph models of TensorFlow.js: what their operations do with their constants. Batch norms of an inference graph are
 * folded into scales and offsets behind the convolutions; here each convolution is given with them multiplied in.
 * @see https://github.com/tensorflow/tensorflow/blob/v2.9.1/tensorflow/core/framework/node_def.proto
 */
import { z } from 'zod';
import { elementsOf } from '../float-formats.js';
import type { ManifestWeights } from './tfjs-manifest.js';

/** The graph of an EfficientNet-B7 has 4,000 operations and constants. */
const MOST_NODES = 100_000;

const nodeSchema = z.object({
  name: z.string(),
  op: z.string(),
  input: z.array(z.string()).default([]),
  attr: z.object({ fused_ops: z.object({ list: z.object({ s: z.array(z.string()) }) }).optional() }).optional(),
});

/** The part of a `model.json` that is a graph. */
export const topologySchema = z.object({ node: z.array(nodeSchema).max(MOST_NODES) });

/** One operation of the graph, as TensorFlow's GraphDef has it. */
export type GraphNode = z.infer<typeof nodeSchema>;

/** A graph and its constants, none of them read. */
export interface GraphModel {
  readonly path: string;
  readonly nodes: readonly GraphNode[];
  readonly weights: ManifestWeights;
  /** `model.json` as it is. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** Numbers that are computed from constants when they are asked for. */
export interface Computed {
  readonly shape: readonly number[];
  read(): Promise<Float32Array>;
}

/** A convolution of a graph with everything that is multiplied with and added to its result. */
export interface FoldedConvolution {
  /** The operation's name. */
  readonly name: string;
  readonly depthwise: boolean;
  readonly kernel: Computed;
  readonly bias: Computed;
  /** Names of the constants that are in `kernel` and `bias`. */
  readonly constants: readonly string[];
}

/** A scale and an offset, each perhaps written twice. */
const MOST_STEPS = 4;

/** The convolutions in the order in which pictures go through them; none where a kernel of theirs is no constant. */
export function foldedConvolutions(model: GraphModel): FoldedConvolution[] {
  const nodes = new Map(model.nodes.map((node) => [node.name, node]));
  const constantOf = constantFinder(model, nodes);
  const consumers = new Map<string, GraphNode[]>();
  for (const node of model.nodes) {
    for (const input of node.input) {
      const name = plainName(input);
      const known = consumers.get(name);
      if (known === undefined) consumers.set(name, [node]);
      else known.push(node);
    }
  }
  const folded: FoldedConvolution[] = [];
  for (const node of inOrder(model.nodes, nodes)) {
    if (!/Conv2[dD]/.test(node.op)) continue;
    const kernel = constantOf(node.input[1]);
    if (kernel?.shape.length !== 4) return [];
    folded.push(fold(node, kernel, stepsAfter(node, consumers, constantOf)));
  }
  return folded;
}

interface Constant extends Computed {
  readonly name: string;
}

type ConstantOf = (input: string | undefined) => Constant | undefined;

/** A constant by the input that it is, perhaps behind the identity that reads a variable. */
function constantFinder({ weights }: GraphModel, nodes: ReadonlyMap<string, GraphNode>): ConstantOf {
  const shapes = new Map(weights.tensors.map(({ name, shape }) => [name, shape]));
  return (input) => {
    let name = input === undefined ? '' : plainName(input);
    for (let steps = 0; nodes.get(name)?.op === 'Identity' && steps < nodes.size; steps++) {
      name = plainName(nodes.get(name)!.input[0] ?? '');
    }
    const shape = shapes.get(name);
    return shape === undefined ? undefined : { name, shape, read: () => weights.read(name) };
  };
}

function fold(node: GraphNode, kernel: Constant, steps: readonly AffineStep[]): FoldedConvolution {
  const depthwise = node.op.includes('epthwise');
  const length = elementsOf(kernel.shape.slice(depthwise ? -2 : -1));
  const readAffine = async () => {
    const [scale, bias] = [new Float64Array(length).fill(1), new Float64Array(length)];
    for (const { kind, constant } of steps) {
      const values = await constant.read();
      for (let i = 0; i < length; i++) {
        const value = values[values.length === 1 ? 0 : i]!;
        bias[i] = kind === 'multiply' ? bias[i]! * value : bias[i]! + value;
        if (kind === 'multiply') scale[i] = scale[i]! * value;
      }
    }
    return { scale, bias };
  };
  let read: ReturnType<typeof readAffine> | undefined;
  const affine = () => (read ??= readAffine()); // kernel and bias ask for the same numbers
  return {
    name: node.name,
    depthwise,
    kernel: {
      shape: kernel.shape,
      read: async () => {
        const { scale } = await affine();
        return (await kernel.read()).map((value, i) => value * scale[i % length]!);
      },
    },
    bias: { shape: [length], read: async () => Float32Array.from((await affine()).bias) },
    constants: [kernel.name, ...steps.map(({ constant }) => constant.name)],
  };
}

/** Without the output's number and the mark of a control input. */
const plainName = (input: string): string => input.replace(/^\^/, '').replace(/:\d+$/, '');

/** Operations so that inputs come first. */
function inOrder(all: readonly GraphNode[], nodes: ReadonlyMap<string, GraphNode>): GraphNode[] {
  const done = new Set<GraphNode>();
  const begun = new Set<GraphNode>();
  for (const start of all) {
    const stack = [start];
    while (stack.length > 0) {
      const node = stack.at(-1)!;
      begun.add(node);
      const waiting = node.input
        .map((input) => nodes.get(plainName(input)))
        .find((before) => before !== undefined && !begun.has(before));
      if (waiting === undefined) done.add(stack.pop()!);
      else stack.push(waiting);
    }
  }
  return [...done];
}

interface AffineStep {
  readonly kind: 'multiply' | 'add';
  readonly constant: Constant;
}

/** The constants that are multiplied with and added to a convolution's result before anything else happens to it. */
function stepsAfter(
  conv: GraphNode,
  consumers: ReadonlyMap<string, readonly GraphNode[]>,
  constantOf: ConstantOf,
): AffineStep[] {
  const steps: AffineStep[] = [];
  const fused = conv.op.includes('Fused') ? constantOf(conv.input[2]) : undefined;
  if (fused !== undefined) steps.push({ kind: 'add', constant: fused });
  // _FusedConv2D lists what it does after the convolution; behind an activation nothing is folded any more
  if ((conv.attr?.fused_ops?.list.s.length ?? 0) > 1) return steps;
  for (let at = conv; steps.length < MOST_STEPS; ) {
    const [next, ...others] = consumers.get(at.name) ?? [];
    if (next === undefined || others.length > 0) return steps;
    const kind = { Mul: 'multiply', Add: 'add', AddV2: 'add', BiasAdd: 'add' }[next.op] as
      | AffineStep['kind']
      | undefined;
    const other = next.input.find((input) => plainName(input) !== at.name);
    const constant = constantOf(other);
    if (kind === undefined || constant === undefined) return steps;
    steps.push({ kind, constant });
    at = next;
  }
  return steps;
}
