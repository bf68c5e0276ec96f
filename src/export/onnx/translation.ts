/** What the translation of every operation is made with: values that know their layout, operators, constants. */
import type { Constant, PlainNetwork, PlainOperation } from '../lowering/operations.js';
import type { OnnxAttribute, OnnxNode, StoredConstant } from './graph.js';
import { isBatch, type Order, permutation, plainOrder, sameInMemory, sameOrder, stored } from './layout.js';
import type { Weights } from './weights.js';

/** A value of the plain network as the ONNX graph has it. */
export interface Value {
  /** Of the tensor in the ONNX graph. */
  readonly name: string;
  /** As TensorFlow counts axes, the batch as a multiple of BATCH. */
  readonly shape: readonly number[];
  readonly order: Order;
  /** Names of the same numbers in other orders. */
  readonly versions: Map<string, string>;
  /** It is what `name` holds, to the power of minus one: what a norm divides by. */
  readonly inverse?: boolean;
  /** `[N, all]` of this picture, whose axes lie in another order than TensorFlow's; the next kernel's rows follow. */
  readonly rows?: { readonly shape: readonly number[]; readonly order: Order };
}

export interface Translation {
  readonly network: PlainNetwork;
  readonly nodes: OnnxNode[];
  readonly constants: StoredConstant[];
  readonly plainConstants: ReadonlyMap<string, Constant>;
  /** Operations that take a value, each once for every time that it does. */
  readonly consumers: ReadonlyMap<string, readonly PlainOperation[]>;
  /** By the name in the plain network. */
  readonly values: Map<string, Value>;
  /** Names in the ONNX graph that are taken. */
  readonly taken: Set<string>;
  /** Operations that became part of another. */
  readonly absorbed: Set<PlainOperation>;
  /** From a tensor in the ONNX graph to the value of the plain network that it holds, in whichever order. */
  readonly origins: Map<string, string>;
  readonly weights: Weights;
}

/** A C90 identifier, which is what ONNX asks of names; one that is taken gets a number. @see onnx/docs/IR.md, "Names" */
export function identifier(t: Pick<Translation, 'taken'>, name: string): string {
  const legal = name.replaceAll(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_');
  let free = legal;
  for (let count = 2; t.taken.has(free); count++) free = `${legal}_${count}`;
  t.taken.add(free);
  return free;
}

export const int = (value: number): OnnxAttribute => ({ kind: 'int', value });
export const ints = (...value: number[]): OnnxAttribute => ({ kind: 'ints', value });

/** Adds an operator with one output and gives the output's name. */
export function operator(
  t: Translation,
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, OnnxAttribute>> = {},
): string {
  const output = identifier(t, name);
  t.nodes.push({ name: output, op, inputs, outputs: [output], attributes });
  return output;
}

/** Whole numbers that an operator takes as an input, int64; one constant for all that are the same. */
export function wholeNumbers(t: Translation, values: readonly number[]): string {
  const name = `ints_${values.join('_').replaceAll('-', 'm')}`;
  if (t.taken.has(name)) return name;
  t.taken.add(name);
  const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  t.constants.push({ tensors: [{ name, type: 'int64', shape: [values.length] }], encode: async () => [bytes] });
  return name;
}

/** One number, float32; one constant for all that are the same. */
export function number(t: Translation, value: number): string {
  const name = `number_${String(Math.fround(value)).replaceAll(/[^0-9e]/g, (sign) => ({ '-': 'm', '.': 'p' })[sign] ?? '')}`;
  if (t.taken.has(name)) return name;
  t.taken.add(name);
  const bytes = new Uint8Array(Float32Array.of(value).buffer);
  t.constants.push({ tensors: [{ name, type: 'float32', shape: [] }], encode: async () => [bytes] });
  return name;
}

export function value(name: string, shape: readonly number[], order: Order = plainOrder(shape.length)): Value {
  return { name, shape, order, versions: new Map() };
}

/** The name of a value's numbers in an order, transposed once where they lie otherwise. */
export function inOrder(t: Translation, v: Value, order: Order): string {
  if (sameOrder(v.order, order)) return v.name;
  const known = v.versions.get(order.join());
  if (known !== undefined) return known;
  const name = sameInMemory(v.shape, v.order, order)
    ? operator(t, `${v.name}_reshaped`, 'Reshape', [v.name, lengths(t, v.shape, order)])
    : operator(t, `${v.name}_transposed`, 'Transpose', [v.name], { perm: ints(...permutation(v.order, order)) });
  v.versions.set(order.join(), name);
  noteOrigin(t, name, v.name);
  return name;
}

export const inPlainOrder = (t: Translation, v: Value): string => inOrder(t, v, plainOrder(v.shape.length));

/** Lengths for Reshape, of which the one with the batch is told from the rest. */
export function lengths(t: Translation, shape: readonly number[], order: Order): string {
  return wholeNumbers(
    t,
    stored(shape, order).map((length) => (isBatch(length) ? -1 : length)),
  );
}

/** A tensor holds the same numbers as another, or some of them. */
export function noteOrigin(t: Translation, name: string, from: string): void {
  const origin = t.origins.get(from);
  if (origin !== undefined) t.origins.set(name, origin);
}

/** A value by its name in the plain network; constants become values where they are needed. */
export function operand(t: Translation, name: string): Value {
  const known = t.values.get(name);
  if (known !== undefined) return known;
  const constant = t.plainConstants.get(name)!;
  const { shape } = constant;
  const made = value(t.weights.plain(t, constant, shape, plainOrder(shape.length)), shape);
  t.values.set(name, made);
  return made;
}

/** The numbers of a constant that steers an operation. */
export async function steering(t: Translation, name: string): Promise<number[]> {
  return Array.from(await t.plainConstants.get(name)!.read());
}

/** The only operation that takes a value. */
export function onlyConsumer(t: Translation, name: string): PlainOperation | undefined {
  const found = t.consumers.get(name) ?? [];
  return found.length === 1 ? found[0] : undefined;
}
