/** A recording as TensorFlow's SavedModel, the one form in which the binding takes a graph. */
import {
  type AttributeMessage,
  constantHead,
  flagAttribute,
  floatAttribute,
  graphNode,
  graphVersions,
  intAttribute,
  intsAttribute,
  savedModelAround,
  shapeAttribute,
  stringAttribute,
  typeAttribute,
} from './graph-messages.js';
import type { RecordedOperation, Recording } from './recording.js';
import { ATTRIBUTE, type NativeAttribute } from './tensorflow-types.js';

/** The tag by which a SavedModel's graph is loaded. */
export const SERVE = 'serve';

/** Content of `saved_model.pb`. */
export function savedModelOf(recording: Recording): Buffer {
  const graph = [
    ...recording.inputs.map(({ name, dtype, shape }) =>
      graphNode({ name, op: 'Placeholder', attributes: { dtype: typeAttribute(dtype), shape: shapeAttribute(shape) } }),
    ),
    ...recording.constants.flatMap(({ bytes, ...constant }) => [constantHead(constant, bytes.length), bytes]),
    ...recording.operations.map((operation) =>
      graphNode({
        name: operation.name,
        op: operation.op,
        inputs: inputsOf(operation),
        attributes: attributesOf(operation),
      }),
    ),
    graphVersions(),
  ];
  const length = graph.reduce((sum, part) => sum + part.length, 0);
  const [before, after] = savedModelAround({ tag: SERVE, writer: 'tl' }, length);
  return Buffer.concat([before, ...graph, after]);
}

/** A name with `^` before it waits for an operation and takes nothing from it (node_def.proto). */
const inputsOf = ({ inputs, after = [] }: RecordedOperation): string[] => [
  ...inputs,
  ...after.map((operation) => `^${operation}`),
];

/**
 * Operations that tfjs-node runs without saying the type of their numbers, which eager execution takes from the
 * inputs: the attribute, by the operation.
 */
const UNSAID: Readonly<Record<string, string>> = { ExpandDims: 'T', Identity: 'T', ZerosLike: 'T', Squeeze: 'T' };

function attributesOf({ op, attributes, outputs }: RecordedOperation): Record<string, AttributeMessage> {
  const said = Object.fromEntries(attributes.map((each) => [each.name, attributeMessage(each)]));
  const unsaid = UNSAID[op];
  return unsaid === undefined || unsaid in said ? said : { ...said, [unsaid]: typeAttribute(outputs[0]!.dtype) };
}

function attributeMessage({ name, type, value }: NativeAttribute): AttributeMessage {
  switch (type) {
    case ATTRIBUTE.string:
      return stringAttribute(value as string);
    case ATTRIBUTE.int:
      return Array.isArray(value) ? intsAttribute(value as number[]) : intAttribute(value as number);
    case ATTRIBUTE.float:
      return floatAttribute(value as number);
    case ATTRIBUTE.bool:
      return flagAttribute(value as boolean);
    case ATTRIBUTE.type:
      return typeAttribute(value as number);
    case ATTRIBUTE.shape:
      return shapeAttribute(value as number[]);
    default:
      throw new Error(`the attribute ${name} has a type that graphs here do not hold: ${type}`);
  }
}
