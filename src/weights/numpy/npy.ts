/**
 * NumPy's .npy: a header that is a Python dictionary, then raw numbers.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */

import { FormatError } from '../../errors.js';
import { withByteFile } from '../byte-file.js';
import { bytesOf, DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { checkTensor, DAMAGED_HINT, limitExceeded } from '../limits.js';
import type { Memory } from '../plan/permute.js';
import type { FileDtype } from '../source.js';

/** \x93NUMPY, then a major and a minor version byte. */
const MAGIC = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]);

/** numpy itself refuses headers above 10,000 characters unless told otherwise (max_header_size of read_array). */
const MAX_HEADER_BYTES = 10_000;

/** Enough for every header that is accepted. */
export const NPY_HEADER_BYTES = 12 + MAX_HEADER_BYTES;

/** Kind and width of numpy's type codes. V2 is what numpy writes for the bfloat16 of JAX (ml_dtypes): `<V2`, once `|V2`. */
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

/** What stands for the list of fields that a structured type is written as. */
const STRUCTURE = 'a structure';

/** An array in C order. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface NpyHeader {
  /** Absent for a type that is not read: text, objects, structures, complex numbers, long doubles. */
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
  return await withByteFile(path, async (file) => {
    const head = await file.read(0, Math.min(NPY_HEADER_BYTES, file.size), 'the header');
    const header = parseNpyHeader(path, head);
    const bytes = npyDataBytes(path, header);
    if (header.dataOffset + bytes < file.size) {
      throw npyError(path, `${file.size - header.dataOffset - bytes} bytes follow the last number`);
    }
    const raw = await file.read(header.dataOffset, bytes, 'the array');
    const decoder = npyDecoder(header);
    decoder.add(raw);
    return { shape: header.shape, data: decoder.numbers() };
  });
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
    descr: descr === '[' ? STRUCTURE : descr,
    dtype: DTYPES.get(descr.replace(/^[<>|=]/, '')),
    littleEndian: !descr.startsWith('>'),
    fortranOrder: fortran === 'True',
    shape: sizes.map(Number),
  };
}

/**
 * What an array holds that is not made of numbers, by numpy's kinds of types; undefined where it is.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.dtype.kind.html
 */
export function contentBesideNumbers({ dtype, descr }: NpyHeader): string | undefined {
  if (dtype !== undefined) return undefined;
  if (descr === STRUCTURE) return 'structures';
  const content = {
    O: 'Python objects, a pickle that is never executed',
    U: 'text',
    S: 'text',
    a: 'text',
    V: 'raw bytes',
    M: 'dates',
    m: 'times',
  }[descr.replace(/^[<>|=]/, '').charAt(0)];
  return content === undefined ? undefined : `${content} (${descr})`;
}

/**
 * Bytes of the numbers that a header declares.
 * @throws DTYPE_UNSUPPORTED, LIMIT_EXCEEDED, TENSOR_SHAPE
 */
export function npyDataBytes(where: string, header: NpyHeader): number {
  const { dtype, descr, shape } = header;
  if (dtype === undefined) {
    const content = contentBesideNumbers(header);
    throw new FormatError({
      code: 'DTYPE_UNSUPPORTED',
      message: `${where}: the array holds ${content ?? `numbers of type ${descr}`}; expected floats of at most 64 bits, integers or booleans`,
      hint: 'save it again from Python with array.astype("float32")',
    });
  }
  return checkTensor(where, 'array', dtype, shape) * DTYPE_BYTES[dtype];
}

/** Takes the bytes behind a header, in pieces of any length, and makes float32 in C order of them. */
export interface NpyDecoder {
  /** @param bytes are free to be overwritten afterwards */
  add(bytes: Uint8Array): void;
  /** All numbers, once every byte of {@link npyDataBytes} was added. */
  numbers(): Float32Array;
}

/** Allocates the array alone: pieces are converted, and put in C order, as they come. */
export function npyDecoder(
  { dtype = 'float32', littleEndian, fortranOrder, shape }: NpyHeader,
  memory: Memory = (length) => new Float32Array(length),
): NpyDecoder {
  const width = DTYPE_BYTES[dtype];
  const out = memory(elementsOf(shape));
  const place = fortranOrder && shape.length > 1 ? fortranPlacer(out, shape) : inOrderPlacer(out);
  const split = new Uint8Array(width); // a number whose bytes came in two pieces
  let begun = 0;
  return {
    add(bytes) {
      let rest = bytes;
      if (begun > 0) {
        const more = Math.min(width - begun, rest.length);
        split.set(rest.subarray(0, more), begun);
        rest = rest.subarray(more);
        begun += more;
        if (begun < width) return;
        place(toFloat32(split, dtype, littleEndian));
      }
      begun = rest.length % width;
      const whole = rest.subarray(0, rest.length - begun);
      // converted in steps, so that beside the array only a step is in memory
      for (let at = 0; at < whole.length; at += STEP_BYTES) {
        place(toFloat32(whole.subarray(at, at + STEP_BYTES), dtype, littleEndian));
      }
      split.set(rest.subarray(rest.length - begun));
    },
    numbers: () => out,
  };
}

/** A multiple of every type's width. */
const STEP_BYTES = 2 ** 18;

type Place = (values: Float32Array) => void;

function inOrderPlacer(out: Float32Array): Place {
  let at = 0;
  return (values) => {
    out.set(values, at);
    at += values.length;
  };
}

/** Values come with the first index running fastest, and go where the last one does. */
function fortranPlacer(out: Float32Array, shape: readonly number[]): Place {
  const steps = shape.map((_, axis) => elementsOf(shape.slice(axis + 1)));
  const index = new Array<number>(shape.length).fill(0);
  let to = 0;
  return (values) => {
    for (const value of values) {
      out[to] = value;
      for (let axis = 0; axis < index.length; axis++) {
        to += steps[axis]!;
        if (++index[axis]! < shape[axis]!) break;
        to -= steps[axis]! * shape[axis]!;
        index[axis] = 0;
      }
    }
  };
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
