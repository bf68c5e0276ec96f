/** `tl import`: a published weights file goes into the local store. */
import type { ImportReport } from '../../weights/import.js';
import { collect } from '../options.js';
import type { Style } from '../output.js';
import type { Host } from '../program.js';
import { bytes, count, duration, fields, table } from '../table.js';

interface ImportCommandOptions {
  readonly backbone?: string;
  readonly source?: string;
  readonly dryRun?: boolean;
  readonly ignore?: string[];
}

export function importCommand(host: Host): void {
  host
    .command('import <file>', 'convert a published weights file and keep it in the local store')
    .option('--backbone <name>', 'which network it holds (default: as the file tells)')
    .option('--source <source>', 'which published variant (default: as the file tells)')
    .option('--dry-run', 'show which tensor becomes which parameter, and keep nothing')
    .option(
      '--ignore <pattern>',
      'tensors or parameters that may be left out, * for any characters; repeatable',
      collect,
    )
    .action((file: string, options: ImportCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const { importWeights } = await import('../../weights/import.js');
          const report = await importWeights(file, { ...options, signal });
          out.result(report, () => importReportText(report, out.style));
        },
        { graceful: true },
      ),
    );
}

/** The report of an import, for people. */
export function importReportText(report: ImportReport, style: Style): string {
  const { totals, file } = report;
  const spoken: Record<string, string> = {
    ok: 'read',
    set_aside: 'set aside (training and bookkeeping)',
    ignored: 'ignored',
  };
  const tally = Object.entries(totals).map(([verdict, n]) => `${n} ${spoken[verdict] ?? verdict}`);
  const lines = fields([
    ['network', `${report.backbone} from ${sourceOf(report)}, ${classesOf(report.classes)}`],
    ['file', `${file.name}, ${bytes(file.size)}, ${report.format}`],
    ['sha256', file.sha256],
    ['tensors', tally.join(', ')],
    ['numbers', count(report.parameters)],
    ...report.adaptations.map((each) => ['done', each] as const),
    ...report.ignored.map((each) => ['left out', each] as const),
    ...report.alike.map(
      (each) => ['fits too', `${each}, another function: import with --source ${each} if it is that`] as const,
    ),
    ['licence', report.license],
    ['stored in', report.folder ?? 'nowhere: this was a dry run'],
    ['time', duration(report.seconds)],
  ]);
  return report.folder === null ? `${planOf(report, style)}\n\n${lines}` : lines;
}

function planOf({ rows }: ImportReport, style: Style): string {
  const cells = rows.map(({ verdict, parameter, tensor, dtype, shape }) => [
    verdict.replace('_', ' '),
    parameter ?? '',
    tensor ?? '',
    dtype ?? '',
    shape.join('x'),
  ]);
  const headings = ['verdict', 'parameter', 'tensor', 'type', 'shape'].map((heading) => ({ heading }));
  return table(headings, cells, style);
}

const sourceOf = ({ source, variantOf }: ImportReport): string =>
  variantOf === null ? source : `${source}, a variant of ${variantOf}`;

const classesOf = (classes: number | null): string =>
  classes === null ? 'without a classifier' : `with a classifier of ${classes} classes`;
