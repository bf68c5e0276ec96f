/**
 * Checkpoints of version 1: one table, whose first entry lists the tensors and whose others hold their numbers. slim's
 * ResNet v1 and VGG come so.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice.proto
 */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FormatError } from '../../errors.js';
import { type ByteFile, openByteFile } from '../byte-file.js';
import { DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { checkTensor, quote, TensorTable } from '../limits.js';
import type { FileDtype, SetAside, TensorInfo, TensorSource } from '../source.js';
import { assemble, type Slice, shapeOf, sliceOf } from './names.js';
import { allOf, bytesOf, damaged, fieldsOf, locateField, numberOf, textOf } from './protobuf.js';
import { reasonOfType, trainingTensors } from './set-aside.js';
import { type BlockHandle, blocksOf, headsOf, readBlock, readRun } from './table.js';
import { RUN_FIELDS, runFields, tensorValues } from './tensor-proto.js';
import { DTYPES } from './types.js';

/** Where the record of one slice lies. */
interface Location {
  readonly file: ByteFile;
  readonly block: BlockHandle;
  readonly offset: number;
  readonly bytes: number;
  readonly slice: Slice;
  /** In the record, the field of a TensorProto that begins in its head and holds bytes as they are in memory. */
  readonly run: { readonly field: number; readonly offset: number; readonly bytes: number } | undefined;
}

interface Variable extends TensorInfo {
  readonly pieces: Location[];
}

/** Enough for a record's name and slice, which come before its numbers. */
const PEEK_BYTES = 2048;

/** @throws CHECKPOINT_DAMAGED, CHECKPOINT_PARTS, FILE_TRUNCATED, LIMIT_EXCEEDED */
export async function openVersion1(path: string): Promise<TensorSource> {
  const files: ByteFile[] = [];
  try {
    for (const each of await filesOf(path)) files.push(await openByteFile(each));
    const table = new TensorTable<Variable>(path);
    const setAside: SetAside[] = [];
    const found: Found = { table, setAside, known: new Set(), locations: new Map() };
    for (const file of files) await scan(file, found);
    for (const variable of table.all()) {
      variable.pieces.push(...(found.locations.get(variable.name) ?? []));
      if (variable.pieces.length === 0) throw damaged(path, `the numbers of ${quote(variable.name)} are absent`);
    }
    return {
      format: 'tf-checkpoint',
      path,
      tensors: table.infos(),
      metadata: { version: '1' },
      setAside: [...setAside, ...trainingTensors(table.infos())],
      read: async (name) => {
        const { dtype, shape, pieces } = table.get(name);
        const slices = pieces.map(({ slice }) => slice);
        return await assemble(path, shape, slices, async (_, index, sizes) => {
          return await readPiece(name, pieces[index]!, dtype, sizes);
        });
      },
      close: async () => {
        for (const file of files) await file.close();
      },
    };
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

/** How each file of a sharded checkpoint is called, `name-00000-of-00002`. */
const SHARD = /^(.*-)\d{5}-of-(\d{5})$/;

/** Of these names, those of the files that are one checkpoint with the one called `name`; it alone where it has no shards. */
export function shardsAmong(names: readonly string[], name: string): string[] {
  const match = SHARD.exec(name);
  if (match === null) return [name];
  return names.filter((each) => each.startsWith(match[1]!) && each.endsWith(`-of-${match[2]}`));
}

/** All files of a checkpoint, in order. */
async function filesOf(path: string): Promise<string[]> {
  const match = SHARD.exec(basename(path));
  if (match === null) return [path];
  const found = shardsAmong(await readdir(dirname(path)), basename(path)).sort();
  const wanted = Number(match[2]);
  if (found.length !== wanted) {
    throw new FormatError({
      code: 'CHECKPOINT_PARTS',
      message: `${path}: this checkpoint lies in ${wanted} files, and ${found.length} of its ${wanted} are there`,
      hint: 'put all files of the checkpoint into one folder, under the names they were written with',
    });
  }
  return found.map((name) => join(dirname(path), name));
}

interface Found {
  readonly table: TensorTable<Variable>;
  readonly setAside: SetAside[];
  /** Names that were met, in any shard. */
  readonly known: Set<string>;
  readonly locations: Map<string, Location[]>;
}

async function scan(file: ByteFile, found: Found): Promise<void> {
  const { path } = file;
  for (const block of await blocksOf(file)) {
    for (const { key, head, offset, valueBytes } of await headsOf(file, block, PEEK_BYTES)) {
      if (key.length === 0) {
        const record = (await readBlock(file, block)).subarray(offset, offset + valueBytes);
        for (const meta of allOf(fieldsOf(path, bytesOf(fieldsOf(path, record), 1)), 1)) {
          addVariable(path, meta, found);
        }
        continue;
      }
      const saved = fieldsOf(path, bytesOf(fieldsOf(path, head, true), 2), true);
      const name = textOf(saved, 1);
      const slice = sliceOf(path, bytesOf(saved, 2));
      const location = { file, block, offset, bytes: valueBytes, slice, run: runIn(path, head) };
      found.locations.set(name, [...(found.locations.get(name) ?? []), location]);
    }
  }
}

/** A SavedSliceMeta. */
function addVariable(path: string, meta: Buffer, { table, setAside, known }: Found): void {
  const fields = fieldsOf(path, meta);
  const [name, type] = [textOf(fields, 1), numberOf(fields, 3)];
  if (known.has(name)) return; // of another shard
  known.add(name);
  const dtype = DTYPES[type];
  if (dtype === undefined) {
    setAside.push({ name, reason: reasonOfType(type) });
    return;
  }
  const shape = shapeOf(path, bytesOf(fields, 2));
  checkTensor(path, name, dtype, shape);
  table.add({ name, dtype, shape, pieces: [] });
}

/** The first of the fields that hold numbers as they are in memory. */
function runIn(path: string, head: Buffer): Location['run'] {
  for (const field of RUN_FIELDS) {
    const found = locateField(path, head, [2, 3, field]);
    if (found !== undefined) return { field, ...found };
  }
  return undefined;
}

/** The numbers of a slice, read on their own where they are one run up to the record's end, as TensorFlow writes floats. */
async function readPiece(
  name: string,
  { file, block, offset, bytes, run }: Location,
  dtype: FileDtype,
  shape: readonly number[],
): Promise<Float32Array> {
  const { path } = file;
  const wanted = elementsOf(shape) * DTYPE_BYTES[dtype];
  if (
    run !== undefined &&
    runFields(dtype).includes(run.field) &&
    run.bytes === wanted &&
    run.offset + wanted === bytes
  ) {
    return toFloat32(await readRun(file, block, offset + run.offset, wanted), dtype);
  }
  const record = (await readBlock(file, block)).subarray(offset, offset + bytes);
  const saved = fieldsOf(path, bytesOf(fieldsOf(path, record), 2));
  return tensorValues(path, name, fieldsOf(path, bytesOf(saved, 3)), dtype, shape);
}
