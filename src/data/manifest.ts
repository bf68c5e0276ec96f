/** A table of labelled pictures, `path,label[,split]`, as a data set. */

import { readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, extname, isAbsolute, join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { DataError, listFaults, messageOf } from '../errors.js';
import { imageExtensions } from './extensions.js';
import {
  byCodePoint,
  checkClasses,
  checkDuplicates,
  type Sample,
  type ScannedDataset,
  type SplitOptions,
  stratifiedSplit,
} from './sample.js';

const FORMAT_HINT =
  'expected a CSV file with the header path,label or path,label,split; paths are relative to its folder, split is train or val';

/** One line that has no fault. */
interface Row {
  readonly line: number;
  readonly path: string;
  readonly label: string;
  readonly split: Sample['split'] | undefined;
}

/**
 * Reads `path,label[,split]` with a header line. Other columns are left alone; without `split`, each class is split
 * by `valSplit` and seed as folders are. Labels are names, sorted by code point (`10` comes before `2`).
 *
 * @param csv path of the file; pictures are relative to its folder
 * @throws DataError `DATA_NOT_FOUND`, `DATA_BAD_MANIFEST` with every faulty line, `DATA_EMPTY`, `DATA_SINGLE_CLASS`,
 *   `DATA_UNKNOWN_CLASS`, `DATA_EMPTY_CLASS`, `DATA_DUPLICATE`
 * @throws UsageError `BAD_VAL_SPLIT`
 */
export function readManifest(csv: string, options: SplitOptions): ScannedDataset {
  const rows = readRows(csv);
  const root = dirname(csv);
  const source = { where: csv, hint: FORMAT_HINT };
  const asFound = (row: Row) => ({ ...row, path: isAbsolute(row.path) ? row.path : join(root, row.path) });
  const found = rows.map(asFound).sort((a, b) => byCodePoint(a.path, b.path));
  let train = byLabel(found.filter((row) => row.split !== 'val'));
  let val = byLabel(found.filter((row) => row.split === 'val'));
  if (found.every((row) => row.split === undefined)) {
    checkClasses(train, val, source);
    ({ train, val } = stratifiedSplit(train, options));
  }
  const classes = checkClasses(train, val, source);
  const samples = (of: ReadonlyMap<string, readonly Row[]>, split: Sample['split']): Sample[] =>
    classes.flatMap((name, label) => (of.get(name) ?? []).map(({ path }) => ({ path, label, split })));
  const roles = (of: ReadonlyMap<string, readonly Row[]>, split: string) =>
    [...of].flatMap(([name, pictures]) =>
      pictures.map(({ path, line }) => ({
        identity: realpathSync(path),
        path: `line ${line}: ${path}`,
        role: `${split}, class ${JSON.stringify(name)}`,
      })),
    );
  checkDuplicates([...roles(train, 'train'), ...roles(val, 'val')], csv);
  return { classes, train: samples(train, 'train'), val: samples(val, 'val'), root, ignored: 0 };
}

function byLabel(rows: readonly Row[]): ReadonlyMap<string, readonly Row[]> {
  const out = new Map<string, Row[]>();
  for (const row of rows) {
    const of = out.get(row.label);
    if (of) of.push(row);
    else out.set(row.label, [row]);
  }
  return out;
}

interface Line {
  readonly record: readonly string[];
  readonly info: { readonly lines: number };
}

function readRows(csv: string): Row[] {
  const [header, ...lines] = parseLines(csv, readText(csv));
  const columns = (header?.record ?? []).map((name) => name.toLowerCase());
  const pathColumn = columns.indexOf('path');
  const labelColumn = columns.indexOf('label');
  const splitColumn = columns.indexOf('split');
  if (pathColumn < 0 || labelColumn < 0) {
    throw badManifest(csv, [`line 1: expected the columns path and label, received ${columns.join(',') || 'nothing'}`]);
  }
  const faults: string[] = [];
  const rows: Row[] = [];
  const lineOf = new Map<string, number>();
  for (const { record, info } of lines) {
    const path = record[pathColumn] ?? '';
    const label = (record[labelColumn] ?? '').normalize('NFC');
    const split = splitColumn < 0 ? undefined : (record[splitColumn] ?? '').toLowerCase();
    const fault =
      record.length !== columns.length
        ? `expected ${columns.length} fields, received ${record.length}`
        : (faultOfPath(dirname(csv), path, lineOf.get(path)) ?? faultOfLabel(label) ?? faultOfSplit(split));
    if (!lineOf.has(path)) lineOf.set(path, info.lines);
    if (fault) faults.push(`line ${info.lines}: ${fault}`);
    else rows.push({ line: info.lines, path, label, split: split as Row['split'] });
  }
  if (faults.length > 0) throw badManifest(csv, faults);
  return rows;
}

function readText(csv: string): string {
  try {
    return readFileSync(csv, 'utf8');
  } catch (cause) {
    throw new DataError({
      code: 'DATA_NOT_FOUND',
      message: `cannot read the manifest ${csv}: ${messageOf(cause)}`,
      hint: FORMAT_HINT,
      cause,
    });
  }
}

function parseLines(csv: string, text: string): Line[] {
  try {
    return parse(text, {
      bom: true,
      info: true,
      trim: true,
      skip_empty_lines: true,
      relax_column_count: true,
    }) as unknown as Line[];
  } catch (cause) {
    throw badManifest(csv, [messageOf(cause)], cause);
  }
}

function faultOfPath(root: string, path: string, earlier: number | undefined): string | undefined {
  if (path === '') return 'no path';
  if (earlier !== undefined) return `${path} stands in line ${earlier} already`;
  const extension = extname(path).toLowerCase();
  if (!imageExtensions.includes(extension)) {
    return `${path} is no picture by its ending (${imageExtensions.join(' ')})`;
  }
  const file = statSync(isAbsolute(path) ? path : join(root, path), { throwIfNoEntry: false });
  return file?.isFile() ? undefined : `there is no file ${path}`;
}

function faultOfLabel(label: string): string | undefined {
  return label === '' ? 'no label' : undefined;
}

function faultOfSplit(split: string | undefined): string | undefined {
  if (split === undefined || split === 'train' || split === 'val') return undefined;
  return `split must be train or val, received ${JSON.stringify(split)}`;
}

function badManifest(csv: string, faults: readonly string[], cause?: unknown): DataError {
  return new DataError({
    code: 'DATA_BAD_MANIFEST',
    message: `${csv} has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${listFaults(faults)}`,
    hint: FORMAT_HINT,
    cause,
  });
}
