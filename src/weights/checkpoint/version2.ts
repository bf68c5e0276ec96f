/**
 * Checkpoints of version 2: `<prefix>.index`, a table of entries, and `<prefix>.data-00000-of-00001`, the numbers.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
 */
import { type ByteFile, openByteFile } from '../byte-file.js';
import { maskedCrc32c } from '../crc32.js';
import { DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { checkTensor, limitExceeded, quote, TensorTable } from '../limits.js';
import type { TensorInfo, TensorSource } from '../source.js';
import { assemble, boxOf, type Slice, shapeOf, sliceKey, sliceOf } from './names.js';
import { OBJECT_GRAPH, variableNames } from './object-graph.js';
import { allOf, bytesOf, damaged, fieldsOf, numberOf } from './protobuf.js';
import { blocksOf, entriesOf, readBlock } from './table.js';
import { DTYPES, STRING } from './types.js';

/** A BundleEntryProto. */
interface BundleEntry {
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly shard: number;
  readonly offset: number;
  readonly size: number;
  readonly checksum: number;
  readonly slices: readonly Slice[];
}

interface Variable extends TensorInfo {
  readonly key: string;
  readonly entry: BundleEntry;
}

/** The index of a ViT-H with its optimiser has 200 kB. */
const MOST_INDEX_BYTES = 2 ** 28;
const MOST_SHARDS = 10_000;

/**
 * Opens a checkpoint by what its files' names begin with. Variables have their own names, those that an object-based
 * checkpoint keeps in its graph of objects.
 * @throws CHECKPOINT_DAMAGED, FILE_TRUNCATED, FILE_NOT_READ, LIMIT_EXCEEDED
 */
export async function openVersion2(prefix: string): Promise<TensorSource> {
  const path = `${prefix}.index`;
  const { shards: count, entries } = await readIndex(path);
  const shards = new Map<number, ByteFile>();
  const shardOf = async (index: number): Promise<ByteFile> => {
    const known = shards.get(index);
    if (known !== undefined) return known;
    const digits = (n: number) => String(n).padStart(5, '0');
    const opened = await openByteFile(`${prefix}.data-${digits(index)}-of-${digits(count)}`);
    shards.set(index, opened);
    return opened;
  };
  const raw = async (name: string, entry: BundleEntry): Promise<Buffer> => {
    const file = await shardOf(entry.shard);
    return await file.read(entry.offset, entry.size, `tensor ${quote(name)}`);
  };
  const read = async (name: string, entry: BundleEntry): Promise<Buffer> => {
    const bytes = await raw(name, entry);
    if (maskedCrc32c(bytes) !== entry.checksum) throw damaged(prefix, `the checksum of ${quote(name)} does not agree`);
    return bytes;
  };
  const close = async (): Promise<void> => {
    for (const file of shards.values()) await file.close();
  };
  try {
    const graph = entries.get(OBJECT_GRAPH);
    const names =
      graph === undefined
        ? new Map<string, string>()
        : variableNames(path, await raw(OBJECT_GRAPH, graph), graph.checksum);
    const { table, ignored } = describe(path, entries, names);
    return {
      format: 'tf-checkpoint',
      path,
      tensors: table.infos(),
      metadata: {
        version: '2',
        ...(graph === undefined ? {} : { naming: 'objects' }),
        ...(ignored.length === 0 ? {} : { ignored: ignored.join(', ') }),
      },
      read: async (name) => {
        const { key, entry, dtype, shape } = table.get(name);
        if (entry.slices.length === 0) return toFloat32(await read(name, entry), dtype);
        const pieces = [];
        for (const slice of entry.slices) {
          const part = entries.get(sliceKey(key, slice).toString('latin1'));
          if (part === undefined) throw damaged(path, `a slice of ${quote(name)} is absent`);
          checkSize(path, name, part, boxOf(shape, slice));
          pieces.push({ slice, values: toFloat32(await read(name, part), dtype) });
        }
        return assemble(path, shape, pieces);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Keys are kept as latin1, since those of slices are no text. */
async function readIndex(path: string): Promise<{ shards: number; entries: Map<string, BundleEntry> }> {
  const file = await openByteFile(path);
  try {
    if (file.size > MOST_INDEX_BYTES) throw limitExceeded(path, `an index of ${file.size} bytes`, MOST_INDEX_BYTES);
    const entries = new Map<string, BundleEntry>();
    let shards: number | undefined;
    for (const handle of await blocksOf(file)) {
      for (const { key, value } of entriesOf(path, await readBlock(file, handle))) {
        if (key.length === 0) shards = shardsOf(path, value);
        else entries.set(key.toString('latin1'), entryOf(path, value));
      }
    }
    if (shards === undefined) throw damaged(path, 'no header: this is not the index of a checkpoint of version 2');
    return { shards, entries };
  } finally {
    await file.close();
  }
}

/** A BundleHeaderProto. */
function shardsOf(path: string, value: Buffer): number {
  const fields = fieldsOf(path, value);
  if (numberOf(fields, 2) !== 0) throw damaged(path, 'it was written on a big-endian machine');
  const shards = numberOf(fields, 1);
  if (shards < 1 || shards > MOST_SHARDS) throw damaged(path, `${shards} shards; expected 1 to ${MOST_SHARDS}`);
  return shards;
}

function entryOf(path: string, value: Buffer): BundleEntry {
  const fields = fieldsOf(path, value);
  const checksum = bytesOf(fields, 6);
  return {
    dtype: numberOf(fields, 1),
    shape: shapeOf(path, bytesOf(fields, 2)),
    shard: numberOf(fields, 3),
    offset: numberOf(fields, 4),
    size: numberOf(fields, 5),
    checksum: checksum.length === 4 ? checksum.readUInt32LE(0) : 0,
    slices: allOf(fields, 7).map((slice) => sliceOf(path, slice)),
  };
}

function describe(path: string, entries: ReadonlyMap<string, BundleEntry>, names: ReadonlyMap<string, string>) {
  const table = new TensorTable<Variable>(path);
  const ignored: string[] = [];
  for (const [latin, entry] of entries) {
    if (latin.startsWith('\0')) continue; // a slice of another tensor
    const key = Buffer.from(latin, 'latin1').toString('utf8');
    const name = names.get(key) ?? key;
    const dtype = DTYPES[entry.dtype];
    if (dtype === undefined) {
      if (key !== OBJECT_GRAPH) ignored.push(`${name} (${entry.dtype === STRING ? 'text' : `type ${entry.dtype}`})`);
      continue;
    }
    checkTensor(path, name, dtype, entry.shape);
    if (entry.slices.length === 0) checkSize(path, name, entry, entry.shape);
    table.add({ name, dtype, shape: entry.shape, key, entry });
  }
  return { table, ignored };
}

function checkSize(path: string, name: string, entry: BundleEntry, shape: readonly number[]): void {
  const wanted = elementsOf(shape) * DTYPE_BYTES[DTYPES[entry.dtype] ?? 'float32'];
  if (entry.size !== wanted) {
    throw damaged(
      path,
      `tensor ${quote(name)} [${shape.join(', ')}] takes ${wanted} bytes, ${entry.size} are declared`,
    );
  }
}
