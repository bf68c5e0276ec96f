/**
 * PyTorch's `.pth` and `.pt`, read without PyTorch: the tensors of a state dict, wherever `torch.save` put them.
 * The zip format (since 1.6) and the older stream of pickles differ only in where the numbers lie.
 */

import { FormatError } from '../errors.js';
import { DTYPE_BYTES, toFloat32 } from './float-formats.js';
import { checkTensor, limitExceeded, quote, TensorTable } from './limits.js';
import { PickleDict, PickleObject, type PickleValue } from './pickle-values.js';
import type { TensorInfo, TensorSource } from './source.js';
import { TorchTensor, torchDamaged } from './torch-rules.js';
import { openTorchStream } from './torch-stream.js';
import { openTorchZip } from './torch-zip.js';
import type { ZipArchive } from './zip.js';

/** Where training scripts put the state dict beside their optimiser's; the first that is there is taken. */
const WRAPPERS = ['state_dict', 'model_state_dict', 'model', 'net', 'network', 'module', 'weights', 'params'];

/** What wrappers of the whole network put before every name: DataParallel, torch.compile. */
const PREFIXES = ['module.', '_orig_mod.'];

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
  return await describe(await openTorchStream(path));
}

/** @throws as {@link openTorchStreamFile}, and ZIP_DAMAGED; the archive is closed then */
export async function torchFromZip(zip: ZipArchive): Promise<TensorSource> {
  return await describe(await openTorchZip(zip));
}

async function describe(file: TorchFile): Promise<TensorSource> {
  try {
    return toSource(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function toSource(file: TorchFile): TensorSource {
  const { path } = file;
  const { dict, wrapper } = findStateDict(path, file.root);
  const named: [string, TorchTensor][] = [];
  for (const [name, value] of dict.entries) {
    if (typeof name === 'string' && isTensor(value)) named.push([name, value.value]);
  }
  const prefix = PREFIXES.find((candidate) => named.every(([name]) => name.startsWith(candidate))) ?? '';
  const table = new TensorTable<Entry>(path);
  for (const [name, tensor] of named) table.add(locate(file, name.slice(prefix.length), tensor));
  return {
    format: 'torch',
    path,
    tensors: table.infos(),
    metadata: {
      ...file.container,
      ...(wrapper === '' ? {} : { wrapper }),
      ...(prefix === '' ? {} : { strippedPrefix: prefix }),
      ignoredEntries: String(dict.entries.size - named.length),
    },
    async read(name) {
      const entry = table.get(name);
      const bytes = await file.readStorage(entry.key, entry.begin, entry.end - entry.begin);
      const numbers = toFloat32(bytes, entry.dtype, file.littleEndian);
      return isContiguous(entry.shape, entry.strides) ? numbers : gather(numbers, entry);
    },
    close: () => file.close(),
  };
}

/** Descends through `{'state_dict': ...}` and the like to the first dictionary that holds tensors itself. */
function findStateDict(path: string, root: PickleValue): { dict: PickleDict; wrapper: string } {
  const steps: string[] = [];
  let dict = root;
  while (dict instanceof PickleDict && steps.length < WRAPPERS.length) {
    if ([...dict.entries.values()].some(isTensor)) return { dict, wrapper: steps.join('.') };
    const { entries } = dict;
    const step = WRAPPERS.find((name) => entries.get(name) instanceof PickleDict);
    if (step === undefined) break;
    steps.push(step);
    dict = entries.get(step)!;
  }
  const keys = dict instanceof PickleDict ? [...dict.entries.keys()] : [];
  const shown = keys.filter((key) => typeof key === 'string').slice(0, 10);
  throw new FormatError({
    code: 'TORCH_NO_TENSORS',
    message: `${path}: expected a state dict (names to tensors, or one of ${WRAPPERS.join(', ')} holding it), received ${
      shown.length > 0 ? `a dictionary with ${shown.map(quote).join(', ')}` : kindOf(dict)
    }`,
    hint: 'save the state dict alone from PyTorch: torch.save(model.state_dict(), "out.pth")',
  });
}

function isTensor(value: PickleValue): value is PickleObject<TorchTensor> {
  return value instanceof PickleObject && value.value instanceof TorchTensor;
}

function kindOf(value: PickleValue): string {
  if (value instanceof PickleDict) return 'an empty dictionary';
  if (isTensor(value)) return 'a single tensor without a name';
  return Array.isArray(value) ? 'a list' : 'something else';
}

/** Checks a tensor against its storage, and the storage against the file, before anything is allocated. */
function locate(file: TorchFile, name: string, tensor: TorchTensor): Entry {
  const { path } = file;
  const { dtype, storage } = tensor;
  const elements = checkTensor(path, name, dtype, tensor.shape);
  const shape = tensor.shape as readonly number[];
  const bad = (message: string): FormatError => torchDamaged(path, `tensor ${quote(name)} ${message}`);
  if (
    tensor.strides.length !== shape.length ||
    !tensor.strides.every((step): step is number => typeof step === 'number' && Number.isSafeInteger(step) && step >= 0)
  ) {
    throw bad(`has strides [${tensor.strides.map(String).join(', ').slice(0, 200)}] for shape [${shape.join(', ')}]`);
  }
  const strides = tensor.strides as readonly number[];
  const inFile = file.storageBytes(storage.key);
  if (inFile === undefined) throw bad(`lies in storage ${quote(storage.key)}, which the file does not have`);
  const width = DTYPE_BYTES[dtype];
  const declared = storage.length * (storage.dtype === undefined ? 1 : DTYPE_BYTES[storage.dtype]);
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
