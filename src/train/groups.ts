/** Parameters in groups: to which stage each belongs, at which share of the learning rate it trains, and whether it decays. */
import { type Graph, type Node, nodesBetween, type Role, tapOf } from '../engine/graph.js';

/** How the optimiser treats a parameter. */
export interface ParameterGroup {
  /** What it is part of, as a table of the network calls it: `stem`, `stage2`, `block7`, `head`. */
  readonly stage: string;
  /** 0: before the first block; from 1: a block, and what goes with it; one more than there are blocks: the head. */
  readonly layer: number;
  /** Times the learning rate, above 0 to 1. */
  readonly lrScale: number;
  /** Whether weight decay pulls at it. */
  readonly decays: boolean;
}

/** What comes before the first block. */
export const STEM = 'stem';
/** What a run always trains anew. */
export const HEAD = 'head';

/**
 * Weight decay is for kernels: not for biases and norms (He et al. 2018, section 3.1), nor for class tokens and position
 * embeddings (Touvron et al. 2021, as timm's `no_weight_decay` of its vision transformers).
 */
const DECAYING: readonly Role[] = ['conv.kernel', 'depthwise.kernel', 'dense.kernel'];

/**
 * The group of every parameter, by path.
 *
 * Layer-wise decay counts the blocks of the network as layers: 0 is what comes before the first, the head is the last,
 * and a layer trains at `layerDecay ** (head - layer)` of the learning rate, the head at all of it. What lies between
 * two blocks goes with the one whose stage it is in, else with the one before it; what follows the last block goes with
 * that. Auxiliary classifiers are heads.
 *
 * These are timm's groups (`param_groups_layer_decay`) of vision transformers, ResNets and EfficientNets. Of DenseNet
 * and ConvNeXt timm trains the last norm as the head; of a hybrid it counts the whole ResNet as one layer.
 * @param layerDecay above 0 to 1; 1: every parameter at the same rate
 * @see Bao et al. 2022, https://arxiv.org/abs/2106.08254, and its optim_factory.py
 */
export function groupsOf(graph: Graph, layerDecay = 1): ReadonlyMap<string, ParameterGroup> {
  const layers = layersOf(graph);
  const head = graph.blocks.length + 1;
  const groups = new Map<string, ParameterGroup>();
  for (const node of graph.nodes) {
    const layer = layers.get(node)!;
    const stage = layer === 0 ? STEM : firstPart(node.path);
    for (const { path, role } of node.parameters) {
      const lrScale = layerDecay ** (head - layer);
      groups.set(path, { stage, layer, lrScale, decays: DECAYING.includes(role) });
    }
  }
  return groups;
}

const firstPart = (path: string): string => path.split('.', 1)[0]!;

/** The stage of a block, `stage2` of `stage2.block1`; nothing of one that is in none. */
const stageOf = (block: string): string => block.slice(0, Math.max(0, block.lastIndexOf('.')));

function layersOf(graph: Graph): Map<Node, number> {
  const { nodes, blocks } = graph;
  const trunk = new Set(nodesBetween(graph, new Set(), [tapOf(graph, 'logits')]));
  const isHead = (node: Node): boolean => !trunk.has(node) || firstPart(node.path) === HEAD;
  const owner = blockOwner(blocks);
  const layers = new Map<Node, number>();
  let sofar = 0;
  for (const node of nodes) {
    const own = owner(node.path);
    if (own !== undefined) sofar = own;
    const next = blocks[sofar];
    const withNext = own === undefined && next !== undefined && isInside(node.path, stageOf(next));
    layers.set(node, isHead(node) ? blocks.length + 1 : (own ?? (withNext ? sofar + 1 : sofar)));
  }
  return layers;
}

const isInside = (path: string, scope: string): boolean => scope !== '' && path.startsWith(`${scope}.`);

/** From a node's path to the number of the block that it is in, from 1. */
function blockOwner(blocks: readonly string[]): (path: string) => number | undefined {
  const numbers = new Map(blocks.map((block, i) => [block, i + 1]));
  return (path) => {
    for (let end = path.length; end > 0; end = path.lastIndexOf('.', end - 1)) {
      const found = numbers.get(path.slice(0, end));
      if (found !== undefined) return found;
    }
    return undefined;
  };
}
