/** Tables and vectors of a FlatBuffer. @see https://flatbuffers.dev/internals/ */
import type { Builder, Offset } from 'flatbuffers';
import type { ScalarField } from './schema.js';

type FieldType = ScalarField['type'] | 'offset';
/** A field of a table, left out where it has its default value. */
export type Field = readonly [slot: number, type: FieldType, value: number, fallback?: number];

/** @param slots how many fields the table has in its schema, or at least those that are given */
export function table(b: Builder, slots: number, fields: readonly Field[]): Offset {
  b.startObject(Math.max(slots, ...fields.map(([slot]) => slot + 1)));
  for (const [slot, type, value, fallback = 0] of fields) {
    switch (type) {
      case 'offset':
        b.addFieldOffset(slot, value, 0);
        break;
      case 'bool':
      case 'int8':
        b.addFieldInt8(slot, value, fallback);
        break;
      case 'int32':
        b.addFieldInt32(slot, value, fallback);
        break;
      case 'float32':
        b.addFieldFloat32(slot, value, fallback);
        break;
    }
  }
  return b.endObject();
}

export function int32Vector(b: Builder, values: readonly number[]): Offset {
  b.startVector(4, values.length, 4);
  for (const value of [...values].reverse()) b.addInt32(value);
  return b.endVector();
}

export function offsetVector(b: Builder, offsets: readonly Offset[]): Offset {
  b.startVector(4, offsets.length, 4);
  for (const offset of [...offsets].reverse()) b.addOffset(offset);
  return b.endVector();
}

export function float32Vector(b: Builder, values: ArrayLike<number>): Offset {
  b.startVector(4, values.length, 4);
  for (let i = values.length - 1; i >= 0; i--) b.addFloat32(values[i]!);
  return b.endVector();
}
