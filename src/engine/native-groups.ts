/**
 * Convolution in groups on TensorFlow's kernels: input and output channels are divided evenly, in order.
 *
 * The kernels tell groups by shapes: `[h, w, in / groups, out]` on `in` channels. Forward ones take them everywhere;
 * gradients only where oneDNN computes them (TensorFlow's default on x86) or a GPU. Elsewhere the groups are convolved
 * apart and joined, which gives the same numbers in two to ten times the time.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Operator } from './operator.js';
import type { ConvolutionGeometry } from './operators.js';

type Convolution = (geometry: ConvolutionGeometry) => Operator;

/** @param convolution of one group */
export function groupedConvolution(
  convolution: Convolution,
): (geometry: ConvolutionGeometry, groups: number) => Operator {
  let takes: GroupSupport | undefined; // asked once, when the first network with groups comes
  return (geometry, groups) => {
    takes ??= groupSupport(convolution);
    const [whole, apart] = [convolution(geometry), groupsApart(convolution(geometry), groups)];
    if (takes.backward) return whole;
    return takes.forward ? { ...apart, forward: ([x, kernel]) => [whole.forward([x!, kernel!])[0]!] } : apart;
  };
}

/** Groups are convolved one after the other and joined. */
export function groupsApart(convolution: Operator, groups: number): Operator {
  const parts = (tensor: tf.Tensor): tf.Tensor[] => tf.split(tensor, groups, 3);
  return {
    forward: ([x, kernel]) => {
      const kernels = parts(kernel!);
      return [
        tf.concat(
          parts(x!).map((part, i) => convolution.forward([part, kernels[i]!])[0]!),
          3,
        ),
      ];
    },
    saves: { inputs: [0, 1], outputs: [] },
    backward: ({ dy, inputs: [x, kernel] }, wanted) => {
      const [xs, kernels] = [parts(x!), parts(kernel!)];
      const gradients = parts(dy).map((part, i) =>
        convolution.backward({ dy: part, inputs: [xs[i]!, kernels[i]!], outputs: [] }, wanted),
      );
      return wanted.map((each, i) =>
        each
          ? tf.concat(
              gradients.map((pair) => pair[i]!),
              3,
            )
          : undefined,
      );
    },
  };
}

interface GroupSupport {
  readonly forward: boolean;
  readonly backward: boolean;
}

/** Whether the kernels do what they do group by group: tried on numbers of which no two are alike. */
function groupSupport(convolution: Convolution): GroupSupport {
  const whole = convolution({ strides: [1, 1], padding: 'valid' });
  const apart = groupsApart(whole, 2);
  return tf.tidy(() => {
    const numbers = (shape: [number, number, number, number]): tf.Tensor =>
      tf.sin(tf.reshape(tf.range(1, 1 + shape.reduce((a, b) => a * b)), shape));
    const [x, kernel, dy] = [numbers([1, 4, 4, 4]), numbers([3, 3, 2, 6]), numbers([1, 2, 2, 6])];
    const gradients = ({ backward }: Operator) =>
      backward({ dy, inputs: [x, kernel], outputs: [] }, [true, true]) as tf.Tensor[];
    const forward = agree(
      () => whole.forward([x, kernel]).slice(0, 1),
      () => apart.forward([x, kernel]),
    );
    return {
      forward,
      backward:
        forward &&
        agree(
          () => gradients(whole),
          () => gradients(apart),
        ),
    };
  });
}

/** Whether both give the same tensors, up to rounding. An operation that TensorFlow refuses does not. */
function agree(tried: () => tf.Tensor[], expected: () => tf.Tensor[]): boolean {
  let found: tf.Tensor[];
  try {
    found = tried();
  } catch {
    return false;
  }
  return expected().every((tensor, i) => tf.max(tf.abs(tf.sub(tensor, found[i]!))).dataSync()[0]! < 1e-4);
}
