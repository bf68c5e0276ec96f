/**
 * The wire format of protocol buffers: enough to read TensorFlow's records, which come without a schema at run time.
 * @see https://protobuf.dev/programming-guides/encoding
 */
import { FormatError } from '../../errors.js';
import { DAMAGED_HINT, limitExceeded } from '../limits.js';

/** One field of a message: `value` of a number, `bytes` of everything with a length, or as the number is written. */
export interface Field {
  readonly number: number;
  readonly value: number;
  readonly bytes: Buffer;
  /** Where `bytes` begin in the message. */
  readonly offset: number;
}

const NONE = Buffer.alloc(0);

/** A list of the tensors of a checkpoint has one for each; fields here take fifty times the two bytes of the shortest. */
const MOST_FIELDS = 1_000_000;

/** 64 bits, seven a byte. */
const MOST_VARINT_BYTES = 10;

/** A varint and where it ends. @throws CHECKPOINT_DAMAGED */
export function varintAt(where: string, bytes: Buffer, at: number): { value: number; next: number } {
  let value = 0;
  let factor = 1;
  for (let i = at; i < at + MOST_VARINT_BYTES; i++) {
    const byte = bytes[i];
    if (byte === undefined) break;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return { value, next: i + 1 };
    factor *= 128;
  }
  throw damaged(where, `no number at byte ${at}`);
}

/** A varint of type int32 or int64: negative ones are written as 64 bits in two's complement. @throws CHECKPOINT_DAMAGED */
export function signedVarintAt(where: string, bytes: Buffer, at: number): { value: number; next: number } {
  const unsigned = varintAt(where, bytes, at);
  if (unsigned.next - at < MOST_VARINT_BYTES) return unsigned;
  let bits = 0n;
  for (let i = unsigned.next - 1; i >= at; i--) bits = (bits << 7n) | BigInt(bytes[i]! & 0x7f);
  return { value: Number(BigInt.asIntN(64, bits)), next: unsigned.next };
}

/**
 * The fields of a message in their order.
 * @param cut the message may end in the middle of its last field, whose bytes are then those that are there
 * @throws CHECKPOINT_DAMAGED
 */
export function fieldsOf(where: string, message: Buffer, cut = false): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < message.length; ) {
    if (fields.length >= MOST_FIELDS) throw limitExceeded(where, 'a message has more fields', MOST_FIELDS);
    const tag = varintAt(where, message, at);
    const number = Math.floor(tag.value / 8);
    switch (tag.value % 8) {
      case 0: {
        const { value, next } = varintAt(where, message, tag.next);
        fields.push({ number, value, bytes: message.subarray(tag.next, next), offset: tag.next });
        at = next;
        break;
      }
      case 1:
        at = push(tag.next, 8, number);
        break;
      case 2: {
        const { value: length, next } = varintAt(where, message, tag.next);
        at = push(next, length, number);
        break;
      }
      case 5:
        at = push(tag.next, 4, number);
        break;
      default:
        throw damaged(where, `a field of wire type ${tag.value % 8} at byte ${at}`);
    }
  }
  return fields;

  function push(offset: number, length: number, number: number): number {
    const end = offset + length;
    if (end > message.length && !cut)
      throw damaged(where, `${length} bytes declared, ${message.length - offset} there`);
    fields.push({ number, value: length, bytes: message.subarray(offset, Math.min(end, message.length)), offset });
    return end;
  }
}

/**
 * Where a field of a message in messages lies in the outermost, by their numbers from the outside in, so that large
 * contents are read on their own. The message may end in the middle of the innermost.
 * @returns its offset and the length it declares; undefined where it is absent
 * @throws CHECKPOINT_DAMAGED
 */
export function locateField(
  where: string,
  message: Buffer,
  [number, ...inner]: readonly [number, ...number[]],
): { offset: number; bytes: number } | undefined {
  const field = fieldsOf(where, message, true).findLast((each) => each.number === number);
  if (field === undefined) return undefined;
  const [next, ...others] = inner;
  if (next === undefined) return { offset: field.offset, bytes: field.value };
  const found = locateField(where, field.bytes, [next, ...others]);
  return found === undefined ? undefined : { offset: field.offset + found.offset, bytes: found.bytes };
}

/** The number of a field, 0 where it is absent, as protocol buffers leave zeros out. */
export const numberOf = (fields: readonly Field[], number: number): number =>
  fields.findLast((field) => field.number === number)?.value ?? 0;

/** The bytes of a field, none where it is absent. */
export const bytesOf = (fields: readonly Field[], number: number): Buffer =>
  fields.findLast((field) => field.number === number)?.bytes ?? NONE;

/** The text of a field. */
export const textOf = (fields: readonly Field[], number: number): string => bytesOf(fields, number).toString('utf8');

/** Every occurrence of a repeated field. */
export const allOf = (fields: readonly Field[], number: number): Buffer[] =>
  fields.filter((field) => field.number === number).map(({ bytes }) => bytes);

export function damaged(where: string, what: string): FormatError {
  return new FormatError({ code: 'CHECKPOINT_DAMAGED', message: `${where}: ${what}`, hint: DAMAGED_HINT });
}
