/** `tl export`: a deployable model, checked against its source on the way out. */
import { Option } from 'commander';
import type { Quantization } from '../../export/quantize.js';
import type { ExportReport } from '../../export/tfjs.js';
import { type ComputeOptions, engineOptions, withCompute } from '../options.js';
import type { Host } from '../program.js';
import { bytes, fields, percent } from '../table.js';

// Written here again so that `--help` loads nothing of the export; the type is literal, so they cannot differ.
const quantizations: typeof import('../../export/quantize.js').quantizations = ['none', 'float16', 'uint8'];

interface ExportCommandOptions extends ComputeOptions {
  readonly model: string;
  readonly format: 'tfjs';
  readonly out: string;
  readonly quantize: Quantization;
  readonly overwrite?: boolean;
}

export function exportCommand(host: Host): void {
  withCompute(host.command('export', 'write a deployable model, and check that it computes the same'))
    .requiredOption('--model <dir>', 'a model folder or a run folder')
    .requiredOption('--out <dir>', 'the new folder')
    .addOption(
      new Option('--format <format>', 'tfjs: a graph model for tf.loadGraphModel').choices(['tfjs']).default('tfjs'),
    )
    .addOption(new Option('--quantize <type>', 'how weights are stored').choices(quantizations).default('none'))
    .option('--overwrite', 'replace what is in --out')
    .action((options: ExportCommandOptions, command) =>
      host.run(command, async ({ out }) => {
        const engineWanted = engineOptions(options);
        const { openModelFolder } = await import('../../weights/model-folder.js');
        const { loadEngine } = await import('../../engine/tensorflow.js');
        const { exportTfjs } = await import('../../export/tfjs.js');
        const model = await openModelFolder(options.model);
        try {
          const engine = await loadEngine(engineWanted);
          out.info(`engine: ${engine.description}`);
          const { quantize, overwrite = false } = options;
          const report = await exportTfjs(model, { quantize, out: options.out, overwrite }, engine);
          out.result(report, () => textOf(report));
        } finally {
          await model.close();
        }
      }),
    );
}

function textOf({ out, format, quantize, files, bytes: total, weights, check }: ExportReport): string {
  const share = percent(weights.bytes / weights.float32Bytes);
  const size = quantize === 'none' ? '' : `, ${share} of float32`;
  const difference = check.maxDifference.toExponential(1);
  return fields([
    ['folder', out],
    ['format', `${format}, ${files.length} files, ${bytes(total)}`],
    ['weights', `${bytes(weights.bytes)} (${quantize === 'none' ? 'float32' : quantize}${size})`],
    [
      'checked',
      `on ${check.backend} with ${check.pictures} pictures: probabilities differ by at most ${difference}, ` +
        `${percent(check.agreement)} of the answers are the same`,
    ],
  ]);
}
