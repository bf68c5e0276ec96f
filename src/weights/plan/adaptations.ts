/** What is done to a file's numbers on the way to our parameters, beyond giving them our names. */
import { hasGamma, type Parameter, type Places } from '../../engine/graph.js';
import { elementsOf } from '../float-formats.js';
import type { TensorSource } from '../source.js';
import { describeHead } from './file-head.js';
import { type Plan, type PlanRow, RAW_WANTED } from './plan.js';

/**
 * - `prefix` a wrapping model's name left off every tensor's
 * - `running_average` averages taken in the place of what they average, or left alone because the user said so
 * - `classifier_dropped`, `background_dropped` the classifier, or its first class, left out because the user said so
 * - `head` layers of somebody's own are the classifier
 * - `axes_moved` the same numbers in our order of axes
 * - `order_assumed` a tensor that others would have read in another order of axes
 * - `reordered` the same numbers in another order, beyond whole axes: rows of a flattened picture, a grouped kernel
 * - `reshaped` a convolution read as a dense layer, the heads of attention joined
 * - `scaled` times a constant in which the published network differs from ours
 * - `split` several parameters taken from one tensor: queries, keys and values
 * - `dtype` another number type made float32
 * - `dequantised` whole numbers and their scale made float32
 * - `without_gamma` norms of the network that have none, and scale by 1
 * - `left_out` a parameter that takes the value without effect, because the user said so
 * - `other_pixels` the file's own mean and variance of pixels are not those that pictures are normalised with
 * - `proven` compared with a network that the file carries
 * - `grid` a position embedding is kept that was made for another grid than the published one
 * - `resampled` a position embedding brought to another grid, class token kept
 * - `channels` the first convolution brought to pictures of other channels
 */
export type AdaptationKind =
  | 'prefix'
  | 'running_average'
  | 'classifier_dropped'
  | 'background_dropped'
  | 'head'
  | 'axes_moved'
  | 'order_assumed'
  | 'reordered'
  | 'reshaped'
  | 'scaled'
  | 'split'
  | 'dtype'
  | 'dequantised'
  | 'without_gamma'
  | 'left_out'
  | 'other_pixels'
  | 'proven'
  | 'grid'
  | 'resampled'
  | 'channels';

export interface Adaptation {
  readonly kind: AdaptationKind;
  /** Names of the tensors concerned, as in the file, or paths of parameters; empty where it is said of the whole. */
  readonly tensors: readonly string[];
  /** A sentence for people. */
  readonly text: string;
}

/** How a publisher brings a position embedding to another grid, in words. */
export const resamplingRules: Readonly<Record<Places['resampling'], string>> = {
  bicubic_antialias: 'with the antialiased bicubic filter',
  linear_corners: 'linearly, corners in place',
  bicubic_corners: 'by bicubic convolution, corners in place',
};

/** The value of a parameter that has no effect: bias and beta 0, gamma 1, mean 0, variance 1. */
export function neutral({ role, shape }: Parameter): Float32Array {
  return new Float32Array(elementsOf(shape)).fill(role === 'norm.gamma' || role === 'norm.variance' ? 1 : 0);
}

/** @param rows those of the parameters that are loaded */
export function adaptationsOf(plan: Plan, rows: readonly PlanRow[], source: TensorSource): Adaptation[] {
  const loaded = rows.filter(({ verdict }) => verdict === 'ok');
  return [
    ...prefixOf(plan, loaded),
    ...averagesOf(plan, loaded),
    ...classifierOf(plan, loaded),
    ...movedOf(plan, loaded),
    ...groupsOf(loaded),
    ...numbersOf(loaded, source),
    ...gammasOf(plan),
    ...gridsOf(plan, loaded),
    ...rows.flatMap(({ verdict, parameter, tensor }): Adaptation[] => {
      if (verdict !== 'ignored') return [];
      const text = `${parameter!.path} left out: ${neutral(parameter!)[0]} everywhere, which has no effect`;
      return [{ kind: 'left_out', tensors: tensor === undefined ? [] : [tensor.name], text }];
    }),
  ];
}

/** The adaptation that one row of a plan undergoes, for a table of them; undefined where it is loaded as it lies. */
export function adaptationOfRow({ verdict, tensor, layout, averaged, withoutBackground }: PlanRow): string | undefined {
  if (verdict !== 'ok') return undefined;
  const said = [
    averaged === undefined ? undefined : 'running average',
    withoutBackground === true ? 'background class dropped' : undefined,
    layout?.part === undefined ? undefined : `part ${layout.part.index + 1} of ${layout.part.of}`,
    layout?.adaptation,
    tensor!.dtype === 'float32' ? undefined : `${tensor!.dtype} made float32`,
  ].filter((each) => each !== undefined);
  return said.length === 0 ? undefined : said.join('; ');
}

const namesIn = (rows: readonly PlanRow[]): string[] => [...new Set(rows.map(({ tensor }) => tensor!.name))];

/** `a`, `a and b`, `a and 12 others`. */
const someOf = ([first, second, ...others]: readonly string[]): string =>
  second === undefined ? `${first}` : `${first} and ${others.length === 0 ? second : `${others.length + 1} others`}`;

function prefixOf({ wrapper }: Plan, loaded: readonly PlanRow[]): Adaptation[] {
  const under = loaded.filter(({ tensor }) => tensor!.name.startsWith(wrapper));
  if (wrapper === '' || under.length === 0) return [];
  const all = under.length === loaded.length ? 'every name' : `${under.length} names`;
  return [{ kind: 'prefix', tensors: [], text: `prefix ${wrapper} left off ${all}` }];
}

function averagesOf({ rows }: Plan, loaded: readonly PlanRow[]): Adaptation[] {
  const taken = loaded.filter(({ averaged }) => averaged !== undefined);
  const left = rows.filter(({ reason }) => reason === RAW_WANTED);
  const done = (kept: readonly PlanRow[], text: string): Adaptation[] =>
    kept.length === 0 ? [] : [{ kind: 'running_average', tensors: namesIn(kept), text }];
  return [
    ...done(taken, `running averages taken in the place of ${taken.length} tensors`),
    ...done(left, `running averages of ${left.length} tensors left alone, and the raw numbers taken`),
  ];
}

function classifierOf(plan: Plan, loaded: readonly PlanRow[]): Adaptation[] {
  const { head, classes, classesInFile, rows } = plan;
  const dropped = rows.filter(({ reason }) => reason?.endsWith('which is dropped') === true);
  const out: Adaptation[] = [];
  if (dropped.length > 0) {
    const what = classesInFile === undefined ? 'the head' : `the classifier of ${classesInFile} classes`;
    out.push({
      kind: 'classifier_dropped',
      tensors: namesIn(dropped),
      text: `${what} dropped: ${someOf(namesIn(dropped))}`,
    });
  }
  const cut = loaded.filter(({ withoutBackground }) => withoutBackground === true);
  if (cut.length > 0) {
    const text = `the background class, index 0 of ${classesInFile}, dropped: ${classes} classes are left`;
    out.push({ kind: 'background_dropped', tensors: namesIn(cut), text });
  }
  const ofHead = loaded.filter(({ parameter }) => parameter!.path.startsWith('head.'));
  if (head !== undefined && ofHead.length > 0) {
    const known = head.stated ? '' : '; ReLU is taken for granted, since the file does not say';
    const text = `dense layers behind the backbone are its head, ${describeHead(head)}${head.hidden.length === 0 ? '' : known}`;
    out.push({ kind: 'head', tensors: namesIn(ofHead), text });
  }
  return out;
}

function movedOf({ published }: Plan, loaded: readonly PlanRow[]): Adaptation[] {
  const moved = loaded.filter(({ layout }) => layout!.permutation !== undefined);
  const out: Adaptation[] = [];
  if (moved.length > 0) {
    const text = `axes of ${moved.length} tensors moved from ${published.dialect}'s layout`;
    out.push({ kind: 'axes_moved', tensors: namesIn(moved), text });
  }
  const assumed = loaded.filter(({ ambiguous }) => ambiguous !== undefined);
  if (assumed.length > 0) {
    const others = [...new Set(assumed.flatMap(({ ambiguous }) => ambiguous!))].join(', ');
    const text = `${someOf(namesIn(assumed))}: the shape does not tell the order of axes, which that of the other tensors decides; ${others} would read it otherwise`;
    out.push({ kind: 'order_assumed', tensors: namesIn(assumed), text });
  }
  return out;
}

/** Layouts with a word of their own, and parts of tensors. */
function groupsOf(loaded: readonly PlanRow[]): Adaptation[] {
  const groups = new Map<string, { kind: AdaptationKind; names: string[] }>();
  for (const { tensor, layout } of loaded) {
    const { adaptation, factor, view, part } = layout!;
    if (adaptation === undefined) continue;
    const kind = factor !== undefined ? 'scaled' : view !== undefined && part === undefined ? 'reordered' : 'reshaped';
    const group = groups.get(adaptation) ?? { kind, names: [] };
    group.names.push(tensor!.name);
    groups.set(adaptation, group);
  }
  const parts = loaded.filter(({ layout }) => layout!.part !== undefined);
  const joined = namesIn(parts);
  return [
    ...[...groups].map(([text, { kind, names }]) => ({ kind, tensors: names, text: `${someOf(names)}: ${text}` })),
    ...(parts.length === 0
      ? []
      : [
          {
            kind: 'split' as const,
            tensors: joined,
            text: `${parts.length} parameters taken from ${joined.length} tensors, which hold several each`,
          },
        ]),
  ];
}

function numbersOf(loaded: readonly PlanRow[], { metadata }: TensorSource): Adaptation[] {
  const types = new Map<string, string[]>();
  for (const { dtype, name } of new Set(loaded.map(({ tensor }) => tensor!))) {
    if (dtype !== 'float32') types.set(dtype, [...(types.get(dtype) ?? []), name]);
  }
  const out = [...types].map(
    ([dtype, names]): Adaptation => ({
      kind: 'dtype',
      tensors: names,
      text: `${dtype} made float32: ${someOf(names)}`,
    }),
  );
  const { quantized } = metadata; // of TensorFlow.js: the types that its quantised tensors are stored in
  if (quantized !== undefined) {
    out.push({ kind: 'dequantised', tensors: [], text: `numbers stored as ${quantized} made float32` });
  }
  return out;
}

function gammasOf({ graph }: Plan): Adaptation[] {
  const norms = graph.nodes.filter(({ parameters }) => parameters.some(({ role }) => role === 'norm.beta'));
  const bare = norms.filter((norm) => !hasGamma(norm));
  if (bare.length === 0) return [];
  const text = `${bare.length} of ${norms.length} norms have no gamma in the published network, and scale by 1`;
  return [{ kind: 'without_gamma', tensors: [], text }];
}

/** A position embedding lies in the store as in the file, and is resampled where another size is asked for. */
function gridsOf({ graph }: Plan, loaded: readonly PlanRow[]): Adaptation[] {
  const published = new Map(graph.parameters.map(({ path, places }) => [path, places?.grid]));
  return loaded.flatMap(({ parameter, tensor }): Adaptation[] => {
    const { places, path } = parameter!;
    const grid = published.get(path);
    if (places === undefined || grid === undefined || places.grid.join() === grid.join()) return [];
    const [own, usual] = [places.grid.join('x'), grid.join('x')];
    const text = `${tensor!.name} has ${own} places, not ${usual}: for other sizes it is resampled ${resamplingRules[places.resampling]}, the class token kept`;
    return [{ kind: 'grid', tensors: [tensor!.name], text }];
  });
}
