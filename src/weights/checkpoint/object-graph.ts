/**
 * The graph of objects that `save_weights` and `tf.train.Checkpoint` write: it tells which variable, by its own name,
 * a key like `layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE` stands for.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/trackable_object_graph.proto
 */
import { maskedCrc32c } from '../crc32.js';
import { allOf, damaged, fieldsOf, textOf, varintAt } from './protobuf.js';

/** Key of the graph, a text tensor. */
export const OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH';

/** Behind the path of a variable: tensorflow/python/checkpoint/trackable_utils.py. */
const ATTRIBUTE = /\/\.ATTRIBUTES\/[^/]+$/;

/** What variables are called that were given no name: tensorflow/python/ops/resource_variable_ops.py. */
const NO_NAME = /^(Variable(_\d+)?)?$/;

/** The path of attributes to a variable. */
export const pathOfKey = (key: string): string => key.replace(ATTRIBUTE, '');

/**
 * Key -> name of the variable. Where it has none, where two have the same, and for slots of an optimiser, the path of
 * attributes is the name.
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
  const own = new Map<string, string>();
  for (const node of allOf(fieldsOf(where, graph), 1)) {
    for (const attribute of allOf(fieldsOf(where, node), 2)) {
      const fields = fieldsOf(where, attribute);
      own.set(textOf(fields, 3), textOf(fields, 2));
    }
  }
  const count = new Map<string, number>();
  const add = (name: string) => count.set(name, (count.get(name) ?? 0) + 1);
  for (const [key, name] of own) {
    add(name);
    if (pathOfKey(key) !== name) add(pathOfKey(key)); // nor is a name taken that is another's path
  }
  return new Map(
    [...own].map(([key, name]) => {
      const isOwn = !NO_NAME.test(name) && count.get(name) === 1 && !key.includes('/.OPTIMIZER_SLOT/');
      return [key, isOwn ? name : pathOfKey(key)];
    }),
  );
}
