/** Fine-tuning, from a folder of pictures to a run folder. */
import { findBackbone, findPublished } from '../backbones/index.js';
import { closeLoader, describeBadImages } from '../data/index.js';
import { type Operators, operatorsOf } from '../engine/operators.js';
import { loadEngine } from '../engine/tensorflow.js';
import { ToolkitError } from '../errors.js';
import { rng } from '../rng.js';
import { type CheckpointWriter, checkpointWriter, restoreOptimizer } from './checkpoint.js';
import { assertOutside } from './distill.js';
import { openTeaching, type Teaching } from './distill-logits.js';
import { assertSound, evaluateEntries, type Scores, type Trained, trainEpoch } from './epochs.js';
import type { EntryOptions } from './features/entries.js';
import { type PrintingReader, printingReader } from './features/key.js';
import { openSources, type RunPictures, type Sources } from './features/sources.js';
import { isAdapter, trainedOf } from './lora.js';
import { type Figures, validationOf } from './metrics.js';
import { type Optimising, startOptimising } from './optimising.js';
import {
  type FinetuneOptions,
  type FinetuneResult,
  type HistoryRow,
  type Reporter,
  type RunMetrics,
  silent,
} from './options.js';
import { overfittingOf } from './overfitting.js';
import { openReport, type RunReport } from './report.js';
import { engineFor, resumeRun } from './resume.js';
import {
  assertFree,
  type BadPicture,
  beginFolder,
  type CheckpointState,
  nextRunFolder,
  readHistory,
  reopenFolder,
  writeJson,
} from './run-folder.js';
import { learningRate, scheduleOf } from './schedule.js';
import { checkSettings, completeSettings } from './settings/complete.js';
import type { FinetuneSettings } from './settings/settings.js';
import { type Start, stagesOfRun, startRun } from './start.js';
import { formatStages } from './strategy-table.js';
import { assertEvents, openEvents, type RunEvents } from './tensorboard.js';
import { loadTrainable, type TrainableNetwork } from './trainable.js';

/**
 * Trains a new head, and as much of the backbone as is not frozen, on a folder of labelled pictures.
 * @param reporter is told how it goes; nobody is when absent
 * @throws ToolkitError of every kind: settings, data, weights, engine
 */
export async function finetune(options: FinetuneOptions, reporter: Reporter = silent): Promise<FinetuneResult> {
  const resumed = options.resume;
  const before = resumed === undefined ? undefined : await reopenFolder(resumed);
  const settings = before?.args.settings ?? settingsOf(options);
  if (before !== undefined) checkSettings(settings);
  const backbone = findBackbone(settings.backbone);
  if (settings.source !== undefined) findPublished(backbone, settings.source);
  const folder = resumed ?? options.out ?? nextRunFolder();
  if (resumed === undefined) {
    assertFree(folder, options.overwrite === true);
    assertOutside(settings.teacher, folder);
  }
  const engine = await loadEngine(engineFor(options.engine, before?.args ?? { settings }));
  if (settings.tensorboard === true) assertEvents(engine);
  reporter.info(engine.description);
  const start =
    before === undefined
      ? await startRun(settings, engine, reporter)
      : await resumeRun(folder, before, engine, reporter);
  try {
    return await train({ folder, start, state: before?.state, options, reporter });
  } finally {
    await start.close();
    await closeLoader();
  }
}

/** The settings alone, without what only concerns this call. */
function settingsOf(options: FinetuneOptions): FinetuneSettings {
  const { out, overwrite, resume, engine, signal, ...given } = options;
  return completeSettings(given);
}

interface Job {
  readonly folder: string;
  readonly start: Start;
  /** Where a resumed run stands. */
  readonly state: CheckpointState | undefined;
  readonly options: FinetuneOptions;
  readonly reporter: Reporter;
}

interface Run extends Job {
  readonly reader: PrintingReader;
  readonly network: TrainableNetwork;
  readonly optimising: Optimising;
  readonly operators: Operators;
  readonly history: HistoryRow[];
  /** By path. */
  readonly bad: Map<string, string>;
  readonly report: RunReport;
}

async function train(job: Job): Promise<FinetuneResult> {
  const { folder, start, state, reporter } = job;
  const { settings, resolved } = start.args;
  const history = state === undefined ? [] : await readHistory(folder, state.epoch);
  const reader = printingReader(start.read);
  const network = await loadTrainable(start.graph, reader.read, start.engine, {
    cut: start.cut,
    auxiliary: start.auxiliary,
    labelLoss: { focal: settings.focal, weighted: resolved.classWeights !== undefined },
    distillation: start.teacher?.distillation,
    trains: trainedOf(start.graph),
    batchNorm: settings.batchNorm,
    precision: settings.precision ?? 'float32',
    recompute: settings.recompute ?? false,
  });
  const optimising = startOptimising(network, start, settings, resolved.weightDecay);
  const { optimizer } = optimising;
  const operators = operatorsOf(start.engine);
  const bad = new Map(state?.badPictures.map(({ path, reason }) => [path, reason]));
  const report = openReport({ folder, start, entries: entriesOf({ start, network, bad }) });
  const run: Run = { ...job, reader, network, optimising, operators, history, bad, report };
  try {
    if (state !== undefined) await restoreOptimizer(folder, optimizer, state);
    reporter.info(describe(run));
    const stopped = !(isDone(run) || (await trainRun(run)));
    if (bad.size > 0) reporter.warn(describeBadImages(badPicturesOf(run)));
    if (history.length === 0) throw stoppedEarly();
    const metrics = metricsOf(run, await run.report.figures());
    await writeJson(folder, 'metrics.json', metrics);
    await run.report.finish({ history, metrics, stopped });
    if (stopped)
      reporter.info(
        `stopped after epoch ${history.length} of ${settings.epochs}; go on with: tl finetune --resume ${folder}`,
      );
    return { runFolder: folder, metrics, stopped };
  } finally {
    optimising.dispose();
    network.dispose();
  }
}

const isDone = ({ start, history }: Run): boolean => history.length >= start.args.settings.epochs;

const badPicturesOf = ({ bad }: Run): BadPicture[] => [...bad].map(([path, reason]) => ({ path, reason }));

function describe(run: Run): string {
  const { start, network, history } = run;
  const { settings, resolved } = start.args;
  const { auxiliary } = countParameters(network);
  return [
    `${resolved.backbone} (${resolved.source}), weights: ${resolved.weightsOrigin}`,
    ...resolved.adaptations.map((each) => `weights adapted: ${each}`),
    `${resolved.classes.length} classes, ${resolved.trainPictures} pictures to train on, ${resolved.valPictures} to validate with`,
    `--freeze ${settings.freeze}: ${resolved.cut === null ? 'nothing is frozen' : `frozen up to and with ${resolved.cut}`}` +
      (settings.lora === undefined ? '' : `; --lora ${settings.lora}: behind it the heads and adapters are trained`),
    formatStages(stagesOfRun(start.graph, start.cut, settings, resolved.lr)),
    ...(auxiliary === 0
      ? []
      : [
          `auxiliary classifiers ${resolved.auxiliary.join(' and ')} take part in the training loss, with ` +
            `${auxiliary.toLocaleString('en')} parameters that no model keeps`,
        ]),
    ...(resolved.teacher === undefined
      ? []
      : [
          `taught by ${settings.teacher}, ${resolved.teacher.backbone} (${resolved.teacher.source}), ` +
            `with a weight of ${resolved.teacher.weight} at temperature ${resolved.teacher.temperature}`,
        ]),
    ...(isDone(run)
      ? [`all ${settings.epochs} epochs are done: only what is written at the end is written again`]
      : history.length > 0
        ? [`going on after epoch ${history.length}`]
        : []),
  ].join('\n');
}

/** Numbers of the model, those of them that a gradient changes, and those of auxiliary classifiers, which it loses. */
function countParameters({ graph, trainable, auxiliary }: TrainableNetwork) {
  const isOfAdapter = isAdapter(graph); // merged into what they adapt
  const count = (which: (path: string) => boolean): number =>
    graph.parameters
      .filter(({ path }) => which(path))
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return {
    total: count((path) => !auxiliary.has(path) && !isOfAdapter(path)),
    trained: count((path) => trainable.has(path) && !auxiliary.has(path)),
    auxiliary: count((path) => auxiliary.has(path)),
  };
}

/** How the pictures of this run are shown. */
function entriesOf({
  start,
  network,
  bad,
}: Pick<Run, 'start' | 'network' | 'bad'>): EntryOptions & { readonly network: TrainableNetwork } {
  const { settings, resolved } = start.args;
  return {
    network,
    preprocessing: start.record.preprocessing,
    size: resolved.inputSize,
    batchSize: settings.batchSize,
    sampler: settings.sampler,
    augment: settings.augment,
    seed: settings.seed,
    skipBadImages: settings.skipBadImages,
    onBadImage: (path, reason) => bad.set(path, reason),
  };
}

/** Where they come from. */
async function sourcesOf(run: Run): Promise<Sources> {
  const { start, reader, options, reporter } = run;
  const precision = start.args.settings.precision ?? 'float32';
  return await openSources({ start, reader, entries: entriesOf(run), precision, reporter, signal: options.signal });
}

/** The teacher's logits for them; `stopped` when computing these was. */
async function teachingOf(run: Run, { views }: RunPictures): Promise<Teaching | 'none' | 'stopped'> {
  const { start, options, reporter } = run;
  const { teacher, dataset, engine } = start;
  if (teacher === undefined) return 'none';
  const { cache, precision = 'float32' } = start.args.settings;
  const how = { teacher, dataset, engine, precision, entries: entriesOf(run), views, cache };
  return (await openTeaching({ ...how, reporter, signal: options.signal })) ?? 'stopped';
}

/** True when all epochs were done. */
async function trainRun(run: Run): Promise<boolean> {
  const sources = await sourcesOf(run); // reads what is frozen: a fault in it leaves an old run alone
  try {
    return await trainOn(run, sources);
  } finally {
    sources.close();
  }
}

async function trainOn(run: Run, sources: Sources): Promise<boolean> {
  const { start, state, folder, options, optimising, history } = run;
  if (state === undefined)
    await beginFolder(folder, start.args, options.resume === undefined && options.overwrite === true);
  const pictures = await sources.fill();
  if (pictures === undefined) return false;
  const teaching = await teachingOf(run, pictures);
  if (teaching === 'stopped') return false;
  const shown = teaching === 'none' ? pictures : { ...pictures, train: teaching.taught(pictures.train) };
  const writer = checkpointWriter(folder, start.record, optimising.kept, optimising.optimizer);
  const events =
    start.args.settings.tensorboard === true ? await openEvents(folder, history.length, start.engine) : undefined;
  try {
    await run.report.begin();
    return await epochLoop(run, shown, writer, events);
  } finally {
    events?.close();
    if (teaching !== 'none') teaching.close();
    await writer.flush(); // whatever ended the run, the last finished epoch is kept
  }
}

async function epochLoop(
  run: Run,
  pictures: RunPictures,
  writer: CheckpointWriter,
  events: RunEvents | undefined,
): Promise<boolean> {
  const { start, state, options, reporter, network, optimising, operators, history, report } = run;
  const { optimizer, updater, kept } = optimising;
  const { settings, resolved } = start.args;
  const steps = Math.ceil(start.dataset.train.length / settings.batchSize);
  const schedule = scheduleOf(settings, resolved.lr, Math.ceil(steps / (settings.accumulate ?? 1)));
  let best = { epoch: state?.bestEpoch ?? 0, loss: state?.bestLoss ?? Number.POSITIVE_INFINITY };
  const runBegan = performance.now();
  const firstEpoch = history.length + 1;
  for (let epoch = firstEpoch; epoch <= settings.epochs; epoch++) {
    if (options.signal?.aborted === true) return false;
    const began = performance.now();
    reporter.epochStart({ epoch, epochs: settings.epochs, steps });
    let lr = 0;
    const trained = await trainEpoch({
      network,
      updater,
      source: pictures.train,
      epoch,
      classes: resolved.classes.length,
      labelSmoothing: settings.labelSmoothing,
      classWeights: resolved.classWeights,
      random: rng(settings.seed).split(`epoch ${epoch}`).split('dropout'),
      lr: () => {
        lr = learningRate(optimizer.steps, schedule);
        return lr;
      },
      onStep: (step, sofar) => {
        const done = (epoch - firstEpoch) * steps + step;
        const left = (settings.epochs - firstEpoch + 1) * steps - done;
        reporter.step({
          epoch,
          step,
          steps,
          loss: sofar.loss,
          accuracy: sofar.accuracy,
          imagesPerSecond: (1000 * sofar.pictures) / (performance.now() - began),
          secondsLeft: ((performance.now() - runBegan) / 1000 / done) * left,
        });
        return options.signal?.aborted !== true;
      },
    });
    if (trained === undefined) return false;
    const trainSeconds = (performance.now() - began) / 1000;
    const validated = await evaluateEntries(kept, pictures.val, operators, options.signal);
    if (validated === undefined) return false;
    await assertSound(kept, validated, { epoch, lr });
    const isBest = validated.pictures === 0 || improves(validated, history, start.teacher !== undefined);
    if (isBest) {
      best = { epoch, loss: validated.loss };
      report.best(validated.outcomes);
    }
    const row = historyRow(epoch, trained, validated, {
      lr,
      best: isBest,
      seconds: (performance.now() - began) / 1000,
      imagesPerSecond: trained.pictures / trainSeconds,
    });
    history.push(row);
    events?.epoch(row);
    reporter.epoch(row, { share: trained.waitedSeconds / trainSeconds });
    await writer.epochDone(
      {
        epoch,
        optimizerSteps: optimizer.steps,
        bestEpoch: best.epoch,
        bestLoss: Number.isFinite(best.loss) ? best.loss : null,
        badPictures: badPicturesOf(run),
      },
      history,
    );
  }
  return true;
}

/**
 * Whether an epoch is the best so far: by the validation loss. Under a teacher by the accuracy, and by the loss where
 * that is the same: a student takes over its teacher's confidence, and the loss against hard labels may rise while more
 * and more of the answers are right.
 */
function improves({ loss, accuracy }: Scores, history: readonly HistoryRow[], taught: boolean): boolean {
  const best = history.findLast((row) => row.best);
  if (best === undefined || (taught && accuracy > best.valAccuracy)) return true;
  return loss < best.valLoss && (!taught || accuracy === best.valAccuracy);
}

function historyRow(
  epoch: number,
  trained: Trained,
  validated: Scores,
  rest: Pick<HistoryRow, 'lr' | 'best' | 'seconds' | 'imagesPerSecond'>,
): HistoryRow {
  return {
    epoch,
    trainLoss: trained.loss,
    ...(trained.parts && { trainHardLoss: trained.parts.hard, trainSoftLoss: trained.parts.soft }),
    trainAccuracy: trained.accuracy,
    valLoss: validated.loss,
    valAccuracy: validated.accuracy,
    ...rest,
  };
}

function metricsOf({ start, network, history, bad }: Run, figures: Figures | undefined): RunMetrics {
  const row = history.findLast((each) => each.best)!;
  const { trained, total } = countParameters(network);
  const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);
  return {
    bestEpoch: row.epoch,
    epochs: history.length,
    trainLoss: row.trainLoss,
    trainAccuracy: row.trainAccuracy,
    valLoss: orNull(row.valLoss),
    valAccuracy: orNull(row.valAccuracy),
    trainPictures: start.dataset.train.length,
    valPictures: start.dataset.val.length,
    badPictures: bad.size,
    classes: start.record.classes.length,
    trainableParameters: trained,
    parameters: total,
    validation: figures === undefined ? null : validationOf(figures),
    overfitting: overfittingOf(history) ?? null,
    seconds: history.reduce((sum, each) => sum + each.seconds, 0),
  };
}

function stoppedEarly(): ToolkitError {
  return new ToolkitError({
    code: 'STOPPED',
    message: 'the run was stopped before its first epoch was done; nothing was trained yet',
    hint: 'start it again with --resume and its folder',
  });
}
