/** Low-rank adaptation as a way to train: which blocks get adapters, what is trained, and how a stopped run goes on. */
import { backbones, buildBackbone } from '../backbones/index.js';
import type { Graph } from '../engine/graph.js';
import { adaptersOf, type Lora, withLora } from '../engine/lora.js';
import type { ReadParameter } from '../engine/network.js';
import { UsageError } from '../errors.js';
import type { OpenedModel } from '../weights/model-folder.js';
import type { SafetensorsEntry } from '../weights/safetensors.js';
import { type OpenNumbers, withTensorsBeside } from './beside.js';
import { groupsOf } from './groups.js';
import { cutBefore, parseStrategy } from './strategy.js';

/** In `last/`: the adapters, and the kernels that they adapt as they were. The model itself has them merged. */
export const ADAPTERS = 'adapters.safetensors';

/** As a model card says it. */
export const describeLora = ({ rank, alpha, targets }: Lora): string => `rank ${rank}, alpha ${alpha}, on ${targets}`;

/** A network as a run trains it, and where the part begins that needs gradients. */
export interface Adapting {
  readonly graph: Graph;
  /** As `parseStrategy` gives it. */
  readonly cut: string | undefined;
}

/**
 * Puts adapters on the attention of the blocks that `freeze` leaves: of all with `backbone`, else of those behind its cut.
 * @throws NO_ATTENTION with the networks that have some, BAD_FREEZE with `none`, LORA_RANK
 */
export function withAdapters(graph: Graph, freeze: string, lora: Lora, name: string): Adapting {
  if (!graph.nodes.some(({ operation }) => operation.kind === 'attention')) throw withoutAttention(name);
  if (freeze === 'none') {
    throw new UsageError({
      code: 'BAD_FREEZE',
      message: '--freeze none trains every parameter, which leaves nothing for --lora to adapt',
      hint: 'leave --freeze out to adapt every block, or give last:N or until:TAP to adapt those behind it',
    });
  }
  const behind = freeze === 'backbone' ? undefined : parseStrategy(freeze, graph).cut;
  const adapted = withLora(graph, { ...lora, behind });
  return { graph: adapted, cut: cutOf(adapted) };
}

/** Right before the first block with an adapter. */
function cutOf(graph: Graph): string | undefined {
  const first = graph.nodes.find(({ operation }) => operation.kind === 'low_rank')!;
  return cutBefore(graph, graph.blocks.find((block) => first.path.startsWith(`${block}.`))!);
}

function withoutAttention(name: string): UsageError {
  const having = backbones.filter(({ published, inputSize: side }) =>
    buildBackbone(published[0]!, { size: { height: side, width: side } }).nodes.some(
      ({ operation }) => operation.kind === 'attention',
    ),
  );
  return new UsageError({
    code: 'NO_ATTENTION',
    message: `--lora adapts the projections of attention, and ${name} has none`,
    hint: `these have some: ${having.map((each) => each.name).join(', ')}; or leave --lora out`,
  });
}

/** What is trained behind the cut: with adapters these and the heads, else everything, which is undefined. */
export function trainedOf(graph: Graph): ((path: string) => boolean) | undefined {
  const adapters = new Set(adaptersOf(graph).flatMap(({ a, b }) => [a, b]));
  if (adapters.size === 0) return undefined;
  const groups = groupsOf(graph);
  return (path) => adapters.has(path) || groups.get(path)!.layer > graph.blocks.length;
}

/** Whether a parameter is an adapter's, which no file of weights has. */
export function isAdapter(graph: Graph): (path: string) => boolean {
  const adapters = new Set(adaptersOf(graph).flatMap(({ a, b }) => [a, b]));
  return (path) => adapters.has(path);
}

/**
 * What a checkpoint holds beside the model, so that a run goes on as if it had not been stopped.
 * @param read gives the numbers of the network with adapters
 */
export function adapterEntries(graph: Graph, read: ReadParameter): SafetensorsEntry[] {
  const shapes = new Map(graph.parameters.map(({ path, shape }) => [path, shape]));
  return adaptersOf(graph)
    .flatMap(({ kernel, a, b }) => [kernel, a, b])
    .map((name) => ({ name, shape: shapes.get(name)!, read: () => read(name) }));
}

/**
 * Gives the model of a checkpoint its adapters back.
 * @param model that of the checkpoint, as it is without them
 * @throws RUN_INVALID, FILE_TRUNCATED, ...
 */
export async function restoreAdapters<T extends OpenNumbers & { readonly graph: Graph }>(
  { folder }: OpenedModel,
  model: T,
  adapt: (graph: Graph) => Graph,
): Promise<T> {
  const numbers = await withTensorsBeside(folder, ADAPTERS, model, 'the run was');
  return { ...model, graph: adapt(model.graph), ...numbers };
}
