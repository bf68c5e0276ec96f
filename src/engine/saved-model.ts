/**
 * A recording as TensorFlow's SavedModel, the one form in which the binding takes a graph.
 * @see https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/protobuf/saved_model.proto,
 *   meta_graph.proto and ../framework/graph.proto, node_def.proto, attr_value.proto, tensor.proto for field numbers
 */
import { floatField, messageField, numberField, packedField, textField, varint } from '../protobuf.js';
import type { RecordedOperation, Recording } from './recording.js';
import { ATTRIBUTE, GRAPH_VERSION, type NativeAttribute } from './tensorflow-types.js';

/** The tag by which {@link savedModelOf}'s graph is loaded. */
export const SERVE = 'serve';

/** Content of `saved_model.pb`. */
export function savedModelOf(recording: Recording): Buffer {
  const graph = Buffer.concat([
    ...recording.inputs.map(({ name, dtype, shape }) =>
      node(name, 'Placeholder', [], { dtype: typeValue(dtype), shape: messageField(7, shapeOf(shape)) }),
    ),
    ...recording.constants.map(({ name, dtype, shape, bytes }) => {
      const tensor = [numberField(1, dtype), messageField(2, shapeOf(shape)), messageField(4, Buffer.from(bytes))];
      return node(name, 'Const', [], { dtype: typeValue(dtype), value: messageField(8, Buffer.concat(tensor)) });
    }),
    ...recording.operations.map((operation) =>
      node(operation.name, operation.op, inputsOf(operation), attributesOf(operation)),
    ),
    messageField(4, numberField(1, GRAPH_VERSION)),
  ]);
  const info = Buffer.concat([textField(4, SERVE), textField(5, 'tl')]);
  const metaGraph = Buffer.concat([messageField(1, info), messageField(2, graph)]);
  return Buffer.concat([numberField(1, 1), messageField(2, metaGraph)]);
}

/** A name with `^` before it waits for an operation and takes nothing from it (node_def.proto). */
const inputsOf = ({ inputs, after = [] }: RecordedOperation): string[] => [
  ...inputs,
  ...after.map((operation) => `^${operation}`),
];

function node(name: string, op: string, inputs: readonly string[], attributes: Readonly<Record<string, Buffer>>) {
  const attribute = ([key, value]: [string, Buffer]): Buffer =>
    messageField(5, Buffer.concat([textField(1, key), messageField(2, value)]));
  const parts = [textField(1, name), textField(2, op), ...inputs.map((input) => textField(3, input))];
  return messageField(1, Buffer.concat([...parts, ...Object.entries(attributes).map(attribute)]));
}

const shapeOf = (shape: readonly number[]): Buffer =>
  Buffer.concat(shape.map((size) => messageField(2, numberField(1, size))));

const typeValue = (dtype: number): Buffer => numberField(6, dtype);

/**
 * Operations that tfjs-node runs without saying the type of their numbers, which eager execution takes from the
 * inputs: the attribute, by the operation.
 */
const UNSAID: Readonly<Record<string, string>> = { ExpandDims: 'T', Identity: 'T', ZerosLike: 'T', Squeeze: 'T' };

function attributesOf({ op, attributes, outputs }: RecordedOperation): Record<string, Buffer> {
  const said = Object.fromEntries(attributes.map((each) => [each.name, attributeValue(each)]));
  const unsaid = UNSAID[op];
  return unsaid === undefined || unsaid in said ? said : { ...said, [unsaid]: typeValue(outputs[0]!.dtype) };
}

/** Its type -> the field of `AttrValue`. */
function attributeValue({ name, type, value }: NativeAttribute): Buffer {
  switch (type) {
    case ATTRIBUTE.string:
      return messageField(2, Buffer.from(value as string, 'latin1'));
    case ATTRIBUTE.int:
      return Array.isArray(value)
        ? messageField(1, packedField(3, value as number[]))
        : Buffer.concat([varint(3 * 8), signed(value as number)]);
    case ATTRIBUTE.float:
      return floatField(4, value as number);
    case ATTRIBUTE.bool:
      return Buffer.concat([varint(5 * 8), varint(value ? 1 : 0)]);
    case ATTRIBUTE.type:
      return typeValue(value as number);
    case ATTRIBUTE.shape:
      return messageField(7, shapeOf(value as number[]));
    default:
      throw new Error(`the attribute ${name} has a type that graphs here do not hold: ${type}`);
  }
}

/** A whole number as a varint; negative ones are 64 bits in two's complement. */
function signed(value: number): Buffer {
  if (value >= 0) return varint(value);
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); rest > 0n; rest >>= 7n)
    bytes.push(Number(rest & 0x7fn) | (rest >> 7n > 0n ? 0x80 : 0));
  return Buffer.from(bytes);
}
