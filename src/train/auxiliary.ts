/**
 * Auxiliary classifiers in training: which take part, from which numbers, and how a stopped run gets them back. They
 * vanish with the training; no model folder has them.
 */
import { type Auxiliary, findBackbone, findPublished, type Published, withAuxiliary } from '../backbones/index.js';
import { cutAt, type Graph, tapOf } from '../engine/graph.js';
import { ToolkitError, UsageError } from '../errors.js';
import type { OpenedModel } from '../weights/model-folder.js';
import { type OpenNumbers, withTensorsBeside } from './beside.js';
import type { AuxiliaryLoss } from './trainable.js';

/** In `last/`: what a checkpoint has besides the model. */
export const AUXILIARY = 'auxiliary.safetensors';

/**
 * The auxiliary classifiers that stand on what is trained, behind the cut. On a frozen value, the cut itself too, one
 * would teach nobody but itself.
 */
export function auxiliaryBehind(graph: Graph, cut: string | undefined, published: Published): readonly Auxiliary[] {
  const all = published.auxiliary ?? [];
  if (cut === undefined) return all;
  const { after } = cutAt(graph, cut, 'logits');
  return all.filter(({ tap }) => after.includes(tapOf(graph, tap)));
}

/**
 * The network as it is trained: with auxiliary classifiers for the same classes.
 * @throws INPUT_SIZE where one was made for a grid that this input size does not give
 */
export function forTraining(graph: Graph, auxiliary: readonly Auxiliary[], classes: number): Graph {
  try {
    return withAuxiliary(graph, auxiliary, classes);
  } catch (error) {
    if (!(error instanceof ToolkitError) || !['INPUT_SIZE', 'INPUT_TOO_SMALL'].includes(error.code)) throw error;
    throw new UsageError({
      code: 'INPUT_SIZE',
      message: `an auxiliary classifier does not fit: ${error.message}`,
      hint: `${error.hint}, or train without: --auxiliary off`,
      cause: error,
    });
  }
}

/** What they add to the loss. */
export const lossesOf = (auxiliary: readonly Auxiliary[]): AuxiliaryLoss[] =>
  auxiliary.map(({ name, weight }) => ({ tap: `${name}.logits`, weight }));

/**
 * Whether a parameter of theirs starts anew: the layer that knows the classes always does, as the head; the others
 * where the weights have none.
 */
export function startsAnew(path: string, auxiliary: readonly Auxiliary[], stored: ReadonlySet<string>): boolean {
  const owner = auxiliary.find(({ name }) => path.startsWith(`${name}.`));
  return owner !== undefined && (path.startsWith(`${owner.name}.logits.`) || !stored.has(path));
}

/** A model as it was in training. */
interface TrainedModel extends OpenNumbers {
  readonly graph: Graph;
  readonly auxiliary: readonly AuxiliaryLoss[];
}

/** Gives the model of a checkpoint the auxiliary classifiers back. @throws RUN_INVALID, FILE_TRUNCATED, ... */
export async function restoreAuxiliary(last: OpenedModel, names: readonly string[]): Promise<TrainedModel> {
  if (names.length === 0) return { graph: last.graph, auxiliary: [], read: last.read, close: () => last.close() };
  const { backbone, source, classes } = last.record;
  const all = findPublished(findBackbone(backbone), source).auxiliary ?? [];
  const auxiliary = all.filter(({ name }) => names.includes(name));
  const numbers = await withTensorsBeside(last.folder, AUXILIARY, last, `${names.join(' and ')} were`);
  return { graph: forTraining(last.graph, auxiliary, classes.length), auxiliary: lossesOf(auxiliary), ...numbers };
}
