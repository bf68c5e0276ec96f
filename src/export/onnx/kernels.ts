/** Convolutions and matrix products: operators with a kernel, and with the bias that follows it. */
import type { Constant, KernelUse, PlainOperation } from '../lowering/operations.js';
import { CHANNELS_FIRST, plainOrder } from './layout.js';
import { axisLength, windowAttributes } from './pools.js';
import {
  inOrder,
  inPlainOrder,
  int,
  onlyConsumer,
  operand,
  operator,
  type Translation,
  type Value,
  value,
} from './translation.js';
import type { KernelLayout } from './weights.js';

/** A value, and the name in the plain network that it has: that of the last operation that became part of it. */
export interface Made {
  readonly value: Value;
  readonly as: string;
}

/** Convolutions of the parts of one value, put together again. */
export interface Groups {
  readonly input: string;
  readonly convolutions: readonly PlainOperation[];
  readonly join: PlainOperation;
}

/** What a split begins, where that is a convolution with groups; its operations are then part of one. */
export function findGroups(t: Translation, split: PlainOperation): Groups | undefined {
  const count = split.attributes.num_split!.value as number;
  const convolutions = Array.from({ length: count }, (_, i) =>
    onlyConsumer(t, i === 0 ? split.name : `${split.name}:${i}`),
  );
  const [first] = convolutions;
  const join = first && onlyConsumer(t, first.name);
  const fits = (each: PlainOperation | undefined, i: number): boolean =>
    each?.op === 'Conv2D' && each.name === join?.inputs[i] && sameAttributes(each, first!);
  if (join?.op !== 'ConcatV2' || join.inputs.length !== count + 1 || !convolutions.every(fits)) return undefined;
  // Both along the channels: a lowered network splits pictures along nothing else.
  const found = convolutions as PlainOperation[];
  for (const each of [...found, join]) t.absorbed.add(each);
  return { input: split.inputs[1]!, convolutions: found, join };
}

const sameAttributes = (a: PlainOperation, b: PlainOperation): boolean =>
  JSON.stringify(a.attributes) === JSON.stringify(b.attributes);

/**
 * @param convolutions one, or one a group
 * @param input the name of what they are applied to
 * @param name that of their result
 */
export function convolution(
  t: Translation,
  convolutions: readonly PlainOperation[],
  input: string,
  name: string,
): Made {
  const [first] = convolutions as readonly [PlainOperation];
  const x = operand(t, input);
  const parts = convolutions.map((each) => t.plainConstants.get(each.inputs[1]!)!);
  const depthwise = (parts[0]!.use as KernelUse).depthwise;
  const [height, width, inputs, outputs] = parts[0]!.shape as readonly [number, number, number, number];
  const layout: KernelLayout = depthwise
    ? {
        parts,
        view: [height, width, 1, inputs * outputs],
        order: [3, 2, 0, 1],
        shape: [inputs * outputs, 1, height, width],
        axis: 0,
      }
    : {
        parts,
        view: parts[0]!.shape,
        order: [3, 2, 0, 1],
        shape: [outputs * parts.length, inputs, height, width],
        axis: 0,
      };
  const { bias, as } = biasAfter(t, name);
  const from = inOrder(t, x, CHANNELS_FIRST);
  const { attributes, pads, strides } = windowAttributes(first, x.shape, [height, width]);
  const made = operator(t, as, 'Conv', [from, ...t.weights.kernel(t, layout, bias, from)], {
    ...attributes,
    group: int(depthwise ? inputs : parts.length),
  });
  const shape = [
    x.shape[0]!,
    axisLength(x.shape[1]!, height, strides[0], pads[0] + pads[2]),
    axisLength(x.shape[2]!, width, strides[1], pads[1] + pads[3]),
    layout.shape[0]!,
  ];
  return { value: value(made, shape, CHANNELS_FIRST), as };
}

/** `[rows, in]` times `[in, out]`. */
export function matrixProduct(t: Translation, operation: PlainOperation): Made {
  const x = operand(t, operation.inputs[0]!);
  const kernel = t.plainConstants.get(operation.inputs[1]!)!;
  const outputs = kernel.shape[1]!;
  const { bias, as } = biasAfter(t, operation.name);
  const layout: KernelLayout = { parts: [kernel], ...rowsOf(x, outputs), shape: kernel.shape, axis: 1 };
  const from = inPlainOrder(t, x);
  const inputs = [from, ...t.weights.kernel(t, layout, bias, from)];
  return { value: value(operator(t, as, 'Gemm', inputs), [x.shape[0]!, outputs]), as };
}

/** The kernel's rows in the order in which a flattened picture lies. */
function rowsOf({ rows, shape }: Value, outputs: number): Pick<KernelLayout, 'view' | 'order'> {
  if (rows === undefined) return { view: [shape[1]!, outputs], order: plainOrder(2) };
  const axes = rows.order.slice(1).map((axis) => axis - 1);
  return { view: [...rows.shape.slice(1), outputs], order: [...axes, axes.length] };
}

/** The bias that is all that is done with a value, which is then part of its operator. */
function biasAfter(t: Translation, name: string): { readonly bias: Constant | undefined; readonly as: string } {
  const next = onlyConsumer(t, name);
  if (next?.op !== 'BiasAdd') return { bias: undefined, as: name };
  t.absorbed.add(next);
  return { bias: t.plainConstants.get(next.inputs[1]!)!, as: next.name };
}
