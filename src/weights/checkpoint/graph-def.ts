/**
 * Frozen TensorFlow graphs (`.pb`): the constants of a GraphDef, which carry the names of the variables they were.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
 */
import { type ByteFile, openByteFile } from '../byte-file.js';
import { elementsOf } from '../float-formats.js';
import { checkTensor, limitExceeded, quote, TensorTable } from '../limits.js';
import type { TensorInfo, TensorSource } from '../source.js';
import { shapeOf } from './names.js';
import { allOf, bytesOf, damaged, type Field, fieldsOf, numberOf, textOf, varintAt } from './protobuf.js';
import { tensorValues } from './tensor-proto.js';
import { DTYPES } from './types.js';

interface Constant extends TensorInfo {
  readonly offset: number;
  readonly bytes: number;
}

/** A message of protocol buffers ends at 2 GiB, and so does a graph in one. */
const MOST_NODE_BYTES = 2 ** 31;
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
 * Opens a frozen graph. Constants that are no weights (numbers alone, integers, texts) are counted in
 * `metadata.ignored`.
 * @throws CHECKPOINT_DAMAGED, FILE_TRUNCATED, LIMIT_EXCEEDED
 */
export async function openGraphDef(path: string): Promise<TensorSource> {
  const file = await openByteFile(path);
  try {
    const table = new TensorTable<Constant>(path);
    let others = 0;
    for (const { offset, bytes } of await nodesOf(file)) {
      const node = fieldsOf(path, await file.read(offset, bytes, 'a node of the graph'));
      if (textOf(node, 2) !== 'Const') continue;
      const tensor = tensorIn(path, node);
      const type = numberOf(tensor, 1);
      const shape = shapeOf(path, bytesOf(tensor, 2));
      const dtype = DTYPES[type];
      if (dtype === undefined || !FLOATS.has(type) || shape.length === 0) {
        others++;
        continue;
      }
      const name = textOf(node, 1);
      checkTensor(path, name, dtype, shape);
      table.add({ name, dtype, shape, offset, bytes });
    }
    return {
      format: 'tf-graph',
      path,
      tensors: table.infos(),
      metadata: others === 0 ? {} : { ignored: `${others} constants that are no weights` },
      read: async (name) => {
        const { offset, bytes, dtype, shape } = table.get(name);
        const node = fieldsOf(path, await file.read(offset, bytes, `tensor ${quote(name)}`));
        const wanted = elementsOf(shape);
        const values = tensorValues(path, name, tensorIn(path, node), dtype);
        // one number stands for all of them
        if (values.length === 1 && wanted > 1) return new Float32Array(wanted).fill(values[0]!);
        if (values.length !== wanted) throw damaged(path, `${quote(name)} has ${values.length} of ${wanted} numbers`);
        return values;
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
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
    if (bytes > MOST_NODE_BYTES) throw limitExceeded(file.path, `a node of ${bytes} bytes`, MOST_NODE_BYTES);
    if (Math.floor(tag.value / 8) === NODE) nodes.push({ offset: at + next, bytes });
    if (nodes.length > MOST_NODES) throw limitExceeded(file.path, 'the graph has more nodes', MOST_NODES);
    at += next + bytes;
  }
  return nodes;
}

/** The fields of a constant's TensorProto: its attribute `value`. */
function tensorIn(path: string, node: readonly Field[]): Field[] {
  for (const entry of allOf(node, 5)) {
    const attribute = fieldsOf(path, entry);
    if (textOf(attribute, 1) === 'value') return fieldsOf(path, bytesOf(fieldsOf(path, bytesOf(attribute, 2)), 8));
  }
  throw damaged(path, `the constant ${quote(textOf(node, 1))} has no value`);
}
