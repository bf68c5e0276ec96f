/**
 * The planner: which tensor of a file becomes which parameter, decided from names and shapes alone, before any number
 * is read. A load is complete or it throws one error with every fault.
 */
import {
  answersTo,
  type Backbone,
  type BuildOptions,
  backbones,
  buildBackbone,
  type Published,
} from '../backbones/index.js';
import type { Graph, Parameter, Shape } from '../engine/graph.js';
import { listFaults, UsageError, WeightsError } from '../errors.js';
import { dialectOf, type Layout, relay } from './dialects.js';
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
  for (const tensor of source.tensors) {
    if (used.has(tensor)) continue;
    const matches = (name: string) => setAside.some((pattern) => pattern.test(name));
    const aside = averaged.has(tensor) || matches(tensor.name.slice(wrapper.length)) || matches(tensor.name);
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
function layoutsOf(published: Published, parameter: Parameter): readonly Layout[] {
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

/** Every name under which a parameter may stand in a file, best first. */
function soughtNames(published: Published, parameter: Pick<Parameter, 'path' | 'role'>): string[] {
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
function namesOf({ tensors }: TensorSource, published: Published): string[] {
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
function findWrapper(names: readonly string[], published: Published, graph: Graph): string {
  const { separator } = dialectOf(published.dialect);
  const sought = soughtNames(published, graph.parameters[0]!);
  if (names.some((name) => sought.includes(name))) return '';
  for (const name of names) {
    const match = sought.find((each) => name.endsWith(separator + each));
    if (match !== undefined) return name.slice(0, -match.length);
  }
  return '';
}

const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

function applyIgnore(rows: readonly PlanRow[], patterns: readonly string[]): PlanRow[] {
  const tests = patterns.map((pattern) => ({ pattern, test: wildcard(pattern), hits: 0 }));
  const out = rows.map((row): PlanRow => {
    if (row.verdict === 'ok') return row;
    for (const each of tests) {
      if ([row.parameter?.path, row.tensor?.name].some((name) => name !== undefined && each.test.test(name))) {
        each.hits++;
        return { ...row, verdict: 'ignored' };
      }
    }
    return row;
  });
  const idle = tests.filter((each) => each.hits === 0).map((each) => each.pattern);
  if (idle.length > 0) {
    throw new UsageError({
      code: 'IGNORE_MATCHES_NOTHING',
      message: `--ignore ${idle.join(', ')}: no absent, extra or mis-shaped tensor has such a name`,
      hint: 'leave the pattern out, or run `tl import ... --dry-run` to see the names',
    });
  }
  return out;
}

function wildcard(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  return new RegExp(`^${escaped}$`);
}

/** Two names are enough to see what a file should look like. */
const soughtText = (sought: readonly string[]): string =>
  `${sought.slice(0, 2).join(' or ')}${sought.length > 2 ? ' or alike' : ''}`;

/** One line a fault; empty when the load is complete. */
export function faultsOf(plan: Plan): string[] {
  return plan.rows.flatMap((row) => {
    const shape = (s: Shape | undefined) => `[${(s ?? []).join(', ')}]`;
    switch (row.verdict) {
      case 'absent':
        return [`absent: ${row.parameter!.path} ${shape(row.parameter!.shape)}, looked for ${soughtText(row.sought)}`];
      case 'wrong_shape':
        return [
          `wrong shape: ${row.tensor!.name} is ${shape(row.tensor!.shape)}, ${row.parameter!.path} expects ${shape(row.expected)}`,
        ];
      case 'wrong_dtype':
        return [
          `wrong number type: ${row.tensor!.name} is ${row.tensor!.dtype}, ${row.parameter!.path} expects a float type`,
        ];
      case 'extra':
        return [`extra: ${row.tensor!.name} ${shape(row.tensor!.shape)} belongs to no parameter`];
      default:
        return [];
    }
  });
}

/**
 * @param fits what the file would fit instead, for the hint
 * @throws WEIGHTS_MISMATCH with every absent, extra, mis-shaped and mistyped tensor
 */
export function assertComplete(plan: Plan, file: string, fits: readonly Variant[] = []): void {
  const faults = faultsOf(plan);
  if (faults.length === 0) return;
  const { backbone, published, rows } = plan;
  const good = rows.filter((row) => row.verdict === 'ok').length;
  throw new WeightsError({
    code: 'WEIGHTS_MISMATCH',
    message:
      `${file} does not fit ${backbone.name} (source ${published.source}): ` +
      `${faults.length} faults, ${good} of ${plan.graph.parameters.length} parameters found\n${listFaults(faults)}`,
    hint:
      fits.length > 0
        ? `this file fits ${fits.map((fit) => `--backbone ${fit.backbone.name} --source ${fit.published.source}`).join(' or ')}`
        : 'choose the backbone and source that the file was made for (`tl weights FILE` tells what it is), or name what may be left out with --ignore PATTERN',
  });
}

/** Reads the numbers of one planned parameter in our layout. */
export async function readPlanned(source: TensorSource, row: PlanRow): Promise<Float32Array> {
  const values = await source.read(row.tensor!.name);
  return relay(values, row.layout!);
}

/** A published variant of a backbone. */
export interface Variant {
  readonly backbone: Backbone;
  readonly published: Published;
}

/**
 * The published variants of which a file has every tensor of the backbone in the right shape, with the fewest tensors
 * that belong nowhere; the best first, which is with the classifier.
 */
export function recognise(source: TensorSource): Variant[] {
  const fits: (Variant & { extra: number; faults: number })[] = [];
  for (const backbone of backbones) {
    for (const published of backbone.published) {
      if (!mayHold(source, backbone, published)) continue;
      const { rows } = planWeights(source, backbone, published);
      const faulty = rows.filter((row) => row.verdict !== 'ok' && row.parameter !== undefined);
      if (!faulty.every((row) => row.parameter!.path.startsWith(`${CLASSIFIER}.`))) continue;
      const extra = rows.filter((row) => row.verdict === 'extra').length;
      fits.push({ backbone, published, extra, faults: faulty.length });
    }
  }
  fits.sort((a, b) => a.extra - b.extra || a.faults - b.faults);
  const closest = fits.filter(({ extra }) => extra === fits[0]!.extra);
  return closest.map(({ backbone, published }) => ({ backbone, published }));
}

/** The other variants of a planned file's network that it fits as well: nothing in it tells which of them it is. */
export function alikeVariants(source: TensorSource, { backbone, published }: Plan): Published[] {
  const fits = (verdict: Verdict) => verdict === 'ok' || verdict === 'set_aside';
  const others = backbone.published.filter((each) => each !== published && mayHold(source, backbone, each));
  return others.filter((each) => planWeights(source, backbone, each).rows.every((row) => fits(row.verdict)));
}

/** Whether a file has a tensor that ends in the name of the first parameter: most variants are told apart by that. */
function mayHold(source: TensorSource, backbone: Backbone, published: Published): boolean {
  let sought = firstNames.get(published);
  if (sought === undefined) {
    const size = { height: backbone.inputSize, width: backbone.inputSize };
    sought = soughtNames(published, buildBackbone(published, { size }).parameters[0]!);
    firstNames.set(published, sought);
  }
  return namesOf(source, published).some((name) => sought.some((each) => name.endsWith(each)));
}

const firstNames = new WeakMap<Published, readonly string[]>();

/**
 * The variant a file is planned for: what the user named, completed by what the file tells.
 * @throws NOT_RECOGNISED when neither decides
 */
export function chooseVariant(
  source: TensorSource,
  wanted: { backbone?: Backbone | undefined; source?: string | undefined },
): Variant {
  const { backbone } = wanted;
  const candidates = (backbone === undefined ? backbones : [backbone]).flatMap((each) =>
    each.published
      .filter((p) => wanted.source === undefined || answersTo(p, wanted.source))
      .map((p): Variant => ({ backbone: each, published: p })),
  );
  if (backbone !== undefined && candidates.length === 1) return candidates[0]!;
  const fit = recognise(source).find((each) => candidates.some((candidate) => candidate.published === each.published));
  if (fit !== undefined) return fit;
  if (backbone !== undefined) return closest(source, candidates); // its plan then lists every fault
  throw new WeightsError({
    code: 'NOT_RECOGNISED',
    message: `${source.path} holds ${source.tensors.length} tensors, which are those of no backbone known here`,
    hint: 'name it with --backbone and --source to see what differs; `tl backbones` lists what there is',
  });
}

function closest(source: TensorSource, candidates: readonly Variant[]): Variant {
  const scores = candidates.map(
    (each) => planWeights(source, each.backbone, each.published).rows.filter((row) => row.verdict === 'ok').length,
  );
  return candidates[scores.indexOf(Math.max(...scores))]!;
}
