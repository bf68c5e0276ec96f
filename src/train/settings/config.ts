/** Settings in a file, YAML or JSON, under the names of the flags or those of `args.json`; and written as such a file. */
import { readFile } from 'node:fs/promises';
import { closest, distance } from 'fastest-levenshtein';
import { parseDocument, stringify } from 'yaml';
import { listFaults, messageOf, UsageError } from '../../errors.js';
import type { FinetuneSettings, GivenSettings } from './settings.js';
import { type NamedSetting, settingList } from './table.js';

/** What a configuration file says. */
export interface Configuration {
  readonly settings: GivenSettings;
  /** The preset that it starts from. */
  readonly recipe?: string;
}

const byName = new Map(settingList.flatMap((setting) => [setting.flag, setting.key].map((name) => [name, setting])));

/**
 * Reads a file of settings; the `args.json` of a run is one too.
 * @throws CONFIG_INVALID, naming every line that cannot be used; FILE_NOT_READ
 */
export async function readConfiguration(file: string): Promise<Configuration> {
  const content = plainObject(await parsed(file), file);
  const faults: string[] = [];
  const settings: Record<string, unknown> = {};
  const { recipe, ...named } = 'settings' in content && 'resolved' in content ? settingsOfRun(content, file) : content;
  if (recipe !== undefined && typeof recipe !== 'string') faults.push('recipe: expected a name');
  for (const [name, written] of Object.entries(named)) {
    const setting = byName.get(name);
    if (setting === undefined) faults.push(`${name}: there is no such setting${suggestionFor(name)}`);
    else {
      const value = valueIn(setting, written);
      if (value === undefined) faults.push(`${name}: expected ${setting.kind.expected}, received ${shown(written)}`);
      else if (setting.key in settings) faults.push(`${name}: stands there twice, as --${setting.flag} too`);
      settings[setting.key] = value;
    }
  }
  if (faults.length > 0) throw invalid(file, `cannot be used:\n${listFaults(faults)}`);
  return { settings, ...(typeof recipe === 'string' ? { recipe } : {}) };
}

async function parsed(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch((error) => {
    throw new UsageError({
      code: 'FILE_NOT_READ',
      message: `cannot read ${file}: ${messageOf(error)}`,
      hint: 'check the path of --config',
    });
  });
  const document = parseDocument(text, { prettyErrors: true }); // JSON is YAML
  const [fault] = document.errors;
  if (fault !== undefined) throw invalid(file, `is neither YAML nor JSON: ${fault.message.split('\n')[0]}`);
  try {
    return document.toJS({ maxAliasCount: 10 }); // a file of settings needs no aliases; a bomb of them needs thousands
  } catch (error) {
    throw invalid(file, `cannot be used: ${messageOf(error)}`);
  }
}

function plainObject(value: unknown, file: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw invalid(file, `holds ${Array.isArray(value) ? 'a list' : shown(value)}, expected lines such as "epochs: 10"`);
}

/** `args.json` keeps what was resolved beside the settings. */
const settingsOfRun = (content: Record<string, unknown>, file: string): Record<string, unknown> =>
  plainObject(content.settings, file);

/** Files may write numbers and switches as such, or as text, and sizes as `args.json` does. */
function valueIn({ kind }: NamedSetting, written: unknown): unknown {
  const value = Array.isArray(written) ? written.join(',') : written;
  if (kind.accepts(value)) return value;
  return ['string', 'number', 'boolean'].includes(typeof value) ? kind.parse(String(value)) : undefined;
}

const shown = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

function suggestionFor(name: string): string {
  const nearest = closest(name, [...byName.keys()]);
  return distance(name, nearest) <= 3 ? `; did you mean ${nearest}?` : '';
}

const invalid = (file: string, what: string): UsageError =>
  new UsageError({
    code: 'CONFIG_INVALID',
    message: `${file} ${what}`,
    hint: '`tl finetune --print-args` writes such a file; `tl finetune --help` lists every setting',
  });

/**
 * Settings as a file that {@link readConfiguration} takes; what is absent stands there as a comment.
 * @param originOf where a value comes from, as a comment behind it
 */
export function formatConfiguration(
  settings: FinetuneSettings,
  originOf: (key: keyof FinetuneSettings) => string | undefined,
): string {
  const lines = settingList.map(({ key, flag, stated = 'none' }) => {
    const value = settings[key];
    if (value === undefined) return `# ${flag}: ${stated}`;
    const line = stringify({ [flag]: typeof value === 'object' ? sizeText(value) : value }).trimEnd();
    const origin = originOf(key);
    return origin === undefined ? line : `${line} # ${origin}`;
  });
  return `${lines.join('\n')}\n`;
}

const sizeText = ({ height, width }: { readonly height: number; readonly width: number }): string =>
  `${height}x${width}`;
