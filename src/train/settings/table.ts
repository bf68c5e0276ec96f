/**
 * Every setting of a run, once: its flag, its values, its default and what the help says. The command line, `--config`
 * files, recipes, `--print-args`, the checks and what a program may leave out are all made from this. It is read for
 * `tl --help`, so it loads nothing of the training: the few names that belong to heavier files are written here again,
 * and the compiler compares them.
 */
import { augmentationSettings } from './augmentation-settings.js';
import { computationSettings } from './computation-settings.js';
import { modelSettings } from './model-settings.js';
import type { Setting, SettingTable } from './setting.js';
import type { FinetuneSettings } from './settings.js';
import { trainingSettings } from './training-settings.js';

/** In the order of the help. */
export const settings: SettingTable = {
  ...modelSettings,
  ...trainingSettings,
  ...augmentationSettings,
  ...computationSettings,
};

/** A setting with the name that `args.json` and programs have for it. */
export interface NamedSetting extends Setting<unknown> {
  readonly key: keyof FinetuneSettings;
}

/** All of them, in the order of the help. */
export const settingList: readonly NamedSetting[] = Object.entries(settings).map(([key, setting]) => ({
  ...(setting as Setting<unknown>),
  key: key as keyof FinetuneSettings,
}));
