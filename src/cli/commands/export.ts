/** `tl export`: a model for other programs, checked against its source on the way out. */
import { Option } from 'commander';
import { UsageError } from '../../errors.js';
import type { Quantization } from '../../export/quantize/quantize.js';
import type { ExportReport } from '../../export/tfjs/tfjs.js';
import type { WeightsExportReport } from '../../export/weights/weights.js';
import type { WeightsDialect } from '../../export/weights/weights-dialects.js';
import { type ComputeOptions, engineOptions, withCompute } from '../options.js';
import type { Output } from '../output.js';
import type { Host } from '../program.js';
import { bytes, count, fields, percent } from '../table.js';

// Written here again so that `--help` loads nothing of the export; the types are literal, so they cannot differ.
const quantizations: typeof import('../../export/quantize/quantize.js').quantizations = ['none', 'float16', 'uint8'];
const dialects: typeof import('../../export/weights/weights-dialects.js').weightsDialects = [
  'keras-h5',
  'slim-ckpt',
  'flax-npz',
  'torch-safetensors',
];

interface ExportCommandOptions extends ComputeOptions {
  readonly model?: string;
  readonly backbone?: string;
  readonly source?: string;
  readonly weights?: string;
  readonly format: 'tfjs' | 'weights';
  readonly dialect?: WeightsDialect;
  readonly out: string;
  readonly quantize: Quantization;
  readonly overwrite?: boolean;
}

export function exportCommand(host: Host): void {
  withCompute(host.command('export', 'write a model for other programs, and check that it computes the same'))
    .option('--model <dir>', 'a model folder or a run folder')
    .option('--backbone <name>', 'weights: a published network instead, with imported weights')
    .option('--source <source>', 'weights: which published variant (default: that of the imported weights)')
    .option('--weights <file>', 'weights: a published file instead of imported weights')
    .requiredOption('--out <dir>', 'the new folder')
    .addOption(
      new Option(
        '--format <format>',
        "tfjs: a graph model for tf.loadGraphModel; weights: a file that the publisher's own Python code loads",
      )
        .choices(['tfjs', 'weights'])
        .default('tfjs'),
    )
    .addOption(
      new Option('--dialect <dialect>', "weights: whose names and format (default: the source's)").choices(dialects),
    )
    .addOption(new Option('--quantize <type>', 'tfjs: how weights are stored').choices(quantizations).default('none'))
    .option('--overwrite', 'replace what is in --out')
    .action((options: ExportCommandOptions, command) =>
      host.run(command, async ({ out }) => {
        checkOptions(options);
        await (options.format === 'tfjs' ? exportToTfjs(options, out) : exportToWeights(options, out));
      }),
    );
}

/** Options of the other format are not ignored in silence. */
function checkOptions(options: ExportCommandOptions): void {
  const { format, model, backbone, source, weights, dialect, quantize, precision } = options;
  const given = (pairs: Record<string, unknown>) => Object.keys(pairs).filter((name) => pairs[name] !== undefined);
  const fault = (message: string, hint: string) => new UsageError({ code: 'BAD_OPTIONS', message, hint });
  const idle =
    format === 'tfjs'
      ? given({ '--backbone': backbone, '--source': source, '--weights': weights, '--dialect': dialect })
      : given({ '--quantize': quantize === 'none' ? undefined : quantize });
  if (idle.length > 0) throw fault(`--format ${format} has no ${idle.join(', ')}`, `leave ${idle.join(', ')} out`);
  if (precision !== 'float32') {
    throw fault(`--precision ${precision}: an export is written, and checked, in float32`, 'leave --precision out');
  }
  if ((model === undefined) === (backbone === undefined)) {
    const wanted = format === 'tfjs' ? '--model DIR' : '--model DIR, or --backbone NAME for imported weights';
    throw fault(`expected one of ${wanted}`, 'name the folder that `tl finetune` printed with --model');
  }
  if (model !== undefined && (source !== undefined || weights !== undefined)) {
    throw fault('--source and --weights belong to --backbone; a model folder knows its own', 'leave them out');
  }
}

async function exportToTfjs(options: ExportCommandOptions, out: Output): Promise<void> {
  const engineWanted = engineOptions(options);
  const { openModelFolder } = await import('../../weights/model-folder.js');
  const { loadEngine } = await import('../../engine/tensorflow.js');
  const { exportTfjs } = await import('../../export/tfjs/tfjs.js');
  const model = await openModelFolder(options.model!);
  try {
    const engine = await loadEngine(engineWanted);
    out.info(`engine: ${engine.description}`);
    const { quantize, overwrite = false } = options;
    const report = await exportTfjs(model, { quantize, out: options.out, overwrite }, engine);
    out.result(report, () => tfjsText(report));
  } finally {
    await model.close();
  }
}

async function exportToWeights(options: ExportCommandOptions, out: Output): Promise<void> {
  const { exportWeights } = await import('../../export/weights/weights.js');
  const { network, close } = await networkFor(options);
  try {
    const { dialect, overwrite = false } = options;
    const report = await exportWeights(network, { dialect, out: options.out, overwrite });
    out.result(report, () => weightsText(report));
  } finally {
    await close();
  }
}

async function networkFor({ model, backbone, source, weights = 'auto' }: ExportCommandOptions) {
  const { networkOfModel, networkOfWeights } = await import('../../export/weights/weights-network.js');
  if (model !== undefined) {
    const { openModelFolder } = await import('../../weights/model-folder.js');
    const opened = await openModelFolder(model);
    return { network: networkOfModel(opened), close: opened.close };
  }
  const { resolveWeights } = await import('../../weights/resolve.js');
  const resolved = await resolveWeights({ backbone: backbone!, source, weights });
  const { read } = resolved;
  if (read !== undefined) return { network: networkOfWeights({ ...resolved, read }), close: resolved.close };
  throw new UsageError({
    code: 'BAD_OPTIONS',
    message: 'without weights there is nothing to write',
    hint: 'give a file with --weights, or leave it out for imported weights',
  });
}

function tfjsText({ out, format, quantize, files, bytes: total, weights, check }: ExportReport): string {
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

function weightsText(report: WeightsExportReport): string {
  const { out, dialect, backbone, source, writtenAs, files, tensors, loading, check } = report;
  const rounded = check.rounded === 0 ? '' : `, but for ${count(check.rounded)} that are one step of float32 off`;
  const lines = fields([
    ['folder', out],
    [
      'network',
      `${backbone} from ${source}${writtenAs === source ? '' : `, written as ${writtenAs}'s, the same function`}`,
    ],
    ['dialect', `${dialect}, ${count(tensors.length)} tensors`],
    ...files.map(({ name, bytes: size, sha256 }) => ['file', `${name}, ${bytes(size)}, sha256 ${sha256}`] as const),
    ['checked', `${count(check.numbers)} numbers, read again, are bit for bit the model's${rounded}`],
  ]);
  return loading.python.length === 0 ? lines : `${lines}\n\n${loading.python.join('\n')}`;
}
