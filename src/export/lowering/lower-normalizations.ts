/** Norms that do not become part of a kernel. */
import { gammaOf } from '../../engine/fold.js';
import type { Node } from '../../engine/graph.js';
import type { OperationOf } from '../../engine/operations.js';
import { channelwise, constant, elementwise, type Lowering, mean, reshape, scalar, slashed } from './lowering.js';

/** A batch norm that follows no convolution: `x * scale + shift`. */
export function batchNorm(l: Lowering, node: Node, x: string, { epsilon }: OperationOf<'batch_norm'>): string {
  const path = slashed(node.path);
  const read = (leaf: string): Promise<Float32Array> => l.read(`${node.path}.${leaf}`);
  const scales = async (): Promise<Float64Array> => {
    const [gamma, variance] = [await gammaOf(node, l.read), await read('variance')];
    return Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + epsilon));
  };
  const shape = [node.shape.at(-1)!];
  const scale = constant(l, `${path}/scale`, shape, { kind: 'channel' }, async () => Float32Array.from(await scales()));
  const shift = constant(l, `${path}/shift`, shape, { kind: 'channel' }, async () => {
    const [factors, beta, means] = [await scales(), await read('beta'), await read('mean')];
    return Float32Array.from(factors, (factor, i) => beta[i]! - means[i]! * factor);
  });
  return elementwise(l, node, 'AddV2', elementwise(l, node, 'Mul', x, scale), shift);
}

/** Over the last dimension. */
export function layerNorm(l: Lowering, node: Node, x: string, { epsilon }: OperationOf<'layer_norm'>): string {
  return affine(l, node, normalised(l, node, x, [node.shape.length], epsilon));
}

/** Over the places and the neighbouring channels of a group. */
export function groupNorm(l: Lowering, node: Node, x: string, operation: OperationOf<'group_norm'>): string {
  const { groups, epsilon } = operation;
  const [height, width, channels] = node.shape as readonly [number, number, number];
  const grouped = reshape(l, node, x, [height * width, groups, channels / groups]);
  return affine(l, node, reshape(l, node, normalised(l, node, grouped, [1, 3], epsilon), node.shape));
}

/** `(x - mean) / sqrt(variance + epsilon)`, the biased variance. */
function normalised(l: Lowering, node: Node, x: string, axes: readonly number[], epsilon: number): string {
  const centred = elementwise(l, node, 'Sub', x, mean(l, node, x, axes, true));
  const variance = mean(l, node, elementwise(l, node, 'Square', centred), axes, true);
  const inverse = elementwise(l, node, 'Rsqrt', elementwise(l, node, 'AddV2', variance, scalar(l, epsilon)));
  return elementwise(l, node, 'Mul', centred, inverse);
}

function affine(l: Lowering, node: Node, x: string): string {
  const scaled = elementwise(l, node, 'Mul', x, channelwise(l, node, 'gamma'));
  return elementwise(l, node, 'AddV2', scaled, channelwise(l, node, 'beta'));
}
