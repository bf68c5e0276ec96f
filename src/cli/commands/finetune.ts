/** `tl finetune`: trains a new head, and as much of a network as is not frozen, on a folder of pictures. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { UsageError } from '../../errors.js';
import type { FinetuneOptions, FinetuneResult } from '../../train/options.js';
import type { GivenSettings } from '../../train/settings/settings.js';
import { type EngineChoice, engineOptions, withEngine } from '../options.js';
import { EXIT_INTERRUPTED } from '../output.js';
import type { Host } from '../program.js';
import { gatherSettings, printArguments, withSettings } from '../settings.js';
import { duration, fields, percent } from '../table.js';

interface FinetuneCommandOptions extends EngineChoice {
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly resume?: string;
  readonly printArgs?: boolean;
}

const examples = `
Examples:
  tl finetune --backbone resnet50                                       a new head on data/<class>/*
  tl finetune --backbone mobilenet_v2 --data flowers --freeze last:3    the last three blocks too
  tl finetune --backbone resnet50 --freeze none --lr 1e-5 --epochs 5    everything
  tl finetune --backbone resnet50 --head mlp:1024 --head-dropout 0.5    a hidden layer of 1024 units
  tl finetune --backbone mobilenet_v2_0.35 --teacher runs/finetune-1    a small network from a big one's logits
  tl finetune --backbone resnet50 --two-stage 5 --epochs 15             the head first, then everything
  tl finetune --recipe fastai --backbone resnet50 --print-args          what a recipe would do, as a --config file
  tl finetune --resume runs/finetune-1                                  go on with a stopped run`;

export function finetuneCommand(host: Host): void {
  const command = host.command('finetune', 'train on a folder of labelled pictures, from published weights');
  withSettings(command);
  withEngine(command.optionsGroup('Engine:'))
    .optionsGroup('Run:')
    .option('--out <dir>', 'the run folder (default: runs/finetune-N)')
    .option('--overwrite', 'replace the run in --out')
    .option('--resume <dir>', 'go on where that run stopped, with its own settings')
    .addHelpText('after', examples);
  command.action((options: FinetuneCommandOptions) =>
    host.run(
      command,
      async ({ out, signal, endWith }) => {
        const began = performance.now();
        if (options.resume !== undefined) assertNoSettings(command, options.resume);
        const gathered = await gatherSettings(command);
        if (options.printArgs === true) return await printArguments(gathered, out);
        const wanted = finetuneOptions(options, gathered.given, signal);
        const { finetune } = await import('../../train/finetune.js');
        const { describeOverfitting } = await import('../../train/overfitting.js');
        const { terminalReporter } = await import('../progress.js');
        const reporter = terminalReporter(out);
        try {
          const result = await finetune(wanted, reporter);
          const resume = result.stopped ? `tl finetune --resume ${result.runFolder}` : null;
          const seconds = (performance.now() - began) / 1000;
          const { overfitting } = result.metrics;
          const note = overfitting === null ? undefined : describeOverfitting(overfitting);
          out.result({ ...result, resume, seconds }, () => textOf(result, { note, resume, seconds }));
          if (result.stopped) endWith(EXIT_INTERRUPTED);
        } finally {
          reporter.close();
        }
      },
      { graceful: true },
    ),
  );
}

function finetuneOptions(options: FinetuneCommandOptions, given: GivenSettings, signal: AbortSignal): FinetuneOptions {
  const { resume, out, overwrite = false } = options;
  return {
    ...given,
    ...(resume === undefined ? {} : { resume }),
    ...(out === undefined ? {} : { out }),
    overwrite,
    engine: engineOptions(options),
    signal,
  };
}

/** What may stand beside `--resume`: where it computes and what it writes, not what it computes. */
const besideResume = new Set(['resume', 'engine', 'device', 'threads', 'json', 'quiet', 'debug']);

/** @throws RESUME_SETTINGS */
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

interface Summary {
  /** What must be known of the run. */
  readonly note: string | undefined;
  readonly resume: string | null;
  readonly seconds: number;
}

function textOf({ runFolder, metrics }: FinetuneResult, { note, resume, seconds }: Summary): string {
  const { bestEpoch, epochs, valLoss, valAccuracy, trainLoss, trainAccuracy, badPictures } = metrics;
  const validated =
    valLoss === null || valAccuracy === null
      ? 'no validation pictures'
      : `loss ${valLoss.toFixed(4)}, accuracy ${percent(valAccuracy)}`;
  return fields([
    ['run folder', runFolder],
    ['report', join(runFolder, 'report.html')],
    ['best epoch', `${bestEpoch} of ${epochs}`],
    ['validation', validated],
    ['training', `loss ${trainLoss.toFixed(4)}, accuracy ${percent(trainAccuracy)}`],
    ...(note === undefined ? [] : [['note', note] as const]),
    ...(badPictures === 0 ? [] : [['left out', `${badPictures} damaged pictures`] as const]),
    ['time', duration(seconds)],
    resume === null ? ['next', `tl predict --model ${runFolder} IMAGE`] : ['go on', resume],
  ]);
}
