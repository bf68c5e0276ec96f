/**
 * A weights file, planned and complete: every parameter of the network can be read from it. What `tl import`, and a
 * file given as `--weights`, both open.
 */
import { answersTo, type Backbone, backbones, findBackbone, findPublished, type Source } from '../backbones/index.js';
import type { Parameter } from '../engine/graph.js';
import type { ReadParameter } from '../engine/network.js';
import { listFaults, WeightsError } from '../errors.js';
import { assertComplete } from './faults.js';
import { elementsOf } from './float-formats.js';
import { recordBeside } from './model-folder.js';
import { type Plan, type PlanRow, planCanonical, planWeights, readPlanned } from './plan.js';
import { openWeights, type TensorSource } from './source.js';
import { CANONICAL_FORMAT } from './store.js';
import { alikeVariants, chooseVariant, recognise, type Variant } from './variants.js';

/** What the user says a file is, where it does not tell by itself, and what may be left out of it. */
export interface Wanted {
  readonly backbone?: string | undefined;
  readonly source?: string | undefined;
  /** Names of tensors and parameters, with `*` for any run of characters. */
  readonly ignore?: readonly string[] | undefined;
}

export interface PublishedFile {
  readonly tensors: TensorSource;
  readonly plan: Plan;
  /** Classes of its classifier; undefined where it has none, or where part of it was ignored. */
  readonly classes: number | undefined;
  /** Those that can be read: all of the backbone, and the classifier where there is one. */
  readonly parameters: readonly Parameter[];
  /** What is done to the numbers as they are read, in sentences. */
  readonly adaptations: readonly string[];
  /** Tensors and parameters that were left out because the user said so. */
  readonly ignored: readonly string[];
  /** Sources that the file fits as well, where the user did not say which it is. */
  readonly alike: readonly Source[];
  /** @throws NOT_FINITE, NEGATIVE_VARIANCE, or what the file's reader throws */
  readonly read: ReadParameter;
  close(): Promise<void>;
}

/**
 * Opens a weights file of any supported format and plans it for one published variant.
 * @throws WEIGHTS_MISMATCH with every fault, NOT_RECOGNISED, IGNORED_KERNEL, UNKNOWN_BACKBONE, UNKNOWN_SOURCE, FormatError
 */
export async function openPublishedFile(file: string, wanted: Wanted): Promise<PublishedFile> {
  const backbone = wanted.backbone === undefined ? undefined : findBackbone(wanted.backbone);
  if (backbone !== undefined && wanted.source !== undefined) findPublished(backbone, wanted.source);
  const tensors = await openWeights(file);
  try {
    const plan = await planFile(tensors, backbone, wanted);
    const decided = tensors.metadata.format === CANONICAL_FORMAT || wanted.source === plan.published.source;
    const alike = decided ? [] : alikeVariants(tensors, plan).map(({ source }) => source);
    return describe(tensors, plan, alike);
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

/** A network that a file holds. */
export interface Identified {
  readonly backbone: string;
  readonly source: string;
  /** Of its classifier; null where it has none. */
  readonly classes: number | null;
}

/** Which networks an open file holds, the best match first; none where it holds something else. */
export async function identify(tensors: TensorSource): Promise<Identified[]> {
  const named = ({ backbone, published }: Variant, plan: Plan): Identified => ({
    backbone: backbone.name,
    source: published.source,
    classes: plan.classes ?? null,
  });
  if (tensors.metadata.format === CANONICAL_FORMAT) {
    const found = await canonicalPlan(tensors, undefined, {}).catch(() => undefined);
    if (found !== undefined) return [named(found, found)];
  }
  return recognise(tensors).map((variant) => named(variant, planWeights(tensors, variant.backbone, variant.published)));
}

async function planFile(tensors: TensorSource, backbone: Backbone | undefined, wanted: Wanted): Promise<Plan> {
  if (tensors.metadata.format === CANONICAL_FORMAT) {
    const plan = await canonicalPlan(tensors, backbone, wanted);
    assertComplete(plan, tensors.path);
    return plan;
  }
  const variant = chooseVariant(tensors, { backbone, source: wanted.source });
  const plan = planWeights(tensors, variant.backbone, variant.published, wanted.ignore);
  const complete = plan.rows.every((row) => !['absent', 'wrong_shape', 'wrong_dtype', 'extra'].includes(row.verdict));
  if (!complete) {
    const others = recognise(tensors).filter((fit) => fit.published !== variant.published);
    assertComplete(plan, tensors.path, others);
  }
  return plan;
}

/** Our own files say what they are; a model folder's in the record beside it, which also says what pictures it takes. */
async function canonicalPlan(tensors: TensorSource, backbone: Backbone | undefined, wanted: Wanted): Promise<Plan> {
  const { source } = wanted;
  const { metadata } = tensors;
  const beside = metadata.source === undefined ? await recordBeside(tensors.path) : undefined;
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
  return planCanonical(tensors, found, findPublished(found, published), wanted.ignore, input);
}

function describe(tensors: TensorSource, plan: Plan, alike: readonly Source[]): PublishedFile {
  const ignored = plan.rows.filter((row) => row.verdict === 'ignored');
  const ofClassifier = (parameter: Parameter | undefined) => parameter?.path.startsWith('classifier.') === true;
  const classes = ignored.some((row) => ofClassifier(row.parameter)) ? undefined : plan.classes;
  const rows = plan.rows.filter(
    (row) => row.parameter !== undefined && (classes !== undefined || !ofClassifier(row.parameter)),
  );
  assertNeutral(rows, tensors.path);
  const byPath = new Map(rows.map((row) => [row.parameter!.path, row]));
  return {
    tensors,
    plan,
    classes,
    parameters: rows.map((row) => row.parameter!),
    adaptations: adaptationsOf(plan, rows),
    ignored: ignored.map((row) => row.tensor?.name ?? row.parameter!.path),
    alike,
    read: async (path) => {
      const row = byPath.get(path);
      if (row === undefined) throw new Error(`${tensors.path} was not planned for ${path}`);
      if (row.verdict === 'ignored') return neutral(row.parameter!);
      const values = await readPlanned(tensors, row);
      checkNumbers(tensors.path, row, values);
      return values;
    },
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

function neutral({ role, shape }: Parameter): Float32Array {
  return new Float32Array(elementsOf(shape)).fill(role === 'norm.gamma' || role === 'norm.variance' ? 1 : 0);
}

function checkNumbers(file: string, { parameter, tensor }: PlanRow, values: Float32Array): void {
  const { role, path } = parameter!;
  const bad = values.findIndex((value) => !Number.isFinite(value) || (role === 'norm.variance' && value < 0));
  if (bad < 0) return;
  throw new WeightsError({
    code: Number.isFinite(values[bad]) ? 'NEGATIVE_VARIANCE' : 'NOT_FINITE',
    message: `${file}: ${tensor!.name} (${path}) holds ${values[bad]} at position ${bad} of its numbers`,
    hint: 'the training that wrote it went wrong, or the file is damaged: fetch it again and compare its sha256',
  });
}

function adaptationsOf(plan: Plan, rows: readonly PlanRow[]): string[] {
  const out: string[] = [];
  if (plan.wrapper !== '') out.push(`prefix ${plan.wrapper} left off every name`);
  const averaged = rows.filter((row) => row.averaged !== undefined).length;
  if (averaged > 0) out.push(`running averages taken in the place of ${averaged} tensors`);
  const moved = rows.filter((row) => row.layout?.permutation !== undefined).length;
  if (moved > 0) out.push(`axes of ${moved} tensors moved from ${plan.published.dialect}'s layout`);
  const adapted = new Map<string, string[]>();
  for (const { verdict, tensor, layout } of rows) {
    if (verdict !== 'ok' || layout?.adaptation === undefined) continue;
    adapted.set(layout.adaptation, [...(adapted.get(layout.adaptation) ?? []), tensor!.name]);
  }
  for (const [adaptation, [first, ...others]] of adapted) {
    out.push(`${first}${others.length === 0 ? '' : ` and ${others.length} others`}: ${adaptation}`);
  }
  const converted = new Set(rows.flatMap((row) => (row.tensor?.dtype === 'float32' ? [] : [row.tensor?.dtype])));
  for (const dtype of converted) if (dtype !== undefined) out.push(`${dtype} made float32`);
  for (const row of rows) {
    if (row.verdict !== 'ignored') continue;
    out.push(`${row.parameter!.path} left out: ${neutral(row.parameter!)[0]} everywhere, which has no effect`);
  }
  return out;
}
