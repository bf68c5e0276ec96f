/**
 * A network as a value: nodes, parameters and taps. Building one computes nothing and allocates no tensor, so that
 * listing, counting and planning are free. Shapes leave the batch dimension out.
 */
import { UsageError } from '../errors.js';
import type { Initializer } from './initializers.js';
import type { Operation } from './operations.js';

/** Dimensions without the batch: `[height, width, channels]` or `[units]`. */
export type Shape = readonly number[];

/** What a parameter is, whatever it is called in a file. A dialect maps roles to the names and layouts of a format. */
export type Role =
  | 'conv.kernel' // [height, width, in / groups, out]
  | 'depthwise.kernel' // [height, width, in, multiplier]
  | 'dense.kernel' // [in, out]
  | 'bias'
  | 'layer_scale' // [channels]
  | 'class_token' // [D]
  | 'position_embedding' // [tokens, D]
  | 'norm.gamma'
  | 'norm.beta'
  | 'norm.mean'
  | 'norm.variance';

/** How a position embedding lies on a picture: tokens of no place (the class token) come before the grid's. */
export interface Places {
  readonly grid: readonly [height: number, width: number];
  /**
   * How its publisher brings it to another grid: by Pillow's bicubic filter with antialiasing, as PyTorch's
   * `interpolate` and timm do, linearly with the corners in place, as `scipy.ndimage.zoom` and Google's code do, or by
   * PyTorch's bicubic convolution with the corners in place, as torchvision does.
   */
  readonly resampling: 'bicubic_antialias' | 'linear_corners' | 'bicubic_corners';
}

export interface Parameter {
  /** Dotted and unique in its graph: `stage1.block1.reduce.conv.kernel`. */
  readonly path: string;
  readonly role: Role;
  readonly shape: Shape;
  /**
   * The same numbers before dimensions were joined, where a file may hold them so: `[7, 7, 512, 4096]` of a dense kernel
   * on a flattened picture, `[D, heads, D / heads]` of a projection for attention.
   */
  readonly unflattened?: Shape;
  /** Of a position embedding. */
  readonly places?: Places;
  /** False for statistics, which are updated by running averages and never by a gradient. */
  readonly trainable: boolean;
  readonly initializer: Initializer;
}

export interface Node {
  /** Position in its graph; inputs always have smaller ones. */
  readonly id: number;
  readonly path: string;
  readonly operation: Operation;
  readonly inputs: readonly Node[];
  readonly shape: Shape;
  readonly parameters: readonly Parameter[];
}

export interface Graph {
  readonly input: Node;
  /** In topological order. */
  readonly nodes: readonly Node[];
  /** Named intermediates. */
  readonly taps: ReadonlyMap<string, Node>;
  /** The taps that end a block, in order: what `--freeze last:N` counts. */
  readonly blocks: readonly string[];
  readonly parameters: readonly Parameter[];
}

interface Builder {
  readonly nodes: Node[];
  readonly taps: Map<string, Node>;
  readonly blocks: string[];
  readonly paths: Set<string>;
}

/** A place in the network. `s.at('block1')` goes one level down; layers add nodes at the scope they are given. */
export interface Scope {
  readonly path: string;
  at(name: string): Scope;
  /** Adds a node. Called by layers only. */
  add(node: Omit<Node, 'id' | 'path'>, leaf?: string): Node;
  /** Names an intermediate after this scope. */
  tap(node: Node): Node;
  /** The same, and it ends a block that `--freeze last:N` counts. */
  endBlock(node: Node): Node;
}

function scope(builder: Builder, path: string): Scope {
  const self: Scope = {
    path,
    at: (name) => scope(builder, path === '' ? name : `${path}.${name}`),
    add: (node, leaf) => {
      const base = leaf === undefined ? path : path === '' ? leaf : `${path}.${leaf}`;
      if (builder.paths.has(base)) throw new Error(`two nodes of one network are called ${base}`);
      builder.paths.add(base);
      const added: Node = { ...node, id: builder.nodes.length, path: base };
      builder.nodes.push(added);
      return added;
    },
    tap: (node) => {
      builder.taps.set(path, node);
      return node;
    },
    endBlock: (node) => {
      builder.blocks.push(path);
      return self.tap(node);
    },
  };
  return self;
}

function finish(builder: Builder): Graph {
  return {
    input: builder.nodes[0]!,
    nodes: builder.nodes,
    taps: builder.taps,
    blocks: builder.blocks,
    parameters: builder.nodes.flatMap((node) => node.parameters),
  };
}

/** Builds a network on an input of `[height, width, channels]`. */
export function buildGraph(inputShape: Shape, define: (s: Scope, x: Node) => Node): Graph {
  const builder: Builder = { nodes: [], taps: new Map(), blocks: [], paths: new Set() };
  const root = scope(builder, '');
  const x = root.add({ operation: { kind: 'input' }, inputs: [], shape: inputShape, parameters: [] }, 'input');
  define(root, x);
  return finish(builder);
}

/** The first parameter of a network, of which no more is built than that takes. */
export function firstParameterOf(inputShape: Shape, define: (s: Scope, x: Node) => Node): Parameter {
  const found = new Found();
  const stopping = (inner: Scope): Scope => ({
    ...inner,
    at: (name) => stopping(inner.at(name)),
    add: (node, leaf) => {
      const added = inner.add(node, leaf);
      [found.parameter] = added.parameters;
      if (found.parameter !== undefined) throw found;
      return added;
    },
  });
  try {
    buildGraph(inputShape, (s, x) => define(stopping(s), x));
  } catch (error) {
    if (error !== found) throw error;
  }
  return found.parameter!;
}

/** Ends the building of a network. */
class Found extends Error {
  parameter: Parameter | undefined;
}

/** The same network with more nodes on top, for example a head on `pre_logits`. The given graph is left as it is. */
export function extendGraph(graph: Graph, define: (s: Scope, graph: Graph) => void): Graph {
  const builder: Builder = {
    nodes: [...graph.nodes],
    taps: new Map(graph.taps),
    blocks: [...graph.blocks],
    paths: new Set(graph.nodes.map((node) => node.path)),
  };
  define(scope(builder, ''), graph);
  return finish(builder);
}

/** A node that has no place in its graph yet. */
export type Unplaced = Omit<Node, 'id'>;

/**
 * The same network with other nodes. The given graph is left as it is.
 * @param change places what stands for a node: `twin` is that node on the new network's inputs. What it returns is taken
 *   for the old node's value by all that follow, and by taps.
 */
export function rebuilt(
  graph: Graph,
  change: (twin: Unplaced, place: (node: Unplaced) => Node, old: Node) => Node,
): Graph {
  const nodes: Node[] = [];
  const place = (node: Unplaced): Node => {
    const placed = { ...node, id: nodes.length };
    nodes.push(placed);
    return placed;
  };
  const twins = new Map<Node, Node>();
  const twinOf = (node: Node): Node => twins.get(node)!;
  for (const node of graph.nodes) twins.set(node, change({ ...node, inputs: node.inputs.map(twinOf) }, place, node));
  return {
    input: twinOf(graph.input),
    nodes,
    taps: new Map([...graph.taps].map(([name, node]) => [name, twinOf(node)])),
    blocks: graph.blocks,
    parameters: nodes.flatMap(({ parameters }) => parameters),
  };
}

/** Path of the layer that a parameter belongs to: its own without the last part. */
export const ownerOf = (path: string): string => path.slice(0, path.lastIndexOf('.'));

/** The node of a tap. @throws UNKNOWN_TAP with the taps that there are. */
export function tapOf(graph: Graph, name: string): Node {
  const node = graph.taps.get(name);
  if (node !== undefined) return node;
  throw new UsageError({
    code: 'UNKNOWN_TAP',
    message: `this network has no tap called "${name}"`,
    hint: `its taps are: ${[...graph.taps.keys()].join(', ')}`,
  });
}

export function hasBias({ parameters }: Node): boolean {
  return parameters.some(({ role }) => role === 'bias');
}

/** Whether a norm has a gamma of its own; one that has none scales by 1. */
export function hasGamma(norm: Node): boolean {
  return norm.parameters.some(({ role }) => role === 'norm.gamma');
}

/** The nodes that `outputs` need, in order, when the values of `given` are known already. */
export function nodesBetween(graph: Graph, given: ReadonlySet<Node>, outputs: readonly Node[]): Node[] {
  const needed = new Set<Node>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (needed.has(node) || given.has(node)) continue;
    needed.add(node);
    stack.push(...node.inputs);
  }
  return graph.nodes.filter((node) => needed.has(node));
}

/** A graph divided at a tap: everything before it (with it) and everything after it. */
export interface Cut {
  readonly tap: string;
  readonly node: Node;
  readonly before: readonly Node[];
  readonly after: readonly Node[];
}

/**
 * Divides the network at a tap.
 * @throws NOT_A_CUT when some path from the input to `output` goes around the tap.
 */
export function cutAt(graph: Graph, tap: string, output: string): Cut {
  const node = tapOf(graph, tap);
  const after = nodesBetween(graph, new Set([node]), [tapOf(graph, output)]);
  if (after.some((each) => each.operation.kind === 'input')) {
    throw new UsageError({
      code: 'NOT_A_CUT',
      message: `the tap "${tap}" does not divide the network: there is a path from the input to ${output} around it`,
      hint: `choose one of: ${cuts(graph, output).join(', ')}`,
    });
  }
  return { tap, node, before: nodesBetween(graph, new Set(), [node]), after };
}

/** The taps at which the network can be divided, in order. */
export function cuts(graph: Graph, output: string): string[] {
  const end = graph.taps.get(output);
  if (end === undefined) return [];
  return [...graph.taps]
    .filter(([name]) => name !== output)
    .filter(([, node]) => !nodesBetween(graph, new Set([node]), [end]).some((n) => n.operation.kind === 'input'))
    .map(([name]) => name);
}
