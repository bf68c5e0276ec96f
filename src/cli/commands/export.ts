/** `tl export`: a model for other programs, checked against its source on the way out. */
import { Option } from 'commander';
import { UsageError } from '../../errors.js';
import type { ExportReport } from '../../export/export.js';
import type { Pictures } from '../../export/format.js';
import { type FormatName, formatNames } from '../../export/formats.js';
import { type Quantization, quantizations } from '../../export/quantize/quantizations.js';
import type { WeightsExportReport } from '../../export/weights/weights.js';
import type { WeightsDialect } from '../../export/weights/weights-dialects.js';
import type { OpenedModel } from '../../weights/model-folder.js';
import { byteSize, type ComputeOptions, engineOptions, withCompute } from '../options.js';
import type { Output, Style } from '../output.js';
import type { Host } from '../program.js';
import { bytes, count, fields, percent, table } from '../table.js';

// Written here again so that `--help` loads nothing of the export; the types are literal, so they cannot differ.
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
  readonly format: FormatName | 'weights';
  readonly dialect?: WeightsDialect;
  readonly out: string;
  readonly quantize?: Quantization;
  readonly budget?: number;
  readonly withPreprocessing?: boolean;
  readonly data?: string;
  readonly manifest?: string;
  readonly calibrate?: string | true;
  readonly allowDifference?: boolean;
  readonly overwrite?: boolean;
}

const formatHelp = `tfjs: a graph model for tf.loadGraphModel; tfjs-layers: one for tf.loadLayersModel; keras: .h5 with its architecture;
saved-model: TensorFlow and TF Serving; onnx; tflite; teachable-machine; web: a page to host; weights: a file that the
publisher's own Python code loads`;

export function exportCommand(host: Host): void {
  withCompute(host.command('export', 'write a model for other programs, and check that it computes the same'))
    .option('--model <dir>', 'a model folder or a run folder')
    .option('--backbone <name>', 'weights: a published network instead, with imported weights')
    .option('--source <source>', 'weights: which published variant (default: that of the imported weights)')
    .option('--weights <file>', 'weights: a published file instead of imported weights')
    .requiredOption('--out <dir>', 'the new folder')
    .addOption(new Option('--format <format>', formatHelp).choices([...formatNames, 'weights']).default('tfjs'))
    .addOption(
      new Option('--dialect <dialect>', "weights: whose names and format (default: the source's)").choices(dialects),
    )
    .addOption(new Option('--quantize <type>', 'how weights are stored (default: none)').choices(quantizations))
    .option('--budget <size>', 'the least quantisation by which all files take at most that much: 600kB, 4MB', byteSize)
    .option('--with-preprocessing', 'the model takes pixels 0..255 of its input size, and normalises them itself')
    .option(
      '--data <dir>',
      'labelled pictures for the check, as for evaluate (default: those of the run, where they are)',
    )
    .addOption(new Option('--manifest <file.csv>', 'path,label[,split] instead of folders').conflicts('data'))
    .option(
      '--calibrate [pictures]',
      'with --quantize int8: activations too, by their ranges on these pictures (default: training pictures of --data)',
    )
    .option('--allow-difference', 'keep what was written even where it answers otherwise than the model')
    .option('--overwrite', 'replace what is in --out')
    .action((options: ExportCommandOptions, command) =>
      host.run(command, async ({ out }) => {
        checkOptions(options);
        const { format } = options;
        await (format === 'weights' ? exportToWeights(options, out) : exportToRun({ ...options, format }, out));
      }),
    );
}

/** Options of the other formats are not ignored in silence. */
function checkOptions(options: ExportCommandOptions): void {
  const { format, model, backbone, source, weights, dialect, precision } = options;
  const given = (pairs: Record<string, unknown>) => Object.keys(pairs).filter((name) => pairs[name] !== undefined);
  const fault = (message: string, hint: string) => new UsageError({ code: 'BAD_OPTIONS', message, hint });
  const quantize = options.quantize === 'none' ? undefined : options.quantize;
  const idle =
    format !== 'weights'
      ? given({ '--backbone': backbone, '--source': source, '--weights': weights, '--dialect': dialect })
      : given({
          '--quantize': quantize,
          '--budget': options.budget,
          '--with-preprocessing': options.withPreprocessing,
          '--data': options.data,
          '--manifest': options.manifest,
          '--calibrate': options.calibrate,
          '--allow-difference': options.allowDifference,
        });
  if (idle.length > 0) throw fault(`--format ${format} has no ${idle.join(', ')}`, `leave ${idle.join(', ')} out`);
  if (precision !== 'float32') {
    throw fault(`--precision ${precision}: an export is written, and checked, in float32`, 'leave --precision out');
  }
  if ((model === undefined) === (backbone === undefined)) {
    const wanted = format !== 'weights' ? '--model DIR' : '--model DIR, or --backbone NAME for imported weights';
    throw fault(`expected one of ${wanted}`, 'name the folder that `tl finetune` printed with --model');
  }
  if (model !== undefined && (source !== undefined || weights !== undefined)) {
    throw fault('--source and --weights belong to --backbone; a model folder knows its own', 'leave them out');
  }
}

type RunnableExport = ExportCommandOptions & { readonly format: FormatName };

async function exportToRun(options: RunnableExport, out: Output): Promise<void> {
  const engineWanted = engineOptions(options);
  const { openModelFolder } = await import('../../weights/model-folder.js');
  const { loadEngine } = await import('../../engine/tensorflow.js');
  const { exportModel } = await import('../../export/export.js');
  const { closeLoader } = await import('../../data/index.js');
  const model = await openModelFolder(options.model!);
  try {
    const pictures = await picturesFor(model, options, out);
    const engine = await loadEngine(engineWanted);
    out.info(`engine: ${engine.description}`);
    const { format, quantize, overwrite = false, withPreprocessing = false, allowDifference = false } = options;
    const report = await exportModel(
      model,
      {
        ...{ format, quantize, out: options.out, overwrite, withPreprocessing, allowDifference },
        ...{ budgetBytes: options.budget, ...pictures },
      },
      engine,
    );
    if (report.difference !== null) out.warn(`kept, as --allow-difference says: ${report.difference}`);
    out.result(report, () => reportText(report, out.style));
  } finally {
    await closeLoader();
    await model.close();
  }
}

/** Pictures that ranges of activations are taken from; TensorFlow's guide asks for 100 to 500. */
const CALIBRATED_ON = 200; // https://ai.google.dev/edge/litert/models/post_training_quantization

/** What the check runs on, and what activations are calibrated on. */
async function picturesFor(
  model: OpenedModel,
  { data, manifest, calibrate }: RunnableExport,
  out: Output,
): Promise<{ validation?: Pictures; calibration?: Pictures }> {
  const { dataOfRun, labelledData, labelledPictures } = await import('../../train/labelled.js');
  const { record, folder } = model;
  const labelled =
    data === undefined && manifest === undefined
      ? await dataOfRun(folder, record)
      : labelledData(record, { data: data ?? 'data', manifest });
  if (labelled === undefined) out.info('no labelled pictures: checked on generated ones; give some with --data');
  const validation = labelled && labelledPictures(record, labelled().samples);
  if (calibrate === undefined) return { ...(validation && { validation }) };
  if (calibrate === true && labelled === undefined) {
    throw new UsageError({
      code: 'BAD_OPTIONS',
      message: '--calibrate: no pictures to take ranges of activations from',
      hint: 'name a folder of pictures with --calibrate, or the data set with --data',
    });
  }
  const { listGiven } = await import('../pictures.js');
  const samples =
    calibrate === true
      ? labelled!('train').samples
      : (await listGiven([calibrate])).map((path) => ({ path, label: 0, split: 'train' as const }));
  const step = Math.max(1, samples.length / CALIBRATED_ON);
  const spread = samples.filter((_, i) => Math.floor(i / step) !== Math.floor((i - 1) / step));
  return { ...(validation && { validation }), calibration: labelledPictures(record, spread) };
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

function reportText(report: ExportReport, style: Style): string {
  const { out, title, quantize, calibrated, files, bytes: total, weights, check, tried } = report;
  const stored = quantize === 'none' ? 'float32' : `${quantize}${calibrated ? ', activations too' : ''}`;
  const about = fields([
    ['folder', out],
    ['format', `${title}, ${count(files.length)} files, ${bytes(total)}`],
    [
      'weights',
      `${bytes(weights.bytes)} (${stored}), ${percent(weights.bytes / weights.float32Bytes)} of the model's in float32`,
    ],
    ...(tried.length > 1
      ? [['tried', tried.map((each) => `${each.quantize} ${bytes(each.bytes)}`).join(', ')] as const]
      : []),
    [
      'checked',
      `${count(check.pictures)} ${check.given ? '' : 'generated '}pictures, ${check.runtime} against ${check.engine}: ` +
        `probabilities differ by at most ${check.maxDifference.toExponential(1)}; asked for: ${report.bound}`,
    ],
  ]);
  const right = (heading: string) => ({ heading, align: 'right' as const });
  const accuracy = (value: number | null): string => (value === null ? '-' : percent(value));
  const { source, exported } = check;
  return `${about}\n\n${table(
    [
      ...[{ heading: 'model' }, { heading: 'weights' }],
      ...['size', 'accuracy', 'agreement', 'ms a picture'].map(right),
    ],
    [
      [
        ...['source', 'float32', bytes(weights.float32Bytes), accuracy(source.accuracy), '-'],
        source.millisecondsPerPicture.toFixed(1),
      ],
      [
        ...[report.format, stored, bytes(total), accuracy(exported.accuracy), percent(check.agreement)],
        exported.millisecondsPerPicture.toFixed(1),
      ],
    ],
    style,
  )}`;
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
