/**
 * A weights file, planned and complete: every parameter of the network can be read from it. What `tl import`, and a
 * file given as `--weights`, both open.
 */
import { answersTo, type Backbone, backbones, findBackbone, findPublished, type Source } from '../backbones/index.js';
import type { Parameter } from '../engine/graph.js';
import type { ReadParameter } from '../engine/network.js';
import { listFaults, UsageError, WeightsError } from '../errors.js';
import { closedOnFailure } from './byte-file.js';
import { recordBeside } from './model-folder.js';
import { type Adaptation, adaptationsOf } from './plan/adaptations.js';
import { assertComplete, faultsOf } from './plan/faults.js';
import { describeHead } from './plan/file-head.js';
import { readNameMap } from './plan/name-map.js';
import { type Plan, type PlanOptions, type PlanRow, planCanonical, planWeights, WITH_BACKGROUND } from './plan/plan.js';
import { numbersOf, type ReadPieces } from './plan/planned-numbers.js';
import { alikeVariants, chooseVariant, type PlanOf, plansOf, recognise, type Variant } from './plan/variants.js';
import { openWeights, type TensorSource } from './source.js';
import { CANONICAL_FORMAT } from './store.js';

/** What the user says a file is, where it does not tell by itself, and what of it is wanted. */
export interface Wanted extends Pick<PlanOptions, 'ignore' | 'average' | 'classifier'> {
  readonly backbone?: string | undefined;
  readonly source?: string | undefined;
  /** Path of a table of parameters and tensors, for a file with private names; needs `backbone` and `source`. */
  readonly map?: string | undefined;
  /** Of an archive in which several members hold weights: which of them, `*` for any run of characters. */
  readonly member?: string | undefined;
  /** Stops the unpacking of an archive. */
  readonly signal?: AbortSignal | undefined;
}

/** A file with its plan, complete or not. */
export interface PlannedFile {
  readonly tensors: TensorSource;
  readonly plan: Plan;
  /** Sources that the file fits as well, where the user did not say which it is. */
  readonly alike: readonly Source[];
  /** @throws WEIGHTS_MISMATCH with every fault, and what the file fits instead; NO_BACKGROUND */
  assertComplete(): void;
  close(): Promise<void>;
}

export interface PublishedFile {
  readonly tensors: TensorSource;
  readonly plan: Plan;
  /** Classes of its classifier; undefined where it has none, or where part of it was ignored. */
  readonly classes: number | undefined;
  /** Layers of somebody's own in the place of a classifier; undefined where there are none, or where they were ignored. */
  readonly head: Plan['head'];
  /** Those that can be read: all of the backbone, and the classifier or head where there is one. */
  readonly parameters: readonly Parameter[];
  /** What is done to the numbers as they are read. */
  readonly adaptations: readonly Adaptation[];
  /** Tensors and parameters that were left out because the user said so. */
  readonly ignored: readonly string[];
  /** Sources that the file fits as well, where the user did not say which it is. */
  readonly alike: readonly Source[];
  /** @throws NOT_FINITE, NEGATIVE_VARIANCE, or what the file's reader throws */
  readonly read: ReadParameter;
  /** The same numbers piece by piece: a tensor of hundreds of MB is then never in memory twice. @throws as {@link read} */
  readonly pieces: ReadPieces;
  close(): Promise<void>;
}

/**
 * Opens a weights file of any supported format and plans it for one published variant; the plan may have faults.
 * @throws NOT_RECOGNISED, NAME_MAP, MAP_NEEDS_NETWORK, MAP_OF_OWN_FILE, IGNORE_MATCHES_NOTHING, UNKNOWN_BACKBONE,
 * UNKNOWN_SOURCE, FormatError
 */
export async function planFile(file: string, wanted: Wanted): Promise<PlannedFile> {
  const backbone = wanted.backbone === undefined ? undefined : findBackbone(wanted.backbone);
  if (backbone !== undefined && wanted.source !== undefined) findPublished(backbone, wanted.source);
  const options = await planOptions(wanted, backbone);
  const { member, signal } = wanted;
  const tensors = await openWeights(file, { member, signal });
  try {
    const close = () => tensors.close();
    if (tensors.metadata.format === CANONICAL_FORMAT) {
      if (options.map !== undefined) throw mapOfOwnFile(tensors);
      const plan = await canonicalPlan(tensors, backbone, wanted.source, options);
      return { tensors, plan, alike: [], assertComplete: () => assertWhole(plan, tensors.path, options, []), close };
    }
    const planOf = plansOf(tensors);
    const variant = variantFor(tensors, backbone, wanted, planOf);
    const plan = isDefault(options)
      ? planOf(variant)
      : planWeights(tensors, variant.backbone, variant.published, options);
    const decided = wanted.source === plan.published.source;
    return {
      tensors,
      plan,
      alike: decided ? [] : alikeVariants(tensors, plan, planOf).map(({ source }) => source),
      assertComplete: () => {
        const isWhole = faultsOf(plan).length === 0;
        const others = isWhole ? [] : recognise(tensors, planOf).filter((fit) => fit.published !== variant.published);
        assertWhole(plan, tensors.path, options, others);
      },
      close,
    };
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

/**
 * Opens a weights file of any supported format and plans it for one published variant.
 * @throws WEIGHTS_MISMATCH with every fault, IGNORED_KERNEL, NO_BACKGROUND, and what {@link planFile} throws
 */
export async function openPublishedFile(file: string, wanted: Wanted): Promise<PublishedFile> {
  return await closedOnFailure(await planFile(file, wanted), completed);
}

/** A planned file as one that can be read. @throws WEIGHTS_MISMATCH, IGNORED_KERNEL, NO_BACKGROUND */
export function completed(planned: PlannedFile): PublishedFile {
  planned.assertComplete();
  return describe(planned);
}

async function planOptions(wanted: Wanted, backbone: Backbone | undefined): Promise<PlanOptions> {
  const { ignore, average, classifier, map } = wanted;
  if (map !== undefined && (backbone === undefined || wanted.source === undefined)) {
    throw new UsageError({
      code: 'MAP_NEEDS_NETWORK',
      message: '--map gives names to the tensors of one network, and does not say of which',
      hint: 'name it with --backbone and --source: the names are those of `tl import FILE --backbone B --source S --dry-run`',
    });
  }
  return { ignore, average, classifier, map: map === undefined ? undefined : await readNameMap(map) };
}

const mapOfOwnFile = ({ path }: TensorSource): UsageError =>
  new UsageError({
    code: 'MAP_OF_OWN_FILE',
    message: `${path}: its tensors have the names of parameters already, and --map gives others`,
    hint: 'leave --map out',
  });

/** Whether a plan follows from the file alone. */
const isDefault = ({ ignore = [], map, average = 'auto', classifier = 'keep' }: PlanOptions): boolean =>
  ignore.length === 0 && map === undefined && average === 'auto' && classifier === 'keep';

/** Under private names nothing but the user's word tells what a file is. */
function variantFor(
  tensors: TensorSource,
  backbone: Backbone | undefined,
  { source, map }: Wanted,
  planOf: PlanOf,
): Variant {
  if (map !== undefined) return { backbone: backbone!, published: findPublished(backbone!, source!) };
  return chooseVariant(tensors, { backbone, source }, planOf);
}

/** @throws WEIGHTS_MISMATCH, NO_BACKGROUND */
function assertWhole(plan: Plan, file: string, { classifier }: PlanOptions, fits: readonly Variant[]): void {
  assertComplete(plan, file, fits);
  const { classesInFile, published, backbone } = plan;
  const hasBackground = classesInFile === WITH_BACKGROUND && published.classes === WITH_BACKGROUND;
  if (classifier !== 'without-background' || hasBackground) return;
  const there = classesInFile === undefined ? 'no published classifier' : `a classifier of ${classesInFile} classes`;
  throw new WeightsError({
    code: 'NO_BACKGROUND',
    message:
      `${file}: --classifier without-background drops the first of ${WITH_BACKGROUND} classes; the file has ${there}, ` +
      `and ${backbone.name} from ${published.source} was published with ${published.classes}`,
    hint: 'keep the classifier as it is (--classifier keep), or drop the whole of it (--classifier drop)',
  });
}

/** A network that a file holds. */
export interface Identified {
  readonly backbone: string;
  readonly source: string;
  /** Of its classifier; null where it has none. */
  readonly classes: number | null;
  /** Somebody's own head in the place of the classifier, `mlp:1024 of 5 classes`; null where there is none. */
  readonly head: string | null;
}

/** Which networks an open file holds, the best match first; none where it holds something else. */
export async function identify(tensors: TensorSource): Promise<Identified[]> {
  const named = ({ backbone, published }: Variant, plan: Plan): Identified => ({
    backbone: backbone.name,
    source: published.source,
    classes: plan.classes ?? null,
    head: plan.head === undefined ? null : describeHead(plan.head),
  });
  if (tensors.metadata.format === CANONICAL_FORMAT) {
    const found = await canonicalPlan(tensors, undefined, undefined, {}).catch(() => undefined);
    if (found !== undefined) return [named(found, found)];
  }
  const planOf = plansOf(tensors);
  return recognise(tensors, planOf).map((variant) => named(variant, planOf(variant)));
}

/** Our own files say what they are; a model folder's in the record beside it, which also says what pictures it takes. */
async function canonicalPlan(
  tensors: TensorSource,
  backbone: Backbone | undefined,
  source: string | undefined,
  options: PlanOptions,
): Promise<Plan> {
  const { metadata } = tensors;
  const beside =
    metadata.source === undefined ? await recordBeside(tensors.archive?.unpacked ?? tensors.path) : undefined;
  const said = { backbone: metadata.backbone, source: metadata.source ?? beside?.source };
  const name = said.backbone ?? backbone?.name;
  const published = said.source ?? source;
  const named = backbones.find((each) => each.name === name)?.published.find((each) => each.source === published);
  const fits = source === undefined || published === source || (named !== undefined && answersTo(named, source));
  const differs = (backbone !== undefined && name !== backbone.name) || !fits;
  if (name === undefined || published === undefined || differs) {
    throw new WeightsError({
      code: 'WEIGHTS_MISMATCH',
      message: differs
        ? `${tensors.path} holds ${name} (source ${published}), not ${backbone?.name ?? name} (source ${source ?? published})`
        : `${tensors.path} does not say which backbone and source it holds`,
      hint: differs ? `name --backbone ${name} --source ${published}` : 'name them with --backbone and --source',
    });
  }
  const found = findBackbone(name);
  const input = beside?.inputSize === undefined ? {} : { size: beside.inputSize, channels: beside.channels ?? 3 };
  return planCanonical(tensors, found, findPublished(found, published), options, input);
}

function describe({ tensors, plan, alike }: PlannedFile): PublishedFile {
  const ignored = plan.rows.filter((row) => row.verdict === 'ignored');
  const isIgnored = (part: string) => ignored.some(({ parameter }) => parameter?.path.startsWith(part) === true);
  const left = ['classifier.', 'head.'].filter(isIgnored); // as a whole, where any of it is
  const rows = plan.rows.filter(
    ({ parameter }) => parameter !== undefined && !left.some((part) => parameter.path.startsWith(part)),
  );
  assertNeutral(rows, tensors.path);
  return {
    tensors,
    plan,
    classes: left.includes('classifier.') ? undefined : plan.classes,
    head: left.includes('head.') ? undefined : plan.head,
    parameters: rows.map((row) => row.parameter!),
    adaptations: adaptationsOf(plan, rows, tensors),
    ignored: ignored.map((row) => row.tensor?.name ?? row.parameter!.path),
    alike,
    ...numbersOf(tensors, rows),
    close: () => tensors.close(),
  };
}

/**
 * A parameter that is left out takes the value that has no effect: bias and beta 0, gamma 1, mean 0, variance 1. A
 * kernel has none, and is never drawn at random in a network that is called pretrained.
 */
function assertNeutral(rows: readonly PlanRow[], file: string): void {
  const kernels = rows.filter((row) => row.verdict === 'ignored' && row.parameter!.role.endsWith('.kernel'));
  if (kernels.length === 0) return;
  throw new WeightsError({
    code: 'IGNORED_KERNEL',
    message: `${file}: these kernels cannot be left out, since they would be random\n${listFaults(
      kernels.map((row) => row.parameter!.path),
    )}`,
    hint: 'ignore only tensors that no parameter takes, the classifier, and biases and norms; --weights none trains from scratch',
  });
}
