/**
 * What a network costs and sees, from its graph alone: parameters, multiply-accumulates and receptive fields of every
 * node. Nothing is computed with the numbers of the network.
 */
import type { Graph, Node } from './graph.js';
import type { Pair } from './operations.js';

/** One node of a network. */
export interface NodeAnalysis {
  readonly node: Node;
  /** Numbers that a gradient may change. */
  readonly trainable: number;
  /** Moving means and variances of batch normalisation. */
  readonly statistics: number;
  /** Multiply-accumulates of convolutions, dense layers and attention for one picture; other operations count as none. */
  readonly macs: number;
  /** Height and width in input pixels of what one value of the output can depend on; it may exceed the input. */
  readonly receptiveField: Pair;
  /** Distance in input pixels between two neighbours of the output, down and across: the effective stride. */
  readonly jump: Pair;
}

/** Sums over nodes. */
export interface Totals {
  readonly trainable: number;
  readonly statistics: number;
  /** Trainable and statistics. */
  readonly parameters: number;
  readonly macs: number;
}

/** A network, node by node in topological order, and in all. */
export interface Analysis {
  readonly rows: readonly NodeAnalysis[];
  readonly totals: Totals;
}

/** How a window moves over its input. */
interface Window {
  readonly size: Pair;
  readonly strides: Pair;
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/**
 * Counts every node of a network.
 *
 * A window of size k and stride s on a node with receptive field r and jump j gives r + (k - 1) j and s j; padding moves
 * the field and does not change its size; where paths meet, the largest counts.
 * @see Araujo, Norris, Sim 2019, https://distill.pub/2019/computing-receptive-fields, equations 2 and 4
 */
export function analyse(graph: Graph): Analysis {
  const done = new Map<Node, NodeAnalysis>();
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((input) => done.get(input)!);
    done.set(node, { node, ...countParameters(node), macs: macsOf(node), ...fieldOf(node, inputs) });
  }
  const rows = [...done.values()];
  return { rows, totals: totalOf(rows) };
}

/** Sums some rows of an analysis. */
export function totalOf(rows: readonly NodeAnalysis[]): Totals {
  const sum = (of: (row: NodeAnalysis) => number): number => rows.reduce((total, row) => total + of(row), 0);
  const [trainable, statistics] = [sum((row) => row.trainable), sum((row) => row.statistics)];
  return { trainable, statistics, parameters: trainable + statistics, macs: sum((row) => row.macs) };
}

function countParameters(node: Node): { trainable: number; statistics: number } {
  let [trainable, statistics] = [0, 0];
  for (const parameter of node.parameters) {
    if (parameter.trainable) trainable += product(parameter.shape);
    else statistics += product(parameter.shape);
  }
  return { trainable, statistics };
}

/** Every number of a kernel is used once for each place of the output; a depthwise kernel's multiplier is inside it. */
function macsOf(node: Node): number {
  switch (node.operation.kind) {
    case 'conv2d':
    case 'depthwise_conv2d':
      // [kh, kw, cin / groups, cout] or [kh, kw, cin, multiplier], at every one of the H' W' places
      return product(node.parameters[0]!.shape) * node.shape[0]! * node.shape[1]!;
    case 'dense':
      return product(node.parameters[0]!.shape) * product(node.shape.slice(0, -1));
    case 'low_rank':
      return node.parameters.reduce((sum, { shape }) => sum + product(shape), 0) * product(node.shape.slice(0, -1));
    case 'attention': {
      const [tokens, depth] = node.shape as readonly [number, number];
      return 2 * tokens * tokens * depth; // q k^T, and the weighted sum of the values
    }
    default:
      return 0;
  }
}

function fieldOf(node: Node, inputs: readonly NodeAnalysis[]): Pick<NodeAnalysis, 'receptiveField' | 'jump'> {
  if (inputs.length === 0) return { receptiveField: [1, 1], jump: [1, 1] };
  const largest = (of: (input: NodeAnalysis) => Pair): Pair => [
    Math.max(...inputs.map((input) => of(input)[0])),
    Math.max(...inputs.map((input) => of(input)[1])),
  ];
  const field = largest((input) => input.receptiveField);
  // A gate is a vector: it has no neighbours, and its channels leave the places of the picture where they are.
  const jump = node.operation.kind === 'scale_channels' ? inputs[0]!.jump : largest((input) => input.jump);
  if (node.operation.kind === 'attention') {
    const [height, width] = pictureOf(node).shape as readonly [number, number];
    return { receptiveField: [Math.max(field[0], height), Math.max(field[1], width)], jump };
  }
  const { size, strides } = windowOf(node);
  return {
    receptiveField: [field[0] + (size[0] - 1) * jump[0], field[1] + (size[1] - 1) * jump[1]],
    jump: [jump[0] * strides[0], jump[1] * strides[1]],
  };
}

/** The input of the network that a node belongs to. */
function pictureOf(node: Node): Node {
  return node.inputs.length === 0 ? node : pictureOf(node.inputs[0]!);
}

function windowOf({ operation, parameters, inputs }: Node): Window {
  switch (operation.kind) {
    case 'conv2d':
    case 'depthwise_conv2d': {
      const [height, width] = parameters[0]!.shape as readonly [number, number];
      return { size: [height, width], strides: operation.strides };
    }
    case 'max_pool':
    case 'average_pool':
      return operation;
    case 'adaptive_average_pool': {
      const [height, width] = inputs[0]!.shape as readonly [number, number];
      const strides: Pair = [Math.floor(height / operation.size[0]) || 1, Math.floor(width / operation.size[1]) || 1];
      return { size: [Math.ceil(height / operation.size[0]), Math.ceil(width / operation.size[1])], strides };
    }
    case 'global_average_pool': {
      // One window over the whole picture.
      const [height, width] = inputs[0]!.shape as readonly [number, number];
      return { size: [height, width], strides: [height, width] };
    }
    default:
      return { size: [1, 1], strides: [1, 1] };
  }
}
