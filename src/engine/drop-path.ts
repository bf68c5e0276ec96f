/** Stochastic depth as a setting of training. Huang et al. 2016, https://arxiv.org/abs/1603.09382 */
import { UsageError } from '../errors.js';
import { type Graph, rebuilt, type Unplaced } from './graph.js';

/**
 * The same network with another rate of dropped paths: 0 in the first block that has any, `rate` in the last, and
 * growing linearly between them (Huang 2016, equation 4, as timm spaces it: torch.linspace(0, rate, blocks)).
 * @param rate at least 0 and below 1
 * @throws NO_DROP_PATH when no block can drop its path
 */
export function withDropPath(graph: Graph, rate: number): Graph {
  const isIn = (block: string, { path }: Unplaced): boolean => path.startsWith(`${block}.`);
  const dropping = graph.nodes.filter(({ operation }) => operation.kind === 'drop_path');
  const blocks = graph.blocks.filter((block) => dropping.some((node) => isIn(block, node)));
  if (blocks.length === 0) {
    throw new UsageError({
      code: 'NO_DROP_PATH',
      message: 'no block of this network can drop its path',
      hint: 'leave --drop-path out',
    });
  }
  return rebuilt(graph, (twin, place) => {
    const { operation } = twin;
    if (operation.kind !== 'drop_path') return place(twin);
    const share = blocks.findIndex((block) => isIn(block, twin)) / Math.max(1, blocks.length - 1);
    return place({ ...twin, operation: { ...operation, rate: rate * share } });
  });
}
