/**
 * From plain TensorFlow operations to ONNX operators. Convolutions get their kernels in ONNX' layout and the values
 * between them stay channels first; what TensorFlow writes as several operations (a bias, a padding, a convolution a
 * group) becomes part of one operator where ONNX has it.
 */
import { ToolkitError } from '../../errors.js';
import { elementsOf } from '../../weights/float-formats.js';
import type { Attribute, PlainNetwork, PlainOperation } from '../lowering/operations.js';
import type { OnnxGraph } from './graph.js';
import { convolution, findGroups, matrixProduct } from './kernels.js';
import {
  BATCH,
  CHANNELS_FIRST,
  isBatch,
  isPlain,
  type Order,
  plainOrder,
  reshapedOrder,
  sameOrder,
  stored,
} from './layout.js';
import { pool } from './pools.js';
import {
  identifier,
  inOrder,
  inPlainOrder,
  int,
  ints,
  lengths,
  noteOrigin,
  number,
  onlyConsumer,
  operand,
  operator,
  steering,
  type Translation,
  type Value,
  value,
  wholeNumbers,
} from './translation.js';
import type { Weights } from './weights.js';

export interface Translated extends OnnxGraph {
  /** From a tensor of the graph to the value of the plain network that it holds. */
  readonly origins: ReadonlyMap<string, string>;
}

/**
 * @param classes length of the outputs
 * @throws EXPORT_UNSUPPORTED
 */
export async function translate(network: PlainNetwork, weights: Weights, classes: number): Promise<Translated> {
  const t = start(network, weights);
  for (const operation of network.operations) {
    if (t.absorbed.has(operation)) continue;
    await translateOperation(t, operation);
  }
  const { input, outputs } = network;
  return {
    nodes: t.nodes,
    constants: t.constants,
    inputs: [{ name: input.name, type: input.type, shape: input.shape }],
    outputs: [outputs.probabilities, outputs.logits].map((name) => ({ name, type: 'float32', shape: [-1, classes] })),
    origins: t.origins,
  };
}

function start(network: PlainNetwork, weights: Weights): Translation {
  const { input, operations, constants, outputs } = network;
  const consumers = new Map<string, PlainOperation[]>();
  for (const operation of operations) {
    for (const name of operation.inputs) consumers.set(name, [...(consumers.get(name) ?? []), operation]);
  }
  const [, ...picture] = input.shape;
  const t: Translation = {
    network,
    nodes: [],
    constants: [],
    plainConstants: new Map(constants.map((each) => [each.name, each])),
    consumers,
    values: new Map([[input.name, value(input.name, [BATCH, ...picture])]]),
    taken: new Set([input.name, outputs.logits, outputs.probabilities]),
    absorbed: new Set(),
    origins: new Map([[input.name, input.name]]),
    weights,
  };
  return t;
}

async function translateOperation(t: Translation, operation: PlainOperation): Promise<void> {
  const { name, op, inputs } = operation;
  const [first, second] = inputs as readonly [string, string];
  const define = (made: Value, as = name): void => {
    t.values.set(as, made);
    // What only moves numbers has noted where they are from.
    if (!t.origins.has(made.name)) t.origins.set(made.name, as);
  };
  switch (op) {
    case 'Conv2D':
    case 'DepthwiseConv2dNative': {
      const made = convolution(t, [operation], first, name);
      return define(made.value, made.as);
    }
    case 'MatMul': {
      const made = matrixProduct(t, operation);
      return define(made.value, made.as);
    }
    case 'Split': {
      const groups = findGroups(t, operation);
      if (groups === undefined) return await split(t, operation, define);
      const made = convolution(t, groups.convolutions, groups.input, groups.join.name);
      return define(made.value, made.as);
    }
    case 'MaxPool':
    case 'AvgPool':
      return define(pool(t, operation, undefined));
    case 'PadV2': {
      const next = onlyConsumer(t, name);
      if (next?.op !== 'MaxPool') throw unsupported(operation);
      t.absorbed.add(next);
      return define(pool(t, { ...next, inputs: [first] }, await steering(t, second)), next.name);
    }
    case 'Pad':
      return define(await pad(t, operation));
    case 'Mean':
      return define(await mean(t, operation));
    case 'Reshape':
      return define(await reshape(t, operation));
    case 'Transpose': {
      const x = operand(t, first);
      const axes = await steering(t, second);
      // Nothing moves until an operator needs it.
      return define({
        ...x,
        shape: axes.map((axis) => x.shape[axis]!),
        order: x.order.map((axis) => axes.indexOf(axis)),
        versions: new Map(),
      });
    }
    case 'BatchMatMulV2':
      return define(batchProduct(t, operation));
    case 'ConcatV2':
      return define(await join(t, operation));
    case 'Slice':
      return define(await slice(t, operation));
    case 'GatherV2': {
      const x = operand(t, first);
      const indices = wholeNumbers(t, await steering(t, second));
      const [axis] = (await steering(t, inputs[2]!)) as [number];
      const made = operator(t, name, 'Gather', [x.name, indices], { axis: int(x.order.indexOf(axis)) });
      noteOrigin(t, made, x.name);
      return define({ ...value(made, x.shape, x.order) });
    }
    case 'Mul':
    case 'AddV2':
    case 'Sub':
      return define(await binary(t, operation));
    case 'Softmax': {
      const x = elementwiseInput(t, first);
      const axis = x.order.indexOf(x.shape.length - 1);
      return define(output(t, operation, 'Softmax', x, [x.name], { axis: int(axis) }));
    }
    case 'Relu6': {
      const x = elementwiseInput(t, first);
      return define(output(t, operation, 'Clip', x, [x.name, number(t, 0), number(t, 6)]));
    }
    case 'Square': {
      const x = elementwiseInput(t, first);
      // As a power, by which onnxruntime knows the variance of a norm.
      return define(output(t, operation, 'Pow', x, [x.name, number(t, 2)]));
    }
    case 'Rsqrt': {
      const x = elementwiseInput(t, first);
      return define({ ...output(t, operation, 'Sqrt', x, [x.name]), inverse: true });
    }
    case 'Cast': {
      const x = operand(t, first);
      if (attribute(operation, 'DstT') !== 'float32') throw unsupported(operation);
      return define(output(t, operation, 'Cast', x, [x.name], { to: int(1) })); // TensorProto.DataType.FLOAT
    }
    case 'Identity':
    case 'Relu':
    case 'Sigmoid':
    case 'Tanh':
    case 'Erf': {
      const x = elementwiseInput(t, first);
      return define(output(t, operation, op, x, [x.name]));
    }
    default:
      throw unsupported(operation);
  }
}

function unsupported({ name, op }: PlainOperation): ToolkitError {
  return new ToolkitError({
    code: 'EXPORT_UNSUPPORTED',
    message: `${name}: the ONNX format has no translation of ${op} as it is used here`,
    hint: 'export with --format tfjs, and please report this',
  });
}

function attribute({ attributes }: PlainOperation, key: string): Attribute['value'] | undefined {
  return attributes[key]?.value;
}

/** An operator whose output lies as its input does; the graph's outputs keep their names. */
function output(
  t: Translation,
  { name }: PlainOperation,
  op: string,
  x: Value,
  inputs: readonly string[],
  attributes: Parameters<typeof operator>[4] = {},
): Value {
  const { logits, probabilities } = t.network.outputs;
  if (name === logits || name === probabilities) {
    t.nodes.push({ name, op, inputs, outputs: [name], attributes });
    return value(name, x.shape, x.order);
  }
  return value(operator(t, name, op, inputs, attributes), x.shape, x.order);
}

/** Pictures stay as they lie; tokens and rows are brought to TensorFlow's order, once. */
function elementwiseInput(t: Translation, name: string): Value {
  const x = operand(t, name);
  if (x.inverse) return value(operator(t, `${x.name}_inverse`, 'Reciprocal', [x.name]), x.shape, x.order);
  if (x.shape.length === 4 || isPlain(x.order)) return x;
  return value(inPlainOrder(t, x), x.shape);
}

const onnxNames: Readonly<Record<string, string>> = { Mul: 'Mul', AddV2: 'Add', Sub: 'Sub' };

async function binary(t: Translation, operation: PlainOperation): Promise<Value> {
  const { name, inputs, op } = operation;
  const inverse = op === 'Mul' ? inputs.find((each) => t.values.get(each)?.inverse) : undefined;
  if (inverse !== undefined) {
    const divisor = operand(t, inverse);
    const x = elementwiseInput(t, inputs.find((each) => each !== inverse)!);
    return output(t, operation, 'Div', x, [x.name, inOrder(t, divisor, x.order)]);
  }
  const isConstant = (each: string): boolean => t.plainConstants.has(each);
  const values = inputs.filter((each) => !isConstant(each)).map((each) => elementwiseInput(t, each));
  const rank = Math.max(...inputs.map((each) => (t.plainConstants.get(each) ?? operand(t, each)).shape.length));
  const full = values.filter((each) => each.shape.length === rank);
  // A value with fewer axes is only met beside tokens, which lie in TensorFlow's order.
  const order = full.length === values.length ? commonOrder(full) : plainOrder(rank);
  const named = async (each: string): Promise<string> => {
    const constant = t.plainConstants.get(each);
    if (constant === undefined) {
      const x = elementwiseInput(t, each);
      return x.shape.length === rank ? inOrder(t, x, order) : inPlainOrder(t, x);
    }
    if (constant.shape.length === 0) return number(t, (await steering(t, each))[0]!);
    const ones = Array.from({ length: rank - constant.shape.length }, () => 1);
    return t.weights.plain(t, constant, [...ones, ...constant.shape], order);
  };
  const names = [await named(inputs[0]!), await named(inputs[1]!)];
  const shape = broadcast(inputs.map((each) => (t.plainConstants.get(each) ?? operand(t, each)).shape));
  return value(operator(t, name, onnxNames[op]!, names), shape, order);
}

/** Channels first where one of them lies so. */
function commonOrder(values: readonly Value[]): Order {
  return (values.find(({ order }) => sameOrder(order, CHANNELS_FIRST)) ?? values[0]!).order;
}

function broadcast(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) =>
    Math.max(...shapes.map((shape) => shape[axis - rank + shape.length] ?? 1)),
  );
}

async function mean(t: Translation, operation: PlainOperation): Promise<Value> {
  const { name, inputs } = operation;
  const x = elementwiseInput(t, inputs[0]!);
  const axes = await steering(t, inputs[1]!);
  const keep = attribute(operation, 'keep_dims') === true;
  const shape = x.shape.map((length, axis) => (axes.includes(axis) ? 1 : length));
  const left = plainOrder(x.shape.length).filter((axis) => !axes.includes(axis));
  if (!keep && axes.join() === '1,2' && sameOrder(x.order, CHANNELS_FIRST)) {
    const pooled = operator(t, `${name}_kept`, 'GlobalAveragePool', [x.name]);
    t.origins.set(pooled, name);
    const flat = operator(t, name, 'Flatten', [pooled], { axis: int(1) });
    noteOrigin(t, flat, pooled);
    return value(flat, stored(shape, left));
  }
  const places = axes.map((axis) => x.order.indexOf(axis)).sort((a, b) => a - b);
  const reduced = operator(t, name, 'ReduceMean', [x.name], { axes: ints(...places), keepdims: int(keep ? 1 : 0) });
  if (keep) return value(reduced, shape, x.order);
  const order = x.order.filter((axis) => left.includes(axis)).map((axis) => left.indexOf(axis));
  return value(reduced, stored(shape, left), order);
}

async function reshape(t: Translation, operation: PlainOperation): Promise<Value> {
  const { name, inputs } = operation;
  const x = operand(t, inputs[0]!);
  const asked = await steering(t, inputs[1]!);
  const rest = elementsOf(asked.filter((length) => length !== -1));
  const shape = asked.map((length) => (length === -1 ? elementsOf(x.shape) / rest : length));
  const order = reshapedOrder(x.shape, x.order, shape);
  const numbers = (from: string, to: Order): string => {
    const made = operator(t, name, 'Reshape', [from, lengths(t, shape, to)]);
    noteOrigin(t, made, from);
    return made;
  };
  if (order !== undefined) return value(numbers(x.name, order), shape, order);
  // The rows of the kernel that follows can be moved in the place of the picture's axes.
  const flat = shape.length === 2 && shape[0] === BATCH && x.order[0] === 0 && x.shape[0] === BATCH;
  if (flat && onlyConsumer(t, name)?.op === 'MatMul') {
    return { ...value(numbers(x.name, plainOrder(2)), shape), rows: { shape: x.shape, order: x.order } };
  }
  return value(numbers(inPlainOrder(t, x), plainOrder(shape.length)), shape);
}

/** Products of the last two axes, each of which may lie the other way round. */
function batchProduct(t: Translation, operation: PlainOperation): Value {
  const { name, inputs } = operation;
  const constant = t.plainConstants.get(inputs[0]!);
  const [a, b] = [constant ?? operand(t, inputs[0]!), operand(t, inputs[1]!)] as const;
  const [adjointA, adjointB] = [attribute(operation, 'adj_x') === true, attribute(operation, 'adj_y') === true];
  const swapped = (rank: number): Order => [...plainOrder(rank - 2), rank - 1, rank - 2];
  const wanted = (x: Pick<Value, 'shape'>, adjoint: boolean): Order =>
    adjoint ? swapped(x.shape.length) : plainOrder(x.shape.length);
  const [rows, columns] = [a.shape.at(adjointA ? -1 : -2)!, b.shape.at(adjointB ? -2 : -1)!];
  const outer = broadcast([a.shape.slice(0, -2), b.shape.slice(0, -2)]);
  const shape = [...outer, rows, columns];
  const turnedB = wanted(b, !adjointB);
  if (constant !== undefined && sameOrder(b.order, turnedB)) {
    // (A B)' = B' A', where B' is what there is
    const turned = t.weights.plain(t, constant, constant.shape, wanted(a, !adjointA));
    return value(operator(t, name, 'MatMul', [b.name, turned]), shape, swapped(shape.length));
  }
  const names = [inOrder(t, operand(t, inputs[0]!), wanted(a, adjointA)), inOrder(t, b, wanted(b, adjointB))];
  return value(operator(t, name, 'MatMul', names), shape);
}

async function join(t: Translation, { name, inputs }: PlainOperation): Promise<Value> {
  const xs = inputs.slice(0, -1).map((each) => elementwiseInput(t, each));
  const [axis] = (await steering(t, inputs.at(-1)!)) as [number];
  const order = commonOrder(xs);
  const names = xs.map((x) => inOrder(t, x, order));
  const length = xs.reduce((sum, { shape }) => sum + shape[axis]!, 0);
  const shape = xs[0]!.shape.map((each, i) => (i === axis ? length : each));
  return value(operator(t, name, 'Concat', names, { axis: int(order.indexOf(axis)) }), shape, order);
}

async function pad(t: Translation, { name, inputs }: PlainOperation): Promise<Value> {
  const x = elementwiseInput(t, inputs[0]!);
  const amounts = await steering(t, inputs[1]!);
  const pairs = x.shape.map((_, axis) => [amounts[2 * axis]!, amounts[2 * axis + 1]!] as const);
  const around = [...x.order.map((axis) => pairs[axis]![0]), ...x.order.map((axis) => pairs[axis]![1])];
  const shape = x.shape.map((length, axis) => length + pairs[axis]![0] + pairs[axis]![1]);
  return value(operator(t, name, 'Pad', [x.name, wholeNumbers(t, around)]), shape, x.order);
}

async function slice(t: Translation, operation: PlainOperation): Promise<Value> {
  const { name, inputs } = operation;
  const x = elementwiseInput(t, inputs[0]!);
  const [begin, size] = [await steering(t, inputs[1]!), await steering(t, inputs[2]!)];
  const shape = x.shape.map((length, axis) => (size[axis] === -1 ? length - begin[axis]! : size[axis]!));
  const cut = plainOrder(x.shape.length).filter((axis) => shape[axis] !== x.shape[axis]);
  if (cut.some((axis) => isBatch(x.shape[axis]!))) throw unsupported(operation);
  if (cut.length === 0) return x;
  const steer = [
    cut.map((axis) => begin[axis]!),
    cut.map((axis) => begin[axis]! + shape[axis]!),
    cut.map((axis) => x.order.indexOf(axis)),
  ];
  const made = operator(t, name, 'Slice', [x.name, ...steer.map((each) => wholeNumbers(t, each))]);
  return value(made, shape, x.order);
}

/** Equal parts of an axis. */
async function split(
  t: Translation,
  { name, inputs, attributes }: PlainOperation,
  define: (made: Value, as: string) => void,
): Promise<void> {
  const [axis] = (await steering(t, inputs[0]!)) as [number];
  const x = elementwiseInput(t, inputs[1]!);
  const count = attributes.num_split!.value as number;
  const length = x.shape[axis]! / count;
  const outputs = Array.from({ length: count }, () => identifier(t, name));
  const lengthsOfParts = wholeNumbers(t, Array(count).fill(length));
  const along = { axis: int(x.order.indexOf(axis)) };
  t.nodes.push({ name: outputs[0]!, op: 'Split', inputs: [x.name, lengthsOfParts], outputs, attributes: along });
  const shape = x.shape.map((each, i) => (i === axis ? length : each));
  outputs.forEach((each, i) => {
    define(value(each, shape, x.order), i === 0 ? name : `${name}:${i}`);
  });
}
