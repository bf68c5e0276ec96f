/** `tl import`: a published weights file goes into the local store. */
import { Option } from 'commander';
import type { ImportReport, ImportRow } from '../../weights/import.js';
import type { AverageChoice, ClassifierChoice } from '../../weights/plan/plan.js';
import { collect } from '../options.js';
import type { Style } from '../output.js';
import type { Host } from '../program.js';
import { bytes, count, dimensions, duration, fields, table } from '../table.js';

interface ImportCommandOptions {
  readonly backbone?: string;
  readonly source?: string;
  readonly member?: string;
  readonly map?: string;
  readonly ema: AverageChoice;
  readonly classifier: ClassifierChoice;
  readonly ignore?: string[];
  readonly dryRun?: boolean;
  readonly out?: string;
  readonly classIndices?: string;
  readonly overwrite?: boolean;
}

// Written here again so that `--help` loads nothing of the planner; a test compares them.
export const choices: {
  readonly ema: typeof import('../../weights/plan/plan.js').averageChoices;
  readonly classifier: typeof import('../../weights/plan/plan.js').classifierChoices;
} = { ema: ['auto', 'only', 'never'], classifier: ['keep', 'drop', 'without-background'] };

const explanation = `
Names of your own (--map FILE): two columns, a parameter and the tensor of the file that it is.
  # lines like this one count for nothing
  stem.conv.kernel   net/first/weights
  stem.norm.gamma    "net/bn 1/scale"      names with spaces or commas stand in double quotes
  stem.norm.beta     -                     the file has none: an error, unless --ignore names it
White space or a comma ends a column; more columns are not read. Parameters without a row are looked for under
their published names. --dry-run prints such a table, which can be filled in; rows that begin with - are the tensors
that no parameter takes.

Examples:
  tl import resnet50_weights_tf_dim_ordering_tf_kernels.h5
  tl import model.ckpt-300000.index --backbone mobilenet_v2 --classifier without-background
  tl import mine.h5 --backbone resnet50 --source keras --dry-run > names.txt
  tl import mine.h5 --backbone resnet50 --source keras --map names.txt
  tl import flowers.h5 --backbone resnet50 --out flowers --class-indices class_indices.json`;

export function importCommand(host: Host): void {
  host
    .command('import <file>', 'convert a published weights file and keep it in the local store')
    .option('--backbone <name>', 'which network it holds (default: as the file tells)')
    .option('--source <source>', 'which published variant (default: as the file tells)')
    .option('--dry-run', 'show which tensor becomes which parameter, and keep nothing')
    .option('--member <path>', 'which file of an archive, * for any characters (default: the only one with weights)')
    .option('--map <file>', 'names of your own for the tensors; needs --backbone and --source')
    .addOption(
      new Option('--ema <which>', 'running averages of weights: where there are any, only those, or never')
        .choices(choices.ema)
        .default('auto'),
    )
    .addOption(
      new Option('--classifier <what>', 'keep the classifier, drop it, or drop the first of 1001 classes')
        .choices(choices.classifier)
        .default('keep'),
    )
    .option(
      '--ignore <pattern>',
      'tensors or parameters that may be left out, * for any characters; repeatable',
      collect,
    )
    .option('--out <dir>', 'write a model folder that predicts, in the place of an entry of the local store')
    .option('--class-indices <file>', 'with --out: names of the classes, {"0": "daisy", ...} (default: numbers)')
    .option('--overwrite', 'with --out: replace a folder that is there')
    .addHelpText('after', explanation)
    .action((file: string, { ema: average, ...options }: ImportCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const { importWeights, planImport } = await import('../../weights/import.js');
          if (options.dryRun !== true) {
            const report = await importWeights(file, { ...options, average, signal });
            out.result(report, () => importReportText(report));
            return;
          }
          const names = await import('../../weights/plan/name-map.js');
          const { report, fault } = await planImport(file, { ...options, average, signal });
          out.result(report, () => importPlanText(report, out.style, names));
          if (fault !== undefined) throw fault;
        },
        { graceful: true },
      ),
    );
}

/** What verdicts are called in a sentence. */
const spoken: Readonly<Record<string, string>> = {
  ok: 'loaded',
  set_aside: 'set aside',
  wrong_shape: 'of a wrong shape',
  wrong_dtype: 'of a wrong number type',
};

/** The report of an import, for people. */
export function importReportText(report: ImportReport): string {
  const { totals, file, rows } = report;
  const tally = Object.entries(totals).map(([verdict, n]) => `${n} ${spoken[verdict] ?? verdict}`);
  return fields([
    ['network', `${report.backbone} from ${sourceOf(report)}, ${classesOf(report)}`],
    ['file', `${file.name}, ${bytes(file.size)}, ${report.format}`],
    ...(file.member === undefined ? [] : [['member', file.member] as const]),
    ['sha256', file.sha256],
    ...(file.parts ?? []).map((part) => ['with', `${part.name}, ${bytes(part.size)}, sha256 ${part.sha256}`] as const),
    ['tensors', tally.join(', ')],
    ['numbers', count(report.parameters)],
    ...report.adaptations.map(({ text }) => ['done', text] as const),
    ...setAsideOf(rows).map((each) => ['set aside', each] as const),
    ...report.ignored.map((each) => ['left out', each] as const),
    ...report.alike.map(
      (each) => ['fits too', `${each}, another function: import with --source ${each} if it is that`] as const,
    ),
    ['licence', report.license],
    ['stored in', report.folder ?? 'nowhere: this was a dry run'],
    ['time', duration(report.seconds)],
  ]);
}

/** How a table of names is written, which is loaded when it is needed. */
type Writing = Pick<typeof import('../../weights/plan/name-map.js'), 'formatField' | 'NOTHING'>;

/** The report of a dry run: a table of names that `--map` reads, all else in it as comments. */
function importPlanText(report: ImportReport, style: Style, writing: Writing): string {
  const rest = commented([...unknownOf(report), importReportText(report)].join('\n'));
  return `${planOf(report, style, writing)}\n\n${rest}`;
}

/** Under private names nothing tells whether a file has a classifier: rows for one, to be filled in. */
function unknownOf({ totals, classes, head }: ImportReport): string[] {
  if (totals.absent === undefined || classes !== null || head !== null) return [];
  return ['if the file has a classifier, name its tensors:', 'classifier.kernel  -', 'classifier.bias    -', ''];
}

/** Reasons, each with the first of the tensors that it holds for. */
function setAsideOf(rows: readonly ImportRow[]): string[] {
  const reasons = new Map<string, string[]>();
  for (const { verdict, tensor, reason } of rows) {
    if (verdict !== 'set_aside') continue;
    const tensors = reasons.get(reason!);
    if (tensors === undefined) reasons.set(reason!, [tensor!]);
    else tensors.push(tensor!);
  }
  return [...reasons].map(([reason, [first, ...others]]) => {
    const more = others.length === 0 ? '' : ` and ${others.length} more`;
    return `${first}${more}: ${reason}`;
  });
}

const commented = (text: string): string => text.replaceAll(/^/gm, '# ');

function planOf({ rows }: ImportReport, style: Style, { formatField, NOTHING }: Writing): string {
  const cells = rows.map((row) => [
    row.parameter ?? NOTHING,
    row.tensor === null ? NOTHING : formatField(row.tensor),
    row.verdict,
    row.parameterShape === null ? '-' : dimensions(row.parameterShape),
    row.shape === null ? '-' : dimensions(row.shape),
    row.dtype ?? '-',
    [row.adaptation, row.reason].filter((each) => each !== null).join('; '),
  ]);
  const headings = ['parameter', 'tensor', 'verdict', 'shape', 'in the file', 'type', 'what of it'];
  return table(
    headings.map((heading) => ({ heading })),
    cells,
    style,
  );
}

const sourceOf = ({ source, variantOf }: ImportReport): string =>
  variantOf === null ? source : `${source}, a variant of ${variantOf}`;

const classesOf = ({ classes, head }: ImportReport): string =>
  head !== null
    ? `with a head, ${head}`
    : classes === null
      ? 'without a classifier'
      : `with a classifier of ${classes} classes`;
