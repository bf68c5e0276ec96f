/**
 * Names: under which a parameter may stand in a file, and which of a file's tensors carries one of them. The family's
 * table gives the layer's name, the dialect's the parameter's.
 */
import type { Published } from '../backbones/index.js';
import type { Graph, Parameter } from '../engine/graph.js';
import { dialectOf } from './dialects.js';
import type { TensorSource } from './source.js';

/** Every name under which a parameter may stand in a file, best first. */
export function soughtNames(published: Published, parameter: Pick<Parameter, 'path' | 'role'>): string[] {
  const dot = parameter.path.lastIndexOf('.');
  const dialect = dialectOf(published.dialect);
  return published.ownerNames(parameter.path.slice(0, dot)).flatMap((owner) => {
    const layer = owner.slice(owner.lastIndexOf('/') + 1);
    return dialect
      .leafs(parameter.role, layer)
      .map((leaf) => (owner === '' ? leaf : `${owner}${dialect.separator}${leaf}`));
  });
}

/**
 * The tensors' names as the family's table has them. Where layers are counted through a program, their numbers become
 * places among those of their kind beside them: of `aux_2/dense_2` and `aux_2/dense_3` they become `dense`, `dense_1`.
 * A Sequential without a name of its own is counted too, and left out: `sequential_3/dense_2` is `dense_2`.
 */
export function namesOf({ tensors }: TensorSource, published: Published): string[] {
  if (published.counted !== true) return tensors.map(({ name }) => name);
  const parts = tensors.map(({ name }) => {
    const bare = name.replaceAll(/(?<=^|\/)sequential(_\d+)?\//g, '');
    return /^(.*?)(?:_(\d+))?(\/[^/]*)$/.exec(bare) ?? [bare, bare, undefined, ''];
  });
  const numbers = new Map<string, Set<number>>();
  for (const [, base, number] of parts) {
    numbers.set(base!, (numbers.get(base!) ?? new Set()).add(Number(number ?? 0)));
  }
  return parts.map(([, base, number, leaf]) => {
    const place = [...numbers.get(base!)!].filter((each) => each < Number(number ?? 0)).length;
    return `${base}${place === 0 ? '' : `_${place}`}${leaf}`;
  });
}

/** Models wrapped in others carry the wrapper's name before every tensor's: `resnet50/conv1_conv/kernel`. */
export function findWrapper(names: readonly string[], published: Published, graph: Graph): string {
  const { separator } = dialectOf(published.dialect);
  const sought = soughtNames(published, graph.parameters[0]!);
  if (names.some((name) => sought.includes(name))) return '';
  for (const name of names) {
    const match = sought.find((each) => name.endsWith(separator + each));
    if (match !== undefined) return name.slice(0, -match.length);
  }
  return '';
}
