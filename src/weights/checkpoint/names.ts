/**
 * Names of tensors and slices as keys: TensorFlow's ordered code.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/strings/ordered_code.cc
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice_util.cc
 */
import { elementsOf } from '../float-formats.js';
import { limitExceeded } from '../limits.js';
import { allOf, damaged, fieldsOf, numberOf } from './protobuf.js';

/** A box of a tensor: where it starts and how long it is in every dimension; length -1 is all of it. */
export type Slice = readonly { readonly start: number; readonly length: number }[];

/** Reads a TensorSliceProto. @see tensorflow/core/framework/tensor_slice.proto */
export function sliceOf(where: string, message: Buffer): Slice {
  return allOf(fieldsOf(where, message), 1).map((extent) => {
    const fields = fieldsOf(where, extent);
    const hasLength = fields.some(({ number }) => number === 2);
    return { start: numberOf(fields, 1), length: hasLength ? numberOf(fields, 2) : -1 };
  });
}

/** The key of one slice of a tensor. */
export function sliceKey(name: string, slice: Slice): Buffer {
  return Buffer.concat([
    increasing(0),
    escaped(name),
    increasing(slice.length),
    ...slice.flatMap(({ start, length }) => [signed(start), signed(length)]),
  ]);
}

/** The count of bytes, then the bytes, most significant first. */
function increasing(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Buffer.from([bytes.length, ...bytes]);
}

/** Zero and 255 get a second byte, and `00 01` ends the text. */
function escaped(text: string): Buffer {
  const out: number[] = [];
  for (const byte of Buffer.from(text, 'utf8')) {
    if (byte === 0) out.push(0, 0xff);
    else if (byte === 0xff) out.push(0xff, 0);
    else out.push(byte);
  }
  return Buffer.from([...out, 0, 1]);
}

/** Seven bits a byte, with the length in the leading ones of the first. */
function signed(value: number): Buffer {
  const magnitude = BigInt(value < 0 ? -value - 1 : value);
  const bits = magnitude === 0n ? 0 : magnitude.toString(2).length;
  const length = Math.max(1, Math.ceil((bits + 1) / 7));
  const bytes = Buffer.alloc(10, value < 0 ? 0xff : 0);
  bytes.writeBigInt64BE(BigInt(value), 2);
  const out = bytes.subarray(10 - length);
  const header = ((1n << BigInt(length)) - 1n) << BigInt(16 - length); // `length` ones, from the top of two bytes
  out[0]! ^= Number(header >> 8n);
  if (length > 1) out[1]! ^= Number(header & 0xffn);
  return out;
}

/** Sizes of a TensorShapeProto. @see tensorflow/core/framework/tensor_shape.proto */
export function shapeOf(where: string, message: Buffer): number[] {
  const fields = fieldsOf(where, message);
  if (numberOf(fields, 3) === 1) throw damaged(where, 'a tensor of unknown rank');
  return allOf(fields, 2).map((dimension) => numberOf(fieldsOf(where, dimension), 1));
}

/** A partitioner cuts into as many slices as there are servers of parameters. */
const MOST_SLICES = 4096;

/**
 * Puts the slices of a partitioned variable together, one in memory at a time.
 * @param read the numbers of a slice, given its sizes
 * @throws CHECKPOINT_DAMAGED where they do not fill it exactly, LIMIT_EXCEEDED, and what `read` throws
 */
export async function assemble(
  where: string,
  shape: readonly number[],
  slices: readonly Slice[],
  read: (slice: Slice, index: number, sizes: readonly number[]) => Promise<Float32Array>,
): Promise<Float32Array> {
  const boxes = slices.map((slice) => ({
    starts: shape.map((_, axis) => slice[axis]?.start ?? 0),
    sizes: boxOf(shape, slice),
  }));
  checkTiling(where, shape, boxes);
  const [only] = slices;
  if (slices.length === 1) return await read(only!, 0, shape);
  const out = new Float32Array(elementsOf(shape));
  for (const [index, slice] of slices.entries()) {
    const { starts, sizes } = boxes[index]!;
    const values = await read(slice, index, sizes);
    if (values.length !== elementsOf(sizes))
      throw damaged(where, `a slice of [${sizes.join(', ')}] has ${values.length} numbers`);
    place(out, shape, starts, sizes, values);
  }
  return out;
}

interface Box {
  readonly starts: readonly number[];
  readonly sizes: readonly number[];
}

/** Boxes of which none reaches beyond the tensor, no two meet, and all together have its numbers, fill it exactly. */
function checkTiling(where: string, shape: readonly number[], boxes: readonly Box[]): void {
  if (boxes.length > MOST_SLICES) throw limitExceeded(where, `a tensor of ${boxes.length} slices`, MOST_SLICES);
  const text = ({ starts, sizes }: Box) => `[${sizes.join(', ')}] at [${starts.join(', ')}]`;
  let filled = 0;
  for (const [i, box] of boxes.entries()) {
    const fits = box.sizes.every((size, axis) => {
      const start = box.starts[axis]!;
      return size >= 0 && start >= 0 && start + size <= shape[axis]!;
    });
    if (!fits) throw damaged(where, `a slice of ${text(box)} does not fit [${shape.join(', ')}]`);
    filled += elementsOf(box.sizes);
    for (const other of boxes.slice(0, i)) {
      const meet = box.sizes.every(
        (size, axis) =>
          box.starts[axis]! < other.starts[axis]! + other.sizes[axis]! &&
          other.starts[axis]! < box.starts[axis]! + size,
      );
      if (meet) throw damaged(where, `its slices ${text(other)} and ${text(box)} overlap`);
    }
  }
  if (filled !== elementsOf(shape)) throw damaged(where, `its slices have ${filled} of ${elementsOf(shape)} numbers`);
}

/** Copies the numbers of a box to their place, a run along the last axis at a time. */
function place(
  out: Float32Array,
  shape: readonly number[],
  starts: readonly number[],
  sizes: readonly number[],
  values: Float32Array,
): void {
  const run = sizes.at(-1) ?? 1;
  for (let from = 0; from < values.length; from += run) {
    let [to, rest, stride] = [0, from / run, shape.at(-1) ?? 1];
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      to += (starts[axis]! + (rest % sizes[axis]!)) * stride;
      rest = Math.floor(rest / sizes[axis]!);
      stride *= shape[axis]!;
    }
    out.set(values.subarray(from, from + run), to + (starts.at(-1) ?? 0));
  }
}

/** Sizes of a slice of a tensor. */
const boxOf = (shape: readonly number[], slice: Slice): number[] =>
  shape.map((size, axis) => {
    const { start = 0, length = -1 } = slice[axis] ?? {};
    return length === -1 ? size - start : length;
  });
