/**
 * Frozen TensorFlow graphs (`.pb`): the constants of a GraphDef, which carry the names of the variables they were.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
 */
import { FormatError } from '../../errors.js';
import { type ByteFile, closedOnFailure, openByteFile } from '../byte-file.js';
import { DTYPE_BYTES, elementsOf, toFloat32 } from '../float-formats.js';
import { kerasConstants } from '../keras/keras-constants.js';
import { checkTensor, limitExceeded, quote, TensorTable } from '../limits.js';
import type { FileDtype, SetAside, TensorInfo, TensorSource } from '../source.js';
import { shapeOf } from './names.js';
import { allOf, bytesOf, damaged, type Field, fieldsOf, locateField, numberOf, textOf, varintAt } from './protobuf.js';
import { reasonOfType } from './set-aside.js';
import { hasNumbers, runFields, tensorValues } from './tensor-proto.js';
import { DTYPES } from './types.js';

interface Constant extends TensorInfo {
  readonly offset: number;
  readonly bytes: number;
  /** Where its numbers begin in the file, where they are one run of bytes in a large node. */
  readonly numbers: number | undefined;
}

/** A message of protocol buffers ends at 2 GiB, and so does a graph in one. */
const MOST_GRAPH_BYTES = 2 ** 31;
/** A node's name and operation, and the type and shape of a constant, come before its numbers. */
const PEEK_BYTES = 2 ** 14;
/** Inception-ResNet v2 unrolled with its training graph has 40,000. */
const MOST_NODES = 1_000_000;

const NODE = 1; // GraphDef.node
const FLOATS: ReadonlySet<number> = new Set([1, 2, 14, 19]); // float32, float64, bfloat16, float16

/** Whether a file begins as a GraphDef does: with a node that has a name and an operation. */
export function isGraphDef(head: Buffer): boolean {
  if (head[0] !== 8 * NODE + 2) return false;
  try {
    const { value, next } = varintAt('', head, 1);
    const fields = fieldsOf('', head.subarray(next, next + value), true);
    return /^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$/.test(textOf(fields, 1)) && /^_?[A-Z]\w+$/.test(textOf(fields, 2));
  } catch {
    return false;
  }
}

/**
 * Opens a frozen graph. Its constants have their own names, but those that were variables of Keras layers have theirs.
 * @throws CHECKPOINT_DAMAGED, GRAPH_WITHOUT_NUMBERS, FILE_TRUNCATED, LIMIT_EXCEEDED
 */
export async function openGraphDef(path: string): Promise<TensorSource> {
  return await closedOnFailure(await openByteFile(path), async (file) => {
    if (file.size > MOST_GRAPH_BYTES) throw limitExceeded(path, `a graph of ${file.size} bytes`, MOST_GRAPH_BYTES);
    const { constants, others } = await constantsIn(file);
    const layers = kerasConstants(constants.map(({ name }) => name));
    const table = new TensorTable<Constant>(path);
    for (const constant of constants) table.add({ ...constant, name: layers.get(constant.name) ?? constant.name });
    return {
      format: 'tf-graph',
      path,
      tensors: table.infos(),
      metadata: {
        ...(layers.size === 0 ? {} : { naming: 'layers' }),
        ...(others.length === 0 ? {} : { ignored: `${others.length} constants that are no weights` }),
      },
      setAside: others,
      read: async (name) => {
        const { offset, bytes, dtype, shape, numbers } = table.get(name);
        if (numbers !== undefined)
          return toFloat32(
            await file.read(numbers, elementsOf(shape) * DTYPE_BYTES[dtype], `tensor ${quote(name)}`),
            dtype,
          );
        const node = fieldsOf(path, await file.read(offset, bytes, `tensor ${quote(name)}`));
        return tensorValues(path, name, tensorIn(path, node), dtype, shape);
      },
      close: () => file.close(),
    };
  });
}

/** Constants of floats, and the others with the reason why they are no weights. */
async function constantsIn(file: ByteFile): Promise<{ constants: Constant[]; others: SetAside[] }> {
  const { path } = file;
  const constants: Constant[] = [];
  const others: SetAside[] = [];
  let hollow = 0;
  for (const { offset, bytes } of await nodesOf(file)) {
    const { name, tensor, value } = await constantAt(file, offset, bytes);
    if (tensor === undefined) continue;
    const type = numberOf(tensor, 1);
    const shape = shapeOf(path, bytesOf(tensor, 2));
    const dtype = DTYPES[type];
    if (dtype === undefined || !FLOATS.has(type) || shape.length === 0) {
      others.push({ name, reason: dtype === undefined ? reasonOfType(type) : 'a constant of the graph' });
      continue;
    }
    const wanted = checkTensor(path, name, dtype, shape) * DTYPE_BYTES[dtype];
    constants.push({
      name,
      dtype,
      shape,
      offset,
      bytes,
      numbers: value === undefined ? undefined : runIn(path, value, dtype, wanted),
    });
    if (!hasNumbers(tensor)) hollow++;
  }
  // a single one may be zeros, which are not written down
  if (hollow > 1 && hollow === constants.length) {
    throw new FormatError({
      code: 'GRAPH_WITHOUT_NUMBERS',
      message: `${path}: this graph names ${hollow} constants and holds the numbers of none; expected a frozen graph`,
      hint: 'early converters of TensorFlow.js kept them apart: give the weights_manifest.json beside it',
    });
  }
  return { constants, others };
}

/** The name of a node, and its value where it is a constant; of a large one only the beginning is read, if that tells. */
async function constantAt(
  file: ByteFile,
  offset: number,
  bytes: number,
): Promise<{ name: string; tensor: Field[] | undefined; value?: Begun }> {
  const { path } = file;
  if (bytes > PEEK_BYTES) {
    const begun = fieldsOf(path, await file.read(offset, PEEK_BYTES, 'a node of the graph'), true);
    if (textOf(begun, 2) !== 'Const') return { name: '', tensor: undefined };
    const tensor = valueIn(path, begun, true);
    if (tensor !== undefined && hasNumbers(tensor)) {
      return { name: textOf(begun, 1), tensor, value: { offset, fields: begun, end: offset + bytes } };
    }
  }
  const node = fieldsOf(path, await file.read(offset, bytes, 'a node of the graph'));
  return { name: textOf(node, 1), tensor: textOf(node, 2) === 'Const' ? tensorIn(path, node) : undefined };
}

/** Where the nodes lie, without reading them. */
async function nodesOf(file: ByteFile): Promise<{ offset: number; bytes: number }[]> {
  const nodes: { offset: number; bytes: number }[] = [];
  for (let at = 0; at < file.size; ) {
    const head = file.readNow(at, Math.min(20, file.size - at), 'a field of the graph');
    const tag = varintAt(file.path, head, 0);
    if (tag.value % 8 === 0) {
      at += varintAt(file.path, head, tag.next).next; // a version number
      continue;
    }
    if (tag.value % 8 !== 2) throw damaged(file.path, `a field of wire type ${tag.value % 8} at byte ${at}`);
    const { value: bytes, next } = varintAt(file.path, head, tag.next);
    if (Math.floor(tag.value / 8) === NODE) nodes.push({ offset: at + next, bytes });
    if (nodes.length > MOST_NODES) throw limitExceeded(file.path, 'the graph has more nodes', MOST_NODES);
    at += next + bytes;
  }
  return nodes;
}

/** A node of which only the beginning was read. */
interface Begun {
  readonly offset: number;
  readonly fields: readonly Field[];
  readonly end: number;
}

/** Where the numbers of a constant begin in the file, if they are one run of as many bytes as its shape takes. */
function runIn(path: string, { offset, fields, end }: Begun, dtype: FileDtype, wanted: number): number | undefined {
  const attribute = fields.find(
    ({ number, bytes }) => number === 5 && textOf(fieldsOf(path, bytes, true), 1) === 'value',
  );
  if (attribute === undefined) return undefined;
  for (const field of runFields(dtype)) {
    const run = locateField(path, attribute.bytes, [2, 8, field]);
    const begin = offset + attribute.offset + (run?.offset ?? 0);
    if (run?.bytes === wanted && begin + wanted <= end) return begin;
  }
  return undefined;
}

/** The fields of a constant's TensorProto. @throws CHECKPOINT_DAMAGED */
function tensorIn(path: string, node: readonly Field[]): Field[] {
  const tensor = valueIn(path, node, false);
  if (tensor === undefined) throw damaged(path, `the constant ${quote(textOf(node, 1))} has no value`);
  return tensor;
}

/** An attribute `value`. @param cut the node may end in the middle of it */
function valueIn(path: string, node: readonly Field[], cut: boolean): Field[] | undefined {
  for (const entry of allOf(node, 5)) {
    const attribute = fieldsOf(path, entry, cut);
    if (textOf(attribute, 1) !== 'value') continue;
    return fieldsOf(path, bytesOf(fieldsOf(path, bytesOf(attribute, 2), cut), 8), cut);
  }
  return undefined;
}
