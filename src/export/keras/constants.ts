/** The numbers of a topology's layers, for what stores and quantises constants. */
import type { Constant, ConstantUse } from '../lowering/operations.js';
import type { KerasLayerToWrite, KerasTopology, KerasWeight } from './topology.js';

/** All of them, called `layer/leaf`, in the order of the layers. */
export const constantsOf = ({ layers }: KerasTopology): Constant[] =>
  layers.flatMap((layer) => layer.weights.map((weight) => constantOf(layer, weight)));

export function constantOf({ name }: Pick<KerasLayerToWrite, 'name'>, weight: KerasWeight): Constant {
  const { leaf, shape, read } = weight;
  return { name: `${name}/${leaf}`, type: 'float32', shape, use: useOf(name, weight.use), read };
}

/** Of a kernel, the bias that makes up for its rounding is that of the same layer. */
function useOf(layer: string, use: ConstantUse): ConstantUse {
  if (use.kind !== 'kernel' || use.bias === undefined) return use;
  return { ...use, bias: { ...use.bias, name: `${layer}/${use.bias.name}` } };
}
