/** `tl pull`: downloads published weights into the local store. */
import type { Host } from '../program.js';
import { importReportText } from './import.js';

interface PullCommandOptions {
  readonly source?: string;
}

export function pullCommand(host: Host): void {
  host
    .command('pull <backbone>', 'download published weights and keep them in the local store')
    .option('--source <source>', 'which published variant (default: the first that a package can download)')
    .action((backbone: string, options: PullCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const { pullWeights } = await import('../../weights/pull.js');
          const onDownload = (origin: string): void => out.info(`downloading ${backbone}: ${origin}`);
          const report = await pullWeights(backbone, { ...options, signal, onDownload });
          out.result(report, () => importReportText(report, out.style));
        },
        { graceful: true },
      ),
    );
}
