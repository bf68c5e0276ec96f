/** `tl pull`: downloads published weights into the local store. */
import type { PullPlan, PullReport } from '../../weights/pull.js';
import type { Host } from '../program.js';
import { bytes, fields } from '../table.js';
import { importReportText } from './import.js';

interface PullCommandOptions {
  readonly source?: string;
  readonly keep?: boolean;
  readonly dryRun?: boolean;
}

const environment = `
Environment:
  TL_MIRROR=https://mirror.example/path    answers for https://<host>/<path> at https://mirror.example/path/<host>/<path>
  HF_ENDPOINT=https://hub.example          the Hugging Face hub to ask; HF_TOKEN is told to it alone
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY        proxies, and hosts that are reached without them
  TL_HOME                                  downloads lie in $TL_HOME/downloads until they are imported`;

export function pullCommand(host: Host): void {
  host
    .command('pull <backbone>', 'download published weights and keep them in the local store')
    .option('--source <source>', 'which published variant (default: the first that can be downloaded)')
    .option('--keep', 'keep the downloaded file too')
    .option('--dry-run', 'say what would be downloaded, and ask nobody for it')
    .addHelpText('after', environment)
    .action((backbone: string, { dryRun, ...options }: PullCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const { planPull, pullWeights } = await import('../../weights/pull.js');
          const { downloadReporter } = await import('../download-progress.js');
          const plan = await planPull(backbone, options);
          if (dryRun === true) return out.result(plan, () => fields(planFields(plan)));
          for (const [name, value] of planFields(plan)) out.info(`${name}: ${value}`);
          const reporter = downloadReporter(out, `${plan.backbone} from ${plan.source}`);
          try {
            const report = await pullWeights(backbone, { ...options, ...reporter, signal });
            reporter.close();
            out.result(report, () => reportText(report));
          } finally {
            reporter.close();
          }
        },
        { graceful: true },
      ),
    );
}

function planFields({ backbone, source, from, bytes: size, stated, member, license, folder }: PullPlan) {
  const known = [size === null ? 'of a size that only the server knows' : bytes(size), ...stated.map(statement)];
  return [
    ['network', `${backbone} from ${source}`],
    ['address', from],
    ['file', known.join(', ')],
    ...(member === null ? [] : [['taken of it', member] as const]),
    ['licence', license],
    ['goes to', folder],
  ] as const;
}

const statement = ({ kind, digits }: PullPlan['stated'][number]): string =>
  `${kind} ${digits}${kind === 'sha256' && digits.length < 64 ? '...' : ''}`;

function reportText(report: PullReport): string {
  const { download } = report;
  if (download === null) return importReportText(report);
  const { from, bytes: size, already, checked, file } = download;
  const checks = checked.map(({ kind, by }) => `${kind} by ${by}`);
  const lines = fields([
    ['fetched', `${from}, ${bytes(size)}${already > 0 ? `, of which ${bytes(already)} were there` : ''}`],
    ['checked', checks.length === 0 ? 'its length and format alone: nobody states a checksum' : checks.join(', ')],
    ...(file === null ? [] : [['kept', file] as const]),
  ]);
  return `${lines}\n\n${importReportText(report)}`;
}
