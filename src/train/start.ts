/** How a run starts: what it trains on, from which numbers, and what is frozen. */
import { cpus } from 'node:os';

import type { ImageSize } from '../augment/image.js';
import { fittedBy, type Preprocessing, withChannels } from '../augment/preprocessing.js';
import { withDropPath } from '../engine/drop-path.js';
import { cutAt, type Graph } from '../engine/graph.js';
import { initialize } from '../engine/initializers.js';
import type { ReadParameter } from '../engine/network.js';
import type { OperationKind } from '../engine/operations.js';
import type { Engine } from '../engine/tensorflow.js';
import { DataError, EngineError } from '../errors.js';
import { parseHead } from '../heads/heads.js';
import { rng } from '../rng.js';
import { version } from '../version.js';
import { type Adapted, adaptWeights } from '../weights/adapt.js';
import type { ModelRecord, TrainingRecord } from '../weights/model-folder.js';
import { graphOf, openModelFolder } from '../weights/model-folder.js';
import { type ResolvedWeights, resolveWeights } from '../weights/resolve.js';
import { augmentationWords } from './augmentation.js';
import { auxiliaryBehind, forTraining, lossesOf, restoreAuxiliary, startsAnew } from './auxiliary.js';
import { classWeightsOf } from './class-weights.js';
import { assertSameTeacher, describeTeacher, openTeacher, recordOf, type Teacher } from './distill.js';
import { groupsOf } from './groups.js';
import { type Adapting, describeLora, isAdapter, restoreAdapters, trainedOf, withAdapters } from './lora.js';
import { describeOptimising } from './optimising.js';
import type { Reporter } from './options.js';
import { type Phase, phasesOf } from './phases.js';
import { listPictures, type PrintedDataset } from './pictures.js';
import type { Computing, RunArguments } from './run-folder.js';
import { ADAMW_WEIGHT_DECAY, defaultLr, inPhases } from './settings/complete.js';
import type { FinetuneSettings } from './settings/settings.js';
import { parseLora, parseStrategy } from './strategy.js';
import { type StageRow, stagesOf, withoutEffect } from './strategy-table.js';
import type { AuxiliaryLoss } from './trainable.js';

export interface Start {
  readonly engine: Engine;
  readonly dataset: PrintedDataset;
  /** Backbone and head, and the auxiliary classifiers and adapters that take part. */
  readonly graph: Graph;
  readonly auxiliary: readonly AuxiliaryLoss[];
  readonly record: ModelRecord;
  /** The tap that ends the frozen part, in the phase that is trained. */
  readonly cut: string | undefined;
  /** The first begins with {@link Start.read}, a later one with the last model. */
  readonly phases: readonly Phase[];
  /** Starting numbers of every parameter, a new head's drawn from the seed. */
  readonly read: ReadParameter;
  /** Whose logits are learned too. */
  readonly teacher: Teacher | undefined;
  readonly args: RunArguments;
  close(): Promise<void>;
}

/** Looks at everything that can be wrong before anything is computed. */
export async function startRun(settings: FinetuneSettings, engine: Engine, reporter: Reporter): Promise<Start> {
  const weights = await resolveWeights({
    backbone: settings.backbone,
    source: settings.source,
    weights: settings.weights,
  });
  try {
    const dataset = scan(settings);
    if (dataset.ignored > 0) reporter.warn(`${dataset.ignored} files are no pictures and were passed over`);
    if (dataset.val.length === 0) reporter.warn('there are no validation pictures: the last epoch counts as the best');
    return await taught(settings, dataset, async (teacher) => {
      if (teacher !== undefined && teacher.model.record.data.fingerprint !== dataset.fingerprint) {
        reporter.warn(
          'the teacher was trained on other pictures, or on another split of these: ' +
            'where it learned from pictures that validate here, the validation flatters the student',
        );
      }
      const start = await assemble(settings, engine, dataset, weights, teacher);
      for (const each of withoutEffect(start.args.resolved.stages ?? [], settings)) reporter.warn(each);
      return start;
    });
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** Opens the teacher for a start, and closes it where there is none. */
async function taught(
  settings: FinetuneSettings,
  { classes }: PrintedDataset,
  startWith: (teacher: Teacher | undefined) => Promise<Start>,
): Promise<Start> {
  const teacher = await openTeacher(settings, classes);
  try {
    return await startWith(teacher);
  } catch (error) {
    await teacher?.close();
    throw error;
  }
}

/** What a model card says of a run. */
function trainingOf(
  settings: FinetuneSettings,
  { train, val }: PrintedDataset,
  lr: number,
  weightDecay: number,
  teacher: Teacher | undefined,
): TrainingRecord {
  const { freeze, weights, head, headDropout, epochs, batchSize, optimizer, schedule, labelSmoothing, seed } = settings;
  const { twoStage, gradual, lora, loraTargets, batchNorm, layerDecay } = settings;
  return {
    trainPictures: train.length,
    valPictures: val.length,
    recipe: {
      freeze,
      ...(twoStage === undefined ? {} : { 'head alone': `for ${twoStage} epochs` }),
      ...(gradual === undefined ? {} : { unfreezing: `a stage after every ${gradual} epochs` }),
      ...(lora === undefined ? {} : { lora: describeLora(parseLora({ lora, loraTargets })) }),
      ...(batchNorm === 'eval' ? { 'batch norms': 'in inference mode' } : {}),
      ...(layerDecay === undefined ? {} : { 'layer decay': layerDecay }),
      ...(weights === 'none' ? { weights: 'none, from scratch' } : {}),
      head,
      ...{ epochs, 'batch size': batchSize, optimizer, 'learning rate': lr, schedule, 'weight decay': weightDecay },
      ...describeOptimising(settings),
      ...{ augment: augmentationWords(settings), 'label smoothing': labelSmoothing, 'head dropout': headDropout, seed },
      ...(teacher === undefined ? {} : describeTeacher(teacher)),
      ...(settings.precision === 'bfloat16' ? { precision: 'bfloat16' } : {}),
    },
  };
}

/** Height and width of an input size that may be one number for both. */
const sizeOf = (size: number | ImageSize): ImageSize =>
  typeof size === 'number' ? { height: size, width: size } : size;

function scan({ data, manifest, valSplit, seed }: FinetuneSettings): PrintedDataset {
  return listPictures({ data: data ?? 'data', manifest, valSplit, seed });
}

async function assemble(
  settings: FinetuneSettings,
  engine: Engine,
  dataset: PrintedDataset,
  weights: ResolvedWeights,
  teacher: Teacher | undefined,
): Promise<Start> {
  const { backbone, published } = weights;
  const inputSize = sizeOf(settings.inputSize ?? backbone.inputSize);
  const channels = settings.channels ?? weights.channels;
  const record: ModelRecord = {
    formatVersion: 1,
    backbone: backbone.name,
    source: published.source,
    inputSize,
    channels,
    head: parseHead(settings.head, settings.headDropout),
    classes: dataset.classes,
    preprocessing: withChannels(fitted(published.preprocessing, settings), channels),
    weights: { origin: weights.origin, license: weights.license },
    data: { fingerprint: dataset.fingerprint, valSplit: settings.valSplit, seed: settings.seed },
    toolkit: version,
  };
  const graph = graphOf(record);
  const adapted = weights.read === undefined ? undefined : adaptWeights(graph, weights.parameters, weights.read);
  const { graph: adapting, cut } = strategyOf(graph, settings);
  assertTrainable(engine, settings.freeze, adapting, cut);
  // What stands on a part that is frozen first would be new where that is trained already.
  const auxiliary = settings.auxiliary === 'off' || inPhases(settings) ? [] : auxiliaryBehind(graph, cut, published);
  const trained = forTraining(dropping(adapting, settings), auxiliary, dataset.classes.length);
  const stored = new Set(weights.parameters.map(({ path }) => path));
  const isOfAdapter = isAdapter(trained);
  const isNew = (path: string): boolean =>
    path.startsWith('head.') || isOfAdapter(path) || startsAnew(path, auxiliary, stored);
  const onlyNew = cut === 'pre_logits' || settings.lora !== undefined || settings.twoStage !== undefined;
  const lr = settings.lr ?? defaultLr(settings.optimizer, onlyNew ? 'head' : 'more');
  const phases = phasesOf(settings, graph, { cut, lr });
  const weightDecay =
    settings.weightDecay === 0 && settings.optimizer === 'adamw' ? ADAMW_WEIGHT_DECAY : settings.weightDecay;
  const labels = dataset.train.map(({ label }) => label);
  const classWeights =
    settings.classWeights === undefined
      ? undefined
      : await classWeightsOf(settings.classWeights, { classes: dataset.classes, labels });
  return {
    engine,
    dataset,
    graph: trained,
    auxiliary: lossesOf(auxiliary),
    record: { ...record, training: trainingOf(settings, dataset, lr, weightDecay, teacher) },
    cut,
    phases,
    read: startingNumbers(trained, adapted, isNew, settings.seed),
    teacher,
    args: {
      settings,
      resolved: {
        backbone: backbone.name,
        source: published.source,
        cut: cut ?? null,
        auxiliary: auxiliary.map(({ name }) => name),
        ...(teacher === undefined ? {} : { teacher: recordOf(teacher) }),
        lr,
        weightDecay,
        stages: stagesOfRun(trained, cut, settings, phases.at(-1)!.lr),
        ...(classWeights === undefined ? {} : { classWeights }),
        weightsOrigin: weights.origin,
        weightsLicense: weights.license,
        adaptations: adapted?.adaptations.map(({ text }) => text) ?? [],
        inputSize,
        channels,
        classes: dataset.classes,
        trainPictures: dataset.train.length,
        valPictures: dataset.val.length,
        dataFingerprint: dataset.fingerprint,
      },
      versions: { tl: version, node: process.version, engine: `${engine.name} ${engine.version}` },
      computing: computingOf(engine),
    },
    close: async () => {
      await teacher?.close();
      await weights.close();
    },
  };
}

/** What computes a run, for its `args.json`. */
export const computingOf = ({ device, threads }: Engine): Computing => ({
  device,
  threads: threads ?? null,
  processor: cpus()[0]?.model ?? 'unknown',
});

/**
 * What is trained of a network.
 * @throws BAD_FREEZE, UNKNOWN_TAP, NOT_A_CUT, NO_ATTENTION, BAD_LORA, LORA_RANK
 */
function strategyOf(graph: Graph, { freeze, lora, loraTargets, backbone }: FinetuneSettings): Adapting {
  if (lora === undefined) return { graph, cut: parseStrategy(freeze, graph).cut };
  return withAdapters(graph, freeze, parseLora({ lora, loraTargets }), backbone);
}

/** What training does with every stage of the network as it is trained. */
export function stagesOfRun(
  graph: Graph,
  cut: string | undefined,
  { layerDecay, batchNorm = 'train' }: Pick<FinetuneSettings, 'layerDecay' | 'batchNorm'>,
  lr: number,
): StageRow[] {
  return stagesOf(graph, { cut, trains: trainedOf(graph), groups: groupsOf(graph, layerDecay), lr, batchNorm });
}

/** As the network was trained, unless told otherwise. */
const fitted = (preprocessing: Preprocessing, { fit }: FinetuneSettings): Preprocessing =>
  fit === undefined ? preprocessing : fittedBy(preprocessing, fit);

/** @throws NO_DROP_PATH */
const dropping = (graph: Graph, { dropPath }: FinetuneSettings): Graph =>
  dropPath === undefined ? graph : withDropPath(graph, dropPath);

/** What slides over a picture: the gradients of these are the ones that an engine may lack. */
const WINDOWS: readonly OperationKind[] = [
  'conv2d',
  'depthwise_conv2d',
  'max_pool',
  'average_pool',
  'adaptive_average_pool',
];

/** @throws ENGINE_CANNOT_TRAIN */
function assertTrainable(engine: Engine, freeze: string, graph: Graph, cut: string | undefined): void {
  if (engine.trains === 'everything') return;
  const trained = cut === undefined ? graph.nodes : cutAt(graph, cut, 'logits').after;
  const window = trained.find(({ operation }) => WINDOWS.includes(operation.kind));
  if (window === undefined) return;
  throw new EngineError({
    code: 'ENGINE_CANNOT_TRAIN',
    message:
      `--freeze ${freeze} trains ${window.path}, and the ${engine.name} engine has no gradient of convolutions and ` +
      `pools: it trains heads, and vision transformers behind their patches`,
    hint: 'run `tl setup` for the native engine, or choose --freeze backbone',
  });
}

/** Published numbers for the backbone; what is new, and all of it from scratch, from the initialisers. */
function startingNumbers(
  graph: Graph,
  published: Adapted | undefined,
  isNew: (path: string) => boolean,
  seed: number,
): ReadParameter {
  const parameters = new Map(graph.parameters.map((parameter) => [parameter.path, parameter]));
  return async (path) => {
    if (published !== undefined && !isNew(path)) return published.read(path);
    const { initializer, shape } = parameters.get(path)!;
    return initialize(initializer, shape, rng(seed).split('initial values').split(path));
  };
}

/** Starts a stopped run again: its own settings, and the numbers of its last checkpoint. */
export async function restartRun(folder: string, before: RunArguments, engine: Engine): Promise<Start> {
  const { settings, resolved } = before;
  const dataset = scan(settings);
  assertSameData(resolved, {
    trainPictures: dataset.train.length,
    valPictures: dataset.val.length,
    dataFingerprint: dataset.fingerprint,
  });
  const last = await openModelFolder(`${folder}/last`);
  try {
    const cut = resolved.cut ?? undefined;
    assertTrainable(engine, settings.freeze, last.graph, cut);
    const model = await restoreAuxiliary(last, resolved.auxiliary);
    const { graph, auxiliary, read, close } =
      settings.lora === undefined
        ? model
        : await restoreAdapters(last, model, (plain) => strategyOf(plain, settings).graph);
    const trained = dropping(graph, settings);
    return await taught(settings, dataset, async (teacher) => {
      assertSameTeacher(teacher, resolved.teacher);
      const closeAll = async (): Promise<void> => {
        await teacher?.close();
        await close();
      };
      const { record } = last;
      const phases = phasesOf(settings, graph, { cut, lr: resolved.lr });
      const what = { graph: trained, auxiliary, record, cut, phases, read, teacher };
      return { engine, dataset, ...what, args: before, close: closeAll };
    });
  } catch (error) {
    await last.close();
    throw error;
  }
}

type DataOfRun = Pick<RunArguments['resolved'], 'trainPictures' | 'valPictures' | 'dataFingerprint'>;

/** @throws RESUME_DATA_CHANGED */
export function assertSameData(then: DataOfRun, now: DataOfRun): void {
  if (now.dataFingerprint === then.dataFingerprint) return;
  throw new DataError({
    code: 'RESUME_DATA_CHANGED',
    message:
      `the pictures are not those the run began with: ${then.trainPictures} for training and ` +
      `${then.valPictures} for validation then, ${now.trainPictures} and ${now.valPictures} now, ` +
      'or other names or labels',
    hint: 'put the data back as they were, or start a new run',
  });
}
