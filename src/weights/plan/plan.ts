/**
 * The planner: which tensor of a file becomes which parameter, decided from names and shapes alone, before any number
 * is read. A load is complete or it throws one error with every fault.
 */
import { type Backbone, type BuildOptions, buildBackbone, type Published } from '../../backbones/index.js';
import type { Graph, Parameter, Shape } from '../../engine/graph.js';
import { type Head, withHead } from '../../heads/heads.js';
import type { FileDtype, TensorInfo, TensorSource } from '../source.js';
import { dialectOf, type Layout, relay, relayPieces } from './dialects.js';
import { applyIgnore } from './faults.js';
import { type FileHead, findHead, namedHead } from './file-head.js';
import { type Arrangement, arrangementOf, arrangementsOf, layoutsOf, readingsOf, sameShape } from './layouts.js';
import type { NameMap } from './name-map.js';
import { type Lookup, mappedLookup, ownLookup, publishedLookup } from './names.js';
import type { Memory } from './permute.js';

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
  /** The outputs of a background class, at index 0, are left out of the numbers. */
  readonly withoutBackground?: boolean;
  /** Publishers who would read a tensor of this shape in another order of axes; its layout follows the other tensors. */
  readonly ambiguous?: readonly string[];
  /** Why a tensor is set aside, or what else is to be said of one that belongs nowhere. */
  readonly reason?: string;
}

/** The running averages of weights, where a file has them: taken, demanded, or left alone. */
export type AverageChoice = 'auto' | 'only' | 'never';
export const averageChoices: readonly AverageChoice[] = ['auto', 'only', 'never'];

/** What becomes of a file's classifier; `without-background` drops the first of 1001 classes. */
export type ClassifierChoice = 'keep' | 'drop' | 'without-background';
export const classifierChoices: readonly ClassifierChoice[] = ['keep', 'drop', 'without-background'];

export interface PlanOptions {
  /** Names of tensors and parameters that may be left out, with `*` for any run of characters. */
  readonly ignore?: readonly string[] | undefined;
  /** Names of the user's own. */
  readonly map?: NameMap | undefined;
  /** Default `auto`: an average is taken where there is one. */
  readonly average?: AverageChoice | undefined;
  /** Default `keep`. */
  readonly classifier?: ClassifierChoice | undefined;
}

export interface Plan {
  readonly backbone: Backbone;
  readonly published: Published;
  /** Classes of the classifier as it is loaded; undefined where there is none. */
  readonly classes: number | undefined;
  /** Of the file's own classifier, which may be dropped or lose its background class. */
  readonly classesInFile: number | undefined;
  /** Layers of somebody's own behind the backbone, in the place of the published classifier. */
  readonly head: (Head & Pick<FileHead, 'classes' | 'stated'>) | undefined;
  /** The network the file was planned for, at the published input size, with the classifier or head if the file has one. */
  readonly graph: Graph;
  readonly rows: readonly PlanRow[];
  /** A prefix that every used name carries in the file: the name of a wrapping model. */
  readonly wrapper: string;
}

const CLASSIFIER = 'classifier';

/** Classes of slim's files: ImageNet's, and a background at index 0. */
export const WITH_BACKGROUND = 1001;

/** Why a running average is set aside where the raw numbers are asked for. */
export const RAW_WANTED = 'a running average, and raw numbers were asked for';

/** Plans a file for one published variant. @throws IGNORE_MATCHES_NOTHING, NAME_MAP */
export function planWeights(
  source: TensorSource,
  backbone: Backbone,
  published: Published,
  options: PlanOptions = {},
): Plan {
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  const headless = buildBackbone(published, { size });
  const { map } = options;
  const lookup =
    map === undefined ? publishedLookup(source, published, headless) : mappedLookup(source, published, headless, map);
  const { average: suffix, setAside } = dialectOf(published.dialect);
  const byName = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  const averageOf = ({ name }: TensorInfo) =>
    byName.get(source.averages?.get(name) ?? (suffix === undefined ? '' : name + suffix));
  const constant = 'a constant, or what belongs to preprocessing';
  const patterns = [...setAside, ...(published.setAside ?? []).map((pattern) => ({ pattern, reason: constant }))];
  const declared = new Map(source.setAside?.map(({ name, reason }) => [name, reason])); // by the reader
  return planFor(backbone, published, options, {
    source,
    lookup,
    build: { size },
    averageOf,
    asideReason: ({ name }) => {
      const inner = name.startsWith(lookup.wrapper) ? name.slice(lookup.wrapper.length) : name;
      return declared.get(name) ?? patterns.find(({ pattern }) => pattern.test(inner) || pattern.test(name))?.reason;
    },
    layoutsFor: (parameter) => layoutsOf(published, parameter),
  });
}

/**
 * Plans a file in which parameters are called by their own paths: the local store's, or a model folder's.
 * @param input what the file's network takes, where that is not what was published
 */
export function planCanonical(
  source: TensorSource,
  backbone: Backbone,
  published: Published,
  options: PlanOptions = {},
  input: Partial<Pick<BuildOptions, 'size' | 'channels'>> = {},
): Plan {
  const { size = { height: backbone.inputSize, width: backbone.inputSize }, channels } = input;
  return planFor(backbone, published, options, {
    source,
    lookup: ownLookup(source),
    build: { size, channels },
    averageOf: () => undefined,
    asideReason: ({ name }) => (name.startsWith('head.') ? 'part of a head that is not whole' : undefined),
    layoutsFor: ({ shape }) => [{ shape }],
  });
}

/** How one file is read. */
interface Reading {
  readonly source: TensorSource;
  readonly lookup: Lookup;
  readonly build: Pick<BuildOptions, 'size' | 'channels'>;
  averageOf(tensor: TensorInfo): TensorInfo | undefined;
  /** Why a tensor that no parameter takes is nothing to worry about; undefined where it is. */
  asideReason(tensor: TensorInfo): string | undefined;
  layoutsFor(parameter: Parameter): readonly Layout[];
}

function planFor(backbone: Backbone, published: Published, options: PlanOptions, reading: Reading): Plan {
  const { source, lookup, build, asideReason } = reading;
  const { average = 'auto', classifier = 'keep', ignore = [] } = options;
  const classesInFile = classesIn(lookup, CLASSIFIER);
  const inFile = buildWhole(published, { ...build, classes: classesInFile }, lookup);
  const units = inFile.taps.get('pre_logits')!.shape[0]!;
  const found = headOf(source, published, inFile, reading, units);
  const head = found === undefined || 'fault' in found ? undefined : found;
  const fault = found !== undefined && 'fault' in found ? found.fault : undefined;

  const withoutBackground = classifier === 'without-background' && classesInFile === WITH_BACKGROUND;
  const dropped = classifier === 'drop' || head !== undefined;
  const classes = dropped || classesInFile === undefined ? undefined : classesInFile - Number(withoutBackground);
  const bare = classes === classesInFile ? inFile : buildWhole(published, { ...build, classes }, lookup);
  const kept = classifier === 'drop' ? undefined : head;
  const graph = kept === undefined ? bare : withHead(bare, kept, kept.classes);

  const tensorOf = (parameter: Parameter): TensorInfo | undefined =>
    kept?.tensors.get(parameter.path) ?? lookup.find(parameter);
  const layouts = layoutsChosen(backbone, published, graph, reading, tensorOf);
  const used = new Set<TensorInfo>();
  const unused = new Map<TensorInfo, string>(); // set aside in favour of another tensor
  const rows: PlanRow[] = graph.parameters.map((parameter) => {
    const sought = kept?.tensors.has(parameter.path) ? [] : lookup.sought(parameter);
    const raw = tensorOf(parameter);
    if (raw === undefined) return { verdict: 'absent', parameter, sought };
    const averaged = reading.averageOf(raw);
    if (average === 'only' && averaged === undefined && parameter.trainable && !isAverage(published, raw)) {
      unused.set(raw, 'raw numbers, where running averages were asked for');
      return { verdict: 'absent', parameter, sought: [`a running average of ${raw.name}`] };
    }
    const taken = average === 'never' ? raw : (averaged ?? raw);
    if (taken !== raw) unused.set(raw, 'its running average is taken');
    else if (averaged !== undefined) unused.set(averaged, RAW_WANTED);
    used.add(taken);
    const background = withoutBackground && parameter.path.startsWith(`${CLASSIFIER}.`);
    const row = judge(withGridOf(background ? withBackground(parameter) : parameter, taken), sought, taken, layouts);
    return {
      ...row,
      ...(background ? { parameter, withoutBackground: true } : {}),
      ...(taken === raw ? {} : { averaged: raw }),
    };
  });
  const ofDropped = dropped ? droppedTensors(inFile, reading, classifier === 'drop' ? head : undefined) : new Map();
  for (const tensor of source.tensors) {
    if (used.has(tensor)) continue;
    const reason = unused.get(tensor) ?? ofDropped.get(tensor) ?? asideReason(tensor);
    if (reason !== undefined) rows.push({ verdict: 'set_aside', sought: [], tensor, reason });
    else rows.push({ verdict: 'extra', sought: [], tensor, ...(fault === undefined ? {} : { reason: fault }) });
  }
  return {
    backbone,
    published,
    classes,
    classesInFile: head === undefined ? classesInFile : undefined,
    head: kept,
    graph,
    rows: applyIgnore(rows, ignore),
    wrapper: lookup.wrapper,
  };
}

/** Classes of a classifier in a file, by the bias of its last layer; undefined where the file has none. */
function classesIn({ find }: Lookup, layer: string): number | undefined {
  return find({ path: `${layer}.bias`, role: 'bias' })?.shape.at(-1);
}

/** The network with those of the parts that not every file has, of which this one has any. */
function buildWhole(
  published: Published,
  options: Pick<BuildOptions, 'size' | 'channels' | 'classes'>,
  lookup: Lookup,
): Graph {
  const last = published.auxiliary?.[0];
  const auxiliary = last === undefined ? undefined : classesIn(lookup, `${last.name}.logits`);
  const plain = buildBackbone(published, { ...options, auxiliary });
  if (options.classes === undefined || published.representation === undefined) return plain;
  const whole = buildBackbone(published, { ...options, auxiliary, representation: true });
  const found = whole.parameters.some((each) => each.path.startsWith('representation.') && lookup.find(each));
  return found ? whole : plain;
}

function headOf(
  source: TensorSource,
  published: Published,
  inFile: Graph,
  { lookup, asideReason, averageOf }: Reading,
  units: number,
): ReturnType<typeof findHead> {
  if (lookup.knowsHeads) {
    const named = namedHead(lookup, units);
    if (named !== undefined) return named;
  }
  const taken = new Map<TensorInfo, Parameter>();
  for (const parameter of inFile.parameters) {
    const tensor = lookup.find(parameter);
    if (tensor === undefined) continue;
    taken.set(tensor, parameter);
    const average = averageOf(tensor);
    if (average !== undefined) taken.set(average, parameter);
  }
  const free = source.tensors.filter((tensor) => !taken.has(tensor) && asideReason(tensor) === undefined);
  const ofClassifier = [...taken].filter(([, { path }]) => path.startsWith(`${CLASSIFIER}.`));
  return findHead(
    source,
    published,
    free,
    ofClassifier.map(([tensor]) => tensor),
    units,
  );
}

/** Tensors of a classifier, or head, that is not wanted, with the reason. */
function droppedTensors(
  inFile: Graph,
  { lookup, averageOf }: Reading,
  head: FileHead | undefined,
): Map<TensorInfo, string> {
  const out = new Map<TensorInfo, string>();
  for (const parameter of inFile.parameters) {
    const tensor = /^(classifier|representation)\./.test(parameter.path) ? lookup.find(parameter) : undefined;
    if (tensor !== undefined) out.set(tensor, 'of the classifier, which is dropped');
  }
  for (const tensor of head?.tensors.values() ?? []) out.set(tensor, 'of the head, which is dropped');
  for (const [tensor, reason] of [...out]) {
    const average = averageOf(tensor);
    if (average !== undefined) out.set(average, reason);
  }
  return out;
}

/**
 * The layouts of each parameter. Tensors that the user named may be laid out like anybody's; the file as a whole decides
 * whose.
 */
function layoutsChosen(
  backbone: Backbone,
  published: Published,
  graph: Graph,
  { lookup, layoutsFor }: Reading,
  tensorOf: (parameter: Parameter) => TensorInfo | undefined,
): (parameter: Parameter, shape: Shape) => { layouts: readonly Layout[]; ambiguous?: readonly string[] } {
  const mapped = graph.parameters.flatMap((parameter) => {
    const tensor = lookup.isMapped(parameter) ? tensorOf(parameter) : undefined;
    return tensor === undefined ? [] : [[withGridOf(parameter, tensor), tensor.shape] as const];
  });
  if (mapped.length === 0) return (parameter) => ({ layouts: layoutsFor(parameter) });
  const arrangements: readonly Arrangement[] = arrangementsOf(backbone, published);
  const name = arrangementOf(mapped, arrangements);
  return (parameter, shape) => {
    if (!lookup.isMapped(parameter)) return { layouts: layoutsFor(parameter) };
    const readings = readingsOf(parameter, shape, arrangements);
    const chosen = readings.find(({ by }) => by.includes(name)) ?? readings[0];
    if (chosen === undefined) return { layouts: layoutsFor(parameter) };
    const ambiguous = readings.filter((each) => each !== chosen).flatMap(({ by }) => by);
    return { layouts: [chosen.layout], ...(ambiguous.length === 0 ? {} : { ambiguous }) };
  };
}

/** Whether a tensor is a running average itself, of numbers that the file does not have. */
function isAverage({ dialect }: Published, { name }: TensorInfo): boolean {
  const { average } = dialectOf(dialect);
  return average !== undefined && name.endsWith(average);
}

/** A parameter of the classifier, with the class that is dropped from it. */
const withBackground = (parameter: Parameter): Parameter => ({
  ...parameter,
  shape: [...parameter.shape.slice(0, -1), parameter.shape.at(-1)! + 1],
});

/** A position embedding is taken at the size of the file's grid; `adapt.ts` brings it to another one when it is used. */
function withGridOf(parameter: Parameter, tensor: TensorInfo): Parameter {
  if (parameter.places === undefined || tensor.shape.at(-2) === parameter.shape[0]) return parameter;
  const { grid } = parameter.places;
  const [tokens, depth] = [tensor.shape.at(-2) ?? 0, parameter.shape[1]!];
  const side = Math.sqrt(tokens - (parameter.shape[0]! - grid[0] * grid[1]));
  if (!Number.isInteger(side) || side < 1) return parameter;
  return { ...parameter, shape: [tokens, depth], places: { ...parameter.places, grid: [side, side] } };
}

/** Integers are quantised numbers without their scale, or something else altogether. */
const floats: ReadonlySet<FileDtype> = new Set(['float32', 'float64', 'float16', 'bfloat16'] as const);

function judge(
  parameter: Parameter,
  sought: readonly string[],
  tensor: TensorInfo,
  layoutsFor: ReturnType<typeof layoutsChosen>,
): PlanRow {
  const { layouts, ambiguous } = layoutsFor(parameter, tensor.shape);
  const layout = layouts.find((each) => sameShape(each.shape, tensor.shape));
  if (layout === undefined) {
    return { verdict: 'wrong_shape', parameter, sought, tensor, expected: layouts[0]!.shape };
  }
  const verdict = floats.has(tensor.dtype) ? 'ok' : 'wrong_dtype';
  return { verdict, parameter, sought, tensor, layout, ...(ambiguous === undefined ? {} : { ambiguous }) };
}

/** Reads the numbers of one planned parameter in our layout. */
export async function readPlanned(source: TensorSource, row: PlanRow): Promise<Float32Array> {
  return valuesOf(row, await source.read(row.tensor!.name));
}

/** The numbers of one planned parameter in our layout, from those of its tensor. */
export function valuesOf(row: PlanRow, tensor: Float32Array): Float32Array {
  const values = relay(tensor, row.layout!);
  return row.withoutBackground === true ? withoutBackground(row, values) : values;
}

/**
 * The same piece by piece, so that the largest tensors are not in memory twice.
 * @param memory gives the arrays that pieces are put in
 */
export function* piecesOf(row: PlanRow, tensor: Float32Array, memory: Memory): Generator<Float32Array> {
  if (row.withoutBackground === true) yield valuesOf(row, tensor);
  else yield* relayPieces(tensor, row.layout!, memory);
}

/** `[..., 1 + classes] -> [..., classes]`. */
function withoutBackground({ parameter }: PlanRow, values: Float32Array): Float32Array {
  const classes = parameter!.shape.at(-1)!;
  return values.filter((_, i) => i % (classes + 1) !== 0);
}
