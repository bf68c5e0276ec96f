/** Tensors on their way into a file, whatever its format. */
import type { Shape } from '../engine/graph.js';
import { ToolkitError } from '../errors.js';
import { bytesOf, elementsOf, toFloat16 } from './float-formats.js';
import { quote } from './limits.js';

/** A tensor to be written; `read` is called once, when its turn comes. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: Shape;
  /** Of an int64, the numbers are whole and below 2^24. */
  readonly dtype: 'float32' | 'int64';
  /** @returns exactly as many numbers as the shape has, in C order, which the writer may keep */
  read(): Promise<Float32Array>;
}

/**
 * A tensor's numbers as they lie in a file, little-endian.
 * @throws TENSOR_SHAPE where there are more or fewer than its shape has, and what `read` throws
 */
export async function readBytes(path: string, { name, shape, dtype, read }: TensorToWrite): Promise<Uint8Array> {
  const values = await read();
  if (values.length !== elementsOf(shape)) throw wrongCount(path, { name, shape }, values.length);
  return bytesAs(values, dtype);
}

/** Numbers as they lie in a file, little-endian. */
export function bytesAs(values: Float32Array, dtype: 'float32' | 'float16' | 'int64'): Uint8Array {
  if (dtype === 'int64') return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return bytesOf(dtype === 'float16' ? toFloat16(values) : values);
}

/** Of a tensor that was given another count of numbers than its shape has. */
export function wrongCount(
  path: string,
  { name, shape }: Pick<TensorToWrite, 'name' | 'shape'>,
  received: number,
): ToolkitError {
  return new ToolkitError({
    code: 'TENSOR_SHAPE',
    message: `${path}: tensor ${quote(name)} [${shape.join(', ')}] needs ${elementsOf(shape)} numbers, received ${received}`,
    hint: 'give the tensor its own shape',
  });
}
