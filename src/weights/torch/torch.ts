/**
 * PyTorch's `.pth` and `.pt`, read without PyTorch: the tensors of a state dict, wherever `torch.save` put them.
 * The zip format (since 1.6) and the older stream of pickles differ only in where the numbers lie.
 */

import { FormatError } from '../../errors.js';
import type { ZipArchive } from '../archive/zip.js';
import { closedOnFailure } from '../byte-file.js';
import { DTYPE_BYTES, toFloat32 } from '../float-formats.js';
import { checkTensor, limitExceeded, quote, shown, TensorTable } from '../limits.js';
import type { SetAside, TensorInfo, TensorSource } from '../source.js';
import type { PickleDict, PickleValue } from './pickle-values.js';
import { type TorchTensor, torchDamaged, UnreadTensor } from './torch-rules.js';
import { findStateDict, isTensor, prefixOf, SWA_COUNT, type TensorValue } from './torch-state.js';
import { openTorchStream } from './torch-stream.js';
import { openTorchZip } from './torch-zip.js';

/** A tensor may look at one number many times (strides of 0); then its size says nothing of the file's. */
const MAX_EXPANDED = 2 ** 20;

/** What both formats give: the object that was saved, and its storages. */
export interface TorchFile {
  readonly path: string;
  readonly root: PickleValue;
  readonly littleEndian: boolean;
  /** `zip` or `stream`, and the version that the file states. */
  readonly container: Readonly<Record<string, string>>;
  /** Bytes of a storage in the file; undefined when it is not there. */
  storageBytes(key: string): number | undefined;
  readStorage(key: string, offset: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

interface Entry extends TensorInfo {
  readonly elements: number;
  readonly strides: readonly number[];
  readonly key: string;
  /** The part of the storage that holds all its numbers, in bytes. */
  readonly begin: number;
  readonly end: number;
}

/**
 * @throws PICKLE_REFUSED, PICKLE_DAMAGED, TORCH_DAMAGED, TORCH_NO_TENSORS, DTYPE_UNSUPPORTED, FILE_TRUNCATED,
 * LIMIT_EXCEEDED
 */
export async function openTorchStreamFile(path: string): Promise<TensorSource> {
  return await closedOnFailure(await openTorchStream(path), toSource);
}

/** @throws as {@link openTorchStreamFile}, and ZIP_DAMAGED; the archive is closed then */
export async function torchFromZip(zip: ZipArchive): Promise<TensorSource> {
  return await closedOnFailure(await openTorchZip(zip), toSource);
}

function toSource(file: TorchFile): TensorSource {
  const { path } = file;
  const found = findStateDict(path, file.root);
  const table = new TensorTable<Entry>(path);
  const { prefix, names } = addTensors(file, table, found.dict, '');
  const setAside: SetAside[] = [...found.setAside];
  const averages = new Map<string, string>();
  if (found.averages !== undefined) {
    const { wrapper, dict } = found.averages;
    const averaged = addTensors(file, table, dict, `${wrapper}.`);
    for (const [name, stored] of averaged.names) {
      if (name === SWA_COUNT) continue;
      const known = names.has(name);
      if (known) averages.set(name, stored);
      setAside.push({ name: stored, reason: `running average of ${known ? name : 'nothing else in the file'}` });
    }
  }
  for (const { name } of table.all()) {
    const counts = name.slice(name.lastIndexOf('.') + 1) === SWA_COUNT;
    if (counts) setAside.push({ name, reason: 'the number of models that were averaged' });
  }
  return {
    format: 'torch',
    path,
    tensors: table.infos(),
    metadata: {
      ...file.container,
      ...(found.wrapper === '' ? {} : { wrapper: found.wrapper }),
      ...(prefix === '' ? {} : { strippedPrefix: prefix }),
      ignoredEntries: String(found.dict.entries.size - names.size),
    },
    setAside,
    ...(averages.size === 0 ? {} : { averages }),
    async read(name) {
      const entry = table.get(name);
      const bytes = await file.readStorage(entry.key, entry.begin, entry.end - entry.begin);
      const numbers = toFloat32(bytes, entry.dtype, file.littleEndian);
      return isContiguous(entry.shape, entry.strides) ? numbers : gather(numbers, entry);
    },
    close: () => file.close(),
  };
}

/**
 * Adds the tensors of a state dict under their names in it, without what wrappers put before all of them.
 * @param before goes in front of every name
 * @returns what was left off, and name -> name in the table
 */
function addTensors(
  file: TorchFile,
  table: TensorTable<Entry>,
  dict: PickleDict,
  before: string,
): { prefix: string; names: Map<string, string> } {
  const tensors = [...dict.entries].filter((pair): pair is [string, TensorValue] => {
    const [name, value] = pair;
    return typeof name === 'string' && isTensor(value);
  });
  const prefix = prefixOf(tensors.map(([name]) => name));
  const names = new Map<string, string>();
  for (const [name, { value }] of tensors) {
    const own = name.startsWith(prefix) ? name.slice(prefix.length) : name;
    table.add(locate(file, before + own, value));
    names.set(own, before + own);
  }
  return { prefix, names };
}

/** Checks a tensor against its storage, and the storage against the file, before anything is allocated. */
function locate(file: TorchFile, name: string, tensor: TorchTensor | UnreadTensor): Entry {
  const { path } = file;
  if (tensor instanceof UnreadTensor) throw unread(path, name, `is ${tensor.kind}`, tensor.mend);
  const { storage } = tensor;
  const { dtype } = tensor.type;
  if (dtype === undefined) {
    const mend = tensor.type.name.startsWith('complex') ? 'real' : 'float()';
    throw unread(path, name, `holds numbers of type ${tensor.type.name}`, mend);
  }
  const elements = checkTensor(path, name, dtype, tensor.shape);
  const shape = tensor.shape as readonly number[];
  const bad = (message: string): FormatError => torchDamaged(path, `tensor ${quote(name)} ${message}`);
  if (
    tensor.strides.length !== shape.length ||
    !tensor.strides.every((step): step is number => typeof step === 'number' && Number.isSafeInteger(step) && step >= 0)
  ) {
    throw bad(`has strides [${shown(tensor.strides)}] for shape [${shape.join(', ')}]`);
  }
  const strides = tensor.strides as readonly number[];
  const inFile = file.storageBytes(storage.key);
  if (inFile === undefined) throw bad(`lies in storage ${quote(storage.key)}, which the file does not have`);
  const width = DTYPE_BYTES[dtype];
  const declared = storage.length * storage.width;
  const first = storage.offset + tensor.offset;
  // one past the last number it looks at
  const after = elements === 0 ? first : first + 1 + shape.reduce((sum, size, d) => sum + (size - 1) * strides[d]!, 0);
  if (
    !Number.isSafeInteger(after) ||
    (elements > 0 && after * width > Math.min(inFile, storage.offset * width + declared))
  ) {
    throw bad(
      `[${shape.join(', ')}] reaches to byte ${after * width} of storage ${quote(storage.key)}, which declares ${declared} bytes and has ${inFile}`,
    );
  }
  if (elements > Math.max(after - first, MAX_EXPANDED)) {
    throw limitExceeded(path, `tensor ${quote(name)} repeats ${after - first} numbers to ${elements}`, MAX_EXPANDED);
  }
  const begin = elements === 0 ? 0 : first * width;
  const end = elements === 0 ? 0 : after * width;
  return { name, dtype, shape, strides, elements, key: storage.key, begin, end };
}

function unread(path: string, name: string, what: string, mend: string): FormatError {
  return new FormatError({
    code: 'DTYPE_UNSUPPORTED',
    message: `${path}: tensor ${quote(name)} ${what}; expected a plain tensor of floats, integers or booleans`,
    hint: `convert it in PyTorch with .${mend} and save the state dict again`,
  });
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] === 0) return true;
    if (shape[d] !== 1 && strides[d] !== expected) return false;
    expected *= shape[d]!;
  }
  return true;
}

/** Numbers of a strided view, in C order. */
function gather(numbers: Float32Array, { shape, strides, elements }: Entry): Float32Array {
  const out = new Float32Array(elements);
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let to = 0; to < elements; to++) {
    out[to] = numbers[from]!;
    for (let d = shape.length - 1; d >= 0; d--) {
      from += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      from -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
  return out;
}
