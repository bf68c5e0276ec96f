/** Numbers inside a TensorProto. @see tensorflow/core/framework/tensor.proto */
import { DTYPE_BYTES, toFloat32 } from '../float-formats.js';
import { quote } from '../limits.js';
import type { FileDtype } from '../source.js';
import { bytesOf, damaged, type Field, varintAt } from './protobuf.js';

const CONTENT = 4;
/** Fields with little-endian numbers one after the other, by type. */
const PACKED: Readonly<Partial<Record<FileDtype, number>>> = { float32: 5, float64: 6 };
/** Fields with varints; those of float16 and bfloat16 are their bits. */
const VARINTS: Readonly<Partial<Record<FileDtype, number>>> = { int64: 10, bool: 11, float16: 13, bfloat16: 13 };
const INT_VALUES = 7;

/** The numbers that are written down, which may be fewer than the shape has. @throws CHECKPOINT_DAMAGED */
export function tensorValues(path: string, name: string, tensor: readonly Field[], dtype: FileDtype): Float32Array {
  const packed = bytesOf(tensor, PACKED[dtype] ?? CONTENT);
  const raw = packed.length > 0 ? packed : bytesOf(tensor, CONTENT);
  if (raw.length > 0) {
    if (raw.length % DTYPE_BYTES[dtype] !== 0)
      throw damaged(path, `${quote(name)} has ${raw.length} bytes of ${dtype}`);
    return toFloat32(raw, dtype);
  }
  const varints = bytesOf(tensor, VARINTS[dtype] ?? INT_VALUES);
  const values: number[] = [];
  for (let at = 0; at < varints.length; ) {
    const { value, next } = varintAt(path, varints, at);
    values.push(value);
    at = next;
  }
  const isHalf = dtype === 'float16' || dtype === 'bfloat16';
  return isHalf ? toFloat32(new Uint8Array(Uint16Array.from(values).buffer), dtype) : Float32Array.from(values);
}
