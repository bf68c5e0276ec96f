/** Activation functions: one operation, or several where TensorFlow.js has no other way. */
import type { Node } from '../../engine/graph.js';
import type { ActivationName } from '../../engine/operations.js';
import { elementwise, type Lowering, scalar } from './lowering.js';

export function activation(l: Lowering, node: Node, x: string, name: ActivationName): string {
  const apply = (op: string, ...inputs: string[]): string => elementwise(l, node, op, ...inputs);
  const times = (a: string, b: string | number): string => apply('Mul', a, typeof b === 'string' ? b : scalar(l, b));
  const plus = (a: string, b: number): string => apply('AddV2', a, scalar(l, b));
  const hardSigmoid = (): string => times(apply('Relu6', plus(x, 3)), 1 / 6);
  switch (name) {
    case 'relu':
      return apply('Relu', x);
    case 'relu6':
      return apply('Relu6', x);
    case 'sigmoid':
      return apply('Sigmoid', x);
    case 'tanh':
      return apply('Tanh', x);
    case 'hard_sigmoid':
      return hardSigmoid();
    case 'swish':
      return times(x, apply('Sigmoid', x));
    case 'hard_swish':
      return times(x, hardSigmoid());
    case 'gelu':
      return times(times(x, 0.5), plus(apply('Erf', times(x, Math.SQRT1_2)), 1));
    case 'gelu_tanh': {
      // Hendrycks and Gimpel 2016, section 2: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
      const slope = plus(times(apply('Square', x), 0.044715), 1);
      const inner = times(times(x, slope), Math.sqrt(2 / Math.PI));
      return times(times(x, 0.5), plus(apply('Tanh', inner), 1));
    }
  }
}
