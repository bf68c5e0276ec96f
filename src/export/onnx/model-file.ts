/**
 * Writes an ONNX ModelProto, one constant in memory at a time.
 * @see https://github.com/onnx/onnx/blob/v1.8.0/onnx/onnx.proto (field numbers and types),
 * https://github.com/onnx/onnx/blob/v1.8.0/docs/ExternalData.md
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../../files.js';
import { fieldHead, floatField, integerField, messageField, textField } from '../../protobuf.js';
import { version } from '../../version.js';
import {
  bytesOfTensor,
  type OnnxAttribute,
  type OnnxGraph,
  type OnnxNode,
  type OnnxTensor,
  type TensorType,
} from './graph.js';

/**
 * The lowest operator set in which all that is written here has its present meaning (DequantizeLinear an axis, Softmax
 * one axis), so that runtimes since 2020 read it, and the format's version that came with it.
 * @see https://github.com/onnx/onnx/blob/main/docs/Versioning.md, "Released Versions": ONNX 1.8
 */
const [OPSET, IR_VERSION] = [13, 7];

export const MODEL_FILE = 'model.onnx';
/** Beside it, for networks whose numbers alone would bring it near protocol buffers' limit of 2 GiB. */
export const DATA_FILE = 'model.onnx.data';
const MOST_EMBEDDED_BYTES = 1024 ** 3;

/** TensorProto.DataType */
const dataTypes: Readonly<Record<TensorType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  float16: 10,
};

/** Name of the batch's dimension. */
const BATCH_NAME = 'N';

const RAW_DATA = 9;
const [GRAPH, INITIALIZER] = [7, 5];

export interface ModelInformation {
  /** Of the graph: an identifier. */
  readonly name: string;
  readonly description: string;
  /** Metadata that every runtime can read. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Writes {@link MODEL_FILE}, and {@link DATA_FILE} where the constants are large.
 * @returns bytes of the constants
 * @throws FILE_NOT_WRITTEN, and what reading the constants throws
 */
export async function writeModelFile(
  folder: string,
  graph: OnnxGraph,
  about: ModelInformation,
  mostEmbeddedBytes = MOST_EMBEDDED_BYTES,
): Promise<number> {
  const total = graph.constants.flatMap(({ tensors }) => tensors).reduce((sum, each) => sum + bytesOfTensor(each), 0);
  const external = total > mostEmbeddedBytes;
  const heads = initializerHeads(graph, external);
  // Constants end with their numbers, so lengths are known before the numbers are.
  const before = Buffer.concat(graph.nodes.map((each) => messageField(1, nodeProto(each))));
  const after = Buffer.concat([
    textField(2, about.name),
    textField(10, about.description),
    ...graph.inputs.map((each) => messageField(11, valueInfo(each))),
    ...graph.outputs.map((each) => messageField(12, valueInfo(each))),
  ]);
  const initializerBytes = [...heads.values()].reduce((sum, { head, raw }) => sum + head.length + raw, 0);
  const length = before.length + initializerBytes + after.length;

  const model = sink(join(folder, MODEL_FILE));
  const data = external ? sink(join(folder, DATA_FILE)) : undefined;
  try {
    await model.write(
      integerField(1, IR_VERSION),
      textField(2, 'tl-toolkit'),
      textField(3, version),
      messageField(8, integerField(2, OPSET)),
      ...Object.entries(about.metadata).map(([key, value]) =>
        messageField(14, Buffer.concat([textField(1, key), textField(2, value)])),
      ),
      fieldHead(GRAPH, length),
      before,
    );
    for (const { tensors, encode } of graph.constants) {
      const numbers = await encode();
      for (const [i, tensor] of tensors.entries()) {
        const { head, padding } = heads.get(tensor)!;
        await model.write(head);
        if (data === undefined) await model.write(numbers[i]!);
        else await data.write(Buffer.alloc(padding), numbers[i]!);
      }
    }
    await model.write(after);
  } finally {
    await model.close();
    await data?.close();
  }
  return total;
}

interface Head {
  /** All of the constant's field but its numbers. */
  readonly head: Buffer;
  /** Bytes that follow it in the same file. */
  readonly raw: number;
  /** Bytes before its numbers in the other file. */
  readonly padding: number;
}

/** So that numbers of every type are aligned for whoever maps the file into memory: a page. @see ExternalData.md */
const ALIGNMENT = 4096;

function initializerHeads({ constants }: OnnxGraph, external: boolean): Map<OnnxTensor, Head> {
  const heads = new Map<OnnxTensor, Head>();
  let end = 0;
  for (const tensor of constants.flatMap(({ tensors }) => tensors)) {
    const bytes = bytesOfTensor(tensor);
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    const own = Buffer.concat([
      ...tensor.shape.map((size) => integerField(1, size)),
      integerField(2, dataTypes[tensor.type]),
      textField(8, tensor.name),
      external
        ? Buffer.concat([
            ...Object.entries({ location: DATA_FILE, offset, length: bytes }).map(([key, value]) =>
              messageField(13, Buffer.concat([textField(1, key), textField(2, String(value))])),
            ),
            integerField(14, 1), // EXTERNAL
          ])
        : fieldHead(RAW_DATA, bytes),
    ]);
    const raw = external ? 0 : bytes;
    const head = Buffer.concat([fieldHead(INITIALIZER, own.length + raw), own]);
    heads.set(tensor, { head, raw, padding: offset - end });
    end = offset + bytes;
  }
  return heads;
}

/** A file that is opened when something is written to it. */
function sink(path: string): { write(...parts: readonly Uint8Array[]): Promise<void>; close(): Promise<void> } {
  let file: Awaited<ReturnType<typeof open>> | undefined;
  const guarded = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (cause) {
      throw fileError('FILE_NOT_WRITTEN', path, 'cannot be written', cause);
    }
  };
  return {
    write: (...parts) =>
      guarded(async () => {
        file ??= await open(path, 'wx');
        for (const part of parts) if (part.length > 0) await file.writeFile(part);
      }),
    close: () => guarded(async () => file?.close()),
  };
}

function nodeProto({ name, op, inputs, outputs, attributes }: OnnxNode): Buffer {
  return Buffer.concat([
    ...inputs.map((input) => textField(1, input)),
    ...outputs.map((output) => textField(2, output)),
    textField(3, name),
    textField(4, op),
    ...Object.entries(attributes).map(([key, value]) => messageField(5, attributeProto(key, value))),
  ]);
}

/** AttributeProto.AttributeType */
const attributeTypes: Readonly<Record<OnnxAttribute['kind'], number>> = { float: 1, int: 2, ints: 7 };

function attributeProto(name: string, attribute: OnnxAttribute): Buffer {
  return Buffer.concat([
    textField(1, name),
    ...valueFields(attribute),
    integerField(20, attributeTypes[attribute.kind]),
  ]);
}

function valueFields(attribute: OnnxAttribute): Buffer[] {
  switch (attribute.kind) {
    case 'float':
      return [floatField(2, attribute.value)];
    case 'int':
      return [integerField(3, attribute.value)];
    case 'ints':
      return attribute.value.map((value) => integerField(8, value));
  }
}

function valueInfo({ name, type, shape }: OnnxTensor): Buffer {
  const dimensions = shape.map((size) =>
    messageField(1, size === -1 ? textField(2, BATCH_NAME) : integerField(1, size)),
  );
  const tensor = Buffer.concat([integerField(1, dataTypes[type]), messageField(2, Buffer.concat(dimensions))]);
  return Buffer.concat([textField(1, name), messageField(2, messageField(1, tensor))]);
}
