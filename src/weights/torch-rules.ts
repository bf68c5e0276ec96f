/**
 * What a PyTorch file may name: the few classes and functions that `torch.save` writes for tensors and containers.
 * Everything else is refused by name. Tensors stay descriptions here; their numbers are read later.
 * @see https://github.com/pytorch/pytorch/blob/v2.4.0/torch/_utils.py for the arguments of the rebuild functions
 */

import { FormatError } from '../errors.js';
import { DAMAGED_HINT, quote } from './limits.js';
import {
  PickleDict,
  PickleGlobal,
  PickleObject,
  type PickleRules,
  PickleTuple,
  type PickleValue,
} from './pickle-values.js';
import type { FileDtype } from './source.js';

/** A run of numbers in the file, which one or several tensors look at. */
export class TorchStorage {
  /** @param dtype absent for an untyped storage, whose tensors say their type themselves */
  constructor(
    readonly key: string,
    readonly dtype: FileDtype | undefined,
    /** Numbers, or bytes for an untyped storage. */
    readonly length: number,
    /** Of a view into another storage, in numbers: only files of the older stream format have them. */
    readonly offset: number,
  ) {}
}

/** A tensor as PyTorch sees it: steps through a storage, all in numbers. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly dtype: FileDtype,
    readonly offset: number,
    readonly shape: readonly unknown[],
    readonly strides: readonly unknown[],
  ) {}
}

class StorageType {
  constructor(readonly dtype: FileDtype | undefined) {}
}

class Dtype {
  constructor(readonly dtype: FileDtype | undefined) {}
}

/** torch.<name>: as a dtype. Absent types (complex, quantised, float8) are named in errors once a tensor uses them. */
const DTYPES: Readonly<Record<string, FileDtype>> = {
  float32: 'float32',
  float: 'float32',
  float64: 'float64',
  double: 'float64',
  float16: 'float16',
  half: 'float16',
  bfloat16: 'bfloat16',
  int8: 'int8',
  uint8: 'uint8',
  int16: 'int16',
  short: 'int16',
  uint16: 'uint16',
  int32: 'int32',
  int: 'int32',
  uint32: 'uint32',
  int64: 'int64',
  long: 'int64',
  uint64: 'uint64',
  bool: 'bool',
};

/** torch.<name>Storage, and torch.cuda.<name>Storage of files written by early versions on a GPU. */
const STORAGES: Readonly<Record<string, FileDtype>> = {
  Float: 'float32',
  Double: 'float64',
  Half: 'float16',
  BFloat16: 'bfloat16',
  Char: 'int8',
  Byte: 'uint8',
  Short: 'int16',
  Int: 'int32',
  Long: 'int64',
  Bool: 'bool',
};

/** The rules for the pickles of one file. */
export function torchRules(path: string): PickleRules {
  const globals = new Map<string, PickleGlobal | PickleObject>();
  const callable = (names: readonly string[], make: (args: readonly PickleValue[]) => PickleValue): void => {
    for (const name of names) globals.set(name, new PickleGlobal(name, make));
  };
  for (const [name, dtype] of Object.entries(DTYPES)) globals.set(`torch.${name}`, new PickleObject(new Dtype(dtype)));
  for (const name of ['complex64', 'complex128', 'qint8', 'quint8', 'qint32', 'float8_e4m3fn', 'float8_e5m2']) {
    globals.set(`torch.${name}`, new PickleObject(new Dtype(undefined))); // plain settings may name them
  }
  for (const [name, dtype] of Object.entries(STORAGES)) {
    globals.set(`torch.${name}Storage`, new PickleObject(new StorageType(dtype)));
    globals.set(`torch.cuda.${name}Storage`, new PickleObject(new StorageType(dtype)));
  }
  for (const name of ['torch.storage.UntypedStorage', 'torch.UntypedStorage', 'torch.storage._UntypedStorage']) {
    globals.set(name, new PickleObject(new StorageType(undefined)));
  }
  const tensor = (args: readonly PickleValue[]): PickleValue => rebuildTensor(path, args, undefined);
  callable(['torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2'], tensor);
  // (storage, offset, size, stride, requires_grad, hooks, dtype, metadata)
  callable(['torch._utils._rebuild_tensor_v3'], (args) => rebuildTensor(path, args, args[6]));
  // a parameter is its tensor; with_state adds attributes of a subclass
  callable(['torch._utils._rebuild_parameter', 'torch._utils._rebuild_parameter_with_state'], (args) => {
    if (!(args[0] instanceof PickleObject)) throw torchDamaged(path, 'a parameter has no tensor');
    return args[0];
  });
  callable(['collections.OrderedDict', 'collections.Counter', 'builtins.dict', '__builtin__.dict'], (args) =>
    toDict(path, args[0]),
  );
  callable(['torch.Size', 'builtins.tuple', '__builtin__.tuple'], (args) => new PickleTuple(listOf(path, args[0])));
  callable(['builtins.set', '__builtin__.set', 'builtins.list', '__builtin__.list'], (args) => [
    ...listOf(path, args[0]),
  ]);
  callable(['torch.device'], (args) => args.map(String).join(':'));
  callable(['_codecs.encode'], (args) => encodeText(path, args)); // how protocol 2 writes bytes
  return {
    path,
    find(name) {
      // no plain numbers, but no danger either: the error should say so
      if (/^torch\.(cuda\.)?(Complex(Float|Double)|Q\w*Int\w*)Storage$/.test(name)) throw unsupported(path, name);
      return globals.get(name);
    },
    load: (id) => loadStorage(path, id),
  };
}

/** ('storage', type, key, location, length), and in the older stream format the view's (key, offset, length) or None. */
function loadStorage(path: string, id: PickleValue): PickleValue {
  const [tag, type, key, , length, view] = id instanceof PickleTuple ? id.items : [];
  if (
    tag !== 'storage' ||
    !(type instanceof PickleObject && type.value instanceof StorageType) ||
    typeof key !== 'string' ||
    !isCount(length)
  ) {
    throw torchDamaged(path, 'a reference to a storage is not readable');
  }
  const viewOffset = view instanceof PickleTuple ? view.items[1] : 0;
  if (!isCount(viewOffset)) throw torchDamaged(path, 'the view of a storage is not readable');
  return new PickleObject(new TorchStorage(key, type.value.dtype, length, viewOffset));
}

function rebuildTensor(path: string, args: readonly PickleValue[], type: PickleValue | undefined): PickleValue {
  const [storage, offset, shape, strides] = args;
  if (
    !(storage instanceof PickleObject && storage.value instanceof TorchStorage) ||
    !isCount(offset) ||
    !(shape instanceof PickleTuple) ||
    !(strides instanceof PickleTuple)
  ) {
    throw torchDamaged(path, 'the arguments of a tensor are not readable');
  }
  const own = type instanceof PickleObject && type.value instanceof Dtype ? type.value.dtype : storage.value.dtype;
  if (own === undefined) throw unsupported(path, `storage ${quote(storage.value.key)}`);
  return new PickleObject(new TorchTensor(storage.value, own, offset, shape.items, strides.items));
}

/** A dictionary of a dictionary, or of a list of pairs as Python 2 wrote an OrderedDict. */
function toDict(path: string, from: PickleValue | undefined): PickleDict {
  const dict = new PickleDict();
  if (from === undefined) return dict;
  const pairs =
    from instanceof PickleDict ? [...from.entries].map((pair) => new PickleTuple(pair)) : listOf(path, from);
  for (const pair of pairs) {
    const [key, value] = pair instanceof PickleTuple ? pair.items : Array.isArray(pair) ? pair : [];
    if (key === undefined || value === undefined) throw torchDamaged(path, 'a dictionary is not made of pairs');
    dict.entries.set(key, value);
  }
  return dict;
}

function listOf(path: string, from: PickleValue | undefined): readonly PickleValue[] {
  if (from === undefined) return [];
  if (Array.isArray(from)) return from;
  if (from instanceof PickleTuple) return from.items;
  throw torchDamaged(path, 'expected a list or tuple');
}

function encodeText(path: string, [text, encoding]: readonly PickleValue[]): Uint8Array {
  if (typeof text !== 'string' || encoding !== 'latin1') throw torchDamaged(path, 'bytes are not readable');
  return Uint8Array.from(Buffer.from(text, 'latin1'));
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function unsupported(path: string, what: string): FormatError {
  return new FormatError({
    code: 'DTYPE_UNSUPPORTED',
    message: `${path}: ${what} holds complex, quantised or float8 numbers; expected floats, integers or booleans`,
    hint: 'convert the tensors with .float() in PyTorch and save them again',
  });
}

export function torchDamaged(path: string, message: string): FormatError {
  return new FormatError({ code: 'TORCH_DAMAGED', message: `${path}: ${message}`, hint: DAMAGED_HINT });
}
