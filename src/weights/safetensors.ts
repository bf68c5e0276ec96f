/**
 * Safetensors, the toolkit's own store and interchange format: an 8-byte header length, a JSON header, raw numbers.
 * @see https://github.com/huggingface/safetensors#format
 */

import { FormatError, messageOf, ToolkitError } from '../errors.js';
import { writeStreamAtomic } from '../files.js';
import { type ByteFile, closedOnFailure, openByteFile } from './byte-file.js';
import { bytesOf, DTYPE_BYTES, elementsOf, HOST_LITTLE_ENDIAN, toFloat32 } from './float-formats.js';
import { checkTensor, DAMAGED_HINT, limitExceeded, quote, TensorTable } from './limits.js';
import type { FileDtype, TensorInfo, TensorSource } from './source.js';
import { bytesAs, wrongCount } from './tensor-to-write.js';
import { writeBehind } from './write-behind.js';

/**
 * A hundred thousand tensors (MAX_TENSORS) of 160 bytes each; published files have at most 200 kB. The reference reads
 * 100 MB (MAX_HEADER_SIZE of its Rust source), which takes JSON.parse 2 GB and a minute where they are made for it.
 */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;

/** Names of number types in the header. Not read: F8_*, F4, F6_* and C64, which no classifier here uses. */
const DTYPES: ReadonlyMap<unknown, FileDtype> = new Map<string, FileDtype>([
  ['F32', 'float32'],
  ['F64', 'float64'],
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
  ['I8', 'int8'],
  ['U8', 'uint8'],
  ['I16', 'int16'],
  ['U16', 'uint16'],
  ['I32', 'int32'],
  ['U32', 'uint32'],
  ['I64', 'int64'],
  ['U64', 'uint64'],
  ['BOOL', 'bool'],
]);

interface Entry extends TensorInfo {
  /** Bytes from the end of the header. */
  readonly begin: number;
  readonly end: number;
}

/**
 * Opens a safetensors file; reads its header only.
 * @throws SAFETENSORS_HEADER, SAFETENSORS_RANGE, FILE_TRUNCATED, DTYPE_UNSUPPORTED, LIMIT_EXCEEDED
 */
export async function openSafetensors(path: string): Promise<TensorSource> {
  return await closedOnFailure(await openByteFile(path), describe);
}

async function describe(file: ByteFile): Promise<TensorSource> {
  const { path } = file;
  const headerBytes = Number((await file.read(0, 8, 'the header length')).readBigUInt64LE());
  if (headerBytes > MAX_HEADER_BYTES)
    throw limitExceeded(path, `the header has ${headerBytes} bytes`, MAX_HEADER_BYTES);
  const header = parseHeader(path, await file.read(8, headerBytes, 'the header'));
  const start = 8 + headerBytes;
  const table = new TensorTable<Entry>(path);
  const stored = inFileOrder(path, header.entries, file.size - start);
  for (const entry of [...stored, ...sharedTensors(stored, header.metadata)]) table.add(entry);
  return {
    format: 'safetensors',
    path,
    tensors: table.infos(),
    metadata: header.metadata,
    async read(name, memory) {
      const { begin, end, dtype } = table.get(name);
      if (dtype === 'float32' && HOST_LITTLE_ENDIAN && memory !== undefined) {
        const values = memory((end - begin) / DTYPE_BYTES.float32);
        await file.readInto(bytesOf(values), start + begin, `tensor ${quote(name)}`);
        return values;
      }
      return toFloat32(await file.read(start + begin, end - begin, `tensor ${quote(name)}`), dtype);
    },
    close: () => file.close(),
  };
}

function parseHeader(path: string, bytes: Buffer): { entries: Entry[]; metadata: Readonly<Record<string, string>> } {
  const bad = (message: string, cause?: unknown): FormatError =>
    new FormatError({ code: 'SAFETENSORS_HEADER', message: `${path}: ${message}`, hint: DAMAGED_HINT, cause });
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (error) {
    throw bad(`the header is not valid JSON: ${messageOf(error).slice(0, 200)}`, error);
  }
  if (!isRecord(header)) throw bad('expected the header to be a JSON object');
  const keys = Object.keys(header);
  // JSON.parse keeps the last of two equal keys without a word; the format forbids them
  if (countTopLevelKeys(text) !== keys.length) throw bad('expected unique names in the header, received one twice');
  const entries: Entry[] = [];
  let metadata: Readonly<Record<string, string>> = {};
  for (const name of keys) {
    const value = header[name];
    if (!isRecord(value)) throw bad(`expected ${quote(name)} to be a JSON object`);
    if (name === '__metadata__') {
      const strings = Object.entries(value).filter((pair): pair is [string, string] => typeof pair[1] === 'string');
      if (strings.length < Object.keys(value).length) throw bad('expected every value of __metadata__ to be a string');
      metadata = Object.fromEntries(strings);
      continue;
    }
    entries.push(parseEntry(path, name, value, bad));
  }
  return { entries, metadata };
}

function parseEntry(
  path: string,
  name: string,
  value: Record<string, unknown>,
  bad: (message: string) => FormatError,
): Entry {
  const { dtype: type, shape, data_offsets: range } = value;
  const dtype = DTYPES.get(type);
  if (dtype === undefined) {
    throw new FormatError({
      code: 'DTYPE_UNSUPPORTED',
      message: `${path}: tensor ${quote(name)} has number type ${String(type).slice(0, 40)}; expected one of ${[...DTYPES.keys()].join(', ')}`,
      hint: 'save the file again with the tensors as float32 or float16',
    });
  }
  if (!Array.isArray(shape)) throw bad(`tensor ${quote(name)} has no shape`);
  const elements = checkTensor(path, name, dtype, shape);
  if (!Array.isArray(range) || range.length !== 2 || !range.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw bad(`tensor ${quote(name)}: expected data_offsets to be two whole numbers`);
  }
  const [begin, end] = range as [number, number];
  const bytes = elements * DTYPE_BYTES[dtype];
  if (end - begin !== bytes) {
    throw bad(
      `tensor ${quote(name)} ${dtype} [${shape.join(', ')}] takes ${bytes} bytes, but its data_offsets span ${end - begin}`,
    );
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

/** The format allows neither gaps nor overlaps: each tensor begins where the one before ends, the last at the end. */
function inFileOrder(path: string, entries: readonly Entry[], dataBytes: number): Entry[] {
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let reached = 0;
  for (const { name, begin, end } of ordered) {
    if (begin !== reached) {
      throw rangeError(
        path,
        `tensor ${quote(name)} begins at byte ${begin} of the data, expected ${reached}: ${begin < reached ? 'it overlaps the one before' : 'bytes in between belong to no tensor'}`,
      );
    }
    reached = end;
  }
  if (reached > dataBytes) {
    throw new FormatError({
      code: 'FILE_TRUNCATED',
      message: `${path}: the header declares ${reached} bytes of numbers, but the file has ${dataBytes}`,
      hint: 'the download or copy was cut off: fetch it again and compare its size and sha256',
    });
  }
  if (reached < dataBytes) {
    throw rangeError(path, `the header declares ${reached} bytes of numbers, but the file has ${dataBytes}`);
  }
  return ordered;
}

/**
 * Tensors that are others under a second name: safetensors.torch.save_model stores each shared tensor once and notes in
 * the metadata, by the names that it left out, which one they are. Both are parameters of one kind, `a.weight` and
 * `b.weight`; other metadata that happen to be a tensor's name are no such note.
 */
function sharedTensors(stored: readonly Entry[], metadata: Readonly<Record<string, string>>): Entry[] {
  const byName = new Map(stored.map((entry) => [entry.name, entry]));
  const leaf = (name: string): string => name.slice(name.lastIndexOf('.'));
  return Object.entries(metadata).flatMap(([name, kept]) => {
    const entry = byName.get(kept);
    const isNote = entry !== undefined && !byName.has(name) && name.includes('.') && leaf(name) === leaf(kept);
    return isNote ? [{ ...entry, name }] : [];
  });
}

function rangeError(path: string, message: string): FormatError {
  return new FormatError({ code: 'SAFETENSORS_RANGE', message: `${path}: ${message}`, hint: DAMAGED_HINT });
}

/** Keys of the outermost object of valid JSON, repeated ones counted each time. */
function countTopLevelKeys(json: string): number {
  let depth = 0;
  let count = 0;
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === '"') {
      for (i++; json[i] !== '"'; i++) if (json[i] === '\\') i++;
    } else if (c === '{' || c === '[') depth++;
    else if (c === '}' || c === ']') depth--;
    else if (c === ':' && depth === 1) count++;
  }
  return count;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A tensor to be written; `read` is called once, when its turn comes. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly shape: readonly number[];
  /** How it is stored; numbers are given as float32 in any case. Default float32. */
  readonly dtype?: 'int64' | 'float32' | 'float16';
  /**
   * @returns exactly as many numbers as the shape has, in one piece or several; a piece must not change before the one
   * after the next is asked for
   */
  read(): Numbers | Promise<Float32Array>;
}

/**
 * Writes a safetensors file, one tensor in memory at a time, whole or not at all. Equal input gives equal bytes:
 * metadata keys are sorted, tensors keep the given order within their number type (the widest first, for alignment).
 * @throws TENSOR_TWICE, TENSOR_SHAPE, FILE_NOT_WRITTEN
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<SafetensorsEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const width = ({ dtype = 'float32' }: SafetensorsEntry): number => DTYPE_BYTES[dtype];
  const ordered = [...entries].sort((a, b) => width(b) - width(a));
  const header = encodeHeader(path, ordered, metadata);
  await writeStreamAtomic(path, async (file) => {
    const out = writeBehind(file);
    await out.write(header);
    for (const entry of ordered) {
      const wanted = elementsOf(entry.shape);
      let count = 0;
      for await (const values of piecesOf(await entry.read())) {
        count += values.length;
        if (count > wanted) break;
        await out.write(bytesAs(values, entry.dtype ?? 'float32'));
      }
      if (count !== wanted) throw wrongCount(path, entry, count);
    }
    await out.finish();
  });
}

/** The numbers of a tensor, in one piece or several. */
type Numbers = Float32Array | AsyncIterable<Float32Array>;

async function* piecesOf(numbers: Numbers): AsyncGenerator<Float32Array> {
  if (numbers instanceof Float32Array) yield numbers;
  else yield* numbers;
}

function encodeHeader(
  path: string,
  entries: readonly SafetensorsEntry[],
  metadata: Readonly<Record<string, string>>,
): Buffer {
  // pairs joined by hand: an object would move names like "0" to the front
  const pairs: string[] = [];
  const metadataKeys = Object.keys(metadata).sort();
  if (metadataKeys.length > 0) {
    const inner = metadataKeys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    pairs.push(`"__metadata__":{${inner.join(',')}}`);
  }
  const table = new TensorTable<TensorInfo>(path);
  let begin = 0;
  for (const { name, shape, dtype = 'float32' } of entries) {
    if (name === '__metadata__') {
      throw new ToolkitError({
        code: 'TENSOR_NAME',
        message: `${path}: __metadata__ is reserved by the format and cannot name a tensor`,
        hint: 'choose another name',
      });
    }
    table.add({ name, dtype, shape });
    const end = begin + checkTensor(path, name, dtype, shape) * DTYPE_BYTES[dtype];
    const value = { dtype: { int64: 'I64', float32: 'F32', float16: 'F16' }[dtype], shape, data_offsets: [begin, end] };
    pairs.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
    begin = end;
  }
  const json = Buffer.from(`{${pairs.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8; // the numbers then start at a multiple of 8
  const out = Buffer.alloc(8 + padded, ' ');
  out.writeBigUInt64LE(BigInt(padded));
  json.copy(out, 8);
  return out;
}
