/** What is frozen: a cut in the graph. What lies before it runs once, outside the gradient; what follows is trained. */
import { cuts, type Graph, tapOf } from '../engine/graph.js';
import type { Lora, LoraTargets } from '../engine/lora.js';
import { UsageError } from '../errors.js';

export interface Strategy {
  /** As the user wrote it. */
  readonly freeze: string;
  /** Everything up to and with this tap is frozen; undefined: nothing is. */
  readonly cut: string | undefined;
}

/**
 * Reads `none`, `backbone`, `last:N` or `until:TAP` for a network that ends in the tap `logits`.
 * @throws BAD_FREEZE, UNKNOWN_TAP, NOT_A_CUT
 */
export function parseStrategy(freeze: string, graph: Graph): Strategy {
  if (freeze === 'none') return { freeze, cut: undefined };
  if (freeze === 'backbone') return { freeze, cut: 'pre_logits' };
  const until = /^until:(.+)$/.exec(freeze)?.[1];
  if (until !== undefined) return { freeze, cut: untilTap(until, graph) };
  const last = /^last:(\d+)$/.exec(freeze)?.[1];
  if (last !== undefined) return { freeze, cut: beforeLast(Number(last), graph) };
  throw new UsageError({
    code: 'BAD_FREEZE',
    message: `"${freeze}" is not a freezing strategy`,
    hint: 'write none, backbone, last:N (train the last N blocks and the head) or until:TAP (freeze up to a tap)',
  });
}

function untilTap(tap: string, graph: Graph): string {
  tapOf(graph, tap);
  const possible = cuts(graph, 'logits');
  if (possible.includes(tap)) return tap;
  throw new UsageError({
    code: 'NOT_A_CUT',
    message: `the network cannot be frozen up to "${tap}"`,
    hint: `choose one of: ${possible.join(', ')}`,
  });
}

function beforeLast(count: number, graph: Graph): string | undefined {
  const { blocks } = graph;
  if (count < 1 || count > blocks.length) {
    throw new UsageError({
      code: 'BAD_FREEZE',
      message: `last:${count}: this network has ${blocks.length} blocks`,
      hint: `write last:1 to last:${blocks.length}; --freeze backbone trains the head alone, --freeze none everything`,
    });
  }
  return cutBefore(graph, blocks[blocks.length - count]!);
}

/** The last cut before a block; undefined where there is none. */
export function cutBefore(graph: Graph, block: string): string | undefined {
  const start = graph.nodes.find((node) => node.path.startsWith(`${block}.`))!.id;
  return cuts(graph, 'logits')
    .filter((tap) => tapOf(graph, tap).id < start)
    .at(-1);
}

/** How a run adapts. */
export interface LoraSettings {
  /** `RANK` or `RANK,ALPHA`. */
  readonly lora: string;
  readonly loraTargets?: LoraTargets | undefined;
}

/**
 * Reads `RANK` or `RANK,ALPHA`. Alpha is the rank where it is not given, so that the product counts once, as Hu et al.
 * 2021, section 4.1, have it for the first rank that is tried; queries and values are adapted, as in their section 7.1.
 * @throws BAD_LORA
 */
export function parseLora({ lora, loraTargets: targets = 'qv' }: LoraSettings): Lora {
  const [, rank, alpha = rank] = /^(\d+)(?:,(\d+(?:\.\d+)?))?$/.exec(lora) ?? [];
  if (rank !== undefined && Number(rank) >= 1 && Number(alpha) > 0) {
    return { rank: Number(rank), alpha: Number(alpha), targets };
  }
  throw new UsageError({
    code: 'BAD_LORA',
    message: `"${lora}" is not a rank, or a rank and alpha`,
    hint: 'write --lora 8 or --lora 8,16: a whole number from 1, and alpha above 0',
  });
}
