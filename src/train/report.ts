/** What a run leaves behind for people to look at: pictures, and one page with all of them. */
import { basename, join } from 'node:path';
import { denormalise } from '../augment/pipeline.js';
import { writeFileAtomic } from '../files.js';
import type { EvaluationSection, ReportPage, ScoreRow } from '../report/page.js';
import type { Tile } from '../report/tiles.js';
import { rng } from '../rng.js';
import { openModelFolder } from '../weights/model-folder.js';
import { type EntryOptions, entriesFromDisk } from './features/entries.js';
import { type Figures, figuresOf, isRight, type Outcome } from './metrics.js';
import { percent } from './percent.js';
import { type Described, describeRun, type Ended } from './report-facts.js';

/** Pictures shown of each kind: four rows of four. */
const SHOWN = 16;
/** Frequent mistakes that are listed. */
const CONFUSED = 10;

export interface ReportOptions extends Described {
  /** How training pictures are shown. */
  readonly entries: EntryOptions;
}

export interface RunReport {
  /** Writes `train_batch.png`. @throws BAD_IMAGE, FILE_NOT_WRITTEN */
  begin(): Promise<void>;
  /** Takes what the best model so far said of the validation pictures. */
  best(outcomes: readonly Outcome[]): void;
  /** What was taken; undefined where nothing was. */
  outcomes(): readonly Outcome[] | undefined;
  /**
   * What the best model says of the validation pictures, as it was taken, else from the folder of the best model;
   * undefined where there are none.
   */
  figures(): Promise<Figures | undefined>;
  /** Writes everything else. @param figures as {@link RunReport.figures} gave them @throws FILE_NOT_WRITTEN */
  finish(ended: Ended, figures: Figures | undefined): Promise<void>;
}

export function openReport(options: ReportOptions): RunReport {
  const { folder, start } = options;
  const { val, classes } = start.dataset;
  let outcomes: readonly Outcome[] | undefined;
  let batch: readonly Tile[] | undefined;
  const outcomesOfBest = async (): Promise<readonly Outcome[]> => {
    outcomes ??= val.length === 0 ? [] : await evaluateBest(options);
    return outcomes;
  };
  const firstBatch = async (): Promise<readonly Tile[]> => {
    batch ??= await batchTiles(options);
    return batch;
  };
  return {
    begin: async () => {
      const { drawTiles, pngOf } = await drawing();
      const title = { title: 'First training batch', subtitle: 'as the network gets it' };
      await writeFileAtomic(join(folder, 'train_batch.png'), await pngOf(await drawTiles(await firstBatch(), title)));
    },
    best: (taken) => {
      outcomes = taken;
    },
    outcomes: () => outcomes,
    figures: async () => {
      const all = await outcomesOfBest();
      return all.length === 0 ? undefined : figuresOf(all, classes);
    },
    finish: async (ended, figures) => {
      const evaluated = figures && { figures, outcomes: await outcomesOfBest() };
      await finish(options, ended, evaluated, await firstBatch());
    },
  };
}

/** What draws, loaded where it is used. */
async function drawing() {
  const [chart, curves, confusion, calibration, tiles, thumbnails, page] = await Promise.all([
    import('../report/chart.js'),
    import('../report/curves.js'),
    import('../report/confusion.js'),
    import('../report/calibration.js'),
    import('../report/tiles.js'),
    import('../report/thumbnails.js'),
    import('../report/page.js'),
  ]);
  return { ...chart, ...curves, ...confusion, ...calibration, ...tiles, ...thumbnails, ...page };
}

/** A run that goes on need not see another best epoch: then its folder is asked. */
async function evaluateBest({ folder, start }: ReportOptions): Promise<readonly Outcome[]> {
  const { evaluate } = await import('./evaluate.js');
  const { settings } = start.args;
  const { data = 'data', manifest, batchSize, skipBadImages, precision } = settings;
  const model = await openModelFolder(join(folder, 'best'));
  try {
    const where = { data, ...(manifest === undefined ? {} : { manifest }), split: 'val' as const };
    const how = { batchSize, skipBadImages, ...(precision === undefined ? {} : { precision }) };
    return (await evaluate(model, start.engine, { ...where, ...how })).outcomes;
  } finally {
    await model.close();
  }
}

async function batchTiles({ start, entries }: ReportOptions): Promise<readonly Tile[]> {
  const { train, classes } = start.dataset;
  const { thumbnailOfPixels } = await drawing();
  // Pictures are mixed with others of their batch; otherwise those that are not shown need not be decoded.
  const batchSize = entries.mixing === undefined ? Math.min(SHOWN, entries.batchSize) : entries.batchSize;
  const frozen = { enter: (pixels: { clone(): never }) => pixels.clone(), dispose: () => {} };
  // On this thread: for a few pictures starting others takes longer.
  const source = entriesFromDisk(train, { ...entries, batchSize, frozen, workers: 0, prefetch: 1 });
  for await (const { x, labels, targets, pixels, count } of source.epoch({ shuffled: 1 })) {
    x.dispose();
    const { own } = pixels!;
    const length = own.length / count;
    const wanted = (i: number): string[] =>
      targets === undefined
        ? [classes[labels[i]!]!]
        : sharesOf(targets.subarray(i * classes.length, (i + 1) * classes.length), classes);
    const shown = Array.from({ length: Math.min(SHOWN, count) }, (_, i) => i);
    return await Promise.all(
      shown.map(async (i) => {
        const numbers = own.subarray(i * length, (i + 1) * length);
        const { data, ...size } = denormalise(numbers, entries.preprocessing, entries.size);
        return { picture: await thumbnailOfPixels({ data: new Uint8Array(data), ...size }), lines: wanted(i) };
      }),
    );
  }
  return [];
}

/** What is smaller comes from label smoothing, or cannot be seen. */
const LEAST_SHARE = 0.05;

/** `daisy 70 %`, `tulip 30 %`, the larger first. */
function sharesOf(targets: Float32Array, classes: readonly string[]): string[] {
  return [...targets]
    .map((share, i) => ({ share, name: classes[i]! }))
    .filter(({ share }) => share >= LEAST_SHARE)
    .sort((a, b) => b.share - a.share)
    .map(({ share, name }) => `${name} ${Math.round(100 * share)} %`);
}

/** What the best model said of the validation pictures. */
interface Evaluated {
  readonly figures: Figures;
  readonly outcomes: readonly Outcome[];
}

async function finish(
  options: ReportOptions,
  ended: Ended,
  evaluated: Evaluated | undefined,
  batch: readonly Tile[],
): Promise<void> {
  const { folder } = options;
  const { history, metrics } = ended;
  const { drawCurves, drawTiles, pngOf, reportPage } = await drawing();
  const write = (name: string, data: string | Uint8Array): Promise<void> => writeFileAtomic(join(folder, name), data);
  const curves = await drawCurves(history, { overfitsSince: metrics.overfitting?.since });
  const written = [pngOf(curves).then((png) => write('curves.png', png))];
  let evaluation: EvaluationSection | undefined;
  if (evaluated !== undefined) {
    evaluation = await evaluationOf(options, evaluated);
    const { confusion, chosen, worst } = evaluation;
    written.push(write('confusion_matrix.png', confusion.png));
    for (const [name, tiles, title] of [
      [
        'val_predictions.png',
        chosen,
        { title: 'Validation pictures', subtitle: 'chosen at random, with the predictions of the best model' },
      ],
      [
        'top_losses.png',
        worst,
        { title: 'Highest losses', subtitle: 'validation pictures that the best model is most wrong about' },
      ],
    ] as const) {
      const drawn = await drawTiles(tiles, title);
      written.push(pngOf(drawn).then((png) => write(name, png)));
    }
  }
  const page: ReportPage = { ...describeRun(options, ended), curves, evaluation, batch };
  written.push(write('report.html', reportPage(page)));
  await Promise.all(written);
}

async function evaluationOf({ start }: ReportOptions, { figures, outcomes }: Evaluated): Promise<EvaluationSection> {
  const { drawConfusion, drawReliability, pngOf, thumbnailOf } = await drawing();
  const { val, classes } = start.dataset;
  const tileOf = async (outcome: Outcome): Promise<Tile> => {
    const { index, label, loss, probability, top } = outcome;
    const { path } = val[index]!;
    const guess = top[0]!;
    return {
      picture: await thumbnailOf(path),
      lines: [
        `${classes[guess.class]} ${percent(guess.probability)}`,
        isRight(outcome) ? 'label: the same' : `label: ${classes[label]} ${percent(probability)}`,
        `loss ${loss.toFixed(3)}`,
        basename(path),
      ],
      right: isRight(outcome),
    };
  };
  const chosen = rng(start.args.settings.seed).split('report').shuffle(outcomes).slice(0, SHOWN);
  const worst = [...outcomes].sort((a, b) => b.loss - a.loss).slice(0, SHOWN);
  const confusion = await drawConfusion(figures.confusion, classes);
  const [png, reliability, chosenTiles, worstTiles] = await Promise.all([
    pngOf(confusion),
    drawReliability(figures.calibration.bins),
    Promise.all(chosen.map(tileOf)),
    Promise.all(worst.map(tileOf)),
  ]);
  const mean = (name: string, scores: Figures['macro']): ScoreRow => ({
    class: name,
    support: figures.pictures,
    ...scores,
  });
  return {
    pictures: figures.pictures,
    classes: figures.classes,
    means: [mean('macro mean', figures.macro), mean('weighted mean', figures.weighted)],
    ece: figures.calibration.ece,
    reliability,
    confusion: { png, size: confusion.size },
    confused: confusedOf(figures, classes),
    worst: worstTiles,
    chosen: chosenTiles,
  };
}

function confusedOf({ confusion }: Figures, classes: readonly string[]): EvaluationSection['confused'] {
  return confusion
    .flatMap((row, i) =>
      row.flatMap((pictures, j) =>
        i === j || pictures === 0 ? [] : [{ label: classes[i]!, prediction: classes[j]!, pictures }],
      ),
    )
    .sort((a, b) => b.pictures - a.pictures)
    .slice(0, CONFUSED);
}
