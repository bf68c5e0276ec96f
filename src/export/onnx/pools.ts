/** Windows that move over places: pools, and the attributes that they share with convolutions. */
import type { PlainOperation } from '../lowering/operations.js';
import type { OnnxAttribute } from './graph.js';
import { CHANNELS_FIRST } from './layout.js';
import {
  inOrder,
  int,
  ints,
  noteOrigin,
  operand,
  operator,
  type Translation,
  type Value,
  value,
} from './translation.js';

/** Above, left, below, right, as ONNX orders them. */
type Pads = readonly [number, number, number, number];

interface Window {
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
  readonly pads: Pads;
  readonly strides: readonly [number, number];
}

/** How many places a window has along an axis. */
export const axisLength = (length: number, size: number, stride: number, around: number): number =>
  Math.floor((length + around - size) / stride) + 1;

/** @param shape of what the window moves over, `[N, height, width, channels]` */
export function windowAttributes(
  { attributes }: PlainOperation,
  shape: readonly number[],
  size: readonly [number, number],
): Window {
  const [, down, right] = attributes.strides!.value as readonly [number, number, number, number];
  const around = attributes.explicit_paddings?.value as readonly number[] | undefined;
  const padding = attributes.padding!.value;
  let pads: Pads = [0, 0, 0, 0];
  if (padding === 'EXPLICIT') pads = [around![2]!, around![4]!, around![3]!, around![5]!];
  if (padding === 'SAME') {
    const [vertical, horizontal] = [same(shape[1]!, size[0], down), same(shape[2]!, size[1], right)];
    pads = [vertical[0], horizontal[0], vertical[1], horizontal[1]];
  }
  return {
    attributes: { kernel_shape: ints(...size), strides: ints(down, right), pads: ints(...pads) },
    pads,
    strides: [down, right],
  };
}

/**
 * What TensorFlow's SAME adds before and after an axis.
 * @see https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
 */
function same(length: number, size: number, stride: number): readonly [number, number] {
  const total = Math.max((Math.ceil(length / stride) - 1) * stride + size - length, 0);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}

/** @param around amounts of a padding that never wins, as `PadV2` has them, in the place of the operation's own */
export function pool(t: Translation, operation: PlainOperation, around: readonly number[] | undefined): Value {
  const { name, op, inputs, attributes } = operation;
  const x = operand(t, inputs[0]!);
  const [, height, width] = attributes.ksize!.value as readonly [number, number, number, number];
  const explicit: PlainOperation = {
    ...operation,
    attributes: {
      ...attributes,
      padding: { kind: 'string', value: 'EXPLICIT' },
      explicit_paddings: { kind: 'ints', value: around ?? [] },
    },
  };
  const window = windowAttributes(around === undefined ? operation : explicit, x.shape, [height, width]);
  const { pads, strides } = window;
  const from = inOrder(t, x, CHANNELS_FIRST);
  const isMax = op === 'MaxPool';
  const made = isMax
    ? operator(t, name, 'MaxPool', [from], window.attributes)
    : operator(t, name, 'AveragePool', [from], { ...window.attributes, count_include_pad: int(0) });
  if (isMax) noteOrigin(t, made, from); // the same numbers, fewer of them
  const shape = [
    x.shape[0]!,
    axisLength(x.shape[1]!, height, strides[0], pads[0] + pads[2]),
    axisLength(x.shape[2]!, width, strides[1], pads[1] + pads[3]),
    x.shape[3]!,
  ];
  return value(made, shape, CHANNELS_FIRST);
}
