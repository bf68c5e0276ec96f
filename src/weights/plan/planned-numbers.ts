/** The numbers of a planned file, one parameter at a time, and checked: what trains on from them must be numbers. */
import type { ReadParameter } from '../../engine/network.js';
import { WeightsError } from '../../errors.js';
import type { TensorSource } from '../source.js';
import { neutral } from './adaptations.js';
import { type Memory, twoArrays } from './permute.js';
import { type PlanRow, piecesOf, valuesOf } from './plan.js';

/** Reads a parameter piece by piece, in C order. A piece may be overwritten by the one after the next, of any parameter. */
export type ReadPieces = (path: string) => AsyncIterable<Float32Array>;

/** @returns ways to read the parameters of these rows @throws NOT_FINITE, NEGATIVE_VARIANCE, or what the reader throws */
export function numbersOf(
  tensors: TensorSource,
  rows: readonly PlanRow[],
): { readonly read: ReadParameter; readonly pieces: ReadPieces } {
  const byPath = new Map(rows.map((row) => [row.parameter!.path, row]));
  const rowOf = (path: string): PlanRow => {
    const row = byPath.get(path);
    if (row === undefined) throw new Error(`${tensors.path} was not planned for ${path}`);
    return row;
  };
  const tensorOf = sharing(tensors, rows);
  const memory = twoArrays();
  const forTensors = reusing(twoArrays());
  return {
    read: async (path) => {
      const row = rowOf(path);
      if (row.verdict === 'ignored') return neutral(row.parameter!);
      const values = valuesOf(row, await tensorOf(row));
      checkNumbers(tensors.path, row, values);
      return values;
    },
    async *pieces(path) {
      const row = rowOf(path);
      if (row.verdict === 'ignored') {
        yield neutral(row.parameter!);
        return;
      }
      let done = 0;
      for (const piece of piecesOf(row, await tensorOf(row, forTensors), memory)) {
        checkNumbers(tensors.path, row, piece, done);
        yield piece;
        done += piece.length;
      }
    },
  };
}

/** Larger tensors have arrays of their own, so that there are never two of the largest. */
const MOST_REUSED_BYTES = 64 * 1024 * 1024;

/** Memory that is taken again is neither cleared nor collected, which is a third of the work of reading it. */
const reusing =
  (arrays: Memory): Memory =>
  (length) =>
    length * Float32Array.BYTES_PER_ELEMENT > MOST_REUSED_BYTES ? new Float32Array(length) : arrays(length);

/** Reads the tensor of a row. One that several rows are parts of, such as fused queries, keys and values, is read once. */
function sharing(
  tensors: TensorSource,
  rows: readonly PlanRow[],
): (row: PlanRow, memory?: Memory) => Promise<Float32Array> {
  const uses = new Map<string, number>();
  for (const { tensor, layout } of rows) {
    if (tensor !== undefined && layout?.part !== undefined) uses.set(tensor.name, (uses.get(tensor.name) ?? 0) + 1);
  }
  const held = new Map<string, { readonly values: Promise<Float32Array>; left: number }>();
  return async ({ tensor, layout }, memory) => {
    const { name } = tensor!;
    if (layout?.part === undefined) return await tensors.read(name, memory);
    const entry = held.get(name) ?? { values: tensors.read(name), left: uses.get(name)! };
    entry.left--;
    if (entry.left > 0) held.set(name, entry);
    else held.delete(name);
    return await entry.values;
  };
}

/** @param before numbers of the parameter that were checked before these */
function checkNumbers(file: string, { parameter, tensor }: PlanRow, values: Float32Array, before = 0): void {
  const { role, path } = parameter!;
  const bad = firstBad(values, role === 'norm.variance');
  if (bad < 0) return;
  throw new WeightsError({
    code: Number.isFinite(values[bad]) ? 'NEGATIVE_VARIANCE' : 'NOT_FINITE',
    message: `${file}: ${tensor!.name} (${path}) holds ${values[bad]} at position ${before + bad} of its numbers`,
    hint: 'the training that wrote it went wrong, or the file is damaged: fetch it again and compare its sha256',
  });
}

/** A plain loop: a function called for each of 600 million numbers would take longer than all the rest of an import. */
function firstBad(values: Float32Array, isVariance: boolean): number {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value) || (isVariance && value < 0)) return i;
  }
  return -1;
}
