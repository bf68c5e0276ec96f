/** `tl lr-find`: which learning rate a network and its pictures can be trained with. */
import type { FindResult } from '../../train/lr-find.js';
import { real } from '../../train/settings/kinds.js';
import { argument, type EngineChoice, engineOptions, wholeNumber, withEngine } from '../options.js';
import type { Host } from '../program.js';
import { gatherSettings, printArguments, withSettings } from '../settings.js';
import { duration, fields } from '../table.js';

interface FindCommandOptions extends EngineChoice {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly printArgs?: boolean;
}

// Written here again so that `--help` loads nothing of the training; the compiler compares them.
const range: typeof import('../../train/range-test.js').rangeDefaults = { from: 1e-7, to: 10, steps: 100 };
const FEWEST_STEPS: typeof import('../../train/lr-find.js').FEWEST_STEPS = 10;

/** A test begins where a run begins, and has rates of its own. */
const meaningless = [
  ...(['lr', 'epochs', 'schedule', 'warmupEpochs', 'stepEpochs', 'stepGamma', 'minLr'] as const),
  ...(['twoStage', 'unfreezeLr', 'gradual', 'patience', 'ema', 'tensorboard'] as const),
];

const examples = `
Examples:
  tl lr-find --backbone resnet50                                 for a new head on data/<class>/*
  tl lr-find --backbone mobilenet_v2 --freeze none --optimizer sgd --batch-size 32`;

export function lrFindCommand(host: Host): void {
  const command = host.command('lr-find', 'test growing learning rates, and suggest one for `tl finetune`');
  withSettings(command, meaningless);
  withEngine(command)
    .optionsGroup('Test:')
    .option('--from <rate>', 'the first learning rate', argument(real({ above: 0 })), range.from)
    .option('--to <rate>', 'the learning rate it grows to', argument(real({ above: 0 })), range.to)
    .option('--steps <n>', 'updates at the most; the loss may end it before', wholeNumber(FEWEST_STEPS), range.steps)
    .option('--out <dir>', 'where lr_find.png and lr_find.csv are written (default: runs/lr-find-N)')
    .option('--overwrite', 'replace the test in --out')
    .addHelpText('after', examples);
  command.action((options: FindCommandOptions) =>
    host.run(
      command,
      async ({ out, signal }) => {
        const began = performance.now();
        const gathered = await gatherSettings(command);
        if (options.printArgs === true) return await printArguments(gathered, out);
        const { from, to, steps, out: folder, overwrite = false } = options;
        const { findLearningRate } = await import('../../train/lr-find.js');
        const { terminalReporter } = await import('../progress.js');
        const reporter = terminalReporter(out);
        try {
          const how = { from, to, steps, overwrite, engine: engineOptions(options), signal };
          const wanted = { ...gathered.given, ...how, ...(folder === undefined ? {} : { out: folder }) };
          const found = await findLearningRate(wanted, reporter);
          const seconds = (performance.now() - began) / 1000;
          out.result({ ...found, seconds }, () => textOf(found, seconds));
        } finally {
          reporter.close();
        }
      },
      { graceful: true },
    ),
  );
}

function textOf({ folder, ended, steps, suggestions, plot }: FindResult, seconds: number): string {
  const { steep, valley } = suggestions;
  const rate = (value: number | undefined): string =>
    value === undefined ? 'none: the loss ended the test too early' : String(Number(value.toPrecision(2)));
  return fields([
    ['folder', folder],
    ['curve', plot],
    ['updates', `${steps}, ended ${ended === 'diverged' ? 'where the loss diverged' : ended}`],
    ['steep', `${rate(steep)}${steep === undefined ? '' : ', where the loss falls the steepest'}`],
    ['valley', `${rate(valley)}${valley === undefined ? '' : ', two thirds of the way down'}`],
    ['time', duration(seconds)],
    ...(valley === undefined ? [] : [['next', `tl finetune with the same options and --lr ${rate(valley)}`] as const]),
  ]);
}
