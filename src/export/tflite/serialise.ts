/** The bytes of a model: a FlatBuffer, written from its last table to its first. */
import { Builder, type Offset } from 'flatbuffers';
import { ToolkitError } from '../../errors.js';
import { type Field, float32Vector, int32Vector, offsetVector, table } from './flatbuffer.js';
import type { Affine, Operator, Tensor, TfliteModel } from './model.js';
import {
  bufferSlots,
  builtins,
  FILE_IDENTIFIER,
  MOST_DEPRECATED_CODE,
  metadataSlots,
  modelSlots,
  type Options,
  operatorCodeSlots,
  operatorSlots,
  quantizationSlots,
  SCHEMA_VERSION,
  signatureSlots,
  subgraphSlots,
  tensorMapSlots,
  tensorSlots,
  tensorTypes,
} from './schema.js';

/** Offsets within a FlatBuffer are signed 32-bit numbers. */
const MOST_BYTES = 2 ** 31 - 1;
/** What interpreters expect of a buffer's place in memory, bytes. @see schema.fbs, Buffer.data */
const ALIGNMENT = 16;
/** The key that TensorFlow's own converter gives to a model's only signature. */
const SIGNATURE = 'serving_default';

/**
 * Encodes the constants one after the other and puts everything together.
 * @throws EXPORT_TOO_LARGE
 */
export async function serialise(model: TfliteModel): Promise<Uint8Array> {
  const { operators, inputs, outputs, metadata, description } = model;
  const tensors = tensorsOf(model);
  const tensorIndex = new Map(tensors.map((tensor, i) => [tensor, i]));
  const weightBytes = tensors.reduce((sum, { bytes = 0 }) => sum + bytes + ALIGNMENT, 0);
  const metadataBytes = Object.values(metadata).reduce((sum, bytes) => sum + bytes.length, 0);
  const rest = 1024 * (tensors.length + operators.length) + metadataBytes + 2 ** 16;
  if (weightBytes + rest > MOST_BYTES) throw tooLarge(weightBytes);
  const b = new Builder(weightBytes + rest);

  const buffers: Offset[] = [table(b, 1, [])]; // the first stands for "no content"
  const contents = new Map<Tensor, { buffer: number; quantization: Affine | undefined }>();
  const constants = tensors.filter(({ content }) => content !== undefined);
  for (const tensor of constants.sort((x, y) => (x.turn ?? 0) - (y.turn ?? 0))) {
    const { bytes, quantization } = await tensor.content!();
    contents.set(tensor, { buffer: buffers.length, quantization });
    buffers.push(bufferOf(b, bytes));
  }
  const metadataTables = Object.entries(metadata).map(([name, bytes]) => {
    const buffer = buffers.length;
    buffers.push(bufferOf(b, bytes));
    return table(b, 2, [
      [metadataSlots.name, 'offset', b.createString(name)],
      [metadataSlots.buffer, 'int32', buffer],
    ]);
  });

  const codes = [...new Map(operators.map((each) => [codeOf(each), each])).values()];
  const codeIndex = new Map(codes.map((each, i) => [codeOf(each), i]));
  const codeTables = codes.map(({ builtin, version }) =>
    table(b, 4, [
      [operatorCodeSlots.deprecatedBuiltinCode, 'int8', Math.min(builtins[builtin], MOST_DEPRECATED_CODE)],
      [operatorCodeSlots.version, 'int32', version],
      [operatorCodeSlots.builtinCode, 'int32', builtins[builtin]],
    ]),
  );
  const indices = (of: readonly Tensor[]): Offset =>
    int32Vector(
      b,
      of.map((tensor) => tensorIndex.get(tensor)!),
    );
  const tensorTables = tensors.map((tensor) => {
    const content = contents.get(tensor);
    return tensorTable(b, tensor, content?.buffer ?? 0, content?.quantization ?? tensor.quantization);
  });
  const operatorTables = operators.map((operator) => {
    const { options } = operator;
    const fields: Field[] = [
      [operatorSlots.opcodeIndex, 'int32', codeIndex.get(codeOf(operator))!],
      [operatorSlots.inputs, 'offset', indices(operator.inputs)],
      [operatorSlots.outputs, 'offset', indices(operator.outputs)],
    ];
    if (options !== undefined) {
      fields.push([operatorSlots.optionsType, 'int8', options.type]);
      fields.push([operatorSlots.options, 'offset', optionsTable(b, options)]);
    }
    return table(b, 5, fields);
  });
  const subgraph = table(b, 5, [
    [subgraphSlots.tensors, 'offset', offsetVector(b, tensorTables)],
    [subgraphSlots.inputs, 'offset', indices(Object.values(inputs))],
    [subgraphSlots.outputs, 'offset', indices(Object.values(outputs))],
    [subgraphSlots.operators, 'offset', offsetVector(b, operatorTables)],
    [subgraphSlots.name, 'offset', b.createString('main')],
  ]);
  const maps = (of: Readonly<Record<string, Tensor>>): Offset => {
    const entries = Object.entries(of).map(([name, tensor]) =>
      table(b, 2, [
        [tensorMapSlots.name, 'offset', b.createString(name)],
        [tensorMapSlots.tensorIndex, 'int32', tensorIndex.get(tensor)!],
      ]),
    );
    return offsetVector(b, entries);
  };
  const signature = table(b, 5, [
    [signatureSlots.inputs, 'offset', maps(inputs)],
    [signatureSlots.outputs, 'offset', maps(outputs)],
    [signatureSlots.key, 'offset', b.createString(SIGNATURE)],
    [signatureSlots.subgraphIndex, 'int32', 0],
  ]);
  const root = table(b, 8, [
    [modelSlots.version, 'int32', SCHEMA_VERSION],
    [modelSlots.operatorCodes, 'offset', offsetVector(b, codeTables)],
    [modelSlots.subgraphs, 'offset', offsetVector(b, [subgraph])],
    [modelSlots.description, 'offset', b.createString(description)],
    [modelSlots.buffers, 'offset', offsetVector(b, buffers)],
    [modelSlots.metadata, 'offset', offsetVector(b, metadataTables)],
    [modelSlots.signatureDefs, 'offset', offsetVector(b, [signature])],
  ]);
  b.finish(root, FILE_IDENTIFIER);
  return b.asUint8Array();
}

/** Inputs and outputs first, then in the order in which operators name them. */
export function tensorsOf({ operators, inputs, outputs }: TfliteModel): Tensor[] {
  const used = operators.flatMap((each) => [...each.inputs, ...each.outputs]);
  return [...new Set([...Object.values(inputs), ...Object.values(outputs), ...used])];
}

const codeOf = ({ builtin, version }: Operator): string => `${builtin} ${version}`;

const optionsTable = (b: Builder, { fields }: Options): Offset =>
  table(
    b,
    0,
    fields.map(({ slot, type, value, fallback }) => [slot, type, value, fallback]),
  );

function tensorTable(b: Builder, tensor: Tensor, buffer: number, quantization: Affine | undefined): Offset {
  const { name, type, shape, batched } = tensor;
  const fields: Field[] = [
    [tensorSlots.shape, 'offset', int32Vector(b, shape)],
    [tensorSlots.type, 'int8', tensorTypes[type]],
    [tensorSlots.buffer, 'int32', buffer],
    [tensorSlots.name, 'offset', b.createString(name)],
    [tensorSlots.hasRank, 'bool', 1],
  ];
  if (quantization !== undefined) fields.push([tensorSlots.quantization, 'offset', quantizationTable(b, quantization)]);
  if (batched) fields.push([tensorSlots.shapeSignature, 'offset', int32Vector(b, [-1, ...shape.slice(1)])]);
  return table(b, 9, fields);
}

function quantizationTable(b: Builder, { scales, zeroPoints, dimension }: Affine): Offset {
  const scaleVector = float32Vector(b, scales);
  b.startVector(8, zeroPoints.length, 8);
  for (let i = zeroPoints.length - 1; i >= 0; i--) b.addInt64(BigInt(zeroPoints[i]!));
  const zeroVector = b.endVector();
  return table(b, 7, [
    [quantizationSlots.scale, 'offset', scaleVector],
    [quantizationSlots.zeroPoint, 'offset', zeroVector],
    [quantizationSlots.quantizedDimension, 'int32', dimension],
  ]);
}

function bufferOf(b: Builder, bytes: Uint8Array): Offset {
  b.prep(ALIGNMENT, bytes.length);
  return table(b, 1, [[bufferSlots.data, 'offset', b.createByteVector(bytes)]]);
}

function tooLarge(bytes: number): ToolkitError {
  return new ToolkitError({
    code: 'EXPORT_TOO_LARGE',
    message: `a TensorFlow Lite file holds up to ${MOST_BYTES} bytes, and the weights alone are ${bytes}`,
    hint: 'export with --quantize float16 or int8, or to another format',
  });
}
