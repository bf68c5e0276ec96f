/** `tl compare`: several runs side by side, as a table and as curves. */
import type { ComparedRun, Difference, RunComparison } from '../../train/compare.js';
import type { Style } from '../output.js';
import type { Host } from '../program.js';
import { count, duration, percent, table } from '../table.js';

interface CompareCommandOptions {
  readonly out: string;
}

export function compareCommand(host: Host): void {
  host
    .command('compare <runs...>', 'compare runs: what each reached, which settings differ, their curves in one picture')
    .option('--out <file.png>', 'where the curves of validation loss and accuracy are drawn', 'compare.png')
    .action((folders: string[], options: CompareCommandOptions, command) =>
      host.run(command, async ({ out }) => {
        const { compareRuns } = await import('../../train/compare.js');
        const { writeFileAtomic } = await import('../../files.js');
        const comparison = await compareRuns(folders);
        const { runs, differences, samePictures, histories } = comparison;
        if (!samePictures) {
          out.warn('the runs were not trained and validated on the same pictures: their figures do not compare');
        }
        const { pngOf } = await import('../../report/chart.js');
        const { drawComparison } = await import('../../report/comparison.js');
        const curves = runs.map(({ name }, i) => ({ name, rows: histories[i]! }));
        await writeFileAtomic(options.out, await pngOf(await drawComparison(curves)));
        const curvesFile = options.out;
        out.result({ runs, differences, samePictures, curves: curvesFile }, () =>
          textOf(comparison, curvesFile, out.style),
        );
      }),
    );
}

function textOf({ runs, differences }: RunComparison, curves: string, style: Style): string {
  return [
    runsTable(runs, style),
    differences.length === 0 ? 'no setting differs' : differencesTable(runs, differences, style),
    `curves: ${curves}`,
  ].join('\n\n');
}

function runsTable(runs: readonly ComparedRun[], style: Style): string {
  const right = (heading: string) => ({ heading, align: 'right' as const });
  const orDash = <T>(value: T | null, text: (value: T) => string): string => (value === null ? '-' : text(value));
  return table(
    [
      ...['run', 'network', 'freeze'].map((heading) => ({ heading })),
      ...['epochs', 'best', 'val accuracy', 'val loss', 'trained', 'of parameters', 'time', 'overfits since'].map(
        right,
      ),
    ],
    runs.map((run) => [
      run.name,
      `${run.backbone} (${run.source})`,
      run.freeze,
      run.epochs === run.epochsWanted ? String(run.epochs) : `${run.epochs} of ${run.epochsWanted}`,
      String(run.bestEpoch),
      orDash(run.valAccuracy, percent),
      orDash(run.valLoss, (loss) => loss.toFixed(4)),
      orDash(run.trainableParameters, count),
      orDash(run.parameters, count),
      duration(run.seconds),
      orDash(run.overfitsSince, String),
    ]),
    style,
  );
}

function differencesTable(runs: readonly ComparedRun[], differences: readonly Difference[], style: Style): string {
  const cell = (value: unknown): string =>
    value === undefined ? '-' : typeof value === 'object' ? JSON.stringify(value) : String(value);
  return table(
    [{ heading: 'setting' }, ...runs.map(({ name }) => ({ heading: name }))],
    differences.map(({ setting, values }) => [setting, ...values.map(cell)]),
    style,
  );
}
