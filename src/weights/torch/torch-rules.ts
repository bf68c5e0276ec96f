/**
 * What a PyTorch file may name: the few classes and functions that `torch.save` writes for tensors and containers.
 * Everything else is refused by name. Tensors stay descriptions here; their numbers are read later.
 * @see https://github.com/pytorch/pytorch/blob/v2.4.0/torch/_utils.py for the arguments of the rebuild functions
 */

import { FormatError } from '../../errors.js';
import { DTYPE_BYTES } from '../float-formats.js';
import { DAMAGED_HINT, limitExceeded, quote } from '../limits.js';
import type { FileDtype } from '../source.js';
import {
  PickleDict,
  PickleGlobal,
  PickleObject,
  type PickleRules,
  PickleTuple,
  type PickleValue,
} from './pickle-values.js';

/** How numbers lie in a storage. Types that are not read have no `dtype`; an error names them once a tensor uses them. */
export interface NumberType {
  /** As PyTorch calls it: `float32`, `qint8`. */
  readonly name: string;
  readonly dtype: FileDtype | undefined;
  /** Bytes a number. */
  readonly width: number;
}

/** A run of numbers in the file, which one or several tensors look at. */
export class TorchStorage {
  /** @param type absent for an untyped storage, whose tensors say their type themselves */
  constructor(
    readonly key: string,
    readonly type: NumberType | undefined,
    /** Numbers, or bytes for an untyped storage. */
    readonly length: number,
    /** Of a view into another storage, in numbers: only files of the older stream format have them. */
    readonly offset: number,
  ) {}

  /** Bytes a number; of an untyped storage those of its bytes. */
  get width(): number {
    return this.type?.width ?? 1;
  }
}

/** A tensor as PyTorch sees it: steps through a storage, all in numbers. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly type: NumberType,
    readonly offset: number,
    readonly shape: readonly unknown[],
    readonly strides: readonly unknown[],
  ) {}
}

/** A tensor of a kind that is not read; an error says so where it stands among the weights. */
export class UnreadTensor {
  constructor(
    readonly kind: string,
    /** What makes a plain tensor of it in PyTorch. */
    readonly mend: string,
  ) {}
}

class StorageType {
  constructor(readonly type: NumberType | undefined) {}
}

class Dtype {
  constructor(readonly type: NumberType) {}
}

/** A value that no tensor needs: a setting of a training, a number of NumPy. */
class Setting {}

/** torch.<name>, as a dtype or an alias of one. */
const READ: Readonly<Record<string, FileDtype>> = {
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

/** torch.<name> of the dtypes that are not read, and bytes a number. @see c10/core/ScalarType.h */
const UNREAD: Readonly<Record<string, number>> = {
  complex32: 4,
  complex64: 8,
  complex128: 16,
  qint8: 1,
  quint8: 1,
  qint32: 4,
  quint4x2: 1,
  quint2x4: 1,
  float8_e4m3fn: 1,
  float8_e4m3fnuz: 1,
  float8_e5m2: 1,
  float8_e5m2fnuz: 1,
};

/** torch.<name>Storage, and torch.cuda.<name>Storage of files written by early versions on a GPU. */
const STORAGES: Readonly<Record<string, string>> = {
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
  ComplexFloat: 'complex64',
  ComplexDouble: 'complex128',
  QInt8: 'qint8',
  QUInt8: 'quint8',
  QInt32: 'qint32',
  QUInt4x2: 'quint4x2',
  QUInt2x4: 'quint2x4',
};

/** Rebuild functions of torch._utils for tensors that are no plain ones: the kind, and what makes a plain one of it. */
const UNREAD_TENSORS: Readonly<Record<string, readonly [kind: string, mend: string]>> = {
  _rebuild_sparse_tensor: ['sparse', 'to_dense()'],
  _rebuild_sparse_csr_tensor: ['sparse', 'to_dense()'],
  _rebuild_nested_tensor: ['nested', 'to_padded_tensor(0.0)'],
  _rebuild_qtensor: ['quantised', 'dequantize()'],
  _rebuild_meta_tensor_no_storage: [
    'without numbers (of the device "meta")',
    'to_empty(device="cpu"), and then load its numbers',
  ],
  _rebuild_wrapper_subclass: ['of a class of its own', 'to(torch.float32)'],
};

/**
 * Classes of training scripts that hold settings: timm and torchvision keep the options of their command line in the
 * checkpoint, NumPy's numbers are scores. Nothing of them is built, and no tensor depends on them.
 */
const SETTINGS = [
  'argparse.Namespace',
  'types.SimpleNamespace',
  'pathlib.Path',
  'pathlib.PosixPath',
  'pathlib.WindowsPath',
  'pathlib.PurePosixPath',
  'pathlib.PureWindowsPath',
  'numpy.dtype',
  'numpy.ndarray',
  ...['numpy.core.multiarray', 'numpy._core.multiarray'].flatMap((module) => [
    `${module}.scalar`,
    `${module}._reconstruct`,
  ]),
];

/** torch.<name>: how a quantised tensor was made. @see c10/core/QScheme.h */
const QUANTIZERS = [
  'per_tensor_affine',
  'per_channel_affine',
  'per_tensor_symmetric',
  'per_channel_symmetric',
  'per_channel_affine_float_qparams',
];

function numberType(name: string): NumberType {
  const dtype = READ[name];
  return { name, dtype, width: dtype === undefined ? UNREAD[name]! : DTYPE_BYTES[dtype] };
}

/** Values that all calls of one file copy: state dicts with that of an optimiser have some ten thousand entries. */
const MAX_COPIED = 2_000_000;

/** The rules for the pickles of one file. */
export function torchRules(path: string): PickleRules {
  const globals = new Map<string, PickleGlobal | PickleObject>();
  const callable = (names: readonly string[], make: (args: readonly PickleValue[]) => PickleValue): void => {
    for (const name of names) globals.set(name, new PickleGlobal(name, make));
  };
  for (const name of [...Object.keys(READ), ...Object.keys(UNREAD)]) {
    globals.set(`torch.${name}`, new PickleObject(new Dtype(numberType(name))));
  }
  for (const [name, type] of Object.entries(STORAGES)) {
    globals.set(`torch.${name}Storage`, new PickleObject(new StorageType(numberType(type))));
    globals.set(`torch.cuda.${name}Storage`, new PickleObject(new StorageType(numberType(type))));
  }
  for (const name of ['torch.storage.UntypedStorage', 'torch.UntypedStorage', 'torch.storage._UntypedStorage']) {
    globals.set(name, new PickleObject(new StorageType(undefined)));
  }
  const tensor = (args: readonly PickleValue[]): PickleValue => rebuildTensor(path, args, undefined);
  callable(['torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2'], tensor);
  // (storage, offset, size, stride, requires_grad, hooks, dtype, metadata)
  callable(['torch._utils._rebuild_tensor_v3'], (args) => rebuildTensor(path, args, args[6]));
  for (const [name, [kind, mend]] of Object.entries(UNREAD_TENSORS)) {
    callable([`torch._utils.${name}`], () => new PickleObject(new UnreadTensor(kind, mend)));
  }
  // a parameter is its tensor; with_state adds attributes of a subclass, and a tensor may come from another device
  const ofTensor = ['_rebuild_parameter', '_rebuild_parameter_with_state', '_rebuild_device_tensor_from_cpu_tensor'];
  callable(
    ofTensor.map((name) => `torch._utils.${name}`),
    ([inner]) => {
      if (!(inner instanceof PickleObject)) throw torchDamaged(path, 'a parameter has no tensor');
      return inner;
    },
  );
  // (function, class, its arguments, attributes): a tensor that was given attributes of its own
  const fromType = ['torch._tensor', 'torch.tensor'].flatMap((module) => [
    `${module}._rebuild_from_type_v2`,
    `${module}._rebuild_from_type`,
  ]);
  callable(fromType, ([build, , args]) => {
    if (!(build instanceof PickleGlobal && build.make && args instanceof PickleTuple)) {
      throw torchDamaged(path, 'the arguments of a tensor are not readable');
    }
    return build.make(args.items);
  });
  for (const name of ['torch.Tensor', 'torch.nn.parameter.Parameter', 'torch.nn.parameter.Buffer']) {
    globals.set(name, new PickleGlobal(name)); // named as classes by the above, never called
  }
  let copied = 0;
  /** A call of a few bytes may copy a list of any length, and be made any number of times. */
  const copying = (from: PickleValue | undefined): PickleValue | undefined => {
    copied += from instanceof PickleDict ? from.entries.size : lengthOf(from);
    if (copied > MAX_COPIED) throw limitExceeded(path, 'the calls of its pickle copy more values', MAX_COPIED);
    return from;
  };
  callable(['collections.OrderedDict', 'collections.Counter', 'builtins.dict', '__builtin__.dict'], (args) =>
    toDict(path, copying(args[0])),
  );
  callable(['collections.defaultdict'], () => new PickleDict()); // its entries are set one by one afterwards
  callable(['torch.Size', 'builtins.tuple', '__builtin__.tuple'], (args) => new PickleTuple(listOf(path, args[0])));
  callable(['builtins.set', '__builtin__.set', 'builtins.list', '__builtin__.list'], (args) => [
    ...listOf(path, copying(args[0])),
  ]);
  callable(['torch.device'], (args) => args.filter((arg) => typeof arg !== 'object').join(':'));
  // how protocol 2 writes bytes
  callable(['_codecs.encode'], ([text = null, ...rest]) => encodeText(path, [copying(text) ?? null, ...rest]));
  callable(['torch.serialization._get_layout'], () => new PickleObject(new Setting())); // of sparse tensors
  for (const name of QUANTIZERS) globals.set(`torch.${name}`, new PickleObject(new Setting()));
  for (const name of SETTINGS) callable([name], () => new PickleObject(new Setting()));
  return { path, find: (name) => globals.get(name), load: (id) => loadStorage(path, id) };
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
  return new PickleObject(new TorchStorage(key, type.value.type, length, viewOffset));
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
  const own = type instanceof PickleObject && type.value instanceof Dtype ? type.value.type : storage.value.type;
  if (own === undefined) throw torchDamaged(path, `the numbers of storage ${quote(storage.value.key)} have no type`);
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

/** Items of a list or tuple, characters of a text. */
function lengthOf(value: PickleValue | undefined): number {
  if (value instanceof PickleTuple) return value.items.length;
  return Array.isArray(value) || typeof value === 'string' ? value.length : 0;
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

export function torchDamaged(path: string, message: string): FormatError {
  return new FormatError({ code: 'TORCH_DAMAGED', message: `${path}: ${message}`, hint: DAMAGED_HINT });
}
