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

/** Keras 3 lists the variables of an exported model once more (keras/src/export/saved_model.py, ExportArchive). */
const LISTED_AGAIN = /^_all_variables\/\d+$/;

/** What the graph of objects tells of the keys. */
export interface ObjectNames {
  /**
   * Key -> name of the variable. Where it has none, where two have the same, and for slots of an optimiser, the path of
   * attributes is the name.
   */
  readonly names: ReadonlyMap<string, string>;
  /** Key -> the name that its variable was given, which others may have too. */
  readonly given: ReadonlyMap<string, string>;
  /** Keys of variables that are there under another key: key -> the variable's name. */
  readonly copies: ReadonlyMap<string, string>;
}

/**
 * @param tensor the bytes of the text tensor: the text's length, a checksum of it, the text
 * @param checksum of the length as four bytes and of everything after it: WriteStringTensor of tensor_bundle.cc
 * @param identityOf type, shape and checksum of a key's numbers
 * @throws CHECKPOINT_DAMAGED
 */
export function objectNames(
  where: string,
  tensor: Buffer,
  checksum: number,
  identityOf: (key: string) => string,
): ObjectNames {
  const own = ownNames(where, graphIn(where, tensor, checksum));
  const copies = copiesIn(own, identityOf);
  const count = new Map<string, number>();
  const add = (name: string) => count.set(name, (count.get(name) ?? 0) + 1);
  for (const [key, name] of own) {
    if (!copies.has(key)) add(name);
    if (pathOfKey(key) !== name) add(pathOfKey(key)); // nor is a name taken that is another's path
  }
  const names = [...own].map(([key, name]): [string, string] => {
    const isOwn = !NO_NAME.test(name) && count.get(name) === 1 && !key.includes('/.OPTIMIZER_SLOT/');
    return [key, isOwn && !copies.has(key) ? name : pathOfKey(key)];
  });
  return { names: new Map(names), given: own, copies };
}

/** The text, its checksum compared. */
function graphIn(where: string, tensor: Buffer, checksum: number): Buffer {
  const { value: length, next } = varintAt(where, tensor, 0);
  const graph = tensor.subarray(next + 4);
  if (graph.length !== length) throw damaged(where, `${length} bytes of objects declared, ${graph.length} there`);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(length);
  if (maskedCrc32c(Buffer.concat([size, tensor.subarray(next)])) !== checksum) {
    throw damaged(where, 'the checksum of its objects does not agree');
  }
  return graph;
}

/** Key -> the name that its variable was given. */
function ownNames(where: string, graph: Buffer): Map<string, string> {
  const own = new Map<string, string>();
  for (const node of allOf(fieldsOf(where, graph), 1)) {
    for (const attribute of allOf(fieldsOf(where, node), 2)) {
      const fields = fieldsOf(where, attribute);
      own.set(textOf(fields, 3), textOf(fields, 2));
    }
  }
  return own;
}

/** Variables that are listed again with the same name and the same numbers. */
function copiesIn(own: ReadonlyMap<string, string>, identityOf: (key: string) => string): Map<string, string> {
  const isAgain = (key: string) => LISTED_AGAIN.test(pathOfKey(key));
  const first = new Map([...own].filter(([key]) => !isAgain(key)).map(([key, name]) => [name, identityOf(key)]));
  return new Map([...own].filter(([key, name]) => isAgain(key) && first.get(name) === identityOf(key)));
}
