/** What a user left out, and whether what they gave can be used. */
import { listFaults, UsageError } from '../../errors.js';
import { parseHead } from '../../heads/heads.js';
import type { OptimizerName } from '../optimizers.js';
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
  };
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  const complete = { ...defaults, ...Object.fromEntries(known) } as unknown as FinetuneSettings;
  checkSettings(complete);
  return complete;
}

/**
 * Learning rates that work without tuning: a new head learns from scratch and takes Adam's own default, 1e-3 (Kingma
 * and Ba 2015, algorithm 1); pretrained layers move ten times slower (Keras' transfer-learning guide and the notes'
 * recipes have 1e-5 to 2e-4), and SGD takes rates ten times larger than Adam.
 */
export function defaultLr(optimizer: OptimizerName, trains: 'head' | 'more'): number {
  const adam = trains === 'head' ? 1e-3 : 1e-4;
  return optimizer === 'sgd' ? 10 * adam : adam;
}

/** Weight decay of AdamW when none is named: Loshchilov and Hutter 2019, and PyTorch's default. */
export const ADAMW_WEIGHT_DECAY = 0.01;

/** Checks every setting and names all that are wrong. @throws BAD_OPTION, BAD_HEAD */
export function checkSettings(settings: FinetuneSettings): void {
  const faults = [...unknownNames(settings), ...settingList.flatMap((setting) => faultsOf(setting.key, settings))];
  const check = (good: boolean, fault: string): void => {
    if (!good) faults.push(fault);
  };
  const { epochs, warmupEpochs, augment, cacheViews } = settings;
  check(
    warmupEpochs < epochs,
    `--warmup: expected less than the ${epochs} epochs of the run, received ${warmupEpochs}`,
  );
  if (cacheViews !== undefined) {
    check(
      augment === 'standard' || augment === 'strong',
      `--cache-views: ${augment} has no random views to keep; expected --augment standard or strong`,
    );
  }
  if (faults.length === 0) {
    parseHead(settings.head, settings.headDropout);
    return;
  }
  throw new UsageError({
    code: 'BAD_OPTION',
    message: `these settings cannot be used:\n${listFaults(faults)}`,
    hint: '`tl finetune --help` lists every option',
  });
}

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
