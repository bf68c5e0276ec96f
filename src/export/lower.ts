/** Lowering: from a network of this toolkit to plain TensorFlow operations, with batch norms folded away. */
import { foldBatchNorm, type ReadParameter } from '../engine/fold.js';
import { type Graph, type Node, nodesBetween, type Parameter, tapOf } from '../engine/graph.js';
import type { ExplicitPadding, OperationOf, Padding, Pair } from '../engine/operations.js';
import { elementsOf } from '../weights/float-formats.js';
import type { Attribute, Constant, ConstantUse, KernelUse, PlainNetwork, PlainOperation } from './operations.js';

const INPUT = 'input';
const LOGITS = 'logits';
const PROBABILITIES = 'probabilities';

/** Lowest finite float32: what a padded cell of a max pool holds, so that padding never wins. */
const LOWEST = -3.4028234663852886e38;

const FLOAT: Attribute = { kind: 'type', value: 'float32' };
const INT: Attribute = { kind: 'type', value: 'int32' };
const NHWC: Attribute = { kind: 'string', value: 'NHWC' };
const ints = (...value: number[]): Attribute => ({ kind: 'ints', value });
const flag = (value: boolean): Attribute => ({ kind: 'bool', value });

type Attributes = Readonly<Record<string, Attribute>>;

/** What has been lowered so far. */
interface Builder extends LoweringOptions {
  readonly read: ReadParameter;
  readonly operations: PlainOperation[];
  readonly constants: Constant[];
  /** Node -> the operation, or the output of one, that has its value. */
  readonly names: Map<Node, string>;
}

export interface LoweringOptions {
  /**
   * How a depthwise convolution gets a padding of its own: as its attribute `EXPLICIT`, which TensorFlow.js runs and
   * TensorFlow 2.15 ends the whole process on, or by a `Pad` before it.
   */
  readonly depthwisePadding: 'attribute' | 'operation';
}

/**
 * Lowers what the tap `logits` needs, and adds the softmax. Dropout vanishes; the padding of a convolution stays an
 * attribute (`EXPLICIT`), that of a max pool becomes a `PadV2` before it.
 * @param read reads the parameters of `graph`, C order; it is called when a constant is read, not before
 */
export function lowerGraph(
  graph: Graph,
  read: ReadParameter,
  { depthwisePadding }: LoweringOptions = { depthwisePadding: 'operation' },
): PlainNetwork {
  const folded = foldBatchNorm(graph);
  const b: Builder = { read: folded.read(read), depthwisePadding, operations: [], constants: [], names: new Map() };
  const logits = tapOf(folded.graph, LOGITS);
  for (const node of nodesBetween(folded.graph, new Set(), [logits])) b.names.set(node, lower(b, node));
  emit(b, { name: LOGITS, op: 'Identity', inputs: [b.names.get(logits)!], attributes: { T: FLOAT } });
  emit(b, { name: PROBABILITIES, op: 'Softmax', inputs: [LOGITS], attributes: { T: FLOAT } });
  return {
    input: { name: INPUT, shape: [-1, ...folded.graph.input.shape] },
    operations: b.operations,
    constants: b.constants,
    outputs: { logits: LOGITS, probabilities: PROBABILITIES },
  };
}

/** Adds the operations of one node and gives the name of its value. */
function lower(b: Builder, node: Node): string {
  const { operation } = node;
  const x = node.inputs[0] === undefined ? INPUT : b.names.get(node.inputs[0])!;
  switch (operation.kind) {
    case 'input':
      return INPUT;
    case 'conv2d':
      return biased(b, node, convolution(b, node, x, operation));
    case 'depthwise_conv2d':
      return depthwise(b, node, x, operation);
    case 'dense': {
      const attributes = { T: FLOAT, transpose_a: flag(false), transpose_b: flag(false) };
      return biased(b, node, emitFor(b, node, 'MatMul', [x, kernel(b, node, false)], attributes));
    }
    case 'batch_norm':
      return batchNorm(b, node, x, operation);
    case 'activation':
      if (operation.name !== 'relu' && operation.name !== 'relu6') throw notLowered(operation.name);
      return emitFor(b, node, { relu: 'Relu', relu6: 'Relu6' }[operation.name], [x], { T: FLOAT });
    case 'add':
      return emitFor(b, node, 'AddV2', [x, b.names.get(node.inputs[1]!)!], { T: FLOAT });
    case 'max_pool':
      return maxPool(b, node, x, operation);
    case 'global_average_pool': {
      const axes = structure(b, `${slashed(node.path)}/axes`, [2], Int32Array.of(1, 2));
      return emitFor(b, node, 'Mean', [x, axes], { T: FLOAT, Tidx: INT, keep_dims: flag(false) });
    }
    case 'dropout':
    case 'drop_path':
      return x;
    default:
      throw notLowered(operation.kind);
  }
}

function notLowered(what: string): Error {
  return new Error(`${what} cannot be lowered yet`);
}

/** A convolution with groups is one convolution a group: TensorFlow.js knows no other. */
function convolution(b: Builder, node: Node, x: string, operation: OperationOf<'conv2d'>): string {
  const attributes = { ...windowOf(operation), ...paddingOf(operation.padding) };
  const { groups } = operation;
  if (groups === 1) return emitFor(b, node, 'Conv2D', [x, kernel(b, node, false)], attributes);

  const path = slashed(node.path);
  const whole = kernelOf(node);
  const [inputs, outputs] = [node.inputs[0]!.shape.at(-1)! / groups, node.shape.at(-1)! / groups];
  const axis = structure(b, `${path}/axis`, [], Int32Array.of(3));
  const count: Attribute = { kind: 'int', value: groups };
  const split = emitFor(b, node, 'Split', [axis, x], { T: FLOAT, num_split: count });
  const parts = Array.from({ length: groups }, (_, group) => {
    const part = constant(
      b,
      `${slashed(whole.path)}_${group}`,
      [...whole.shape.slice(0, -1), outputs],
      { ...kernelUse(node, false, group * inputs, group * outputs), channels: outputs },
      async () => columns(await b.read(whole.path), outputs * groups, group, groups),
    );
    const from = group === 0 ? split : `${split}:${group}`;
    return emit(b, { name: `${path}/Conv2D_${group}`, op: 'Conv2D', inputs: [from, part], attributes });
  });
  return emitFor(b, node, 'ConcatV2', [...parts, axis], { T: FLOAT, Tidx: INT, N: count });
}

function depthwise(b: Builder, node: Node, x: string, operation: OperationOf<'depthwise_conv2d'>): string {
  const { padding } = operation;
  const apart = b.depthwisePadding === 'operation' && typeof padding !== 'string' && !isEmpty(padding);
  const input = apart ? emitFor(b, node, 'Pad', [x, paddings(b, node, padding)], { T: FLOAT, Tpaddings: INT }) : x;
  const attributes = { ...windowOf(operation), ...paddingOf(apart ? 'valid' : padding) };
  return biased(b, node, emitFor(b, node, 'DepthwiseConv2dNative', [input, kernel(b, node, true)], attributes));
}

function biased(b: Builder, node: Node, y: string): string {
  const bias = biasOf(node);
  if (bias === undefined) return y;
  const added = constant(b, slashed(bias.path), bias.shape, { kind: 'channel' }, () => b.read(bias.path));
  return emitFor(b, node, 'BiasAdd', [y, added], { T: FLOAT, data_format: NHWC });
}

/** A batch norm that follows no convolution: `x * scale + shift`. */
function batchNorm(b: Builder, node: Node, x: string, { epsilon }: OperationOf<'batch_norm'>): string {
  const path = slashed(node.path);
  const read = (leaf: string): Promise<Float32Array> => b.read(`${node.path}.${leaf}`);
  const scales = async (): Promise<Float64Array> => {
    const [gamma, variance] = [await read('gamma'), await read('variance')];
    return Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + epsilon));
  };
  const shape = [node.shape.at(-1)!];
  const scale = constant(b, `${path}/scale`, shape, { kind: 'channel' }, async () => Float32Array.from(await scales()));
  const shift = constant(b, `${path}/shift`, shape, { kind: 'channel' }, async () => {
    const [factors, beta, mean] = [await scales(), await read('beta'), await read('mean')];
    return Float32Array.from(factors, (factor, i) => beta[i]! - mean[i]! * factor);
  });
  return emitFor(b, node, 'AddV2', [emitFor(b, node, 'Mul', [x, scale], { T: FLOAT }), shift], { T: FLOAT });
}

function maxPool(b: Builder, node: Node, x: string, { size, strides, padding }: OperationOf<'max_pool'>): string {
  const attributes: Attributes = {
    T: FLOAT,
    data_format: NHWC,
    ksize: ints(1, size[0], size[1], 1),
    strides: ints(1, strides[0], strides[1], 1),
    padding: { kind: 'string', value: padding === 'same' ? 'SAME' : 'VALID' },
  };
  if (typeof padding === 'string' || isEmpty(padding)) return emitFor(b, node, 'MaxPool', [x], attributes);
  const lowest = structure(b, `${slashed(node.path)}/lowest`, [], Float32Array.of(LOWEST));
  const inputs = [x, paddings(b, node, padding), lowest];
  const padded = emitFor(b, node, 'PadV2', inputs, { T: FLOAT, Tpaddings: INT });
  return emitFor(b, node, 'MaxPool', [padded], attributes);
}

// ---- operations and constants ------------------------------------------------------------------------------------

function emit(b: Builder, operation: PlainOperation): string {
  b.operations.push(operation);
  return operation.name;
}

function emitFor(b: Builder, node: Node, op: string, inputs: readonly string[], attributes: Attributes): string {
  return emit(b, { name: `${slashed(node.path)}/${op}`, op, inputs, attributes });
}

function paddings(b: Builder, node: Node, { top, bottom, left, right }: ExplicitPadding): string {
  const values = Int32Array.of(0, 0, top, bottom, left, right, 0, 0);
  return structure(b, `${slashed(node.path)}/paddings`, [4, 2], values);
}

function kernel(b: Builder, node: Node, depthwise: boolean): string {
  const { path, shape } = kernelOf(node);
  return constant(b, slashed(path), shape, kernelUse(node, depthwise, 0, 0), () => b.read(path));
}

function kernelUse(node: Node, depthwise: boolean, firstInput: number, firstOutput: number): KernelUse {
  const { shape } = kernelOf(node);
  const bias = biasOf(node);
  return {
    kind: 'kernel',
    depthwise,
    channels: elementsOf(shape.slice(depthwise ? -2 : -1)), // of a depthwise one: channels times multiplier
    input: { path: node.inputs[0]!.path, first: firstInput },
    bias: bias === undefined ? undefined : { name: slashed(bias.path), length: bias.shape[0]!, first: firstOutput },
  };
}

function structure(b: Builder, name: string, shape: readonly number[], values: Int32Array | Float32Array): string {
  const type = values instanceof Int32Array ? 'int32' : 'float32';
  b.constants.push({ name, type, shape, use: { kind: 'structure' }, read: async () => values });
  return name;
}

function constant(
  b: Builder,
  name: string,
  shape: readonly number[],
  use: ConstantUse,
  read: () => Promise<Float32Array>,
): string {
  b.constants.push({ name, type: 'float32', shape, use, read });
  return name;
}

const kernelOf = (node: Node): Parameter => node.parameters.find((each) => each.role.endsWith('.kernel'))!;
const biasOf = (node: Node): Parameter | undefined => node.parameters.find((each) => each.role === 'bias');
const slashed = (path: string): string => path.replaceAll('.', '/');

function windowOf({ strides }: { readonly strides: Pair }): Attributes {
  return { T: FLOAT, data_format: NHWC, strides: ints(1, strides[0], strides[1], 1), dilations: ints(1, 1, 1, 1) };
}

function paddingOf(padding: Padding): Attributes {
  if (padding === 'same') return { padding: { kind: 'string', value: 'SAME' } };
  if (padding === 'valid' || isEmpty(padding)) return { padding: { kind: 'string', value: 'VALID' } };
  const { top, bottom, left, right } = padding;
  const around = ints(0, 0, top, bottom, left, right, 0, 0);
  return { padding: { kind: 'string', value: 'EXPLICIT' }, explicit_paddings: around };
}

const isEmpty = ({ top, bottom, left, right }: ExplicitPadding): boolean => top + bottom + left + right === 0;

/** The numbers of one of `groups` equal runs of the last dimension, which has the length `width`. */
function columns(values: Float32Array, width: number, group: number, groups: number): Float32Array {
  const part = width / groups;
  const out = new Float32Array(values.length / groups);
  for (let row = 0; row < values.length / width; row++) {
    const start = row * width + group * part;
    out.set(values.subarray(start, start + part), row * part);
  }
  return out;
}
