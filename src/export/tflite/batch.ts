/** A written model for one picture at a time, for a runtime that knows no other. */
import { ByteBuffer } from 'flatbuffers';
import { modelSlots, subgraphSlots, tensorSlots } from './schema.js';

/**
 * The same model with the batch size 1 in the place of any; the bytes are changed where they lie.
 * @see https://flatbuffers.dev/internals/ for tables, their fields' places and vectors
 */
export function fixBatch(bytes: Uint8Array): Uint8Array {
  const b = new ByteBuffer(bytes);
  const vectorOf = (table: number, slot: number): number[] => {
    const place = b.__offset(table, 4 + 2 * slot); // a table's places start behind two sizes of 16 bits
    if (place === 0) return [];
    const start = b.__vector(table + place);
    return Array.from({ length: b.__vector_len(table + place) }, (_, i) => start + 4 * i);
  };
  const root = b.readInt32(0);
  for (const subgraph of vectorOf(root, modelSlots.subgraphs)) {
    for (const tensor of vectorOf(b.__indirect(subgraph), subgraphSlots.tensors)) {
      for (const size of vectorOf(b.__indirect(tensor), tensorSlots.shapeSignature)) {
        if (b.readInt32(size) === -1) b.writeInt32(size, 1);
      }
    }
  }
  return bytes;
}
