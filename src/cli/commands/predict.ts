/** `tl predict`: the class of each picture, written as it is known. */
import type { Prediction } from '../../train/predict.js';
import type { TestTimeAugmentation } from '../../train/test-time.js';
import { openModel } from '../model.js';
import { type ComputeOptions, engineOptions, testTimeOption, wholeNumber, withCompute } from '../options.js';
import { EXIT_FAILED, EXIT_INTERRUPTED } from '../output.js';
import type { Host } from '../program.js';
import { percent } from '../table.js';

interface PredictCommandOptions extends ComputeOptions {
  readonly model: string;
  readonly top: number;
  readonly batchSize?: number;
  readonly tta?: TestTimeAugmentation;
}

export function predictCommand(host: Host): void {
  withCompute(
    host.command('predict <images...>', 'say the class and its probability for pictures, folders or patterns'),
  )
    .requiredOption('--model <dir>', 'a model folder, a run folder, or an exported folder')
    .option('--top <k>', 'how many classes for each picture', wholeNumber(1), 3)
    .option('--batch-size <n>', 'pictures at once', wholeNumber(1), 8)
    .addOption(testTimeOption())
    .action((images: string[], options: PredictCommandOptions, command) =>
      host.run(
        command,
        async ({ out, signal, endWith }) => {
          const engineWanted = engineOptions(options);
          const { loadEngine } = await import('../../engine/tensorflow.js');
          const { listGiven } = await import('../pictures.js');
          const { predict } = await import('../../train/predict.js');
          const model = await openModel(options.model, options);
          try {
            const paths = await listGiven(images);
            const engine = await loadEngine(engineWanted);
            out.info(`engine: ${engine.description}`);
            const { top, batchSize, precision, tta } = options;
            let [done, bad] = [0, 0];
            for await (const each of predict(model, paths, engine, {
              top,
              precision,
              signal,
              ...(batchSize && { batchSize }),
              ...(tta && { testTime: tta }),
            })) {
              done++;
              if ('error' in each) {
                bad++;
                out.warn(`${each.path}: ${each.error}`);
                if (out.json) out.result(each, () => '');
              } else out.result(resultOf(each), () => lineOf(each));
            }
            if (bad > 0) {
              out.warn(`${bad} of ${paths.length} pictures could not be read`);
              endWith(EXIT_FAILED);
            }
            if (done < paths.length) {
              out.warn(`stopped after ${done} of ${paths.length} pictures`);
              endWith(EXIT_INTERRUPTED);
            }
          } finally {
            await model.close();
          }
        },
        { graceful: true },
      ),
    );
}

type Known = Extract<Prediction, { guesses: unknown }>;

function resultOf({ path, guesses }: Known): object {
  return { path, ...guesses[0], top: guesses };
}

function lineOf({ path, guesses }: Known): string {
  return [path, ...guesses.map((guess) => `${guess.class} ${percent(guess.probability)}`)].join('  ');
}
