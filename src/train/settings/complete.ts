/** What a user left out, and whether what they gave can be used. */
import { listFaults, UsageError } from '../../errors.js';
import { parseHead } from '../../heads/heads.js';
import { augmentationWords, endlessFlags, mixingFor } from '../augmentation.js';
import type { OptimizerName } from '../optimizers.js';
import { BALANCED } from '../sampling.js';
import { parseLora } from '../strategy.js';
import type { FinetuneSettings, GivenSettings } from './settings.js';
import { settingList, settings as table } from './table.js';

/**
 * Fills in every default.
 * @throws MISSING_OPTION without a backbone; BAD_OPTION, naming all that is wrong; BAD_HEAD
 */
export function completeSettings(given: GivenSettings): FinetuneSettings {
  if (given.backbone === undefined) {
    throw new UsageError({
      code: 'MISSING_OPTION',
      message: 'no network was named',
      hint: 'add --backbone NAME; `tl backbones` lists them',
    });
  }
  const defaults: Record<string, unknown> = {
    ...(given.manifest === undefined ? { data: 'data' } : {}),
    ...Object.fromEntries(
      settingList.flatMap(({ key, default: value }) => (value === undefined ? [] : [[key, value]])),
    ),
    ...(inPhases(given) ? { freeze: 'none' } : {}),
  };
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  const complete = { ...defaults, ...Object.fromEntries(known) } as unknown as FinetuneSettings;
  checkSettings(complete);
  return complete;
}

/** Whether a run trains more of the network as it goes. */
export const inPhases = ({ twoStage, gradual }: GivenSettings): boolean =>
  twoStage !== undefined || gradual !== undefined;

/**
 * Learning rates that work without tuning: a new head learns from scratch and takes Adam's own default, 1e-3 (Kingma
 * and Ba 2015, algorithm 1); pretrained layers move ten times slower (Keras' transfer-learning guide and the notes'
 * recipes have 1e-5 to 2e-4). SGD takes rates ten times larger than Adam, as does LAMB, whose rate is a share of the
 * weights' own size (Wightman et al. 2021, table 2, have 5e-3 to 8e-3); Lion takes 3 to 10 times smaller ones (Chen et al.
 * 2023, section 5).
 */
export function defaultLr(optimizer: OptimizerName, trains: 'head' | 'more'): number {
  const adam = trains === 'head' ? 1e-3 : 1e-4;
  if (optimizer === 'sgd' || optimizer === 'lamb') return 10 * adam;
  return optimizer === 'lion' ? adam / 5 : adam;
}

/** Momentum of SGD, as papers on images train with it (He et al. 2016), and of RMSprop, as Keras and PyTorch have it. */
export const defaultMomentum = (optimizer: OptimizerName): number => (optimizer === 'sgd' ? 0.9 : 0);

/** Weight decay of AdamW when none is named: Loshchilov and Hutter 2019, and PyTorch's default. */
export const ADAMW_WEIGHT_DECAY = 0.01;

/** Checks every setting and names all that are wrong. @throws BAD_OPTION, BAD_HEAD */
export function checkSettings(settings: FinetuneSettings): void {
  const faults = [...unknownNames(settings), ...settingList.flatMap((setting) => faultsOf(setting.key, settings))];
  const check = (good: boolean, fault: string): void => {
    if (!good) faults.push(fault);
  };
  const { epochs, warmupEpochs, twoStage, cacheViews, optimizer, schedule } = settings;
  for (const [key, name] of ofSchedules) {
    const { flag } = table[key];
    check(
      settings[key] === undefined || schedule === name,
      `--${flag}: is of --schedule ${name}, received ${schedule}`,
    );
  }
  check(
    settings.sampler !== 'balanced' || settings.classWeights !== BALANCED,
    '--class-weights balanced: --sampler balanced corrects the same already; expected one of both',
  );
  const momentum = settings.momentum ?? defaultMomentum(optimizer);
  check(
    settings.nesterov !== true || (optimizer === 'sgd' && momentum > 0),
    `--nesterov: is of --optimizer sgd with a --momentum above 0, received ${optimizer} and ${momentum}`,
  );
  check(
    warmupEpochs < epochs,
    `--warmup: expected less than the ${epochs} epochs of the run, received ${warmupEpochs}`,
  );
  if (twoStage !== undefined) {
    check(twoStage < epochs, `--two-stage: expected less than the ${epochs} epochs of the run, received ${twoStage}`);
  }
  if (inPhases(settings)) {
    const flag = twoStage === undefined ? 'gradual' : 'two-stage';
    check(settings.freeze !== 'backbone', `--${flag}: --freeze backbone leaves nothing to unfreeze`);
  }
  // What is wrong with the parts of a recipe stands among the faults already.
  if (cacheViews !== undefined && faults.length === 0) {
    const endless = endlessFlags(settings);
    const words = augmentationWords(settings);
    check(
      endless.length > 0,
      `--cache-views: ${words} has no random views to keep; expected --augment standard or strong`,
    );
    const mixed = mixingFor(settings, 2) !== undefined;
    check(
      !mixed,
      `--cache-views: ${endless.join(' and ')} brings other pictures together in every epoch, so there is no view to keep`,
    );
  }
  if (faults.length === 0) {
    parseHead(settings.head, settings.headDropout);
    if (settings.lora !== undefined) parseLora({ lora: settings.lora, loraTargets: settings.loraTargets });
    return;
  }
  throw new UsageError({
    code: 'BAD_OPTION',
    message: `these settings cannot be used:\n${listFaults(faults)}`,
    hint: '`tl finetune --help` lists every option',
  });
}

/** Settings that belong to one schedule. */
const ofSchedules = [
  ['stepEpochs', 'step'],
  ['stepGamma', 'step'],
  ['minLr', 'cosine'],
] as const;

const unknownNames = (settings: FinetuneSettings): string[] =>
  Object.keys(settings)
    .filter((key) => !(key in table))
    .map((key) => `${key}: there is no such setting`);

function faultsOf(key: keyof FinetuneSettings, settings: FinetuneSettings): string[] {
  const { flag, kind, conflicts = [], needs } = table[key];
  const value = settings[key];
  if (value === undefined) return [];
  const faults = kind.accepts(value)
    ? []
    : [`--${flag}: expected ${kind.expected}, received ${typeof value === 'number' ? value : JSON.stringify(value)}`];
  for (const other of conflicts) {
    if (settings[other] !== undefined) faults.push(`--${flag}: cannot stand beside --${table[other].flag}`);
  }
  if (needs !== undefined && settings[needs] === undefined) {
    faults.push(`--${flag}: has no meaning without --${table[needs].flag}`);
  }
  return faults;
}
