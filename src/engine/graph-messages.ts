/**
 * TensorFlow's graphs and SavedModels as protocol buffers: the one place that knows the numbers of their fields.
 * @see https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/framework (graph.proto, node_def.proto,
 *   attr_value.proto, tensor.proto, tensor_shape.proto) and ../protobuf (saved_model.proto, meta_graph.proto)
 */
import {
  fieldHead,
  flagField,
  floatField,
  integerField,
  messageField,
  numberField,
  packedField,
  textField,
} from '../protobuf.js';
import { DATA_TYPE, GRAPH_VERSION, TENSORFLOW_VERSION } from './tensorflow-types.js';

/** An `AttrValue`. */
export type AttributeMessage = Buffer;

export const typeAttribute = (dtype: number): AttributeMessage => numberField(6, dtype);
export const intAttribute = (value: number): AttributeMessage => integerField(3, value);
export const intsAttribute = (values: readonly number[]): AttributeMessage => messageField(1, packedField(3, values));
export const floatAttribute = (value: number): AttributeMessage => floatField(4, value);
export const flagAttribute = (value: boolean): AttributeMessage => flagField(5, value);
/** @param value a character a byte */
export const stringAttribute = (value: string): AttributeMessage => messageField(2, Buffer.from(value, 'latin1'));
export const stringsAttribute = (values: readonly string[]): AttributeMessage =>
  messageField(1, Buffer.concat(values.map((value) => messageField(2, Buffer.from(value, 'latin1')))));
export const shapeAttribute = (shape: readonly number[]): AttributeMessage => messageField(7, shapeMessage(shape));
/** Texts in one row. */
export const textsAttribute = (texts: readonly string[]): AttributeMessage =>
  messageField(
    8,
    Buffer.concat([tensorStart(DATA_TYPE.string, [texts.length]), ...texts.map((each) => textField(8, each))]),
  );
/** One whole number, int32. */
export const wholeAttribute = (value: number): AttributeMessage =>
  messageField(8, Buffer.concat([tensorStart(DATA_TYPE.int32, []), packedField(7, [value])])); // int_val
/** One text. */
export const textAttribute = (text: string): AttributeMessage =>
  messageField(8, Buffer.concat([tensorStart(DATA_TYPE.string, []), textField(8, text)]));

/** -1: any length. */
const shapeMessage = (shape: readonly number[]): Buffer =>
  Buffer.concat(shape.map((size) => messageField(2, size < 0 ? integerField(1, size) : numberField(1, size))));

const tensorStart = (dtype: number, shape: readonly number[]): Buffer =>
  Buffer.concat([numberField(1, dtype), messageField(2, shapeMessage(shape))]);

export interface NodeMessage {
  readonly name: string;
  readonly op: string;
  /** `name`, `name:1`, or `^name` for an operation that has to be done before. */
  readonly inputs?: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeMessage>>;
}

/** A node of a `GraphDef`. */
export function graphNode({ name, op, inputs = [], attributes }: NodeMessage): Buffer {
  const parts = [textField(1, name), textField(2, op), ...inputs.map((input) => textField(3, input))];
  return messageField(1, Buffer.concat([...parts, ...Object.entries(attributes).map(attributeEntry)]));
}

const attributeEntry = ([key, value]: readonly [string, AttributeMessage]): Buffer =>
  messageField(5, Buffer.concat([textField(1, key), messageField(2, value)]));

/**
 * What comes before the numbers of a `Const` node: these follow, in C order, little-endian, and end the node.
 * @param bytes how many
 */
export function constantHead(
  { name, dtype, shape }: { readonly name: string; readonly dtype: number; readonly shape: readonly number[] },
  bytes: number,
): Buffer {
  const start = [textField(1, name), textField(2, 'Const'), attributeEntry(['dtype', typeAttribute(dtype)])];
  const tensor = openMessage(8, [tensorStart(dtype, shape), fieldHead(4, bytes)], bytes);
  const entry = openMessage(5, [textField(1, 'value'), openMessage(2, [tensor], bytes)], bytes);
  return openMessage(1, [...start, entry], bytes);
}

/** A field whose message is `parts` and as many bytes as `rest` after them. */
function openMessage(field: number, parts: readonly Buffer[], rest: number): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, rest);
  return Buffer.concat([fieldHead(field, length), ...parts]);
}

/** What a graph ends with: whose operations it has. */
export const graphVersions = (): Buffer => messageField(4, numberField(1, GRAPH_VERSION));

/** A value of the graph, as a signature names it. */
export interface TensorInfo {
  /** `probabilities:0` */
  readonly name: string;
  readonly dtype: number;
  readonly shape: readonly number[];
}

export interface Signature {
  readonly inputs: Readonly<Record<string, TensorInfo>>;
  readonly outputs: Readonly<Record<string, TensorInfo>>;
  /** `tensorflow/serving/predict` */
  readonly method: string;
}

/** A file in `assets/`, and the text of the graph that is its path. */
export interface Asset {
  readonly file: string;
  readonly tensor: TensorInfo;
}

export interface MetaGraph {
  readonly tag: string;
  /** What wrote it, for people. */
  readonly writer: string;
  readonly signatures?: Readonly<Record<string, Signature>>;
  readonly assets?: readonly Asset[];
}

/**
 * `saved_model.pb` without its graph: what comes before it, and after it.
 * @param graphBytes length of the graph
 */
export function savedModelAround(
  { tag, writer, signatures = {}, assets = [] }: MetaGraph,
  graphBytes: number,
): readonly [Buffer, Buffer] {
  const after = Buffer.concat([...Object.entries(signatures).map(signatureEntry), ...assets.map(assetFile)]);
  // The writer comes last: with a text in the place of the tags, the file's first bytes are like those of Core ML.
  const info = Buffer.concat([textField(4, tag), textField(5, TENSORFLOW_VERSION), textField(1, writer)]);
  const before = Buffer.concat([messageField(1, info), fieldHead(2, graphBytes)]);
  const metaGraph = before.length + graphBytes + after.length;
  return [Buffer.concat([numberField(1, 1), fieldHead(2, metaGraph), before]), after]; // 1: the format's version
}

function signatureEntry([key, { inputs, outputs, method }]: readonly [string, Signature]): Buffer {
  const values = (field: number, infos: Signature['inputs']): Buffer[] =>
    Object.entries(infos).map(([name, info]) =>
      messageField(field, Buffer.concat([textField(1, name), messageField(2, tensorInfo(info))])),
    );
  const signature = Buffer.concat([...values(1, inputs), ...values(2, outputs), textField(3, method)]);
  return messageField(5, Buffer.concat([textField(1, key), messageField(2, signature)]));
}

const tensorInfo = ({ name, dtype, shape }: TensorInfo): Buffer =>
  Buffer.concat([textField(1, name), numberField(2, dtype), messageField(3, shapeMessage(shape))]);

const assetFile = ({ file, tensor }: Asset): Buffer =>
  messageField(6, Buffer.concat([messageField(1, tensorInfo(tensor)), textField(2, file)]));
