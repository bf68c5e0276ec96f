/**
 * Fields of protocol buffers, in bytes; protobufjs writes them. Each function gives whole fields, so that a message is
 * fields one after the other, and what is large can go to a file without being copied into its message first.
 * @see https://protobuf.dev/programming-guides/encoding
 */
import protobuf from 'protobufjs/minimal.js';

/** Wire types, by the same page. */
const [VARINT, LENGTH, FIXED32] = [0, 2, 5];

type Writer = protobuf.Writer;

const startField = (field: number, type: number): Writer => protobuf.Writer.create().uint32(field * 8 + type);
const bytesOf = (writer: Writer): Buffer => writer.finish() as Buffer; // it is one wherever there are Buffers

/** A whole number from 0 to 2^53 - 1, seven bits a byte, the lowest first. */
export const varint = (value: number): Buffer => bytesOf(protobuf.Writer.create().uint64(value));

/** A field with a number; none for 0, which protocol buffers leave out. */
export const numberField = (field: number, value: number): Buffer =>
  value === 0 ? Buffer.alloc(0) : bytesOf(startField(field, VARINT).uint64(value));

/** A field with a whole number that may be negative, up to 53 bits; zero is written too, as a `oneof` needs it. */
export const integerField = (field: number, value: number): Buffer => bytesOf(startField(field, VARINT).int64(value));

/** A field with a truth value; false is written too. */
export const flagField = (field: number, value: boolean): Buffer => bytesOf(startField(field, VARINT).bool(value));

/** A field with a message in it. */
export const messageField = (field: number, message: Uint8Array): Buffer =>
  Buffer.concat([fieldHead(field, message.length), message]);

/** What comes before a message, or before bytes, of a length. */
export const fieldHead = (field: number, length: number): Buffer => bytesOf(startField(field, LENGTH).uint32(length));

/** A field with 32 bits of their own; none for 0. */
export const fixed32Field = (field: number, value: number): Buffer =>
  value === 0 ? Buffer.alloc(0) : bytesOf(startField(field, FIXED32).fixed32(value));

/** A field with text. */
export const textField = (field: number, text: string): Buffer => bytesOf(startField(field, LENGTH).string(text));

/** A repeated field of whole numbers, packed. */
export function packedField(field: number, values: readonly number[]): Buffer {
  const writer = startField(field, LENGTH).fork();
  for (const value of values) writer.int64(value);
  return bytesOf(writer.ldelim());
}

/** A field with a float32; zero is written too. */
export const floatField = (field: number, value: number): Buffer => bytesOf(startField(field, FIXED32).float(value));
