/**
 * The graph of objects that `save_weights` and `tf.train.Checkpoint` write: it tells which variable, by its own name,
 * a key like `layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE` stands for.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/trackable_object_graph.proto
 */
import { maskedCrc32c } from '../crc32.js';
import { allOf, damaged, fieldsOf, textOf, varintAt } from './protobuf.js';

/** Key of the graph, a text tensor. */
export const OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH';

const ATTRIBUTE = '/.ATTRIBUTES/VARIABLE_VALUE';

/**
 * Key -> name of the variable. Where two variables have one name, and for slots of an optimiser, the key's own path is
 * the name.
 * @param tensor the bytes of the text tensor: the text's length, a checksum of it, the text
 * @param checksum of the length as four bytes and of everything after it: WriteStringTensor of tensor_bundle.cc
 * @throws CHECKPOINT_DAMAGED
 */
export function variableNames(where: string, tensor: Buffer, checksum: number): Map<string, string> {
  const { value: length, next } = varintAt(where, tensor, 0);
  const graph = tensor.subarray(next + 4);
  if (graph.length !== length) throw damaged(where, `${length} bytes of objects declared, ${graph.length} there`);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(length);
  if (maskedCrc32c(Buffer.concat([size, tensor.subarray(next)])) !== checksum) {
    throw damaged(where, 'the checksum of its objects does not agree');
  }
  const names = new Map<string, string>();
  for (const node of allOf(fieldsOf(where, graph), 1)) {
    for (const attribute of allOf(fieldsOf(where, node), 2)) {
      const fields = fieldsOf(where, attribute);
      names.set(textOf(fields, 3), textOf(fields, 2));
    }
  }
  const count = new Map<string, number>();
  for (const name of names.values()) count.set(name, (count.get(name) ?? 0) + 1);
  for (const [key, name] of names) {
    const own = name !== '' && count.get(name) === 1 && !key.includes('/.OPTIMIZER_SLOT/');
    names.set(key, own ? name : key.replace(ATTRIBUTE, ''));
  }
  return names;
}
