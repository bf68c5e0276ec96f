/** `tl finetune`: trains a new head, and as much of a network as is not frozen, on a folder of pictures. */
import { type Command, Option } from 'commander';
import type { Augmentation } from '../../augment/augment.js';
import type { Channels, ImageSize } from '../../augment/image.js';
import { UsageError } from '../../errors.js';
import type { CachePlace, RowPrecision } from '../../train/features/places.js';
import type { OptimizerName } from '../../train/optimizers.js';
import type { FinetuneOptions, FinetuneResult } from '../../train/options.js';
import type { ScheduleName } from '../../train/schedule.js';
import {
  type ComputeOptions,
  channelsOption,
  engineOptions,
  inputSize,
  realNumber,
  wholeNumber,
  withCompute,
} from '../options.js';
import { EXIT_INTERRUPTED } from '../output.js';
import type { Host } from '../program.js';
import { duration, fields, percent } from '../table.js';

// Written here again so that `--help` loads nothing of the training; a test compares them.
export const defaults: typeof import('../../train/options.js').defaults = {
  weights: 'auto',
  freeze: 'backbone',
  head: 'linear',
  headDropout: 0,
  epochs: 20,
  batchSize: 16,
  optimizer: 'adam',
  schedule: 'cosine',
  warmupEpochs: 0,
  momentum: 0.9,
  weightDecay: 0,
  labelSmoothing: 0,
  auxiliary: 'on',
  seed: 0,
  augment: 'flip',
  valSplit: 0.2,
  skipBadImages: false,
  precision: 'float32',
  recompute: false,
  cache: 'auto',
  cachePrecision: 'float32',
};
export const distillation: typeof import('../../train/distill.js').distillationDefaults = {
  weight: 0.9,
  temperature: 2,
};
const augmentations: typeof import('../../augment/augment.js').augmentations = ['none', 'flip', 'standard', 'strong'];
const cachePlaces: typeof import('../../train/features/places.js').cachePlaces = ['auto', 'memory', 'disk', 'off'];
const rowPrecisions: typeof import('../../train/features/places.js').rowPrecisions = ['float32', 'float16'];
const optimizers: typeof import('../../train/optimizers.js').optimizerNames = ['adam', 'adamw', 'sgd'];
const schedules: typeof import('../../train/schedule.js').scheduleNames = ['constant', 'cosine'];

interface FinetuneCommandOptions extends ComputeOptions {
  readonly data: string;
  readonly manifest?: string;
  readonly backbone?: string;
  readonly source?: string;
  readonly weights: string;
  readonly freeze: string;
  readonly head: string;
  readonly headDropout: number;
  readonly epochs: number;
  readonly batchSize: number;
  readonly lr?: number;
  readonly optimizer: OptimizerName;
  readonly schedule: ScheduleName;
  readonly warmup: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly labelSmoothing: number;
  readonly teacher?: string;
  readonly distillWeight?: number;
  readonly temperature?: number;
  readonly dropPath?: number;
  readonly auxiliary: 'on' | 'off';
  readonly seed: number;
  readonly augment: Augmentation;
  readonly valSplit: number;
  readonly skipBadImages?: boolean;
  readonly inputSize?: ImageSize;
  readonly channels?: Channels;
  readonly recompute?: boolean;
  readonly cache: CachePlace;
  readonly cachePrecision: RowPrecision;
  readonly cacheViews?: number;
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly resume?: string;
}

const examples = `
Examples:
  tl finetune --backbone resnet50                                       a new head on data/<class>/*
  tl finetune --backbone mobilenet_v2 --data flowers --freeze last:3    the last three blocks too
  tl finetune --backbone resnet50 --freeze none --lr 1e-5 --epochs 5    everything
  tl finetune --backbone resnet50 --head mlp:1024 --head-dropout 0.5    a hidden layer of 1024 units
  tl finetune --backbone mobilenet_v2_0.35 --teacher runs/finetune-1    a small network from a big one's logits
  tl finetune --resume runs/finetune-1                                  go on with a stopped run`;

export function finetuneCommand(host: Host): void {
  const share = realNumber({ atLeast: 0, below: 1 });
  const command = host
    .command('finetune', 'train on a folder of labelled pictures, from published weights')
    .option('--backbone <name>', 'a network of `tl backbones`; required')
    .option('--data <dir>', 'DIR/train/<class>/* with DIR/val/<class>/*, or DIR/<class>/* split by --val-split', 'data')
    .addOption(new Option('--manifest <file.csv>', 'path,label[,split] instead of folders').conflicts('data'))
    .option(
      '--val-split <share>',
      'share of the pictures that validates, where no val folder is there',
      share,
      defaults.valSplit,
    )
    .option('--skip-bad-images', 'leave damaged pictures out, and list them')
    .option('--source <source>', 'which published variant (default: that of the imported weights)')
    .option('--weights <weights>', 'auto (imported weights), a file, or none to train from scratch', defaults.weights)
    .option('--freeze <what>', 'backbone, none, last:N (train the last N blocks) or until:TAP', defaults.freeze)
    .option('--head <head>', 'linear, or mlp:UNITS[,UNITS...] with hidden layers', defaults.head)
    .option(
      '--head-dropout <rate>',
      'share of values dropped before each dense layer of the head',
      share,
      defaults.headDropout,
    )
    .option('--epochs <n>', 'times through the pictures', wholeNumber(1), defaults.epochs)
    .option('--batch-size <n>', 'pictures in a step', wholeNumber(1), defaults.batchSize)
    .option(
      '--lr <rate>',
      'highest learning rate (default: 0.001 for a head alone, else 0.0001; ten times that with sgd)',
      realNumber({ above: 0 }),
    )
    .addOption(new Option('--optimizer <name>', 'how steps are taken').choices(optimizers).default(defaults.optimizer))
    .addOption(new Option('--schedule <name>', 'of the learning rate').choices(schedules).default(defaults.schedule))
    .option(
      '--warmup <epochs>',
      'epochs in which the learning rate rises',
      realNumber({ atLeast: 0 }),
      defaults.warmupEpochs,
    )
    .option('--momentum <share>', 'of sgd', share, defaults.momentum)
    .addOption(
      new Option('--weight-decay <rate>', 'of adamw and sgd')
        .argParser(realNumber({ atLeast: 0 }))
        .default(defaults.weightDecay, '0; 0.01 with adamw'),
    )
    .option('--label-smoothing <share>', 'of the training loss', share, defaults.labelSmoothing)
    .option('--teacher <dir>', 'learn the logits of this model or run folder too, trained for the same classes')
    .option(
      '--distill-weight <share>',
      `of the teacher's part in the training loss, against the labels' (default: ${distillation.weight})`,
      realNumber({ atLeast: 0, atMost: 1 }),
    )
    .option(
      '--temperature <t>',
      `divides both networks' logits in the teacher's part (default: ${distillation.temperature})`,
      realNumber({ above: 0 }),
    )
    .option(
      '--drop-path <rate>',
      "how often a step leaves the last block's branch out, growing from 0 in the first (default: the network's own)",
      share,
    )
    .addOption(
      new Option('--auxiliary <on|off>', 'let the auxiliary classifiers of GoogLeNet take part in the training loss')
        .choices(['on', 'off'])
        .default(defaults.auxiliary),
    )
    .addOption(
      new Option('--augment <how>', 'random changes to training pictures')
        .choices(augmentations)
        .default(defaults.augment),
    )
    .option('--input-size <size>', 'N, or HxW for height and width (default: as published)', inputSize)
    .addOption(channelsOption('those that the weights were trained on'))
    .option('--recompute', 'run trained blocks again for their gradients, instead of keeping them: slower, less memory')
    .addOption(
      new Option(
        '--cache <where>',
        "keep the frozen part's output, and a teacher's: auto and disk in TL_HOME/features, where later runs find it, or in memory",
      )
        .choices(cachePlaces)
        .default(defaults.cache),
    )
    .addOption(
      new Option('--cache-precision <type>', 'numbers that it is kept in; float16 takes half the room')
        .choices(rowPrecisions)
        .default(defaults.cachePrecision),
    )
    .option(
      '--cache-views <n>',
      'with --augment standard or strong, keep N random views of each picture, which epochs show in turn',
      wholeNumber(1),
    )
    .option('--seed <n>', 'of everything random', wholeNumber(0), defaults.seed)
    .option('--out <dir>', 'the run folder (default: runs/finetune-N)')
    .option('--overwrite', 'replace the run in --out')
    .option('--resume <dir>', 'go on where that run stopped, with its own settings')
    .addHelpText('after', examples);
  withCompute(command).action((options: FinetuneCommandOptions) =>
    host.run(
      command,
      async ({ out, signal, endWith }) => {
        const began = performance.now();
        const wanted = await finetuneOptions(options, command, signal);
        const { finetune } = await import('../../train/finetune.js');
        const { terminalReporter } = await import('../progress.js');
        const reporter = terminalReporter(out);
        try {
          const result = await finetune(wanted, reporter);
          const resume = result.stopped ? `tl finetune --resume ${result.runFolder}` : null;
          const seconds = (performance.now() - began) / 1000;
          out.result({ ...result, resume, seconds }, () => textOf(result, resume, seconds));
          if (result.stopped) endWith(EXIT_INTERRUPTED);
        } finally {
          reporter.close();
        }
      },
      { graceful: true },
    ),
  );
}

/** @throws MISSING_OPTION, RESUME_SETTINGS, BAD_HEAD */
async function finetuneOptions(
  options: FinetuneCommandOptions,
  command: Command,
  signal: AbortSignal,
): Promise<FinetuneOptions> {
  const { parseHead } = await import('../../heads/heads.js');
  const { backbone, resume } = options;
  if (resume !== undefined) assertNoSettings(command, resume);
  else if (backbone === undefined) {
    throw new UsageError({
      code: 'MISSING_OPTION',
      message: 'no network was named',
      hint: 'add --backbone NAME; `tl backbones` lists them',
    });
  }
  const { manifest, source, lr, teacher, distillWeight, temperature } = options;
  const { dropPath, inputSize: size, channels, cacheViews, out } = options;
  return {
    ...(manifest === undefined ? { data: options.data } : { manifest }),
    backbone: backbone ?? '',
    ...(source === undefined ? {} : { source }),
    weights: options.weights,
    freeze: options.freeze,
    head: parseHead(options.head, options.headDropout),
    epochs: options.epochs,
    batchSize: options.batchSize,
    ...(lr === undefined ? {} : { lr }),
    optimizer: options.optimizer,
    schedule: options.schedule,
    warmupEpochs: options.warmup,
    momentum: options.momentum,
    weightDecay: options.weightDecay,
    labelSmoothing: options.labelSmoothing,
    ...(teacher === undefined ? {} : { teacher }),
    ...(distillWeight === undefined ? {} : { distillWeight }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(dropPath === undefined ? {} : { dropPath }),
    auxiliary: options.auxiliary,
    seed: options.seed,
    augment: options.augment,
    valSplit: options.valSplit,
    skipBadImages: options.skipBadImages === true,
    ...(size === undefined ? {} : { inputSize: size }),
    ...(channels === undefined ? {} : { channels }),
    precision: options.precision,
    recompute: options.recompute === true,
    cache: options.cache,
    cachePrecision: options.cachePrecision,
    ...(cacheViews === undefined ? {} : { cacheViews }),
    ...(out === undefined ? {} : { out }),
    overwrite: options.overwrite === true,
    ...(resume === undefined ? {} : { resume }),
    engine: engineOptions(options),
    signal,
  };
}

/** What may stand beside `--resume`: where it computes and what it writes, not what it computes. */
const besideResume = new Set(['resume', 'engine', 'device', 'threads', 'json', 'quiet', 'debug']);

function assertNoSettings(command: Command, resume: string): void {
  const given = command.options.filter(
    (option) =>
      !besideResume.has(option.attributeName()) && command.getOptionValueSource(option.attributeName()) === 'cli',
  );
  if (given.length === 0) return;
  throw new UsageError({
    code: 'RESUME_SETTINGS',
    message: `--resume goes on with the run's own settings, and ${given.map((option) => option.long).join(', ')} would change them`,
    hint: `leave them out, or start a new run from its model with --weights ${resume}`,
  });
}

function textOf({ runFolder, metrics }: FinetuneResult, resume: string | null, seconds: number): string {
  const { bestEpoch, epochs, valLoss, valAccuracy, trainLoss, trainAccuracy, badPictures } = metrics;
  const validated =
    valLoss === null || valAccuracy === null
      ? 'no validation pictures'
      : `loss ${valLoss.toFixed(4)}, accuracy ${percent(valAccuracy)}`;
  return fields([
    ['run folder', runFolder],
    ['best epoch', `${bestEpoch} of ${epochs}`],
    ['validation', validated],
    ['training', `loss ${trainLoss.toFixed(4)}, accuracy ${percent(trainAccuracy)}`],
    ...(badPictures === 0 ? [] : [['left out', `${badPictures} damaged pictures`] as const]),
    ['time', duration(seconds)],
    resume === null ? ['next', `tl predict --model ${runFolder} IMAGE`] : ['go on', resume],
  ]);
}
