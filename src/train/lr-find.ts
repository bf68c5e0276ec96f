/** `tl lr-find`: the range test of a learning rate on a network and pictures as a run's settings name them. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'csv-stringify/sync';
import { findBackbone, findPublished } from '../backbones/index.js';
import { closeLoader, describeBadImages } from '../data/index.js';
import { type EngineOptions, loadEngine } from '../engine/tensorflow.js';
import { ToolkitError, UsageError } from '../errors.js';
import { writeFileAtomic } from '../files.js';
import { rng } from '../rng.js';
import { startOptimising } from './optimising.js';
import { type Reporter, silent } from './options.js';
import { badPicturesOf, loadForRun, openPictures, type Prepared } from './prepare.js';
import { type RangeTest, rangeDefaults, rangeTest, type Suggestions } from './range-test.js';
import { nextRunFolder } from './run-folder.js';
import { completeSettings } from './settings/complete.js';
import type { GivenSettings } from './settings/settings.js';
import { type Start, startRun } from './start.js';

/** A run's settings, of which the test has no use for epochs, schedule and averages; and those of the test. */
export interface FindOptions extends GivenSettings {
  /** The first rate, above 0; this and the next two are those of `rangeDefaults` when absent. */
  readonly from?: number;
  /** The rate that the last update comes close to. */
  readonly to?: number;
  /** Updates at the most. */
  readonly steps?: number;
  /** Where `lr_find.png` and `lr_find.csv` are written; `runs/lr-find-N` when absent. */
  readonly out?: string;
  /** Whether an earlier test in that folder is replaced. */
  readonly overwrite?: boolean;
  readonly engine?: EngineOptions;
  /** Stops at the next update. */
  readonly signal?: AbortSignal;
}

export interface FindResult {
  readonly folder: string;
  readonly ended: RangeTest['ended'];
  /** Updates that were done. */
  readonly steps: number;
  readonly suggestions: Suggestions;
  /** A row an update. */
  readonly csv: string;
  /** The curve. */
  readonly plot: string;
}

/** The fewest updates that a suggestion can be read from: a tenth and five are left out. */
export const FEWEST_STEPS = 10;

const [CSV, PLOT] = ['lr_find.csv', 'lr_find.png'] as const;

/**
 * Tests rates on a network as it is before its training.
 * @param reporter is told how it goes; nobody is when absent
 * @throws BAD_OPTION, RUN_EXISTS, STOPPED, NO_LOSS, and whatever starting a run throws
 */
export async function findLearningRate(options: FindOptions, reporter: Reporter = silent): Promise<FindResult> {
  const { from, to, steps, out, overwrite = false, engine: wanted, signal, ...given } = options;
  const range = { ...rangeDefaults, ...definedOf({ from, to, steps }) };
  checkRange(range);
  const settings = completeSettings(given);
  const backbone = findBackbone(settings.backbone);
  if (settings.source !== undefined) findPublished(backbone, settings.source);
  const folder = out ?? nextRunFolder('runs', 'lr-find');
  assertNoTest(folder, overwrite);
  const engine = await loadEngine(wanted);
  reporter.info(engine.description);
  const start = await startRun(settings, engine, reporter);
  try {
    const found = await testOn(start, range, { reporter, signal });
    return await writeTest(folder, found);
  } finally {
    await start.close();
    await closeLoader();
  }
}

type Range = Readonly<Record<keyof typeof rangeDefaults, number>>;

const definedOf = (given: { readonly [K in keyof Range]: number | undefined }): Partial<Range> =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));

/** @throws BAD_OPTION */
function checkRange({ from, to, steps }: Range): void {
  const isGood = from > 0 && to > from && Number.isFinite(to) && Number.isInteger(steps) && steps >= FEWEST_STEPS;
  if (isGood) return;
  throw new UsageError({
    code: 'BAD_OPTION',
    message:
      `a range test grows a rate above 0 to a higher one in at least ${FEWEST_STEPS} updates, ` +
      `received --from ${from} --to ${to} --steps ${steps}`,
    hint: `leave them out for ${rangeDefaults.from} to ${rangeDefaults.to} in ${rangeDefaults.steps}`,
  });
}

/** @throws RUN_EXISTS */
function assertNoTest(folder: string, overwrite: boolean): void {
  if (overwrite || !existsSync(join(folder, CSV))) return;
  throw new UsageError({
    code: 'RUN_EXISTS',
    message: `${folder} holds a test already`,
    hint: 'replace it with --overwrite, or choose another --out',
  });
}

async function testOn(
  start: Start,
  range: Range,
  { reporter, signal }: { readonly reporter: Reporter; readonly signal: AbortSignal | undefined },
): Promise<RangeTest> {
  const { settings, resolved } = start.args;
  const { ema: _, ...ofTraining } = settings; // averages follow, and change no loss
  const { reader, network } = await loadForRun(start);
  const prepared: Prepared = { start, reader, network, bad: new Map() };
  const optimising = startOptimising(network, start, ofTraining, resolved.weightDecay);
  try {
    const pictures = await openPictures(prepared, { reporter, signal });
    try {
      const shown = await pictures.fill();
      if (shown === undefined) throw stopped();
      const began = performance.now();
      const test = await rangeTest({
        ...{ network, optimising, source: shown.train, accumulate: settings.accumulate ?? 1, ...range },
        classes: resolved.classes.length,
        labelSmoothing: settings.labelSmoothing,
        classWeights: resolved.classWeights,
        random: rng(settings.seed).split('lr-find').split('dropout'),
        onStep: ({ step, lr, smoothed }) => {
          const secondsLeft = ((performance.now() - began) / 1000 / step) * (range.steps - step);
          reporter.rateTest?.({ step, steps: range.steps, lr, loss: smoothed, secondsLeft });
          return signal?.aborted !== true;
        },
      });
      if (prepared.bad.size > 0) reporter.warn(describeBadImages(badPicturesOf(prepared)));
      if (test.ended === 'stopped') throw stopped();
      if (test.points.length === 0) throw noLoss();
      return test;
    } finally {
      pictures.close();
    }
  } finally {
    optimising.dispose();
    network.dispose();
  }
}

async function writeTest(folder: string, { points, suggestions, ended }: RangeTest): Promise<FindResult> {
  const [{ drawRangeTest }, { pngOf }] = await Promise.all([
    import('../report/lr-find.js'),
    import('../report/chart.js'),
  ]);
  const marks = Object.entries(suggestions).map(([name, lr]) => ({ name, lr }));
  const [csv, plot] = [join(folder, CSV), join(folder, PLOT)];
  await mkdir(folder, { recursive: true });
  await writeFileAtomic(plot, await pngOf(await drawRangeTest(points, marks)));
  const rows = points.map(({ step, lr, loss, smoothed }) => [step, lr, loss, smoothed]);
  await writeFileAtomic(csv, stringify(rows, { header: true, columns: ['step', 'lr', 'loss', 'smoothed_loss'] }));
  return { folder, ended, steps: points.length, suggestions, csv, plot };
}

const stopped = (): ToolkitError =>
  new ToolkitError({
    code: 'STOPPED',
    message: 'the test was stopped before its end; nothing was written',
    hint: 'start it again',
  });

const noLoss = (): ToolkitError =>
  new ToolkitError({
    code: 'NO_LOSS',
    message: 'the first loss is no number already, at the lowest rate',
    hint: 'look at the weights and at --precision; a lower --from may help',
  });
