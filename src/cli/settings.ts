/** The settings of a run as options of a command. */
import { type Command, Option } from 'commander';
import type { GivenSettings } from '../train/settings/settings.js';
import { type NamedSetting, settingList } from '../train/settings/table.js';
import { argument } from './options.js';
import type { Output } from './output.js';

/**
 * Adds an option for every setting, under the headings of the table, and those that bring many at once.
 * @param without those that mean nothing to the command; a configuration file may have them
 */
export function withSettings(command: Command, without: readonly (keyof GivenSettings)[] = []): Command {
  let section: string | undefined;
  for (const setting of settingList.filter(({ key }) => !without.includes(key))) {
    if (setting.section !== section) command.optionsGroup(`${setting.section}:`);
    section = setting.section;
    command.addOption(optionOf(setting));
  }
  return command
    .optionsGroup('Many settings at once:')
    .option('--recipe <name>', 'begin with the settings of a recipe; `tl recipes` lists them')
    .option('--config <file>', 'settings in YAML or JSON under the names of these options; an args.json is one too')
    .option('--print-args', 'write the settings that would be used as such a file, and do nothing else');
}

function optionOf({ flag, kind, help, default: value, stated, conflicts = [] }: NamedSetting): Option {
  const ofSwitch = kind.placeholder === undefined;
  const option = new Option(ofSwitch ? `--${flag}` : `--${flag} ${kind.placeholder}`, help);
  if (!ofSwitch) option.argParser(argument(kind));
  if (kind.choices !== undefined) option.argChoices = [...kind.choices]; // for the help
  if (value !== undefined && !ofSwitch) option.default(value, stated);
  else if (stated !== undefined) option.description += ` (default: ${stated})`;
  return option.conflicts([...conflicts]);
}

/** Settings, and where each comes from. */
export interface Gathered {
  readonly given: GivenSettings;
  /** Undefined for a default. */
  originOf(key: keyof GivenSettings): string | undefined;
}

/**
 * Recipe, configuration file and command line, each over the one before it.
 * @throws UNKNOWN_RECIPE, CONFIG_INVALID, FILE_NOT_READ; of a recipe that depends on the pictures, what listing them throws
 */
export async function gatherSettings(command: Command): Promise<Gathered> {
  const { recipe: named, config: file } = command.opts<{ recipe?: string; config?: string }>();
  const flags = settingsGiven(command);
  if (named === undefined && file === undefined) return { given: flags, originOf: () => undefined };
  const { findRecipe, layered, settingsOf } = await import('../train/settings/recipes.js');
  const config =
    file === undefined ? undefined : await (await import('../train/settings/config.js')).readConfiguration(file);
  const upper = layered(config?.settings ?? {}, flags);
  const name = named ?? config?.recipe;
  const recipe = name === undefined ? {} : await settingsOf(findRecipe(name), upper);
  return {
    given: layered(recipe, upper),
    originOf: (key) => {
      if (key in flags) return undefined;
      if (config !== undefined && key in config.settings) return `from ${file}`;
      return key in recipe ? `from the recipe ${name}` : undefined;
    },
  };
}

/** Writes the settings that a run would have. @throws MISSING_OPTION, BAD_OPTION */
export async function printArguments({ given, originOf }: Gathered, out: Output): Promise<void> {
  const { completeSettings } = await import('../train/settings/complete.js');
  const { formatConfiguration } = await import('../train/settings/config.js');
  const settings = completeSettings(given);
  out.result(settings, () => formatConfiguration(settings, originOf).trimEnd());
}

/** What the user gave of them on the command line. */
export function settingsGiven(command: Command): GivenSettings {
  const keys = new Map(settingList.map(({ flag, key }) => [`--${flag}`, key]));
  return Object.fromEntries(
    command.options.flatMap((option) => {
      const [key, name] = [keys.get(option.long ?? ''), option.attributeName()];
      return key !== undefined && command.getOptionValueSource(name) === 'cli'
        ? [[key, command.getOptionValue(name) as unknown]]
        : [];
    }),
  );
}
