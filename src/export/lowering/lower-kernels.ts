/** Convolutions and dense layers: what has a kernel. */
import type { Node, Parameter } from '../../engine/graph.js';
import type { ExplicitPadding, OperationOf, Padding, Pair } from '../../engine/operations.js';
import { elementsOf } from '../../weights/float-formats.js';
import {
  type Attributes,
  constant,
  emit,
  emitFor,
  FLOAT,
  flag,
  INT,
  ints,
  type Lowering,
  NHWC,
  paddings,
  reshape,
  slashed,
  structure,
} from './lowering.js';
import type { Attribute, KernelUse } from './operations.js';

/** A convolution with groups is one convolution a group: TensorFlow.js knows no other. */
export function convolution(l: Lowering, node: Node, x: string, operation: OperationOf<'conv2d'>): string {
  const attributes = { ...windowOf(operation), ...paddingOf(operation.padding) };
  const { groups } = operation;
  if (groups === 1) return biased(l, node, emitFor(l, node, 'Conv2D', [x, kernel(l, node, false)], attributes));

  const path = slashed(node.path);
  const whole = kernelOf(node);
  const [inputs, outputs] = [node.inputs[0]!.shape.at(-1)! / groups, node.shape.at(-1)! / groups];
  const axis = structure(l, `${path}/axis`, [], [3]);
  const count: Attribute = { kind: 'int', value: groups };
  const split = emitFor(l, node, 'Split', [axis, x], { T: FLOAT, num_split: count });
  const readWhole = sharedBy(groups, () => l.read(whole.path));
  const parts = Array.from({ length: groups }, (_, group) => {
    const part = constant(
      l,
      `${slashed(whole.path)}_${group}`,
      [...whole.shape.slice(0, -1), outputs],
      { ...kernelUse(node, false, group * inputs, group * outputs), channels: outputs },
      async () => columns(await readWhole(), outputs * groups, group, groups),
    );
    const from = group === 0 ? split : `${split}:${group}`;
    return emit(l, { name: `${path}/Conv2D_${group}`, op: 'Conv2D', inputs: [from, part], attributes });
  });
  return biased(l, node, emitFor(l, node, 'ConcatV2', [...parts, axis], { T: FLOAT, Tidx: INT, N: count }));
}

/** Reads once for `readers` calls that follow each other, and forgets the numbers after the last of them. */
function sharedBy(readers: number, read: () => Promise<Float32Array>): () => Promise<Float32Array> {
  let left = 0;
  let numbers: Promise<Float32Array> | undefined;
  return () => {
    if (numbers === undefined) {
      numbers = read();
      left = readers;
    }
    const current = numbers;
    left--;
    if (left === 0) numbers = undefined;
    return current;
  };
}

export function depthwise(l: Lowering, node: Node, x: string, operation: OperationOf<'depthwise_conv2d'>): string {
  const { padding } = operation;
  const apart = l.depthwisePadding === 'operation' && typeof padding !== 'string' && !isEmpty(padding);
  const input = apart ? emitFor(l, node, 'Pad', [x, paddings(l, node, padding)], { T: FLOAT, Tpaddings: INT }) : x;
  const attributes = { ...windowOf(operation), ...paddingOf(apart ? 'valid' : padding) };
  return biased(l, node, emitFor(l, node, 'DepthwiseConv2dNative', [input, kernel(l, node, true)], attributes));
}

/** Tokens and places are rows of one matrix, `[N T, D]`, which takes the faster kernel and can be fused. */
export function dense(l: Lowering, node: Node, x: string): string {
  const attributes = { T: FLOAT, transpose_a: flag(false), transpose_b: flag(false) };
  const [input] = node.inputs as readonly [Node];
  const rows = input.shape.length === 1 ? x : reshape(l, node, x, input.shape.slice(-1));
  const y = biased(l, node, emitFor(l, node, 'MatMul', [rows, kernel(l, node, false)], attributes));
  return node.shape.length === 1 ? y : reshape(l, node, y, node.shape);
}

function biased(l: Lowering, node: Node, y: string): string {
  const bias = biasOf(node);
  if (bias === undefined) return y;
  const added = constant(l, slashed(bias.path), bias.shape, { kind: 'channel' }, () => l.read(bias.path));
  return emitFor(l, node, 'BiasAdd', [y, added], { T: FLOAT, data_format: NHWC });
}

function kernel(l: Lowering, node: Node, isDepthwise: boolean): string {
  const { path, shape } = kernelOf(node);
  return constant(l, slashed(path), shape, kernelUse(node, isDepthwise, 0, 0), () => l.read(path));
}

function kernelUse(node: Node, isDepthwise: boolean, firstInput: number, firstOutput: number): KernelUse {
  const { shape } = kernelOf(node);
  const bias = biasOf(node);
  return {
    kind: 'kernel',
    depthwise: isDepthwise,
    channels: elementsOf(shape.slice(isDepthwise ? -2 : -1)), // of a depthwise one: channels times multiplier
    input: { path: node.inputs[0]!.path, first: firstInput },
    bias: bias === undefined ? undefined : { name: slashed(bias.path), length: bias.shape[0]!, first: firstOutput },
  };
}

const kernelOf = (node: Node): Parameter => node.parameters.find((each) => each.role.endsWith('.kernel'))!;
const biasOf = (node: Node): Parameter | undefined => node.parameters.find((each) => each.role === 'bias');

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
