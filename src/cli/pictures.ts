/** Which pictures a command line means: files, folders and patterns. */
import { statSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { imageExtensions } from '../data/extensions.js';
import { DataError } from '../errors.js';

/**
 * Files as given, folders with all below them, patterns as they match; in the order given, each picture once. A file
 * that is not there stays in the list: whoever opens it says so, and goes on with the others.
 * @throws NO_PICTURES for a folder or a pattern without any
 */
export async function listGiven(given: readonly string[]): Promise<string[]> {
  const paths: string[] = [];
  for (const each of given) paths.push(...(await expand(each)));
  const seen = new Set<string>();
  return paths.filter((path) => {
    const key = resolve(path);
    return !seen.has(key) && seen.add(key);
  });
}

async function expand(given: string): Promise<string[]> {
  const kind = statSync(given, { throwIfNoEntry: false });
  if (kind?.isDirectory()) return found(given, await below(given), 'the folder holds no pictures');
  if (kind !== undefined) return [given];
  const { glob, isDynamicPattern } = await import('tinyglobby');
  if (!isDynamicPattern(given)) return [given];
  const matches = await glob(given.replaceAll('\\', '/'), {
    expandDirectories: false,
    absolute: isAbsolute(given),
  });
  return found(given, matches, 'the pattern matches no file');
}

async function below(folder: string): Promise<string[]> {
  const { glob } = await import('tinyglobby');
  const endings = imageExtensions.map((ending) => ending.slice(1)).join(',');
  const names = await glob(`**/*.{${endings}}`, { cwd: folder, caseSensitiveMatch: false });
  return names.map((name) => (folder.endsWith('/') ? `${folder}${name}` : `${folder}/${name}`));
}

function found(given: string, paths: string[], otherwise: string): string[] {
  if (paths.length > 0) return paths.sort();
  throw new DataError({
    code: 'NO_PICTURES',
    message: `${given}: ${otherwise}`,
    hint: `give pictures (${imageExtensions.join(' ')}), a folder with some, or a pattern in quotes`,
  });
}
