/**
 * A user's own two columns, for files with names that nobody published: parameter, tensor. The plan that
 * `tl import --dry-run` prints is such a table.
 *
 *   # a comment; empty lines count for nothing
 *   parameter               tensor
 *   stem.conv.kernel        net/c1/w
 *   stem.norm.gamma, "my net/bn 1/scale"
 *   stem.norm.beta          -                  the file has none
 *
 * Columns end at white space or a comma; a name with either stands in double quotes, as in JSON. More columns are not
 * read, and neither is a row with `-` for its parameter: that is a tensor to copy from.
 */
import { readFile, stat } from 'node:fs/promises';
import type { Parameter } from '../../engine/graph.js';
import { listFaults, WeightsError } from '../../errors.js';
import { fileError } from '../../files.js';
import type { TensorInfo } from '../source.js';

/** The longest plan there is, of a ViT-H with its optimiser, prints less than a megabyte. */
const MOST_BYTES = 16 * 2 ** 20;

export interface NameMapRow {
  /** Counted from 1. */
  readonly line: number;
  readonly parameter: string;
  /** Undefined where the row says that the file has none. */
  readonly tensor: string | undefined;
}

export interface NameMap {
  /** For messages. */
  readonly path: string;
  readonly rows: readonly NameMapRow[];
  /** What is wrong with lines of it, told when it is used, with what is wrong with their names. */
  readonly faults: readonly NameMapFault[];
}

export interface NameMapFault {
  readonly line: number;
  readonly text: string;
}

/** Stands for nothing, in either column. */
export const NOTHING = '-';

/** @throws FILE_NOT_FOUND, FILE_NOT_READ, NAME_MAP */
export async function readNameMap(path: string): Promise<NameMap> {
  const found = await stat(path).catch((error: unknown) => {
    throw fileError('FILE_NOT_FOUND', path, 'the table of names cannot be read', error);
  });
  if (found.size > MOST_BYTES) {
    throw new WeightsError({
      code: 'NAME_MAP',
      message: `${path} has ${found.size} bytes; a table of names has at most ${MOST_BYTES}`,
      hint: 'give a text of two columns, parameter and tensor, as `tl import --dry-run` prints it',
    });
  }
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', path, 'the table of names cannot be read', error);
  });
  return parseNameMap(path, text);
}

/** A name in quotes, or a run of characters that do not end one. */
const FIELD = /^(?:"(?:[^"\\]|\\.)*"|[^\s,"][^\s,]*)/;

export function parseNameMap(path: string, text: string): NameMap {
  const rows: NameMapRow[] = [];
  const faults: NameMapFault[] = [];
  let first = true;
  text.split(/\r\n|\n|\r/).forEach((written, i) => {
    const content = written.replace(/^\uFEFF/, '').trim();
    if (content === '' || content.startsWith('#')) return;
    const line = i + 1;
    const [writtenParameter, rest] = firstColumn(content);
    const [writtenTensor] = firstColumn(rest.replace(/^(\s*,\s*|\s+)/, ''));
    if (writtenParameter === NOTHING) return;
    const [parameter, tensor] = [unquoted(writtenParameter), unquoted(writtenTensor)];
    const isHeading = first && parameter === 'parameter' && tensor === 'tensor';
    first = false;
    if (isHeading) return;
    if (parameter === undefined || tensor === undefined) {
      faults.push({
        line,
        text: `expected a parameter and a tensor, received ${JSON.stringify(content.slice(0, 80))}`,
      });
      return;
    }
    rows.push({ line, parameter, tensor: writtenTensor === NOTHING ? undefined : tensor });
  });
  const lineOf = new Map<string, number>();
  for (const { line, parameter } of rows) {
    const before = lineOf.get(parameter);
    if (before === undefined) lineOf.set(parameter, line);
    else faults.push({ line, text: `${parameter} stands in line ${before} already` });
  }
  return { path, rows, faults };
}

/** The first column of a line as it is written, and what follows; undefined where there is none. */
function firstColumn(text: string): [column: string | undefined, rest: string] {
  const column = FIELD.exec(text)?.[0];
  return [column, text.slice(column?.length ?? 0)];
}

/** Undefined for what JSON does not know as a string. */
function unquoted(column: string | undefined): string | undefined {
  if (column?.startsWith('"') !== true) return column;
  try {
    return JSON.parse(column) as string;
  } catch {
    return undefined;
  }
}

/**
 * How a name is written in the table: in quotes where it would otherwise end early, mean something else, or be a command
 * to a terminal.
 */
export function formatField(name: string): string {
  const plain = /^[^\s,"#\p{Cc}][^\s,"\p{Cc}]*$/u.test(name) && name !== NOTHING;
  if (plain) return name;
  // JSON leaves control characters beyond ASCII as they are
  return JSON.stringify(name).replaceAll(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * The tensors of the parameters that a table names; `undefined` for those that it says are absent.
 * @param parameters every one that the network can have, with the part of a tensor that it is
 * @throws NAME_MAP with every fault and its line
 */
export function tensorsByMap(
  map: NameMap,
  tensors: readonly TensorInfo[],
  parameters: ReadonlyMap<string, { readonly parameter: Pick<Parameter, 'path'>; readonly part: number | undefined }>,
): Map<string, TensorInfo | undefined> {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const faults = [...map.faults];
  const found = new Map<string, TensorInfo | undefined>();
  const usedIn = new Map<string, number>();
  for (const { line, parameter, tensor } of map.rows) {
    const known = parameters.get(parameter);
    if (known === undefined) {
      faults.push({ line, text: `the network has no parameter ${parameter}` });
    }
    if (tensor === undefined) {
      found.set(parameter, undefined);
      continue;
    }
    const there = byName.get(tensor);
    if (there === undefined) {
      faults.push({ line, text: `the file has no tensor ${tensor}` });
      continue;
    }
    const use = `${tensor}\n${known?.part ?? ''}`; // queries, keys and values may be one tensor
    const before = usedIn.get(use);
    if (before !== undefined) faults.push({ line, text: `${tensor} is taken by line ${before} already` });
    else usedIn.set(use, line);
    if (!found.has(parameter)) found.set(parameter, there);
  }
  if (faults.length > 0) {
    throw new WeightsError({
      code: 'NAME_MAP',
      message: `${map.path}: ${faults.length} faults in the table of names\n${listFaults(
        faults.sort((a, b) => a.line - b.line).map(({ line, text }) => `line ${line}: ${text}`),
      )}`,
      hint: 'two columns, parameter and tensor; `tl import FILE --backbone B --source S --dry-run` prints a table to start from',
    });
  }
  return found;
}
