/** In which dimensions and order of axes a file may hold the numbers of a parameter. */
import type { Backbone, Published } from '../../backbones/index.js';
import { ownerOf, type Parameter, type Shape } from '../../engine/graph.js';
import { dialectOf, type Layout } from './dialects.js';

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** Every layout in which a published variant's files may hold a parameter, the usual one first. */
export function layoutsOf(published: Published, parameter: Parameter): readonly Layout[] {
  const layouts = published.layouts?.(parameter) ?? dialectOf(published.dialect).layouts(parameter);
  const part = published.part?.(ownerOf(parameter.path));
  if (part === undefined) return layouts;
  return layouts.map((layout) => {
    const [first, ...others] = layout.shape as [number, ...number[]];
    return { ...layout, part, view: layout.view ?? layout.shape, shape: [first * part.of, ...others] };
  });
}

/** The layouts of one publisher's files, for files of nobody's names. */
export interface Arrangement {
  /** Whose: a source of the backbone, or a dialect. */
  readonly name: string;
  layouts(parameter: Parameter): readonly Layout[];
}

/** How anybody lays out the parameters of a backbone: the variant's own arrangement first. */
export function arrangementsOf(backbone: Backbone, published: Published): Arrangement[] {
  const others = backbone.published.filter((each) => each !== published);
  const ofVariants = [published, ...others].map((each) => ({
    name: each.source,
    layouts: (parameter: Parameter) => layoutsOf(each, parameter),
  }));
  const ofDialects = (['keras', 'torch', 'flax'] as const) // slim's are those of keras
    .map((name) => ({ name, layouts: (parameter: Parameter) => dialectOf(name).layouts(parameter) }));
  return [...ofVariants, ...ofDialects];
}

/** A tensor that some arrangements fit. */
export interface Reading {
  readonly layout: Layout;
  /** Arrangements that read it so. */
  readonly by: readonly string[];
}

/** The different ways in which a tensor of that shape can be read as a parameter, the variant's own first. */
export function readingsOf(
  parameter: Parameter,
  shape: Shape,
  [own, ...others]: readonly Arrangement[],
): readonly Reading[] {
  const factor = own!.layouts(parameter).find((each) => each.factor !== undefined);
  const readings = new Map<string, Reading & { readonly by: string[] }>();
  for (const { name, layouts } of [own!, ...others]) {
    const found = layouts(parameter).find((each) => sameShape(each.shape, shape));
    if (found === undefined) continue;
    const { factor: _, adaptation, ...order } = found;
    // a constant that differs belongs to the network that is asked for, whatever the order of axes
    const layout = factor === undefined ? found : { ...order, ...factorOf(factor) };
    const key = orderKey(found);
    const known = readings.get(key);
    if (known === undefined) readings.set(key, { layout, by: [name] });
    else if (!known.by.includes(name)) known.by.push(name);
  }
  return [...readings.values()];
}

const factorOf = ({ factor, adaptation }: Layout): Partial<Layout> => ({
  ...(factor === undefined ? {} : { factor }),
  ...(adaptation === undefined ? {} : { adaptation }),
});

/** The same for layouts that give the same numbers in the same order. */
function orderKey({ part, view, permutation, shape }: Layout): string {
  return JSON.stringify([part ?? null, permutation === undefined ? null : [view ?? shape, permutation]]);
}

/**
 * The arrangement of a whole file: that which fits most of its tensors, the first of those that do. One kernel of
 * 512 x 512 does not tell rows from columns; those beside it do.
 */
export function arrangementOf(
  pairs: readonly (readonly [Parameter, Shape])[],
  arrangements: readonly Arrangement[],
): string {
  const fits = arrangements.map(
    ({ layouts }) =>
      pairs.filter(([parameter, shape]) => layouts(parameter).some((each) => sameShape(each.shape, shape))).length,
  );
  return arrangements[fits.indexOf(Math.max(...fits))]!.name;
}
