/** The state of a pickle while it is read: the input, the stack with its marks, and the memo. */

import type { FormatError } from '../../errors.js';
import { DAMAGED_HINT, limitExceeded, quote } from '../limits.js';
import {
  PickleDict,
  PickleGlobal,
  PickleIncomplete,
  type PickleObject,
  type PickleRules,
  PickleTuple,
  type PickleValue,
  pickleDamaged,
  pickleRefused,
} from './pickle-values.js';

/** Digits of one whole number. torch.save's longest is its magic number with 24; BigInt() is quadratic in them. */
const MAX_DIGITS = 512;

/**
 * Values on the stack, one after the other. A checkpoint of a ViT-H with its optimiser pushes 100,000; a hostile file may
 * push an empty dictionary, of 200 bytes here, with each of its own bytes.
 */
const MAX_VALUES = 1_000_000;

export class PickleMachine {
  readonly rules: PickleRules;
  readonly memo = new Map<number, PickleValue>();
  readonly #bytes: Buffer;
  #at: number;
  #stack: PickleValue[] = [];
  #values = 0;
  /** Stacks set aside by marks, as CPython does it. */
  readonly #below: PickleValue[][] = [];

  constructor(bytes: Buffer, start: number, rules: PickleRules) {
    this.#bytes = bytes;
    this.#at = start;
    this.rules = rules;
  }

  get position(): number {
    return this.#at;
  }

  get isEmpty(): boolean {
    return this.#stack.length === 0;
  }

  // Input

  /** @throws PickleIncomplete */
  take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) {
      throw new PickleIncomplete({
        code: 'PICKLE_DAMAGED',
        message: `${this.rules.path}: the pickle ends in the middle: ${length} bytes are expected at offset ${this.#at}, ${this.#bytes.length - this.#at} are there`,
        hint: DAMAGED_HINT,
      });
    }
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  byte(): number {
    return this.take(1)[0]!;
  }

  /** Unsigned 32 bits. */
  count4(): number {
    return this.take(4).readUInt32LE();
  }

  /** Unsigned 64 bits; rounded above 2^53, where no file reaches. */
  count8(): number {
    return Number(this.take(8).readBigUInt64LE());
  }

  /** Up to the next line feed, which is not part of it. */
  line(): string {
    const feed = this.#bytes.indexOf(0x0a, this.#at);
    const length = (feed < 0 ? this.#bytes.length : feed) - this.#at;
    return this.take(length + 1).toString('latin1', 0, length);
  }

  utf8(length: number): string {
    return this.take(length).toString('utf8');
  }

  latin1(length: number): string {
    return this.take(length).toString('latin1');
  }

  /** A copy: the input's memory is not kept for a few bytes. */
  bytes(length: number): Uint8Array {
    return Uint8Array.from(this.take(length));
  }

  decimal(text: string): number | bigint {
    if (!/^-?\d+$/.test(text)) throw this.fail(`expected a whole number, received ${quote(text)}`);
    if (text.length > MAX_DIGITS) throw limitExceeded(this.rules.path, `a number of ${text.length} digits`, MAX_DIGITS);
    return shortest(BigInt(text));
  }

  /** Little-endian two's complement. */
  long(length: number): number | bigint {
    if (length < 0 || length > MAX_DIGITS / 2) {
      throw limitExceeded(this.rules.path, `a number of ${length} bytes`, MAX_DIGITS / 2);
    }
    if (length === 0) return 0;
    const digits = Buffer.from(this.take(length)).reverse().toString('hex');
    return shortest(BigInt.asIntN(8 * length, BigInt(`0x${digits}`)));
  }

  // Stack

  push(value: PickleValue): void {
    this.#count();
    this.#stack.push(value);
  }

  #count(): void {
    if (++this.#values > MAX_VALUES) throw limitExceeded(this.rules.path, 'the pickle has more values', MAX_VALUES);
  }

  pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined) throw this.fail('a value is taken from an empty stack');
    return value;
  }

  top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined) throw this.fail('a value is taken from an empty stack');
    return value;
  }

  popTuple(size: number): PickleTuple {
    if (this.#stack.length < size) throw this.fail(`a tuple of ${size} is made of ${this.#stack.length} values`);
    return new PickleTuple(this.#stack.splice(-size));
  }

  mark(): void {
    this.#count();
    this.#below.push(this.#stack);
    this.#stack = [];
  }

  /** Everything above the last mark. */
  popMark(): PickleValue[] {
    const values = this.#stack;
    const below = this.#below.pop();
    if (below === undefined) throw this.fail('a mark is missing');
    this.#stack = below;
    return values;
  }

  // Memo

  remember(index: number): void {
    this.memo.set(index, this.top());
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fail(`memo ${index} is used before it is set`);
    this.push(value);
  }

  memoIndex(line: string): number {
    if (!/^\d{1,10}$/.test(line)) throw this.fail(`memo index ${quote(line)} is not a number`);
    return Number(line);
  }

  // Containers and names

  append(values: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.fail('items are added to something that is no list');
    for (const value of values) list.push(value);
  }

  setItems(pairs: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict)) throw this.fail('items are set in something that is no dictionary');
    if (pairs.length % 2 !== 0) throw this.fail('a dictionary has a key without a value');
    for (let i = 0; i < pairs.length; i += 2) dict.entries.set(pairs[i]!, pairs[i + 1]!);
  }

  find(module: PickleValue, name: PickleValue): PickleGlobal | PickleObject {
    if (typeof module !== 'string' || typeof name !== 'string') throw this.fail('a class name is not a string');
    const found = this.rules.find(`${module}.${name}`);
    if (found === undefined) throw pickleRefused(this.rules.path, `${module}.${name}`);
    return found;
  }

  make(type: PickleValue, args: PickleValue): PickleValue {
    if (!(args instanceof PickleTuple)) throw this.fail('expected the arguments of a call to be a tuple');
    if (!(type instanceof PickleGlobal)) throw this.fail('expected a class or function to be called');
    if (type.make === undefined) throw pickleRefused(this.rules.path, `a call of ${type.name}`);
    return type.make(args.items);
  }

  fail(message: string, cause?: unknown): FormatError {
    return pickleDamaged(this.rules.path, `the pickle is damaged near offset ${this.#at}: ${message}`, cause);
  }
}

function shortest(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
