/** Where this toolkit keeps what it sets up, and which engines lie there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { bindingPackage, type EngineKind, engineKey } from './recipe.js';

/** The toolkit's folder: `$TL_HOME`, or `~/.cache/tl`. */
export function toolkitHome(): string {
  const chosen = process.env.TL_HOME;
  return chosen ? resolve(chosen) : join(homedir(), '.cache', 'tl');
}

/** Folder that holds one sub-folder an engine. */
export function enginesDir(): string {
  return join(toolkitHome(), 'engine');
}

/** File written last into an engine's folder: what it is and how it came there. */
export const RECORD_FILE = 'engine.json';

/** Content of {@link RECORD_FILE}. */
export interface EngineRecord {
  readonly packageName: string;
  readonly packageVersion: string;
  readonly tensorflowVersion: string;
  readonly how: 'prebuilt' | 'built';
  readonly kind: EngineKind;
  /** sha256 of the wheel that the library came from, for `built`. */
  readonly wheelSha256?: string;
  /** ISO 8601. */
  readonly created: string;
}

/** An engine that setup finished. */
export interface SetUpEngine {
  /** `engine/<key>`. */
  readonly engineDir: string;
  /** Folder of the npm package inside it. */
  readonly packageDir: string;
  readonly record: EngineRecord;
}

/** The finished engine of one kind under the toolkit's folder; of several the one with the newest TensorFlow. */
export function findSetUp(kind: EngineKind, dir = enginesDir()): SetUpEngine | undefined {
  const [start, end] = engineKey(kind, '*', process.platform, process.arch).split('*') as [string, string];
  const keys = existsSync(dir) ? readdirSync(dir).filter((name) => name.startsWith(start) && name.endsWith(end)) : [];
  const newestFirst = keys.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  for (const key of newestFirst) {
    const engineDir = join(dir, key);
    const record = readRecord(engineDir);
    if (record) return { engineDir, packageDir: packageDirIn(engineDir, kind), record };
  }
  return undefined;
}

/** Where npm puts the binding's package below a private folder. */
export function packageDirIn(privateDir: string, kind: EngineKind): string {
  return join(privateDir, 'node_modules', ...bindingPackage(kind).split('/'));
}

function readRecord(engineDir: string): EngineRecord | undefined {
  const file = join(engineDir, RECORD_FILE);
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as EngineRecord;
  } catch {
    return undefined; // a damaged record: setup replaces the folder
  }
}
