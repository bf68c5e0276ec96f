/** Labelled pictures as a value, and the rules that every way of listing them shares. */

import { DataError, listFaults, UsageError } from '../errors.js';
import { rng } from '../rng.js';

/** One labelled picture. */
export interface Sample {
  /** Can be opened from the current folder. */
  readonly path: string;
  /** Index into the classes of its data set. */
  readonly label: number;
  readonly split: 'train' | 'val';
}

export interface Dataset {
  /** Sorted by code point of their NFC form; a label is an index into this. At least two. */
  readonly classes: readonly string[];
  /** At least one of each class, sorted by class and then by path. */
  readonly train: readonly Sample[];
  /** May be empty, and need not hold every class. */
  readonly val: readonly Sample[];
  /** The folder that was scanned, or that of the manifest. */
  readonly root: string;
}

/** A data set, and what was passed over on the way. */
export interface ScannedDataset extends Dataset {
  /** Files that are no pictures by their ending; hidden files are not counted. */
  readonly ignored: number;
}

export interface SplitOptions {
  /** Part of each class that is kept for validation where the data do not say it themselves, 0 to below 1. */
  readonly valSplit?: number;
  readonly seed: number | string;
}

/** The part of each class kept for validation: Keras' guides and fastai's default use 0.2. */
export const DEFAULT_VAL_SPLIT = 0.2;

/** What a data folder looks like; part of many hints. */
export const LAYOUT_HINT =
  'expected DIR/train/<class>/<picture> with DIR/val/<class>/<picture>, or DIR/<class>/<picture> to be split by --val-split';

/** Order by Unicode code point of the NFC form: the same on every system and in every locale. */
export function byCodePoint(a: string, b: string): number {
  const left = a.normalize('NFC');
  const right = b.normalize('NFC');
  const length = Math.min(left.length, right.length);
  for (let i = 0; i < length; i++) {
    const x = left.charCodeAt(i);
    const y = right.charCodeAt(i);
    if (x !== y) return surrogatesLast(x) - surrogatesLast(y);
  }
  return left.length - right.length;
}

/** UTF-16 puts the pairs of code points above U+FFFF before U+E000 to U+FFFF; this puts them after. */
function surrogatesLast(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}

/**
 * Divides each class by itself: `round(valSplit * n)` of its pictures, chosen by seed and class name, but always at
 * least one for training and, of two or more, at least one for validation (none when `valSplit` is 0).
 *
 * @param classes name -> its pictures; their order decides the choice, so it should be sorted
 * @throws UsageError `BAD_VAL_SPLIT`
 */
export function stratifiedSplit<T>(
  classes: ReadonlyMap<string, readonly T[]>,
  { valSplit = DEFAULT_VAL_SPLIT, seed }: SplitOptions,
): { readonly train: ReadonlyMap<string, readonly T[]>; readonly val: ReadonlyMap<string, readonly T[]> } {
  if (!(valSplit >= 0 && valSplit < 1)) {
    throw new UsageError({
      code: 'BAD_VAL_SPLIT',
      message: `the validation split is a fraction of at least 0 and below 1, received ${valSplit}`,
      hint: `for example --val-split ${DEFAULT_VAL_SPLIT}`,
    });
  }
  const train = new Map<string, readonly T[]>();
  const val = new Map<string, readonly T[]>();
  for (const [name, items] of classes) {
    const wanted = Math.round(valSplit * items.length);
    const count = valSplit === 0 ? 0 : Math.min(Math.max(wanted, 1), items.length - 1);
    const chosen = new Set(rng(seed).split('validation split').split(name).shuffle(items).slice(0, Math.max(count, 0)));
    train.set(
      name,
      items.filter((item) => !chosen.has(item)),
    );
    val.set(
      name,
      items.filter((item) => chosen.has(item)),
    );
  }
  return { train, val };
}

/**
 * Checks class folders or manifest labels against each other and gives the sorted class names.
 *
 * @param train class -> its training pictures
 * @param val class -> its validation pictures
 * @param source the folder or manifest, and what it should look like, for the messages
 * @throws DataError `DATA_EMPTY`, `DATA_UNKNOWN_CLASS`, `DATA_EMPTY_CLASS`, `DATA_SINGLE_CLASS`
 */
export function checkClasses(
  train: ReadonlyMap<string, readonly unknown[]>,
  val: ReadonlyMap<string, readonly unknown[]>,
  { where, hint }: { readonly where: string; readonly hint: string },
): readonly string[] {
  const classes = [...train.keys()].sort(byCodePoint);
  if (![...train.values()].some((pictures) => pictures.length > 0)) {
    throw new DataError({ code: 'DATA_EMPTY', message: `${where} holds no pictures to train on`, hint });
  }
  const unknown = [...val.keys()].filter((name) => !train.has(name)).sort(byCodePoint);
  if (unknown.length > 0) {
    const known = classes.map((name) => JSON.stringify(name)).join(', ');
    throw new DataError({
      code: 'DATA_UNKNOWN_CLASS',
      message: `${where} has validation pictures of classes that training does not have (${known}):\n${listFaults(unknown)}`,
      hint: 'rename the class, remove it, or add training pictures of it',
    });
  }
  const empty = classes.filter((name) => train.get(name)!.length === 0);
  if (empty.length > 0) {
    throw new DataError({
      code: 'DATA_EMPTY_CLASS',
      message: `${where} has classes without a single training picture:\n${listFaults(empty)}`,
      hint: 'add training pictures of these classes or remove them',
    });
  }
  if (classes.length === 1) {
    throw new DataError({
      code: 'DATA_SINGLE_CLASS',
      message: `${where} has one class only, ${JSON.stringify(classes[0])}; a classifier needs two or more`,
      hint,
    });
  }
  return classes;
}

/**
 * Refuses a picture that is both trained on and validated with, or that has two labels.
 * @param entries with the real path of each picture as its identity
 * @throws DataError `DATA_DUPLICATE` listing all of them
 */
export function checkDuplicates(
  entries: readonly { readonly identity: string; readonly path: string; readonly role: string }[],
  where: string,
): void {
  const seen = new Map<string, (typeof entries)[number]>();
  const faults: string[] = [];
  for (const entry of entries) {
    const first = seen.get(entry.identity);
    if (!first) seen.set(entry.identity, entry);
    else if (first.role !== entry.role) faults.push(`${entry.path} (${entry.role}) is ${first.path} (${first.role})`);
  }
  if (faults.length === 0) return;
  throw new DataError({
    code: 'DATA_DUPLICATE',
    message: `${where} has the same picture in two places:\n${listFaults(faults)}`,
    hint: 'keep each picture in one class and either for training or for validation, or the figures mean nothing',
  });
}
