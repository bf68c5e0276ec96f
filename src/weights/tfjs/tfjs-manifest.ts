/**
 * Weights of TensorFlow.js: a manifest of groups, each a list of tensors whose numbers follow one another through a list
 * of files. It stands in `model.json`, and in `weights_manifest.json` of converters before version 1.
 * @see https://github.com/tensorflow/tfjs/blob/tfjs-v4.22.0/tfjs-core/src/io/types.ts, WeightsManifestConfig
 * @see https://github.com/tensorflow/tfjs/blob/tfjs-v4.22.0/tfjs-core/src/io/io_utils.ts, decodeWeights
 */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { FormatError, listFaults } from '../../errors.js';
import { fileError } from '../../files.js';
import { withByteFile } from '../byte-file.js';
import { toFloat32 } from '../float-formats.js';
import { checkTensor, checkTensorCount, limitExceeded, MAX_TENSOR_BYTES, quote, TensorTable } from '../limits.js';
import type { FileDtype, SetAside, TensorInfo } from '../source.js';

/** Shards have 4 MiB (WEIGHTS_SHARD_SIZE of the converter); a ViT-H/14 of 2.5 GB has 632. */
const MOST_SHARDS = 20_000;

/** Before each text of a tensor of texts: NUM_BYTES_STRING_LENGTH of io_utils.ts. */
const TEXT_LENGTH_BYTES = 4;

/** Read at once of texts: a hostile tensor may have millions of empty ones. */
const TEXT_WINDOW_BYTES = 2 ** 20;

const quantizationSchema = z.object({
  dtype: z.string(),
  scale: z.number().optional(),
  min: z.number().optional(),
});

const specSchema = z.object({
  name: z.string(),
  shape: z.array(z.number()),
  dtype: z.string(),
  /** `optimizer` for its state: WeightGroup of types.ts. */
  group: z.string().optional(),
  quantization: quantizationSchema.optional(),
});

/** The part of a `model.json`, or the whole of a `weights_manifest.json`, that lists the weights. */
export const manifestSchema = z.array(z.object({ paths: z.array(z.string()), weights: z.array(specSchema) }));

export type Manifest = z.infer<typeof manifestSchema>;
type Group = Manifest[number];
/** What a manifest says of one tensor. */
export type WeightSpec = z.infer<typeof specSchema>;

/** DTYPE_VALUE_SIZE_MAP of types.ts: the types that a manifest may name, and bytes a number. */
const BYTES: ReadonlyMap<string, number> = new Map([
  ['float32', 4],
  ['int32', 4],
  ['bool', 1],
  ['uint8', 1],
  ['uint16', 2],
  ['float16', 2],
  ['complex64', 8],
]);

/** How numbers are stored that are given out as float32 or int32. */
interface Quantization {
  readonly dtype: 'uint8' | 'uint16' | 'float16';
  readonly scale: number;
  readonly min: number;
}

/** A tensor, and where its bytes lie among those of its group. */
interface Located extends TensorInfo {
  readonly group: number;
  readonly offset: number;
  readonly bytes: number;
  readonly quantization: Quantization | undefined;
}

/** A file of weights. */
export interface ShardFile {
  /** In bytes, as its numbers take them. */
  readonly size: number;
  /** @throws FILE_TRUNCATED, FILE_NOT_READ */
  read(offset: number, length: number, what: string): Promise<Buffer>;
}

/** Finds the file of weights that a manifest names. */
export type FindShard = (path: string) => Promise<ShardFile>;

/** A file of a group, and the bytes of the group that it holds: from `begin` up to `end`. */
interface Shard {
  readonly file: ShardFile;
  readonly begin: number;
  readonly end: number;
}

/** The weights of one manifest, its files checked. */
export interface ManifestWeights {
  /** In the order of the manifest; quantised ones have the type that they are given out as. */
  readonly tensors: readonly TensorInfo[];
  readonly setAside: readonly SetAside[];
  /** The types that quantised tensors are stored in, each once. */
  readonly quantized: readonly string[];
  /** One tensor as float32, de-quantised as decodeWeights does. @throws TENSOR_ABSENT, FILE_TRUNCATED */
  read(name: string): Promise<Float32Array>;
  /** The bytes of every group one after the other, as tfjs-core takes them. */
  readStored(): Promise<Buffer>;
}

/**
 * Checks a manifest against the files it names, without reading them.
 * @param file the file that it stands in; shards lie beside it or in folders below
 * @throws TFJS_MANIFEST, SHARD_PATH, SHARD_LENGTH, DTYPE_UNSUPPORTED, FILE_NOT_READ, LIMIT_EXCEEDED
 */
export async function openManifest(
  file: string,
  manifest: Manifest,
  findShard: FindShard = (path) => shardBeside(file, path),
): Promise<ManifestWeights> {
  checkTensorCount(
    file,
    manifest.reduce((sum, { weights }) => sum + weights.length, 0),
  );
  const table = new TensorTable<Located>(file);
  const setAside: SetAside[] = [];
  const groups: Shard[][] = [];
  for (const [index, group] of manifest.entries()) {
    const shards = await shardsOf(file, group.paths, findShard);
    groups.push(shards);
    let offset = 0;
    for (const spec of group.weights) {
      const located = await locate(file, spec, index, offset, shards);
      offset += located.bytes;
      if ('reason' in located) setAside.push({ name: spec.name, reason: located.reason });
      else table.add(located);
      if (spec.group === 'optimizer') setAside.push({ name: spec.name, reason: 'state of the optimiser' });
    }
    checkLength(file, group, offset, shards);
  }
  const quantized = new Set(table.all().flatMap(({ quantization }) => quantization?.dtype ?? []));
  return {
    tensors: table.infos(),
    setAside,
    quantized: [...quantized],
    read: async (name) => {
      const { group, offset, bytes, dtype, quantization } = table.get(name);
      const stored = await readRange(groups[group]!, offset, bytes, `tensor ${quote(name)}`);
      return numbersOf(stored, dtype, quantization);
    },
    readStored: async () => {
      const total = groups.reduce((sum, shards) => sum + (shards.at(-1)?.end ?? 0), 0);
      if (total > MAX_TENSOR_BYTES) throw limitExceeded(file, `its weights have ${total} bytes`, MAX_TENSOR_BYTES);
      const parts: Buffer[] = [];
      for (const shards of groups) parts.push(await readRange(shards, 0, shards.at(-1)?.end ?? 0, 'the weights'));
      return Buffer.concat(parts);
    },
  };
}

/** The files of a group in their order, with their real sizes. */
async function shardsOf(file: string, paths: readonly string[], findShard: FindShard): Promise<Shard[]> {
  if (paths.length > MOST_SHARDS) throw limitExceeded(file, `a group of ${paths.length} files`, MOST_SHARDS);
  const faults = paths.flatMap((path) => {
    const fault = pathFault(path);
    return fault === undefined ? [] : [`${quote(path)} ${fault}`];
  });
  if (faults.length > 0) {
    throw new FormatError({
      code: 'SHARD_PATH',
      message: `${file}: its weights are said to lie where they are not read from; expected files beside it, or in folders below\n${listFaults(faults)}`,
      hint: `put the files of weights beside ${file}, and their names into its "paths"`,
    });
  }
  const shards: Shard[] = [];
  for (const path of paths) {
    const shard = await findShard(path);
    const begin = shards.at(-1)?.end ?? 0;
    shards.push({ file: shard, begin, end: begin + shard.size });
  }
  return shards;
}

/** Opened for each read: a large model has more files than a process may hold open. */
async function shardBeside(file: string, name: string): Promise<ShardFile> {
  const path = join(dirname(file), name);
  const what = `a file of weights that ${file} names`;
  const info = await stat(path).catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', path, `${what} cannot be read`, error);
  });
  if (!info.isFile()) throw fileError('FILE_NOT_READ', path, `${what} is no ordinary file`, undefined);
  return {
    size: info.size,
    read: (offset, length, tensor) => withByteFile(path, (file) => file.read(offset, length, tensor)),
  };
}

/** Why a path is not followed: a model that was fetched must not name other files of its reader's machine. */
function pathFault(path: string): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(path)) return 'is an address (download it, too)';
  if (path.startsWith('/') || path.includes('\\') || path.includes('\0')) return 'is no relative path';
  if (path.split('/').includes('..')) return 'leaves the folder';
  return path === '' ? 'is empty' : undefined;
}

/** Where a tensor's bytes lie, or why it is left out. */
async function locate(
  file: string,
  spec: WeightSpec,
  group: number,
  offset: number,
  shards: readonly Shard[],
): Promise<Located | { bytes: number; reason: string }> {
  const { name, dtype, shape } = spec;
  if (dtype === 'string') {
    const texts = checkTensor(file, name, 'uint8', shape);
    return { bytes: await textBytes(file, name, texts, offset, shards), reason: 'text' };
  }
  const quantization = quantizationOf(file, spec);
  const width = BYTES.get(quantization?.dtype ?? dtype);
  if (width === undefined) throw unsupported(file, `${quote(name)} has number type ${quote(dtype)}`);
  const type: FileDtype = dtype === 'complex64' ? 'float64' : (dtype as FileDtype); // both have 8 bytes a number
  const bytes = checkTensor(file, name, type, shape) * width;
  if (dtype === 'complex64') return { bytes, reason: 'complex numbers' };
  return { name, dtype: type, shape, group, offset, bytes, quantization };
}

function quantizationOf(file: string, { name, dtype, quantization }: WeightSpec): Quantization | undefined {
  if (quantization === undefined) return undefined;
  const { dtype: stored, scale, min } = quantization;
  const what = `${quote(name)} is stored as ${quote(stored)} for ${quote(dtype)}`;
  if (stored === 'float16' && dtype === 'float32') return { dtype: stored, scale: 1, min: 0 };
  const isAffine = stored === 'uint8' || stored === 'uint16';
  if (!isAffine || (dtype !== 'float32' && dtype !== 'int32')) throw unsupported(file, what);
  if (scale === undefined || min === undefined) {
    throw invalidManifest(file, `${what} without both its "scale" and its "min", so its numbers cannot be told`);
  }
  return { dtype: stored, scale, min };
}

/** Bytes of a group, from wherever its files hold them. */
async function readRange(shards: readonly Shard[], offset: number, bytes: number, what: string): Promise<Buffer> {
  const meeting = shards.flatMap(({ file: shard, begin, end }) => {
    const [from, to] = [Math.max(offset, begin), Math.min(offset + bytes, end)];
    return from < to ? [{ shard, at: from - begin, to: from - offset, length: to - from }] : [];
  });
  const [only] = meeting;
  if (meeting.length === 1) return await only!.shard.read(only!.at, only!.length, what);
  const whole = Buffer.allocUnsafeSlow(bytes); // in memory once, and a shard beside it
  for (const { shard, at, to, length } of meeting) whole.set(await shard.read(at, length, what), to);
  return whole;
}

/** Texts say their own lengths, so only walking over them tells where they end. */
async function textBytes(
  file: string,
  name: string,
  texts: number,
  offset: number,
  shards: readonly Shard[],
): Promise<number> {
  const total = shards.at(-1)?.end ?? 0;
  let at = offset;
  let window: { readonly begin: number; readonly bytes: Buffer } = { begin: offset, bytes: Buffer.alloc(0) };
  for (let text = 0; text < texts; text++) {
    if (at + TEXT_LENGTH_BYTES > total) {
      throw invalidManifest(file, `${texts} texts of ${quote(name)} do not fit the ${total} bytes of its group`);
    }
    if (at + TEXT_LENGTH_BYTES > window.begin + window.bytes.length) {
      const length = Math.min(TEXT_WINDOW_BYTES, total - at);
      window = { begin: at, bytes: await readRange(shards, at, length, `the texts of ${quote(name)}`) };
    }
    at += TEXT_LENGTH_BYTES + window.bytes.readUInt32LE(at - window.begin);
  }
  return at - offset;
}

function checkLength(file: string, { paths }: Group, wanted: number, shards: readonly Shard[]): void {
  const found = shards.at(-1)?.end ?? 0;
  if (found === wanted) return;
  throw new FormatError({
    code: 'SHARD_LENGTH',
    message: `${file}: the weights of a group take ${wanted} bytes, and its ${paths.length} files (${paths.slice(0, 3).join(', ')}${paths.length > 3 ? ', ...' : ''}) have ${found}`,
    hint: 'a download was cut off, or the files are those of another model: fetch them again',
  });
}

/** `stored * scale + min` in double precision, rounded once; to whole numbers for int32. */
function numbersOf(bytes: Buffer, dtype: FileDtype, quantization: Quantization | undefined): Float32Array {
  const stored = toFloat32(bytes, quantization?.dtype ?? dtype);
  if (quantization === undefined || quantization.dtype === 'float16') return stored;
  const { scale, min } = quantization;
  for (let i = 0; i < stored.length; i++) {
    const value = stored[i]! * scale + min;
    stored[i] = dtype === 'int32' ? Math.round(value) : value;
  }
  return stored;
}

function unsupported(file: string, what: string): FormatError {
  return new FormatError({
    code: 'DTYPE_UNSUPPORTED',
    message: `${file}: ${what}; expected float32, int32 or bool, or one of the first two stored as uint8 or uint16, or float32 stored as float16`,
    hint: 'convert the model again with tensorflowjs_converter',
  });
}

/** A manifest that does not say what it must. */
function invalidManifest(file: string, what: string): FormatError {
  return new FormatError({
    code: 'TFJS_MANIFEST',
    message: `${file}: ${what}`,
    hint: 'the file is damaged or was edited: fetch or convert the model again',
  });
}
