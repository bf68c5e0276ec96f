/** Heads: from `pre_logits` to the `logits` of the user's own classes. */
import { extendGraph, type Graph, type Node, type Scope, tapOf } from '../engine/graph.js';
import { activation, dense, dropout } from '../engine/layers.js';
import { UsageError } from '../errors.js';

export interface Head {
  /** Units of the hidden layers, each followed by ReLU; none for a linear head. */
  readonly hidden: readonly number[];
  /** Share of values dropped in training, before every dense layer: 0 to below 1. */
  readonly dropout: number;
}

/**
 * Reads `linear` or `mlp:UNITS[,UNITS...]`. `mlp:1024` with dropout .5 is the head of the notes: Dropout, Dense 1024
 * ReLU, Dropout, Dense.
 * @throws BAD_HEAD
 */
export function parseHead(text: string, rate: number): Head {
  const fault = (message: string) =>
    new UsageError({ code: 'BAD_HEAD', message, hint: 'write --head linear, --head mlp:1024 or --head mlp:512,128' });
  if (!(rate >= 0 && rate < 1)) throw fault(`the head's dropout must be at least 0 and below 1, not ${rate}`);
  if (text === 'linear') return { hidden: [], dropout: rate };
  const match = /^mlp:(\d+(?:,\d+)*)$/.exec(text);
  if (match === null) throw fault(`"${text}" is not a head`);
  const hidden = match[1]!.split(',').map(Number);
  if (hidden.some((units) => units < 1 || units > 65_536)) throw fault(`"${text}": a layer has 1 to 65536 units`);
  return { hidden, dropout: rate };
}

/** How a head is written on the command line. */
export function formatHead(head: Head): string {
  return head.hidden.length === 0 ? 'linear' : `mlp:${head.hidden.join(',')}`;
}

/** Puts a head on a backbone; its parameters lie under `head`. */
export function withHead(graph: Graph, head: Head, classes: number): Graph {
  return extendGraph(graph, (s) => {
    s.at('logits').tap(build(s.at('head'), tapOf(graph, 'pre_logits'), head, classes));
  });
}

function build(s: Scope, x: Node, head: Head, classes: number): Node {
  const drop = (at: Scope, y: Node) => (head.dropout > 0 ? dropout(at, y, head.dropout) : y);
  let y = x;
  head.hidden.forEach((units, i) => {
    const layer = s.at(`dense${i + 1}`);
    y = activation(layer, dense(layer, drop(layer, y), units), 'relu');
  });
  return dense(s.at('logits'), drop(s.at('logits'), y), classes);
}
