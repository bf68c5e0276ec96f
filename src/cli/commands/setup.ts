/** `tl setup`: makes the native engine ready. */
import type { Host } from '../program.js';
import { duration, fields } from '../table.js';

const words = {
  ready: 'it was ready',
  found: 'found in node_modules',
  prebuilt: "installed with the package's own binary",
  built: 'compiled against the TensorFlow library of PyPI',
} as const;

export function setupCommand(host: Host): void {
  host
    .command('setup', 'make the native engine ready')
    .option('--gpu', 'with the CUDA kernels and libraries (Linux x64, 3 GB)')
    .action((options: { gpu?: boolean }, command) =>
      host.run(command, async ({ out }) => {
        const { setUpEngine } = await import('../../engine/setup/index.js');
        const report = await setUpEngine({ gpu: options.gpu === true, onProgress: out.info });
        out.result(report, () =>
          fields([
            ['engine', `TensorFlow ${report.tensorflowVersion}, ${words[report.how]}`],
            ['folder', report.engineDir],
            ['time', duration(report.seconds)],
          ]),
        );
      }),
    );
}
