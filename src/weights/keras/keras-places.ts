/** Where Keras puts the layers of a network in `model.layers`, which follows from the graph alone. */
import type { Graph, Node } from '../../engine/graph.js';

export interface Place {
  /** The longest way to an output. */
  readonly depth: number;
  readonly index: number;
}

/** Whether a layer stands before another one. */
export const comesBefore = (a: Place, b: Place): boolean =>
  a.depth === b.depth ? a.index < b.index : a.depth > b.depth;

/**
 * Where the layer of each parameter stands: its longest way to an output, and among layers of the same length the order
 * in which a walk from the outputs, inputs first to last, meets them.
 * @see https://github.com/keras-team/keras/blob/v2.15.0/keras/engine/functional.py (_map_graph_network)
 */
export function placesOf({ nodes, taps }: Graph): ReadonlyMap<string, Place> {
  const consumers = new Map<Node, Node[]>();
  for (const node of nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
  const depths = new Map<Node, number>();
  for (const node of [...nodes].reverse()) {
    const after = (consumers.get(node) ?? []).map((each) => depths.get(each)! + 1);
    depths.set(node, Math.max(0, ...after));
  }
  const indices = new Map<Node, number>();
  const ends = nodes.filter((node) => !consumers.has(node));
  const outputs = [taps.get('logits'), ...ends].filter((node) => node !== undefined);
  const stack = [...outputs].reverse();
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (indices.has(node)) continue;
    indices.set(node, indices.size);
    stack.push(...[...node.inputs].reverse());
  }
  return new Map(
    nodes.flatMap((node) => {
      const place = { depth: depths.get(node)!, index: indices.get(node)! };
      return node.parameters.map(({ path }) => [path, place] as const);
    }),
  );
}
