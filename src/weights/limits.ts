/**
 * What a weights file may declare. Each limit is far above every published network and far below what would exhaust
 * the machine, so a damaged or hostile file ends in an error and not in a full memory.
 */

import { FormatError } from '../errors.js';
import { DTYPE_BYTES, elementsOf } from './float-formats.js';
import type { FileDtype, TensorInfo } from './source.js';

/** ViT-H/14 has 500 tensors, a ResNet-152 with optimiser state about 3,000. */
export const MAX_TENSORS = 100_000;

/** numpy's limit before version 2 (NPY_MAXDIMS); HDF5's is the same (H5S_MAX_RANK). Convolutions need 5 at most. */
const MAX_RANK = 32;

/** The largest tensor of a published classifier is VGG-16's fc6 with 411 MB; Node's typed arrays end at 4 GiB. */
export const MAX_TENSOR_BYTES = 2 ** 31;

/** A path of layer names; the longest published is below 200 characters. */
export const MAX_NAME_LENGTH = 4096;

/** Deflate expands at most 1032 times (zlib's technical notes), so anything beyond is a lie about the size. */
export const MAX_DEFLATE_RATIO = 1032;

/**
 * Elements of one declared tensor.
 * @throws TENSOR_SHAPE, LIMIT_EXCEEDED
 */
export function checkTensor(path: string, name: string, dtype: FileDtype, shape: readonly unknown[]): number {
  if (name.length > MAX_NAME_LENGTH) {
    throw limitExceeded(path, `the name ${quote(name)} has ${name.length} characters`, MAX_NAME_LENGTH);
  }
  if (shape.length > MAX_RANK) {
    throw limitExceeded(path, `tensor ${quote(name)} has ${shape.length} dimensions`, MAX_RANK);
  }
  const sizes: number[] = [];
  for (const size of shape) {
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
      throw new FormatError({
        code: 'TENSOR_SHAPE',
        message: `${path}: tensor ${quote(name)}: expected whole, non-negative sizes, received [${shown(shape)}]`,
        hint: DAMAGED_HINT,
      });
    }
    sizes.push(size);
  }
  const elements = sizes.includes(0) ? 0 : elementsOf(sizes);
  if (!(elements * DTYPE_BYTES[dtype] <= MAX_TENSOR_BYTES) || elements * 4 > MAX_TENSOR_BYTES) {
    throw limitExceeded(path, `tensor ${quote(name)} [${sizes.join(', ')}] has ${elements} numbers`, MAX_TENSOR_BYTES);
  }
  return elements;
}

/** @throws LIMIT_EXCEEDED */
export function checkTensorCount(path: string, count: number): void {
  if (count > MAX_TENSORS) throw limitExceeded(path, `the file declares ${count} tensors`, MAX_TENSORS);
}

export function limitExceeded(path: string, what: string, limit: number): FormatError {
  return new FormatError({
    code: 'LIMIT_EXCEEDED',
    message: `${path}: ${what}; expected at most ${limit}`,
    hint: DAMAGED_HINT,
  });
}

export const DAMAGED_HINT = 'the file is damaged or not what it claims to be: fetch it again and compare its sha256';

/** Values as they are shown in errors: what is no number by its kind alone, since a file may nest others without end. */
export function shown(values: readonly unknown[]): string {
  const isNumber = (value: unknown): boolean => typeof value === 'number' || typeof value === 'bigint';
  const texts = values.slice(0, MAX_RANK).map((value) => (isNumber(value) ? String(value) : typeof value));
  return [...texts, ...(values.length > MAX_RANK ? ['...'] : [])].join(', ');
}

/** A name as it is shown in errors: cut and with control characters escaped. */
export function quote(name: string): string {
  const text = JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}...` : name);
  return text.length > 400 ? `${text.slice(0, 397)}..."` : text;
}

/** The tensors of an open file by name. A `Map`, so that `__proto__` is a name like any other. */
export class TensorTable<Entry extends TensorInfo> {
  readonly #byName = new Map<string, Entry>();

  constructor(readonly path: string) {}

  /** @throws TENSOR_TWICE, LIMIT_EXCEEDED */
  add(entry: Entry): void {
    if (this.#byName.has(entry.name)) {
      throw new FormatError({
        code: 'TENSOR_TWICE',
        message: `${this.path}: two tensors are called ${quote(entry.name)}; expected unique names`,
        hint: DAMAGED_HINT,
      });
    }
    this.#byName.set(entry.name, entry);
    checkTensorCount(this.path, this.#byName.size);
  }

  /** @throws TENSOR_ABSENT */
  get(name: string): Entry {
    const entry = this.#byName.get(name);
    if (entry === undefined) {
      throw new FormatError({
        code: 'TENSOR_ABSENT',
        message: `${this.path}: no tensor is called ${quote(name)}; the file has ${this.#byName.size} tensors`,
        hint: `list them with: tl weights ${this.path}`,
      });
    }
    return entry;
  }

  /** Names, number types and shapes only, in file order. */
  infos(): TensorInfo[] {
    return [...this.#byName.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  }

  /** Every entry in file order. */
  all(): Entry[] {
    return [...this.#byName.values()];
  }
}
