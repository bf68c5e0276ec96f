/** The shape of every value, for one picture, and whether its first size grows with the number of pictures. */
import { attributesOf, type Step } from './steps.js';

export interface Shape {
  readonly sizes: readonly number[];
  readonly batched: boolean;
}

/** The shapes of a step's values: one, but for `Split`. */
export function shapesOf(
  step: Step,
  inputs: readonly Shape[],
  numbers: ReadonlyMap<string, ArrayLike<number>>,
): readonly Shape[] {
  const { op } = step;
  const { ints, flag, text } = attributesOf(step);
  const [x, y] = inputs as readonly [Shape, Shape];
  const like = (sizes: readonly number[]): Shape => ({ sizes, batched: x.batched });
  const values = (at: number): number[] => Array.from(numbers.get(step.inputs[at]!)!);
  const windowed = (size: readonly number[], channels: number): Shape => {
    const strides = ints('strides');
    const places = [1, 2].map((axis) => {
      const length = x.sizes[axis]!;
      const stride = strides[axis]!;
      return text('padding') === 'SAME'
        ? Math.ceil(length / stride)
        : Math.ceil((length - size[axis - 1]! + 1) / stride);
    });
    return like([x.sizes[0]!, ...places, channels]);
  };
  switch (op) {
    case 'Conv2D':
      return [windowed(y.sizes, y.sizes[3]!)];
    case 'DepthwiseConv2dNative':
      return [windowed(y.sizes, y.sizes[2]! * y.sizes[3]!)];
    case 'MaxPool':
    case 'AvgPool':
      return [windowed(ints('ksize').slice(1), x.sizes[3]!)];
    case 'MatMul':
      return [like([x.sizes[0]!, y.sizes[1]!])];
    case 'BatchMatMulV2': {
      const [rows, columns] = [x.sizes.at(flag('adj_x') ? -1 : -2)!, y.sizes.at(flag('adj_y') ? -2 : -1)!];
      const longer = x.sizes.length > y.sizes.length ? x : y;
      return [{ sizes: [...longer.sizes.slice(0, -2), rows, columns], batched: x.batched || y.batched }];
    }
    case 'AddV2':
    case 'Sub':
    case 'Mul':
    case 'BiasAdd': {
      const length = Math.max(x.sizes.length, y.sizes.length);
      const at = ({ sizes }: Shape, i: number): number => sizes[i - length + sizes.length] ?? 1;
      const sizes = Array.from({ length }, (_, i) => Math.max(at(x, i), at(y, i)));
      return [{ sizes, batched: x.batched || y.batched }];
    }
    case 'Mean': {
      const axes = values(1);
      const sizes = x.sizes.flatMap((size, axis) => (!axes.includes(axis) ? [size] : flag('keep_dims') ? [1] : []));
      return [like(sizes)];
    }
    case 'Pad':
    case 'PadV2': {
      const amounts = values(1);
      return [like(x.sizes.map((size, axis) => size + amounts[2 * axis]! + amounts[2 * axis + 1]!))];
    }
    case 'Reshape': {
      const [, ...rest] = values(1);
      const product = (of: readonly number[]): number => of.reduce((a, b) => a * b, 1);
      return [like([product(x.sizes) / product(rest), ...rest])];
    }
    case 'Transpose':
      return [like(values(1).map((axis) => x.sizes[axis]!))];
    case 'Slice': {
      const sizes = values(2);
      return [like(x.sizes.map((size, axis) => (sizes[axis] === -1 ? size : sizes[axis]!)))];
    }
    case 'GatherV2':
      return [like(x.sizes.map((size, axis) => (axis === values(2)[0] ? y.sizes[0]! : size)))];
    case 'Split': {
      const count = valueOfCount(step);
      const axis = values(0)[0]!;
      const sizes = y.sizes.map((size, i) => (i === axis ? size / count : size));
      return Array.from({ length: count }, () => ({ sizes, batched: y.batched }));
    }
    case 'ConcatV2': {
      const parts = inputs.slice(0, -1);
      const axis = values(parts.length)[0]!;
      const total = parts.reduce((sum, { sizes }) => sum + sizes[axis]!, 0);
      return [like(x.sizes.map((size, i) => (i === axis ? total : size)))];
    }
    default:
      return [x]; // a function of each number
  }
}

export function valueOfCount({ name, attributes }: Step): number {
  const attribute = attributes.num_split;
  if (attribute?.kind !== 'int') throw new Error(`${name}: expected num_split`);
  return attribute.value;
}
