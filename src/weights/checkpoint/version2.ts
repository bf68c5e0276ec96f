/**
 * Checkpoints of version 2: `<prefix>.index`, a table of entries, and `<prefix>.data-00000-of-00001`, the numbers.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
 */
import { existsSync } from 'node:fs';
import { FormatError, listFaults } from '../../errors.js';
import { type ByteFile, openByteFile, withByteFile } from '../byte-file.js';
import { maskedCrc32c } from '../crc32.js';
import { DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { checkTensor, limitExceeded, quote, TensorTable } from '../limits.js';
import type { SetAside, TensorInfo, TensorSource } from '../source.js';
import { assemble, type Slice, shapeOf, sliceKey, sliceOf } from './names.js';
import { OBJECT_GRAPH, type ObjectNames, objectNames, pathOfKey } from './object-graph.js';
import { allOf, bytesOf, damaged, fieldsOf, numberOf } from './protobuf.js';
import { reasonOfType, trainingTensors } from './set-aside.js';
import { blocksOf, entriesOf, readBlock } from './table.js';
import { DTYPES } from './types.js';

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
/** An entry a tensor (MAX_TENSORS), and one for each slice of those that are partitioned. */
const MOST_INDEX_ENTRIES = 200_000;
const MOST_SHARDS = 10_000;

/** kTensorBundleVersion of tensor_bundle.h: what its readers understand. */
export const BUNDLE_VERSION = 1;

/**
 * Opens a checkpoint by what its files' names begin with. Variables have their own names, those that an object-based
 * checkpoint keeps in its graph of objects.
 * @throws CHECKPOINT_DAMAGED, CHECKPOINT_PARTS, FILE_TRUNCATED, FILE_NOT_READ, LIMIT_EXCEEDED
 */
export async function openVersion2(prefix: string): Promise<TensorSource> {
  const path = `${prefix}.index`;
  const { shards: count, entries } = await readIndex(path);
  const shards = await openShards(prefix, count, entries);
  const raw = async (name: string, entry: BundleEntry): Promise<Buffer> =>
    await shards.get(entry.shard)!.read(entry.offset, entry.size, `tensor ${quote(name)}`);
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
    const identityOf = (key: string): string => {
      const { dtype, shape, checksum } = entries.get(Buffer.from(key).toString('latin1')) ?? {};
      return `${dtype} [${shape}] ${checksum}`;
    };
    const objects =
      graph === undefined ? undefined : objectNames(path, await raw(OBJECT_GRAPH, graph), graph.checksum, identityOf);
    const { table, setAside } = describe(path, entries, objects);
    const names = objects?.names;
    return {
      format: 'tf-checkpoint',
      path,
      parts: [...shards.values()].map((shard) => shard.path),
      tensors: table.infos(),
      metadata: { version: '2', ...(names === undefined ? {} : { naming: 'objects' }) },
      ...(objects === undefined
        ? {}
        : {
            objectPaths: new Map(table.all().map(({ name, key }) => [name, pathOfKey(key)])),
            givenNames: new Map(table.all().map(({ name, key }) => [name, objects.given.get(key) ?? name])),
          }),
      setAside,
      read: async (name) => {
        const { key, entry, dtype, shape } = table.get(name);
        if (entry.slices.length === 0) return toFloat32(await read(name, entry), dtype);
        return await assemble(path, shape, entry.slices, async (slice, _, sizes) => {
          const part = entries.get(sliceKey(key, slice).toString('latin1'));
          if (part === undefined) throw damaged(path, `a slice of ${quote(name)} is absent`);
          if (part.dtype !== entry.dtype) throw damaged(path, `a slice of ${quote(name)} has another number type`);
          checkSize(path, name, part, sizes);
          return toFloat32(await read(name, part), dtype);
        });
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * The files with numbers, each as long as the index says.
 * @throws CHECKPOINT_PARTS with every file that is absent, FILE_TRUNCATED
 */
async function openShards(
  prefix: string,
  count: number,
  entries: ReadonlyMap<string, BundleEntry>,
): Promise<Map<number, ByteFile>> {
  const reach = new Map<number, number>();
  for (const { shard, offset, size, slices } of entries.values()) {
    if (slices.length > 0) continue; // its numbers are those of its slices
    if (shard >= count) throw damaged(`${prefix}.index`, `numbers in file ${shard} of ${count}`);
    reach.set(shard, Math.max(reach.get(shard) ?? 0, offset + size));
  }
  const digits = (n: number) => String(n).padStart(5, '0');
  const pathOf = (shard: number) => `${prefix}.data-${digits(shard)}-of-${digits(count)}`;
  const absent = [...reach.keys()].map(pathOf).filter((path) => !existsSync(path));
  if (absent.length > 0) {
    throw new FormatError({
      code: 'CHECKPOINT_PARTS',
      message: `${prefix}.index: the numbers of this checkpoint lie in ${count} ${count === 1 ? 'file' : 'files'} beside it, of which these are absent\n${listFaults(absent)}`,
      hint: 'put all files of the checkpoint into one folder, under the names they were written with',
    });
  }
  const shards = new Map<number, ByteFile>();
  try {
    for (const [shard, bytes] of reach) {
      const file = await openByteFile(pathOf(shard));
      shards.set(shard, file);
      if (bytes > file.size) await file.read(0, bytes, 'the numbers of the checkpoint'); // says where and how much
    }
  } catch (error) {
    for (const file of shards.values()) await file.close();
    throw error;
  }
  return shards;
}

/** Keys are kept as latin1, since those of slices are no text. */
async function readIndex(path: string): Promise<{ shards: number; entries: Map<string, BundleEntry> }> {
  return await withByteFile(path, async (file) => {
    if (file.size > MOST_INDEX_BYTES) throw limitExceeded(path, `an index of ${file.size} bytes`, MOST_INDEX_BYTES);
    const entries = new Map<string, BundleEntry>();
    let shards: number | undefined;
    for (const handle of await blocksOf(file)) {
      for (const { key, value } of entriesOf(path, await readBlock(file, handle))) {
        if (key.length === 0) shards = shardsOf(path, value);
        else entries.set(key.toString('latin1'), entryOf(path, value));
      }
      if (entries.size > MOST_INDEX_ENTRIES)
        throw limitExceeded(path, 'the index has more entries', MOST_INDEX_ENTRIES);
    }
    if (shards === undefined) throw damaged(path, 'no header: this is not the index of a checkpoint of version 2');
    return { shards, entries };
  });
}

/** A BundleHeaderProto. */
function shardsOf(path: string, value: Buffer): number {
  const fields = fieldsOf(path, value);
  if (numberOf(fields, 2) !== 0) {
    throw new FormatError({
      code: 'CHECKPOINT_BIG_ENDIAN',
      message: `${path}: it was written on a big-endian machine; expected little-endian numbers`,
      hint: 'restore it with TensorFlow on such a machine, and save it again on another',
    });
  }
  const least = numberOf(fieldsOf(path, bytesOf(fields, 3)), 2); // VersionDef.min_consumer
  if (least > BUNDLE_VERSION)
    throw damaged(path, `it needs a reader of version ${least}; this one has ${BUNDLE_VERSION}`);
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

function describe(path: string, entries: ReadonlyMap<string, BundleEntry>, objects: ObjectNames | undefined) {
  const names = objects?.names;
  const table = new TensorTable<Variable>(path);
  const setAside: SetAside[] = [];
  for (const [latin, entry] of entries) {
    if (latin.startsWith('\0')) continue; // a slice of another tensor
    const key = Buffer.from(latin, 'latin1').toString('utf8');
    const name = names?.get(key) ?? (names === undefined ? key : pathOfKey(key));
    const copyOf = objects?.copies.get(key);
    if (copyOf !== undefined) {
      setAside.push({ name, reason: `${copyOf} once more` });
      continue;
    }
    const dtype = DTYPES[entry.dtype];
    if (dtype === undefined) {
      if (key !== OBJECT_GRAPH) setAside.push({ name, reason: reasonOfType(entry.dtype) });
      continue;
    }
    checkTensor(path, name, dtype, entry.shape);
    if (entry.slices.length === 0) checkSize(path, name, entry, entry.shape);
    table.add({ name, dtype, shape: entry.shape, key, entry });
  }
  const keyed = table.all().map((each) => ({ ...each, key: names === undefined ? undefined : pathOfKey(each.key) }));
  return { table, setAside: [...setAside, ...trainingTensors(keyed)] };
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
