/** What is said of a setting, once, for the command line, files, programs and the checks. */
import type { Kind } from './kinds.js';
import type { FinetuneSettings } from './settings.js';

/** One setting. */
export interface Setting<T> {
  /** Without its dashes, `batch-size`. */
  readonly flag: string;
  readonly kind: Kind<T>;
  readonly help: string;
  /** What holds unless told otherwise; where there is none, the setting may be absent. */
  readonly default?: T;
  /** The default in words, where the value alone would not tell it. */
  readonly stated?: string;
  /** The heading it stands under in the help. */
  readonly section: Section;
  /** Settings that cannot stand beside it. */
  readonly conflicts?: readonly (keyof FinetuneSettings)[];
  /** A setting that has no meaning without another one. */
  readonly needs?: keyof FinetuneSettings;
}

export type Section = 'Data' | 'Network' | 'Strategy' | 'Training' | 'Loss' | 'Augmentation' | 'Computation';

/** Settings by the names that `args.json` and programs have for them. */
export type SettingTable<K extends keyof FinetuneSettings = keyof FinetuneSettings> = {
  readonly [Each in K]-?: Setting<NonNullable<FinetuneSettings[Each]>>;
};
