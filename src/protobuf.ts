/** Writes the wire format of protocol buffers. @see https://protobuf.dev/programming-guides/encoding */

/** A whole number from 0 to 2^53 - 1, seven bits a byte, the lowest first. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.of(...bytes, rest);
}

/** A field with a number; none for 0, which protocol buffers leave out. */
export const numberField = (field: number, value: number): Buffer =>
  value === 0 ? Buffer.alloc(0) : Buffer.concat([varint(field * 8), varint(value)]);

/** A field with a message in it. */
export const messageField = (field: number, message: Buffer): Buffer =>
  Buffer.concat([varint(field * 8 + 2), varint(message.length), message]);

/** A field with 32 bits of their own; none for 0. */
export function fixed32Field(field: number, value: number): Buffer {
  if (value === 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return Buffer.concat([varint(field * 8 + 5), bytes]);
}

/** A field with text. */
export const textField = (field: number, text: string): Buffer => messageField(field, Buffer.from(text));

/** A repeated field of numbers, packed. Negative ones are not written here. */
export const packedField = (field: number, values: readonly number[]): Buffer =>
  messageField(field, Buffer.concat(values.map(varint)));

/** A field with a float32; zero is written too. */
export function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(field * 8 + 5), bytes]);
}
