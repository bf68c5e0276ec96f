/** Which published variant a file holds: told by its names and shapes, within what the user said. */
import { answersTo, type Backbone, backbones, firstParameter, type Published } from '../../backbones/index.js';
import { WeightsError } from '../../errors.js';
import type { TensorSource } from '../source.js';
import { dialectOf } from './dialects.js';
import { namingsOf, soughtNames } from './names.js';
import { type Plan, planWeights, type Verdict } from './plan.js';

/** A published variant of a backbone. */
export interface Variant {
  readonly backbone: Backbone;
  readonly published: Published;
}

/** The plan of a file for a variant, as far as its names and shapes tell. */
export type PlanOf = (variant: Variant) => Plan;

/** Plans a file for one variant after the other, for each of them once. */
export function plansOf(source: TensorSource): PlanOf {
  const plans = new Map<Published, Plan>();
  return ({ backbone, published }) => {
    const plan = plans.get(published) ?? planWeights(source, backbone, published);
    plans.set(published, plan);
    return plan;
  };
}

const variantsOf = (some: readonly Backbone[]): Variant[] =>
  some.flatMap((backbone) => backbone.published.map((published) => ({ backbone, published })));

/**
 * The published variants of which a file has every tensor of the backbone in the right shape, with the fewest tensors
 * that belong nowhere; the best first, which is with the published classifier, then with somebody's own head.
 * @param among the variants that are looked at
 */
export function recognise(
  source: TensorSource,
  planOf: PlanOf = plansOf(source),
  among: readonly Variant[] = variantsOf(backbones),
): Variant[] {
  const fits: (Variant & { extra: number; isHeaded: boolean; faults: number })[] = [];
  for (const { backbone, published } of among) {
    if (!mayHold(source, backbone, published)) continue;
    const { rows, head } = planOf({ backbone, published });
    const faulty = rows.filter((row) => row.verdict !== 'ok' && row.parameter !== undefined);
    if (!faulty.every((row) => row.parameter!.path.startsWith('classifier.'))) continue;
    const extra = rows.filter((row) => row.verdict === 'extra').length;
    fits.push({ backbone, published, extra, isHeaded: head !== undefined, faults: faulty.length });
  }
  fits.sort((a, b) => a.extra - b.extra || Number(a.isHeaded) - Number(b.isHeaded) || a.faults - b.faults);
  const closest = fits.filter(({ extra, isHeaded }) => extra === fits[0]!.extra && isHeaded === fits[0]!.isHeaded);
  return closest.map(({ backbone, published }) => ({ backbone, published }));
}

/** The other variants of a planned file's network that it fits as well: nothing in it tells which of them it is. */
export function alikeVariants(
  source: TensorSource,
  { backbone, published, head }: Plan,
  planOf: PlanOf = plansOf(source),
): Published[] {
  const fits = (verdict: Verdict) => verdict === 'ok' || verdict === 'set_aside';
  const others = backbone.published.filter((each) => each !== published && mayHold(source, backbone, each));
  return others.filter((each) => {
    const plan = planOf({ backbone, published: each });
    return (plan.head === undefined) === (head === undefined) && plan.rows.every((row) => fits(row.verdict));
  });
}

/** Whether a file has a tensor of the first parameter's name, behind a wrapper's or not: most are told apart by that. */
function mayHold(source: TensorSource, backbone: Backbone, published: Published): boolean {
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  let sought = firstNames.get(published);
  if (sought === undefined) {
    sought = soughtNames(published, firstParameter(published, { size }));
    firstNames.set(published, sought);
  }
  const { average = '', separator } = dialectOf(published.dialect); // a file may keep the averages alone
  const ends = average === '' ? sought : [...sought, ...sought.map((each) => each + average)];
  return namingsOf(source, published, size).some((names) =>
    names.some((name) => ends.some((each) => name === each || name.endsWith(separator + each))),
  );
}

const firstNames = new WeakMap<Published, readonly string[]>();

/**
 * The variant a file is planned for: what the user named, completed by what the file tells.
 * @throws NOT_RECOGNISED when neither decides
 */
export function chooseVariant(
  source: TensorSource,
  wanted: { backbone?: Backbone | undefined; source?: string | undefined },
  planOf: PlanOf = plansOf(source),
): Variant {
  const { backbone } = wanted;
  const candidates = variantsOf(backbone === undefined ? backbones : [backbone]).filter(
    ({ published }) => wanted.source === undefined || answersTo(published, wanted.source),
  );
  if (backbone !== undefined && candidates.length === 1) return candidates[0]!;
  const [fit] = recognise(source, planOf, candidates);
  if (fit !== undefined) return fit;
  if (backbone !== undefined) return closest(candidates, planOf); // its plan then lists every fault
  throw new WeightsError({
    code: 'NOT_RECOGNISED',
    message: `${source.path} holds ${source.tensors.length} tensors, which are those of no backbone known here`,
    hint: 'name it with --backbone and --source to see what differs; `tl backbones` lists what there is',
  });
}

function closest(candidates: readonly Variant[], planOf: PlanOf): Variant {
  const scores = candidates.map((each) => planOf(each).rows.filter((row) => row.verdict === 'ok').length);
  return candidates[scores.indexOf(Math.max(...scores))]!;
}
