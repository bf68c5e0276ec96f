/** What the lowering of every operation is made with: operations, constants and attributes under a node's name. */
import type { ReadParameter } from '../../engine/fold.js';
import type { Node } from '../../engine/graph.js';
import type { ExplicitPadding, Pair } from '../../engine/operations.js';
import type { Attribute, Constant, ConstantUse, PlainOperation } from './operations.js';
import type { PixelInput } from './pixels.js';

export const FLOAT: Attribute = { kind: 'type', value: 'float32' };
export const INT: Attribute = { kind: 'type', value: 'int32' };
export const NHWC: Attribute = { kind: 'string', value: 'NHWC' };
export const ints = (...value: number[]): Attribute => ({ kind: 'ints', value });
export const flag = (value: boolean): Attribute => ({ kind: 'bool', value });

export type Attributes = Readonly<Record<string, Attribute>>;

export interface LoweringOptions {
  /**
   * How a depthwise convolution gets a padding of its own: as its attribute `EXPLICIT`, which TensorFlow.js runs and
   * TensorFlow 2.15 ends the whole process on, or by a `Pad` before it.
   */
  readonly depthwisePadding: 'attribute' | 'operation';
  /** The network takes pixels and normalises them itself; absent, it takes them normalised. */
  readonly pixels?: PixelInput | undefined;
}

/** What has been lowered so far. */
export interface Lowering extends LoweringOptions {
  readonly read: ReadParameter;
  readonly operations: PlainOperation[];
  readonly constants: Constant[];
  /** Names that are taken. */
  readonly taken: Set<string>;
}

export function startLowering(read: ReadParameter, options: LoweringOptions): Lowering {
  return { ...options, read, operations: [], constants: [], taken: new Set() };
}

/** Adds an operation and gives its name. */
export function emit(l: Lowering, operation: PlainOperation): string {
  l.operations.push(operation);
  l.taken.add(operation.name);
  return operation.name;
}

/** Adds an operation of a node; a second one of a kind is called `Mul_1`, as TensorFlow itself does. */
export function emitFor(
  l: Lowering,
  node: Node,
  op: string,
  inputs: readonly string[],
  attributes: Attributes,
): string {
  const base = `${slashed(node.path)}/${op}`;
  let name = base;
  for (let count = 1; l.taken.has(name); count++) name = `${base}_${count}`;
  return emit(l, { name, op, inputs, attributes });
}

/** An operation of which the type of its numbers is all there is to say. */
export const elementwise = (l: Lowering, node: Node, op: string, ...inputs: string[]): string =>
  emitFor(l, node, op, inputs, { T: FLOAT });

/** The same numbers in another shape, which leaves the batch out. */
export function reshape(l: Lowering, node: Node, x: string, shape: readonly number[]): string {
  const to = structure(l, `${slashed(node.path)}/shape_${shape.join('x')}`, [shape.length + 1], [-1, ...shape]);
  return emitFor(l, node, 'Reshape', [x, to], { T: FLOAT, Tshape: INT });
}

/** Mean over some axes, batch included in their count; they stay with length 1 where `keep` says so. */
export function mean(l: Lowering, node: Node, x: string, axes: readonly number[], keep: boolean): string {
  const over = structure(l, `${slashed(node.path)}/axes`, [axes.length], axes);
  return emitFor(l, node, 'Mean', [x, over], { T: FLOAT, Tidx: INT, keep_dims: flag(keep) });
}

/** Rows of zeros before and after each axis, the batch's first. */
export function pad(l: Lowering, node: Node, x: string, amounts: readonly Pair[]): string {
  const name = `${slashed(node.path)}/paddings_${amounts.flat().join('_')}`;
  const paddings = structure(l, name, [amounts.length, 2], amounts.flat());
  return emitFor(l, node, 'Pad', [x, paddings], { T: FLOAT, Tpaddings: INT });
}

/** The amounts of `PadV2` for a picture. */
export function paddings(l: Lowering, node: Node, { top, bottom, left, right }: ExplicitPadding): string {
  return structure(l, `${slashed(node.path)}/paddings`, [4, 2], [0, 0, top, bottom, left, right, 0, 0]);
}

/** Whole numbers that steer an operation; one constant for all that are called the same. */
export function structure(l: Lowering, name: string, shape: readonly number[], values: readonly number[]): string {
  return fixed(l, name, shape, Int32Array.from(values));
}

/** One number, shared by all that need it. */
export function scalar(l: Lowering, value: number): string {
  const name = `scalars/${Math.fround(value)}`.replace('+', ''); // 1e+30: a node's name has no plus
  return fixed(l, name, [], Float32Array.of(value));
}

/** A constant that stays as it is when a model is compressed. */
export function fixed(l: Lowering, name: string, shape: readonly number[], values: Int32Array | Float32Array): string {
  if (l.taken.has(name)) return name;
  l.taken.add(name);
  const type = values instanceof Int32Array ? 'int32' : 'float32';
  l.constants.push({ name, type, shape, use: { kind: 'structure' }, read: async () => values });
  return name;
}

/** A constant of trained numbers. */
export function constant(
  l: Lowering,
  name: string,
  shape: readonly number[],
  use: ConstantUse,
  read: () => Promise<Float32Array>,
): string {
  l.taken.add(name);
  l.constants.push({ name, type: 'float32', shape, use, read });
  return name;
}

/** A parameter with a number a channel, in the shape it is needed in. */
export function channelwise(l: Lowering, node: Node, leaf: string, shape?: readonly number[]): string {
  const { path, shape: own } = node.parameters.find((each) => each.path === `${node.path}.${leaf}`)!;
  return constant(l, slashed(path), shape ?? own, { kind: 'channel' }, () => l.read(path));
}

export const slashed = (path: string): string => path.replaceAll('.', '/');
