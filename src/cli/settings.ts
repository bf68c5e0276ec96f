/** The settings of a run as options of a command. */
import { type Command, Option } from 'commander';
import type { GivenSettings } from '../train/settings/settings.js';
import { type NamedSetting, settingList } from '../train/settings/table.js';
import { argument } from './options.js';

/** Adds an option for every setting, under the headings of the table. */
export function withSettings(command: Command): Command {
  let section: string | undefined;
  for (const setting of settingList) {
    if (setting.section !== section) command.optionsGroup(`${setting.section}:`);
    section = setting.section;
    command.addOption(optionOf(setting));
  }
  return command;
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

/** What the user gave of them on the command line. */
export function settingsGiven(command: Command): GivenSettings {
  const values = command.opts<Record<string, unknown>>();
  return Object.fromEntries(
    settingList.flatMap((setting) => {
      const name = optionOf(setting).attributeName();
      return command.getOptionValueSource(name) === 'cli' ? [[setting.key, values[name]]] : [];
    }),
  );
}
