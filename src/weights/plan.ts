/**
 * The planner: which tensor of a file becomes which parameter, decided from names and shapes alone, before any number
 * is read. A load is complete or it throws one error with every fault.
 */
import { type Backbone, type BuildOptions, buildBackbone, type Published } from '../backbones/index.js';
import type { Graph, Parameter, Shape } from '../engine/graph.js';
import { dialectOf, type Layout, relay } from './dialects.js';
import { applyIgnore } from './faults.js';
import { findWrapper, namesOf, soughtNames } from './names.js';
import type { FileDtype, TensorInfo, TensorSource } from './source.js';

export type Verdict = 'ok' | 'absent' | 'wrong_shape' | 'wrong_dtype' | 'extra' | 'set_aside' | 'ignored';

export interface PlanRow {
  readonly verdict: Verdict;
  /** Ours; none for tensors that no parameter takes. */
  readonly parameter?: Parameter;
  /** Names that were looked for. */
  readonly sought: readonly string[];
  /** The file's tensor, where there is one. */
  readonly tensor?: TensorInfo;
  readonly layout?: Layout;
  /** In the file's layout, where the tensor has another shape. */
  readonly expected?: Shape;
  /** The tensor whose running average is taken in its place. */
  readonly averaged?: TensorInfo;
}

export interface Plan {
  readonly backbone: Backbone;
  readonly published: Published;
  /** Classes of the file's classifier; undefined where it has none. */
  readonly classes: number | undefined;
  /** The network the file was planned for, at the published input size, with the classifier if the file has one. */
  readonly graph: Graph;
  readonly rows: readonly PlanRow[];
  /** A prefix that every used name carries in the file: the name of a wrapping model. */
  readonly wrapper: string;
}

const CLASSIFIER = 'classifier';

/** Plans a file for one published variant. `ignore` names tensors and parameters, with `*` for any run of characters. */
export function planWeights(
  source: TensorSource,
  backbone: Backbone,
  published: Published,
  ignore: readonly string[] = [],
): Plan {
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  const headless = buildBackbone(published, { size });
  const names = namesOf(source, published);
  const wrapper = findWrapper(names, published, headless);
  const tensors = new Map(
    source.tensors.flatMap((tensor, i) =>
      names[i]!.startsWith(wrapper) ? [[names[i]!.slice(wrapper.length), tensor] as const] : [],
    ),
  );
  const tensorOf: TensorOf = (parameter) =>
    tensors.get(soughtNames(published, parameter).find((name) => tensors.has(name)) ?? '');
  const classes = classesIn(tensorOf, CLASSIFIER);
  const graph = buildWhole(published, { size, classes }, tensorOf);

  const { average: suffix } = dialectOf(published.dialect);
  const byName = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  const averageOf = ({ name }: TensorInfo) => (suffix === undefined ? undefined : byName.get(name + suffix));
  const used = new Set<TensorInfo>();
  const rows: PlanRow[] = graph.parameters.map((parameter) => {
    const sought = soughtNames(published, parameter);
    const tensor = tensorOf(parameter);
    if (tensor === undefined) return { verdict: 'absent', parameter, sought };
    const taken = averageOf(tensor) ?? tensor;
    used.add(taken);
    const row = judge(withGridOf(parameter, tensor), sought, taken, (each) => layoutsOf(published, each));
    return taken === tensor ? row : { ...row, averaged: tensor };
  });
  const averaged = new Set(rows.map((row) => row.averaged));
  const setAside = [...dialectOf(published.dialect).setAside, ...(published.setAside ?? [])];
  const declared = new Set(source.setAside?.map(({ name }) => name)); // by the reader
  for (const tensor of source.tensors) {
    if (used.has(tensor)) continue;
    const matches = (name: string) => setAside.some((pattern) => pattern.test(name));
    const known = declared.has(tensor.name) || averaged.has(tensor);
    const aside = known || matches(tensor.name.slice(wrapper.length)) || matches(tensor.name);
    rows.push({ verdict: aside ? 'set_aside' : 'extra', sought: [], tensor });
  }
  return { backbone, published, classes, graph, rows: applyIgnore(rows, ignore), wrapper };
}

type TensorOf = (parameter: Pick<Parameter, 'path' | 'role'>) => TensorInfo | undefined;

/** Classes of a classifier in a file, by the bias of its last layer; undefined where the file has none. */
function classesIn(tensorOf: TensorOf, layer: string): number | undefined {
  return tensorOf({ path: `${layer}.bias`, role: 'bias' })?.shape.at(-1);
}

/** The network with those of the parts that not every file has, of which this one has any. */
function buildWhole(
  published: Published,
  options: Pick<BuildOptions, 'size' | 'channels' | 'classes'>,
  tensorOf: TensorOf,
): Graph {
  const last = published.auxiliary?.[0];
  const auxiliary = last === undefined ? undefined : classesIn(tensorOf, `${last.name}.logits`);
  const plain = buildBackbone(published, { ...options, auxiliary });
  if (options.classes === undefined || published.representation === undefined) return plain;
  const whole = buildBackbone(published, { ...options, auxiliary, representation: true });
  const found = whole.parameters.some((each) => each.path.startsWith('representation.') && tensorOf(each));
  return found ? whole : plain;
}

/** Every layout in which a file may hold a parameter. */
export function layoutsOf(published: Published, parameter: Parameter): readonly Layout[] {
  const layouts = published.layouts?.(parameter) ?? dialectOf(published.dialect).layouts(parameter);
  const part = published.part?.(parameter.path.slice(0, parameter.path.lastIndexOf('.')));
  if (part === undefined) return layouts;
  return layouts.map((layout) => {
    const [first, ...others] = layout.shape as [number, ...number[]];
    return { ...layout, part, view: layout.view ?? layout.shape, shape: [first * part.of, ...others] };
  });
}

/** A position embedding is taken at the size of the file's grid; `adapt.ts` brings it to another one when it is used. */
function withGridOf(parameter: Parameter, tensor: TensorInfo): Parameter {
  if (parameter.places === undefined || tensor.shape.at(-2) === parameter.shape[0]) return parameter;
  const { grid } = parameter.places;
  const [tokens, depth] = [tensor.shape.at(-2) ?? 0, parameter.shape[1]!];
  const side = Math.sqrt(tokens - (parameter.shape[0]! - grid[0] * grid[1]));
  if (!Number.isInteger(side) || side < 1) return parameter;
  return { ...parameter, shape: [tokens, depth], places: { ...parameter.places, grid: [side, side] } };
}

/**
 * Plans a file in which parameters are called by their own paths: the local store's, or a model folder's, whose `head`
 * belongs to other classes and is set aside.
 * @param input what the file's network takes, where that is not what was published
 */
export function planCanonical(
  source: TensorSource,
  backbone: Backbone,
  published: Published,
  ignore: readonly string[] = [],
  input: Partial<Pick<BuildOptions, 'size' | 'channels'>> = {},
): Plan {
  const { size = { height: backbone.inputSize, width: backbone.inputSize }, channels } = input;
  const tensors = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  const tensorOf: TensorOf = ({ path }) => tensors.get(path);
  const classes = classesIn(tensorOf, CLASSIFIER);
  const graph = buildWhole(published, { size, channels, classes }, tensorOf);
  const rows: PlanRow[] = graph.parameters.map((parameter) => {
    const tensor = tensors.get(parameter.path);
    const sought = [parameter.path];
    if (tensor === undefined) return { verdict: 'absent', parameter, sought };
    tensors.delete(tensor.name);
    return judge(withGridOf(parameter, tensor), sought, tensor, ({ shape }) => [{ shape }]);
  });
  for (const tensor of tensors.values()) {
    rows.push({ verdict: tensor.name.startsWith('head.') ? 'set_aside' : 'extra', sought: [], tensor });
  }
  return { backbone, published, classes, graph, rows: applyIgnore(rows, ignore), wrapper: '' };
}

/** Integers are quantised numbers without their scale, or something else altogether. */
const floats: ReadonlySet<FileDtype> = new Set(['float32', 'float64', 'float16', 'bfloat16'] as const);

function judge(
  parameter: Parameter,
  sought: readonly string[],
  tensor: TensorInfo,
  layoutsFor: (parameter: Parameter) => readonly Layout[],
): PlanRow {
  const layouts = layoutsFor(parameter);
  const layout = layouts.find((each) => sameShape(each.shape, tensor.shape));
  if (layout === undefined) {
    return { verdict: 'wrong_shape', parameter, sought, tensor, expected: layouts[0]!.shape };
  }
  return { verdict: floats.has(tensor.dtype) ? 'ok' : 'wrong_dtype', parameter, sought, tensor, layout };
}

const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** Reads the numbers of one planned parameter in our layout. */
export async function readPlanned(source: TensorSource, row: PlanRow): Promise<Float32Array> {
  const values = await source.read(row.tensor!.name);
  return relay(values, row.layout!);
}
