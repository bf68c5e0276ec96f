/**
 * Fuses a convolution or matrix product with the bias and activation that follow it. TensorFlow.js then runs one
 * kernel instead of three; these fused operations are what TensorFlow's own graph optimiser makes.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/grappler/optimizers/remapper.cc
 */
import type { Attribute, PlainNetwork, PlainOperation } from './operations.js';

const fusedNames: Readonly<Record<string, string>> = {
  Conv2D: '_FusedConv2D',
  DepthwiseConv2dNative: 'FusedDepthwiseConv2dNative',
  MatMul: '_FusedMatMul',
};
/** What TensorFlow.js computes in the same kernel on every backend. @see tfjs-core, src/ops/fused_types.ts, Activation */
const activations = new Set(['Relu', 'Relu6', 'Sigmoid']);

/** The same function in fewer operations. A fused operation bears the name of the last one that it stands for. */
export function fuseOperations(network: PlainNetwork): PlainNetwork {
  const consumers = new Map<string, PlainOperation[]>();
  for (const operation of network.operations) {
    for (const input of operation.inputs) consumers.set(input, [...(consumers.get(input) ?? []), operation]);
  }
  const only = (name: string): PlainOperation | undefined => {
    const found = consumers.get(name) ?? [];
    return found.length === 1 ? found[0] : undefined;
  };
  const replacements = new Map<PlainOperation, PlainOperation | undefined>();
  for (const operation of network.operations) {
    const fused = fusedNames[operation.op];
    const bias = only(operation.name);
    if (fused === undefined || bias?.op !== 'BiasAdd') continue;
    const next = only(bias.name);
    const activation = next !== undefined && activations.has(next.op) ? next : undefined;
    const names: Attribute = { kind: 'strings', value: ['BiasAdd', ...(activation ? [activation.op] : [])] };
    const last = activation ?? bias;
    for (const absorbed of [operation, bias]) replacements.set(absorbed, undefined);
    replacements.set(last, {
      name: last.name,
      op: fused,
      inputs: [...operation.inputs, bias.inputs[1]!],
      attributes: { ...operation.attributes, num_args: { kind: 'int', value: 1 }, fused_ops: names },
    });
  }
  const operations = network.operations.flatMap((operation) => {
    if (!replacements.has(operation)) return [operation];
    const replacement = replacements.get(operation);
    return replacement === undefined ? [] : [replacement];
  });
  return { ...network, operations };
}
