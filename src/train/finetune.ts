/** Fine-tuning, from a folder of pictures to a run folder. */
import { join } from 'node:path';
import { findBackbone, findPublished } from '../backbones/index.js';
import { closeLoader, describeBadImages } from '../data/index.js';
import { type Operators, operatorsOf } from '../engine/operators.js';
import { loadEngine } from '../engine/tensorflow.js';
import { ToolkitError } from '../errors.js';
import { rng } from '../rng.js';
import { openModelFolder } from '../weights/model-folder.js';
import { type CheckpointWriter, checkpointWriter, restoreOptimizer } from './checkpoint.js';
import { assertOutside } from './distill.js';
import { assertSound, evaluateEntries, type Scores, type Trained, trainEpoch } from './epochs.js';
import { isAdapter } from './lora.js';
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
import { readOutcomes } from './outcomes.js';
import { overfittingOf } from './overfitting.js';
import { endsEarly, type Phase } from './phases.js';
import {
  badPicturesOf,
  entriesOf,
  loadForRun,
  openPictures,
  type Pictures,
  type Prepared,
  type ShownPictures,
} from './prepare.js';
import { openReport, type RunReport } from './report.js';
import { engineFor, resumeRun, undeterministic } from './resume.js';
import {
  assertFree,
  beginFolder,
  type CheckpointState,
  nextRunFolder,
  orNull,
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
import type { TrainableNetwork } from './trainable.js';

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
  const doubt = settings.deterministic === true ? undeterministic(engine) : undefined;
  if (doubt !== undefined) reporter.warn(doubt);
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

interface Run extends Job, Prepared {
  readonly phase: Phase;
  readonly optimising: Optimising;
  readonly operators: Operators;
  readonly history: HistoryRow[];
  readonly report: RunReport;
}

async function train(job: Job): Promise<FinetuneResult> {
  const { folder, start, state } = job;
  const history = state === undefined ? [] : await readHistory(folder, state.epoch);
  const bad = new Map(state?.badPictures.map(({ path, reason }) => [path, reason]));
  const sofar = { history, bad };
  const left = start.phases.filter(({ last }) => last > history.length);
  for (const phase of left.slice(0, -1)) {
    const result = await inPhase(job, phase, sofar, trainPhase);
    if (result !== undefined) return result;
  }
  return await inPhase(job, start.phases.at(-1)!, sofar, endRun);
}

/**
 * Loads the network of a phase: with the numbers that the run began with or goes on from, else with those of its last
 * model.
 */
async function inPhase<T>(
  job: Job,
  phase: Phase,
  { history, bad }: Pick<Run, 'history' | 'bad'>,
  use: (run: Run) => Promise<T>,
): Promise<T> {
  const { folder } = job;
  const began = history.length;
  const state = began === job.state?.epoch ? job.state : undefined; // an earlier phase may have been trained since
  const isFirst = began === 0 || state !== undefined;
  const model = isFirst ? undefined : await openModelFolder(join(folder, 'last'));
  try {
    const start = { ...job.start, cut: phase.cut, ...(model === undefined ? {} : { read: model.read }) };
    const { settings, resolved } = start.args;
    const { reader, network } = await loadForRun(start);
    const optimising = startOptimising(network, start, settings, resolved.weightDecay);
    try {
      if (state !== undefined && began >= phase.first) await restoreOptimizer(folder, optimising.optimizer, state);
      const report = openReport({ folder, start, entries: entriesOf({ start, network, bad }) });
      const outcomes = began === 0 ? undefined : await readOutcomes(join(folder, 'last'));
      if (outcomes !== undefined) report.best(outcomes);
      const operators = operatorsOf(start.engine);
      return await use({ ...job, start, state, phase, reader, network, optimising, operators, history, bad, report });
    } finally {
      optimising.dispose();
      network.dispose();
    }
  } finally {
    await model?.close();
  }
}

/** Trains a phase that is not the last. @returns the run's result where it was stopped in it */
async function trainPhase(run: Run): Promise<FinetuneResult | undefined> {
  return (await trainUntil(run)) === 'stopped' ? await finish(run, true) : undefined;
}

/** Trains the last phase. */
const endRun = async (run: Run): Promise<FinetuneResult> => await finish(run, (await trainUntil(run)) === 'stopped');

async function trainUntil(run: Run): Promise<'done' | 'stopped'> {
  run.reporter.info(describe(run));
  return isDone(run) || (await trainRun(run)) ? 'done' : 'stopped';
}

/** Writes what a run leaves behind at its end. */
async function finish(run: Run, stopped: boolean): Promise<FinetuneResult> {
  const { folder, start, history, bad, reporter, report } = run;
  if (bad.size > 0) reporter.warn(describeBadImages(badPicturesOf(run)));
  if (history.length === 0) throw stoppedEarly();
  const figures = await report.figures();
  const metrics = metricsOf(run, figures);
  await writeJson(folder, 'metrics.json', metrics);
  await report.finish({ history, metrics, stopped }, figures);
  if (stopped) {
    const { epochs } = start.args.settings;
    reporter.info(`stopped after epoch ${history.length} of ${epochs}; go on with: tl finetune --resume ${folder}`);
  }
  return { runFolder: folder, metrics, stopped };
}

/** Whether nothing is left to train in a phase. */
function isDone({ start, phase, history }: Run): boolean {
  const epoch = history.length;
  if (epoch >= phase.last) return true;
  return phase === start.phases.at(-1) && endsEarly(start.args.settings, phase, { epoch, best: bestOf(history) });
}

const bestOf = (history: readonly HistoryRow[]): number => history.findLast((row) => row.best)?.epoch ?? 0;

function describe(run: Run): string {
  const { start, network, phase, history } = run;
  const { settings, resolved } = start.args;
  const { auxiliary } = countParameters(network);
  const number = start.phases.indexOf(phase) + 1;
  const heading =
    start.phases.length === 1
      ? []
      : [`phase ${number} of ${start.phases.length}: epochs ${phase.first} to ${phase.last}, ${frozenUpTo(phase.cut)}`];
  const stages = formatStages(stagesOfRun(start.graph, phase.cut, settings, phase.lr));
  if (number > 1 && phase.first === history.length + 1) return [...heading, stages].join('\n');
  return [
    `${resolved.backbone} (${resolved.source}), weights: ${resolved.weightsOrigin}`,
    ...resolved.adaptations.map((each) => `weights adapted: ${each}`),
    `${resolved.classes.length} classes, ${resolved.trainPictures} pictures to train on, ${resolved.valPictures} to validate with`,
    `--freeze ${settings.freeze}: ${frozenUpTo(resolved.cut ?? undefined)}` +
      (settings.lora === undefined ? '' : `; --lora ${settings.lora}: behind it the heads and adapters are trained`),
    ...heading,
    stages,
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
      ? ['all epochs are done: only what is written at the end is written again']
      : history.length > 0
        ? [`going on after epoch ${history.length}`]
        : []),
  ].join('\n');
}

const frozenUpTo = (cut: string | undefined): string =>
  cut === undefined ? 'nothing is frozen' : `frozen up to and with ${cut}`;

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

/** True when all epochs were done. */
async function trainRun(run: Run): Promise<boolean> {
  const { reporter, options } = run;
  const pictures = await openPictures(run, { reporter, signal: options.signal }); // a fault in what is frozen leaves an old run alone
  try {
    return await trainOn(run, pictures);
  } finally {
    pictures.close();
  }
}

async function trainOn(run: Run, pictures: Pictures): Promise<boolean> {
  const { start, state, folder, options, optimising, history } = run;
  if (state === undefined && history.length === 0)
    await beginFolder(folder, start.args, options.resume === undefined && options.overwrite === true);
  const shown = await pictures.fill();
  if (shown === undefined) return false;
  const writer = checkpointWriter(folder, start.record, optimising.kept, optimising.optimizer);
  const events =
    start.args.settings.tensorboard === true ? await openEvents(folder, history.length, start.engine) : undefined;
  try {
    if (history.length === 0 || state !== undefined) await run.report.begin();
    return await epochLoop(run, shown, writer, events);
  } finally {
    events?.close();
    await writer.flush(); // whatever ended the run, the last finished epoch is kept
  }
}

async function epochLoop(
  run: Run,
  pictures: ShownPictures,
  writer: CheckpointWriter,
  events: RunEvents | undefined,
): Promise<boolean> {
  const { start, phase, options, reporter, network, optimising, operators, history, report } = run;
  const { optimizer, updater, kept } = optimising;
  const { settings, resolved } = start.args;
  const steps = Math.ceil(start.dataset.train.length / settings.batchSize);
  const updates = Math.ceil(steps / (settings.accumulate ?? 1));
  const { first, last } = phase.schedule;
  const schedule = scheduleOf({ ...settings, epochs: last - first + 1 }, phase.lr, updates);
  const updatesBefore = updates * (phase.first - first);
  const runBegan = performance.now();
  const firstEpoch = history.length + 1;
  for (let epoch = firstEpoch; epoch <= phase.last; epoch++) {
    if (options.signal?.aborted === true) return false;
    if (isDone(run)) {
      reporter.info(`ended after epoch ${history.length}: for ${settings.patience} epochs no model was better`);
      return true;
    }
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
        lr = learningRate(updatesBefore + optimizer.steps, schedule);
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
    if (isBest) report.best(validated.outcomes);
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
        bestEpoch: bestOf(history),
        bestLoss: orNull(history.findLast((each) => each.best)?.valLoss ?? Number.NaN),
        badPictures: badPicturesOf(run),
      },
      history,
      report.outcomes() ?? [],
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
