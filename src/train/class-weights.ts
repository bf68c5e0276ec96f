/** How much each class counts in the loss: by how rare it is, or as a file says. */
import { readFile } from 'node:fs/promises';
import { parse } from 'csv-parse/sync';
import { DataError, listFaults, messageOf, UsageError } from '../errors.js';
import { BALANCED } from './sampling.js';

/** What weights are made for. */
export interface WeighedClasses {
  /** In the order of their indices. */
  readonly classes: readonly string[];
  /** Labels of the training pictures. */
  readonly labels: readonly number[];
}

/**
 * A weight for every class, in the order of their indices.
 *
 * `balanced`: `n / (k * n_c)` of n pictures, k classes and n_c pictures of the class, as scikit-learn's
 * `compute_class_weight`: the mean over the pictures is 1. Else a file: JSON, an object of class name and weight, or CSV,
 * lines of both, under a heading `class,weight` or without one.
 * @throws CLASS_WEIGHTS with every class that is missing, unknown, or named twice, and every weight that is not above 0
 */
export async function classWeightsOf(given: string, { classes, labels }: WeighedClasses): Promise<readonly number[]> {
  if (given !== BALANCED) return inOrder(await readPairs(given), classes, given);
  const counts = classes.map(() => 0);
  for (const label of labels) counts[label]!++;
  const empty = classes.filter((_, i) => counts[i] === 0);
  if (empty.length > 0) {
    throw new DataError({
      code: 'CLASS_WEIGHTS',
      message: `these classes have no training pictures, so they cannot be balanced:\n${listFaults(empty)}`,
      hint: 'add pictures of them, or give their weights in a file: --class-weights FILE',
    });
  }
  return counts.map((count) => labels.length / (classes.length * count));
}

type Pair = readonly [name: string, weight: unknown];

async function readPairs(file: string): Promise<readonly Pair[]> {
  try {
    const text = (await readFile(file, 'utf8')).replace(/^\uFEFF/, '');
    if (/^\s*\{/.test(text)) return Object.entries(JSON.parse(text) as Record<string, unknown>);
    const rows = parse(text, { skip_empty_lines: true, trim: true }) as string[][];
    const long = rows.findIndex((row) => row.length !== 2);
    if (long >= 0) throw new Error(`line ${long + 1} has ${rows[long]!.length} columns, expected 2`);
    const [first] = rows;
    const headed = first?.[0]?.toLowerCase() === 'class' && first[1]?.toLowerCase() === 'weight';
    return rows.slice(headed ? 1 : 0).map(([name, weight]) => [name!, weight === '' ? Number.NaN : Number(weight)]);
  } catch (cause) {
    throw new UsageError({
      code: 'CLASS_WEIGHTS',
      message: `--class-weights ${file}: expected "${BALANCED}", or a JSON or CSV file of class names and weights: ${messageOf(cause)}`,
      hint: 'write {"daisy": 1, "rose": 2.5}, or a line of name and weight for each class',
      cause,
    });
  }
}

function inOrder(pairs: readonly Pair[], classes: readonly string[], file: string): readonly number[] {
  const faults: string[] = [];
  const found = new Map<string, number>();
  for (const [written, weight] of pairs) {
    const name = written.normalize('NFC'); // as names of folders are
    const good = typeof weight === 'number' && weight > 0 && Number.isFinite(weight);
    if (!classes.includes(name)) faults.push(`${name}: there is no such class`);
    else if (found.has(name)) faults.push(`${name}: is there twice`);
    else if (!good) faults.push(`${name}: expected a number above 0, received ${JSON.stringify(weight)}`);
    found.set(name, good ? weight : Number.NaN);
  }
  for (const name of classes) if (!found.has(name)) faults.push(`${name}: is missing`);
  if (faults.length === 0) return classes.map((name) => found.get(name)!);
  throw new DataError({
    code: 'CLASS_WEIGHTS',
    message: `${file} does not fit the ${classes.length} classes of the data:\n${listFaults(faults)}`,
    hint: `its classes are: ${classes.join(', ')}`,
  });
}
