/** Numbers inside a TensorProto. @see tensorflow/core/framework/tensor.proto */
import { DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { quote } from '../limits.js';
import type { FileDtype } from '../source.js';
import { bytesOf, damaged, type Field, signedVarintAt, varintAt } from './protobuf.js';

const CONTENT = 4;

/** Fields of floats and doubles, which lie there little-endian one after the other. */
const FIXED: Readonly<Partial<Record<FileDtype, number>>> = { float32: 5, float64: 6 };

/** Fields with varints; those of float16 and bfloat16 are their bits. Types of up to 32 bits share `int_val`. */
const VARINTS: Readonly<Partial<Record<FileDtype, number>>> = {
  int8: 7,
  uint8: 7,
  int16: 7,
  uint16: 7,
  int32: 7,
  int64: 10,
  bool: 11,
  float16: 13,
  bfloat16: 13,
  uint32: 16,
  uint64: 17,
};

/** The fields in which all numbers of a tensor may lie as they are in memory, in the order in which they are looked for. */
export const runFields = (dtype: FileDtype): number[] => [CONTENT, FIXED[dtype] ?? []].flat();

/** Those of any number type. */
export const RUN_FIELDS: readonly number[] = [CONTENT, ...Object.values(FIXED)];

/** Whether a tensor has any number written down. */
export const hasNumbers = (tensor: readonly Field[]): boolean =>
  tensor.some(({ number, bytes }) => number >= CONTENT && bytes.length > 0);

/**
 * The numbers of a tensor. Where fewer are written down than its shape has, the last one stands for the rest, and none
 * means zeros: Tensor::FromProto of tensor.cc.
 * @throws CHECKPOINT_DAMAGED
 */
export function tensorValues(
  path: string,
  name: string,
  tensor: readonly Field[],
  dtype: FileDtype,
  shape: readonly number[],
): Float32Array {
  const wanted = elementsOf(shape);
  const content = bytesOf(tensor, CONTENT);
  if (content.length > 0) {
    const values = fixed(path, name, content, dtype);
    if (values.length !== wanted) throw damaged(path, `${quote(name)} has ${values.length} of ${wanted} numbers`);
    return values;
  }
  const values = written(path, name, tensor, dtype);
  if (values.length > wanted) throw damaged(path, `${quote(name)} has ${values.length} of ${wanted} numbers`);
  if (values.length === wanted) return values;
  const all = new Float32Array(wanted).fill(values.at(-1) ?? 0);
  all.set(values);
  return all;
}

/** The numbers in the field of their type, packed into one run of bytes or each in a field of its own. */
function written(path: string, name: string, tensor: readonly Field[], dtype: FileDtype): Float32Array {
  const packed = FIXED[dtype];
  if (packed !== undefined) {
    const parts = tensor.filter(({ number }) => number === packed).map(({ bytes }) => bytes);
    return fixed(path, name, parts.length === 1 ? parts[0]! : Buffer.concat(parts), dtype);
  }
  const values: number[] = [];
  const field = VARINTS[dtype];
  const varint = dtype.startsWith('int') ? signedVarintAt : varintAt;
  for (const { number, bytes } of tensor) {
    for (let at = 0; number === field && at < bytes.length; ) {
      const { value, next } = varint(path, bytes, at);
      values.push(value);
      at = next;
    }
  }
  if (dtype === 'float16' || dtype === 'bfloat16') {
    return toFloat32(new Uint8Array(Uint16Array.from(values).buffer), dtype);
  }
  return Float32Array.from(values);
}

function fixed(path: string, name: string, bytes: Buffer, dtype: FileDtype): Float32Array {
  if (bytes.length % DTYPE_BYTES[dtype] !== 0) {
    throw damaged(path, `${quote(name)} has ${bytes.length} bytes of ${dtype}`);
  }
  return toFloat32(bytes, dtype);
}
