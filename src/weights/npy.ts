/**
 * NumPy's .npy: a header that is a Python dictionary, then raw numbers.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */

import { FormatError } from '../errors.js';
import { openByteFile } from './byte-file.js';
import { bytesOf, DTYPE_BYTES, elementsOf, toFloat32 } from './float-formats.js';
import { checkTensor, DAMAGED_HINT, limitExceeded } from './limits.js';
import type { FileDtype } from './source.js';

/** \x93NUMPY, then a major and a minor version byte. */
const MAGIC = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]);

/** numpy itself refuses headers above 10,000 characters unless told otherwise (max_header_size of read_array). */
const MAX_HEADER_BYTES = 10_000;

/** Enough for every header that is accepted. */
export const NPY_HEADER_BYTES = 12 + MAX_HEADER_BYTES;

/** Kind and width of numpy's type codes. V2 is what numpy writes for the bfloat16 of JAX (ml_dtypes). */
const DTYPES: ReadonlyMap<string, FileDtype> = new Map<string, FileDtype>([
  ['f4', 'float32'],
  ['f8', 'float64'],
  ['f2', 'float16'],
  ['V2', 'bfloat16'],
  ['i1', 'int8'],
  ['u1', 'uint8'],
  ['i2', 'int16'],
  ['u2', 'uint16'],
  ['i4', 'int32'],
  ['u4', 'uint32'],
  ['i8', 'int64'],
  ['u8', 'uint64'],
  ['b1', 'bool'],
]);

/** An array in C order. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface NpyHeader {
  /** Absent for a type that is not one number: text, objects, complex numbers, structures. */
  readonly dtype: FileDtype | undefined;
  /** As written: `<f4`, `|O`. */
  readonly descr: string;
  readonly littleEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  /** Where the numbers begin. */
  readonly dataOffset: number;
}

/**
 * Reads a whole .npy file of any float, integer or boolean type as float32 in C order.
 * @throws NPY_HEADER, DTYPE_UNSUPPORTED, FILE_TRUNCATED, LIMIT_EXCEEDED, FILE_NOT_READ
 */
export async function readNpy(path: string): Promise<NpyArray> {
  const file = await openByteFile(path);
  try {
    const head = await file.read(0, Math.min(NPY_HEADER_BYTES, file.size), 'the header');
    const header = parseNpyHeader(path, head);
    const bytes = npyDataBytes(path, header);
    if (header.dataOffset + bytes < file.size) {
      throw npyError(path, `${file.size - header.dataOffset - bytes} bytes follow the last number`);
    }
    const raw = await file.read(header.dataOffset, bytes, 'the array');
    return { shape: header.shape, data: decodeNpy(header, raw) };
  } finally {
    await file.close();
  }
}

/** Whether these bytes begin a .npy file. */
export function isNpy(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && MAGIC.equals(bytes.subarray(0, MAGIC.length));
}

/**
 * @param head the first bytes of the file, {@link NPY_HEADER_BYTES} where it has as many
 * @throws NPY_HEADER, LIMIT_EXCEEDED
 */
export function parseNpyHeader(where: string, head: Buffer): NpyHeader {
  if (!isNpy(head)) throw npyError(where, 'the bytes of an .npy file begin with \\x93NUMPY; these do not');
  const major = head[6];
  if (head.length < 12 || major === undefined || major < 1 || major > 3) {
    throw npyError(where, `expected format version 1, 2 or 3, received ${major ?? 'nothing'}`);
  }
  const lengthBytes = major === 1 ? 2 : 4;
  const length = head.readUIntLE(8, lengthBytes);
  if (length > MAX_HEADER_BYTES) throw limitExceeded(where, `the .npy header has ${length} bytes`, MAX_HEADER_BYTES);
  const dataOffset = 8 + lengthBytes + length;
  if (head.length < dataOffset) {
    throw npyError(where, `the header is declared as ${length} bytes, but only ${head.length} bytes are there`);
  }
  const text = head.toString(major === 3 ? 'utf8' : 'latin1', 8 + lengthBytes, dataOffset);
  return { ...parseDictionary(where, text), dataOffset };
}

/** The keys may come in any order; the values are always written in these forms. */
function parseDictionary(where: string, text: string): Omit<NpyHeader, 'dataOffset'> {
  const fortran = /'fortran_order':\s*(True|False)\b/.exec(text)?.[1];
  const tuple = /'shape':\s*\(([\d\sL,]*)\)/.exec(text)?.[1]; // 3L: written by Python 2
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1] ?? /'descr':\s*(\[)/.exec(text)?.[1];
  if (!/^\s*\{[\s\S]*\}\s*$/.test(text) || fortran === undefined || tuple === undefined || descr === undefined) {
    throw npyError(where, "expected a header with 'descr', 'fortran_order' and 'shape'");
  }
  const sizes = tuple.split(',').map((size) => size.trim().replace(/L$/, ''));
  if (sizes.at(-1) === '') sizes.pop(); // (3,) and ()
  if (!sizes.every((size) => /^\d{1,16}$/.test(size))) throw npyError(where, `the shape (${tuple}) is not readable`);
  return {
    descr: descr === '[' ? 'a structure' : descr,
    dtype: DTYPES.get(descr.replace(/^[<>|=]/, '')),
    littleEndian: !descr.startsWith('>'),
    fortranOrder: fortran === 'True',
    shape: sizes.map(Number),
  };
}

/**
 * Bytes of the numbers that a header declares.
 * @throws DTYPE_UNSUPPORTED, LIMIT_EXCEEDED, TENSOR_SHAPE
 */
export function npyDataBytes(where: string, { dtype, descr, shape }: NpyHeader): number {
  if (dtype === undefined) {
    throw new FormatError({
      code: 'DTYPE_UNSUPPORTED',
      message: `${where}: the array's type is ${descr}; expected a float, integer or boolean type`,
      hint: 'save it again from Python with array.astype("float32")',
    });
  }
  return checkTensor(where, 'array', dtype, shape) * DTYPE_BYTES[dtype];
}

/** @param raw exactly the bytes of {@link npyDataBytes} */
export function decodeNpy({ dtype, littleEndian, fortranOrder, shape }: NpyHeader, raw: Uint8Array): Float32Array {
  const values = toFloat32(raw, dtype ?? 'float32', littleEndian);
  return fortranOrder && shape.length > 1 ? fromFortranOrder(values, shape) : values;
}

/** First index fastest -> last index fastest. */
function fromFortranOrder(values: Float32Array, shape: readonly number[]): Float32Array {
  const out = new Float32Array(values.length);
  const rank = shape.length;
  const steps = shape.map((_, axis) => elementsOf(shape.slice(0, axis)));
  const index = new Array<number>(rank).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = values[from]!;
    for (let axis = rank - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= steps[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** The bytes of a version 1.0 .npy file of float32 in C order, as numpy.save writes them. */
export function encodeNpy({ shape, data }: NpyArray): Buffer {
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const dictionary = `{'descr': '<f4', 'fortran_order': False, 'shape': (${tuple}), }`;
  const length = Math.ceil((10 + dictionary.length + 1) / 64) * 64; // the numbers start at a multiple of 64
  const head = Buffer.alloc(length, ' ');
  MAGIC.copy(head);
  head[6] = 1;
  head[7] = 0;
  head.writeUInt16LE(length - 10, 8);
  head.write(dictionary, 10, 'latin1');
  head[length - 1] = 0x0a;
  return Buffer.concat([head, bytesOf(data)]);
}

function npyError(where: string, message: string): FormatError {
  return new FormatError({ code: 'NPY_HEADER', message: `${where}: ${message}`, hint: DAMAGED_HINT });
}
