/** What is wrong with a plan: every fault in one error, and what the user chose to do without. */
import type { Shape } from '../../engine/graph.js';
import { listFaults, UsageError, WeightsError } from '../../errors.js';
import type { Plan, PlanRow } from './plan.js';
import type { Variant } from './variants.js';

/**
 * The rows with those faults forgiven whose parameter or tensor a pattern names, `*` for any run of characters.
 * @throws IGNORE_MATCHES_NOTHING
 */
export function applyIgnore(rows: readonly PlanRow[], patterns: readonly string[]): PlanRow[] {
  const tests = patterns.map((pattern) => ({ pattern, test: wildcard(pattern), hits: 0 }));
  const judged = rows.map((row): PlanRow => {
    // of what is right, only layers of somebody's own can be left out
    if (row.verdict === 'ok' && !isOfHead(row)) return row;
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
  const headless = judged.some((row) => row.verdict === 'ignored' && isOfHead(row));
  return headless ? judged.map((row) => (isOfHead(row) ? { ...row, verdict: 'ignored' } : row)) : judged;
}

/** A head is left out as a whole: a part of one is none. */
const isOfHead = ({ parameter }: PlanRow): boolean => parameter?.path.startsWith('head.') === true;

function wildcard(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll(/\*+/g, '.*');
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
        return [
          `extra: ${row.tensor!.name} ${shape(row.tensor!.shape)} belongs to no parameter${row.reason === undefined ? '' : `; ${row.reason}`}`,
        ];
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
  const said = fits.map((fit) => `--backbone ${fit.backbone.name} --source ${fit.published.source}`);
  throw new WeightsError({
    code: 'WEIGHTS_MISMATCH',
    message:
      `${file} does not fit ${backbone.name} (source ${published.source}): ` +
      `${faults.length} faults, ${good} of ${plan.graph.parameters.length} parameters found\n${listFaults(faults)}`,
    hint:
      fits.length > 0
        ? `this file fits ${said.join(' or ')}`
        : 'choose the backbone and source that the file was made for (`tl weights FILE` tells what it is), name what may be left out with --ignore PATTERN, or give names of your own with --map FILE (--dry-run prints a table to start from)',
  });
}
