/**
 * Constants that were variables of Keras layers, in graphs that TensorFlow 2 froze or TensorFlow.js' converter made:
 * `StatefulPartitionedCall/vgg16/block1_conv1/Conv2D/ReadVariableOp/resource` was `block1_conv1/kernel`. The operation
 * that read the variable tells which of its layer's it was.
 * @see tensorflow/python/framework/convert_to_constants.py, convert_variables_to_constants_v2
 */

/** Behind the layer's name: the operation that reads the variable in Keras' layers (keras/layers), and which it is. */
const READS: readonly (readonly [operation: string, leaf: string])[] = [
  ['(?:Conv2D|MatMul|Tensordot|convolution)', 'kernel'],
  ['depthwise', 'depthwise_kernel'],
  ['(?:BiasAdd|add)', 'bias'],
  ['batchnorm/mul', 'gamma'], // of layer normalisation
  ['batchnorm', 'beta'],
];

const PATTERNS = READS.map(([operation, leaf]) => ({
  pattern: new RegExp(`^(.+)/${operation}/ReadVariableOp$`),
  leaf,
}));

/** Mean and variance are read for the operation itself, scale and offset before it in the layer's own scope. */
const NORM = /^(.+?)(\/FusedBatchNormV3)?\/ReadVariableOp(_1)?$/;

/** Calls of functions that a SavedModel wraps its network in. */
const CALLS = /^(?:(?:StatefulPartitionedCall|PartitionedCall)(?:_\d+)?\/)+/;

/**
 * Name in the graph -> `<layer>/<leaf>`, of those that were variables of layers. The models around a layer stay in
 * front of it, as in other files of Keras.
 */
export function kerasConstants(names: readonly string[]): ReadonlyMap<string, string> {
  const plain = new Map(names.map((name) => [name, name.replace(/\/resource$/, '')]));
  const all = new Set(plain.values());
  const taken = new Set(names);
  const found = new Map<string, string>();
  for (const [name, read] of plain) {
    const variable = ofLayer(read) ?? ofNorm(read, all);
    if (variable === undefined) continue;
    const own = variable.replace(CALLS, '');
    if (taken.has(own)) continue; // two of one name keep what tells them apart
    taken.add(own);
    found.set(name, own);
  }
  return found;
}

function ofLayer(read: string): string | undefined {
  for (const { pattern, leaf } of PATTERNS) {
    const layer = pattern.exec(read)?.[1];
    if (layer !== undefined) return `${layer}/${leaf}`;
  }
  return undefined;
}

function ofNorm(read: string, all: ReadonlySet<string>): string | undefined {
  const [, layer, fused, second] = NORM.exec(read) ?? [];
  if (layer === undefined || !all.has(`${layer}/FusedBatchNormV3/ReadVariableOp`)) return undefined;
  if (fused !== undefined) return `${layer}/${second === undefined ? 'moving_mean' : 'moving_variance'}`;
  // a norm without a scale reads its offset alone (scale=False, as Keras' Inception v3 has it)
  const hasBoth = all.has(`${layer}/ReadVariableOp_1`);
  return `${layer}/${second === undefined && hasBoth ? 'gamma' : 'beta'}`;
}
