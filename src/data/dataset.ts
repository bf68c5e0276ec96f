/** Folders of pictures as a data set: one folder a class. */

import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { DataError } from '../errors.js';
import { imageExtensions } from './extensions.js';
import {
  byCodePoint,
  checkClasses,
  checkDuplicates,
  LAYOUT_HINT,
  type Sample,
  type ScannedDataset,
  type SplitOptions,
  stratifiedSplit,
} from './sample.js';

export { readManifest } from './manifest.js';
export type { Dataset, Sample, ScannedDataset, SplitOptions } from './sample.js';

/** A picture as it was found. */
interface Found {
  readonly path: string;
  /** Its path with every symbolic link resolved. */
  readonly real: string;
}

interface Scan {
  readonly classes: Map<string, Found[]>;
  ignored: number;
}

/**
 * Lists a folder of labelled pictures: `dir/train/<class>/*` with `dir/val/<class>/*`, or `dir/<class>/*`, which is
 * split by class and seed. A `dir/train` without `dir/val` is split the same way; a `dir/test` is left alone.
 *
 * Class folders are read to any depth; symbolic links are followed, each real folder once. Hidden files are passed
 * over, files that are no pictures by their ending are counted. The result does not depend on the order in which the
 * file system lists things.
 *
 * @throws DataError `DATA_NOT_FOUND`, `DATA_EMPTY`, `DATA_EMPTY_CLASS`, `DATA_SINGLE_CLASS`, `DATA_UNKNOWN_CLASS`,
 *   `DATA_MIXED_LAYOUT`, `DATA_DUPLICATE`
 * @throws UsageError `BAD_VAL_SPLIT`
 */
export function scanFolder(dir: string, options: SplitOptions): ScannedDataset {
  const layout = layoutOf(dir);
  const source = { where: dir, hint: LAYOUT_HINT };
  const trainScan = scanClasses(layout === 'classes' ? dir : join(dir, 'train'));
  let train: ReadonlyMap<string, readonly Found[]> = trainScan.classes;
  let val: ReadonlyMap<string, readonly Found[]>;
  let { ignored } = trainScan;
  if (layout === 'train and val') {
    const valScan = scanClasses(join(dir, 'val'));
    val = valScan.classes;
    ignored += valScan.ignored;
  } else {
    checkClasses(train, new Map(), source); // before the split, so that an empty class is called that
    ({ train, val } = stratifiedSplit(train, options));
  }
  const classes = checkClasses(train, val, source);
  if (layout === 'train and val' && ![...val.values()].some((pictures) => pictures.length > 0)) {
    throw new DataError({
      code: 'DATA_EMPTY',
      message: `${join(dir, 'val')} holds no pictures in class folders`,
      hint: `${LAYOUT_HINT}; remove the folder to have train split`,
    });
  }
  checkDuplicates([...rolesOf(train, 'train'), ...rolesOf(val, 'val')], dir);
  return {
    classes,
    train: samplesOf(classes, train, 'train'),
    val: samplesOf(classes, val, 'val'),
    root: dir,
    ignored,
  };
}

type Layout = 'classes' | 'train' | 'train and val';

/** `train` and `val` are parts of the data when they hold folders; a class may bear these names too. */
function layoutOf(dir: string): Layout {
  let isFolder: boolean;
  try {
    isFolder = statSync(dir).isDirectory();
  } catch (cause) {
    throw new DataError({ code: 'DATA_NOT_FOUND', message: `there is no folder ${dir}`, hint: LAYOUT_HINT, cause });
  }
  if (!isFolder) {
    throw new DataError({
      code: 'DATA_NOT_FOUND',
      message: `${dir} is a file, expected a folder`,
      hint: `${LAYOUT_HINT}; a list of pictures is given with --manifest FILE.csv`,
    });
  }
  const folders = foldersIn(dir).map((name) => name.normalize('NFC'));
  const holdsFolders = (name: string): boolean => folders.includes(name) && foldersIn(join(dir, name)).length > 0;
  const hasTrain = holdsFolders('train');
  const hasVal = holdsFolders('val');
  if (!hasTrain && !hasVal) return 'classes';
  const others = folders.filter((name) => !['train', 'val', 'test'].includes(name)).sort(byCodePoint);
  if (others.length > 0) {
    const likelyVal = others.find((name) => ['validation', 'valid', 'dev'].includes(name.toLowerCase()));
    throw new DataError({
      code: 'DATA_MIXED_LAYOUT',
      message: `${dir} mixes two layouts: ${hasTrain ? 'train' : 'val'} holds class folders, and beside it lie ${quoted(others)}`,
      hint: likelyVal ? `rename ${join(dir, likelyVal)} to ${join(dir, 'val')}` : LAYOUT_HINT,
    });
  }
  if (!hasTrain) {
    throw new DataError({
      code: 'DATA_NOT_FOUND',
      message: `${dir} has validation pictures in val but no class folders in train`,
      hint: LAYOUT_HINT,
    });
  }
  return folders.includes('val') ? 'train and val' : 'train';
}

function scanClasses(dir: string): Scan {
  const scan: Scan = { classes: new Map(), ignored: 0 };
  for (const entry of entriesIn(dir)) {
    if (!isFolder(dir, entry)) {
      scan.ignored++;
      continue;
    }
    // Two spellings of one name, composed and decomposed, are the same class.
    const name = entry.name.normalize('NFC');
    const found = scan.classes.get(name) ?? [];
    scan.classes.set(name, found);
    walk(join(dir, entry.name), found, scan, new Set());
  }
  for (const found of scan.classes.values()) found.sort((a, b) => byCodePoint(a.path, b.path));
  return scan;
}

/** Collects the pictures below a folder; `visited` holds the real folders seen, so that a link to a parent ends. */
function walk(dir: string, found: Found[], scan: Scan, visited: Set<string>): void {
  const realDir = realpathSync(dir);
  if (visited.has(realDir)) return;
  visited.add(realDir);
  for (const entry of entriesIn(dir)) {
    const path = join(dir, entry.name);
    if (isFolder(dir, entry)) walk(path, found, scan, visited);
    else if (!imageExtensions.includes(extname(entry.name).toLowerCase())) scan.ignored++;
    else found.push({ path, real: entry.isSymbolicLink() ? realOf(path) : join(realDir, entry.name) });
  }
}

/** Entries without the hidden ones; sorted, because which of two links to a folder is followed depends on it. */
function entriesIn(dir: string): Dirent[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => !entry.name.startsWith('.'))
    .sort((a, b) => byCodePoint(a.name, b.name));
}

function foldersIn(dir: string): string[] {
  return entriesIn(dir)
    .filter((entry) => isFolder(dir, entry))
    .map((entry) => entry.name);
}

function isFolder(dir: string, entry: Dirent): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return statSync(join(dir, entry.name), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** A link that leads nowhere stays as it is; decoding it says that there is no such file. */
function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function samplesOf(
  classes: readonly string[],
  found: ReadonlyMap<string, readonly Found[]>,
  split: Sample['split'],
): Sample[] {
  return classes.flatMap((name, label) => (found.get(name) ?? []).map(({ path }) => ({ path, label, split })));
}

function rolesOf(
  found: ReadonlyMap<string, readonly Found[]>,
  split: Sample['split'],
): { identity: string; path: string; role: string }[] {
  return [...found].flatMap(([name, pictures]) =>
    pictures.map(({ path, real }) => ({ identity: real, path, role: `${split}, class ${JSON.stringify(name)}` })),
  );
}

function quoted(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => JSON.stringify(name));
  return shown.join(', ') + (names.length > shown.length ? ` and ${names.length - shown.length} more` : '');
}
