/** What an import says: every tensor of the file and every parameter of the network, and what became of it. */
import { type Adaptation, adaptationOfRow } from './plan/adaptations.js';
import { describeHead } from './plan/file-head.js';
import type { Plan, PlanRow, Verdict } from './plan/plan.js';
import type { TensorSource, WeightsFormat } from './source.js';
import type { StoreRecord } from './store.js';

/** A plan's verdict; `adapted` is one that is loaded with other numbers, or in another order, than they lie in the file. */
export type ImportVerdict = Verdict | 'adapted';

/** One tensor of the file with its parameter, or either of them alone. */
export interface ImportRow {
  readonly verdict: ImportVerdict;
  readonly parameter: string | null;
  /** In our own layout. */
  readonly parameterShape: readonly number[] | null;
  readonly tensor: string | null;
  /** In the file's layout; null also for what is in the file and no tensor of numbers. */
  readonly shape: readonly number[] | null;
  readonly dtype: string | null;
  /** What is done to the numbers. */
  readonly adaptation: string | null;
  /** Why it is not loaded. */
  readonly reason: string | null;
}

/** What was done. */
export interface ImportReport {
  readonly backbone: string;
  readonly source: string;
  /** The source of which this one is a variant, as `keras` is for `keras_notop`; null where it is none. */
  readonly variantOf: string | null;
  readonly format: WeightsFormat;
  /** Of the classifier as it is kept; null where there is none. */
  readonly classes: number | null;
  /** Somebody's own head in the place of the classifier, `mlp:1024 of 5 classes`; null where there is none. */
  readonly head: string | null;
  readonly file: StoreRecord['file'];
  readonly origin: string;
  readonly license: string;
  /** Parameters that are loaded, in numbers. */
  readonly parameters: number;
  readonly rows: readonly ImportRow[];
  /** Rows of each verdict. */
  readonly totals: Readonly<Partial<Record<ImportVerdict, number>>>;
  readonly adaptations: readonly Adaptation[];
  readonly ignored: readonly string[];
  /** Other sources of this network whose files have the same names and shapes; none where one was asked for by name. */
  readonly alike: readonly string[];
  /** Where the weights lie now; null after a dry run. */
  readonly folder: string | null;
  readonly seconds: number;
}

/** A row of the report for every row of a plan, and for what the reader set aside before there was a plan. */
export function importRows({ rows }: Plan, { tensors, setAside = [] }: TensorSource): ImportRow[] {
  const names = new Set(tensors.map(({ name }) => name));
  const noTensors = setAside.filter(({ name }) => !names.has(name));
  return [
    ...rows.map(importRow),
    ...noTensors.map(({ name, reason }): ImportRow => ({ ...nothing, verdict: 'set_aside', tensor: name, reason })),
  ];
}

const nothing = {
  parameter: null,
  parameterShape: null,
  tensor: null,
  shape: null,
  dtype: null,
  adaptation: null,
  reason: null,
};

function importRow(row: PlanRow): ImportRow {
  const { verdict, parameter, tensor } = row;
  const adaptation = adaptationOfRow(row) ?? null;
  return {
    verdict: adaptation === null ? verdict : 'adapted',
    parameter: parameter?.path ?? null,
    parameterShape: parameter?.shape ?? null,
    tensor: tensor?.name ?? null,
    shape: tensor?.shape ?? null,
    dtype: tensor?.dtype ?? null,
    adaptation,
    reason: reasonOf(row) ?? null,
  };
}

function reasonOf({ verdict, sought, expected, reason, tensor }: PlanRow): string | undefined {
  switch (verdict) {
    case 'ok':
      return undefined;
    case 'absent':
      return `looked for ${sought.slice(0, 2).join(' or ')}`;
    case 'wrong_shape':
      return `expected [${expected!.join(', ')}]`;
    case 'wrong_dtype':
      return `expected a float type, not ${tensor!.dtype}`;
    case 'extra':
      return reason ?? 'belongs to no parameter';
    case 'ignored':
      return 'left out, as --ignore says';
    default:
      return reason;
  }
}

/** The report of a plan, before anything is stored. */
export function reportOf(
  plan: Plan,
  source: TensorSource,
  loaded: {
    readonly numbers: number;
    readonly record: StoreRecord;
    readonly adaptations: readonly Adaptation[];
    readonly alike: readonly string[];
  },
): Omit<ImportReport, 'folder' | 'seconds'> {
  const rows = importRows(plan, source);
  const totals: Partial<Record<ImportVerdict, number>> = {};
  for (const { verdict } of rows) totals[verdict] = (totals[verdict] ?? 0) + 1;
  const { numbers, record, adaptations, alike } = loaded;
  const { backbone, source: name, classes, head, file, origin, license, ignored } = record;
  return {
    backbone,
    source: name,
    variantOf: plan.published.variantOf ?? null,
    format: source.format,
    classes,
    head: head === undefined ? null : describeHead(head),
    file,
    origin,
    license,
    parameters: numbers,
    rows,
    totals,
    adaptations,
    ignored,
    alike,
  };
}
