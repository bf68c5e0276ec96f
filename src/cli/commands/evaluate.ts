/** `tl evaluate`: how good a model is on labelled pictures. */
import { Option } from 'commander';
import type { Evaluation } from '../../train/evaluate.js';
import type { EvaluatedSplit } from '../../train/labelled.js';
import type { Scores } from '../../train/metrics.js';
import type { TestTimeAugmentation } from '../../train/test-time.js';
import { openModel } from '../model.js';
import { type ComputeOptions, engineOptions, testTimeOption, wholeNumber, withCompute } from '../options.js';
import type { Style } from '../output.js';
import type { Host } from '../program.js';
import { fields, percent, table } from '../table.js';

interface EvaluateCommandOptions extends ComputeOptions {
  readonly model: string;
  readonly data: string;
  readonly manifest?: string;
  readonly split?: EvaluatedSplit;
  readonly batchSize: number;
  readonly skipBadImages?: boolean;
  readonly csv?: string;
  readonly tta?: TestTimeAugmentation;
}

export function evaluateCommand(host: Host): void {
  withCompute(host.command('evaluate', 'measure a model on labelled pictures: loss, accuracy, each class, confusion'))
    .requiredOption('--model <dir>', 'a model folder, a run folder, or an exported folder')
    .option('--data <dir>', 'as for finetune', 'data')
    .addOption(new Option('--manifest <file.csv>', 'path,label[,split] instead of folders').conflicts('data'))
    .addOption(
      new Option(
        '--split <split>',
        'which pictures (default: val where the data say which these are, else all)',
      ).choices(['val', 'train', 'all']),
    )
    .option('--batch-size <n>', 'pictures at once', wholeNumber(1), 16)
    .option('--skip-bad-images', 'leave damaged pictures out, and list them')
    .addOption(testTimeOption())
    .option('--csv <file>', 'write a row for each picture: class, prediction, loss, the five most probable classes')
    .action((options: EvaluateCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const engineWanted = engineOptions(options);
          const { loadEngine } = await import('../../engine/tensorflow.js');
          const { evaluate } = await import('../../train/evaluate.js');
          const { openBar } = await import('../progress.js');
          const model = await openModel(options.model, options);
          const bar = openBar(out.terminal, 'evaluating');
          try {
            const engine = await loadEngine(engineWanted);
            out.info(`engine: ${engine.description}`);
            const { data, manifest, split, batchSize, precision, skipBadImages = false, tta } = options;
            const evaluation = await evaluate(model, engine, {
              data,
              ...(manifest === undefined ? {} : { manifest }),
              ...(split === undefined ? {} : { split }),
              batchSize,
              precision,
              skipBadImages,
              ...(tta === undefined ? {} : { testTime: tta }),
              signal,
              onProgress: (done, total) => bar.update(done, total),
            });
            bar.close();
            for (const { path, reason } of evaluation.badPictures) out.warn(`${path}: ${reason}`);
            const { outcomes, ...figures } = evaluation;
            if (options.csv !== undefined) {
              const { writePredictions } = await import('../../train/predictions-file.js');
              await writePredictions(options.csv, outcomes, model.record.classes);
              out.info(`written: ${options.csv}`);
            }
            out.result(figures, () => textOf(evaluation, out.style));
          } finally {
            bar.close();
            await model.close();
          }
        },
        { graceful: true },
      ),
    );
}

/** With no more classes than this the right one is always among the first five. */
const TOP: typeof import('../../train/metrics.js').TOP = 5;

/** A wider matrix is no longer readable as text. */
const MOST_SHOWN = 20;

function textOf(evaluation: Evaluation, style: Style): string {
  const { runtime, split, pictures, loss, top1, top5, classes, macro, weighted, calibration, confusion } = evaluation;
  const share = (value: number): string => (Number.isNaN(value) ? '-' : percent(value));
  const scoresOf = ({ precision, recall, f1, specificity }: Scores): string[] =>
    [precision, recall, f1, specificity].map(share);
  const head = fields([
    ['pictures', `${pictures} (${split})`],
    ['computed by', runtime],
    ['loss', loss.toFixed(4)],
    ['top-1', percent(top1)],
    ['top-5', classes.length > TOP ? percent(top5) : `${percent(top5)}, as there are ${classes.length} classes`],
    ['calibration', `expected error ${percent(calibration.ece)} (${calibration.bins.length} bins)`],
  ]);
  const right = (heading: string) => ({ heading, align: 'right' as const });
  const perClass = table(
    [{ heading: 'class' }, ...['pictures', 'precision', 'recall', 'F1', 'specificity'].map(right)],
    [
      ...classes.map((each) => [each.class, String(each.support), ...scoresOf(each)]),
      ['macro mean', String(pictures), ...scoresOf(macro)],
      ['weighted mean', String(pictures), ...scoresOf(weighted)],
    ],
    style,
  );
  const matrix =
    classes.length > MOST_SHOWN
      ? `confusion matrix of ${classes.length} classes: see --json`
      : table(
          [{ heading: 'true \\ predicted' }, ...classes.map((_, i) => right(String(i)))],
          classes.map((each, i) => [`${i} ${each.class}`, ...confusion[i]!.map(String)]),
          style,
        );
  return [head, perClass, matrix].join('\n\n');
}
