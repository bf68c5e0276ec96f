/**
 * Lowering: from a network of this toolkit to plain TensorFlow operations, all of which TensorFlow.js runs in its graph
 * models, on every backend. What can be folded into kernels is folded.
 */
import { foldGraph, type ReadParameter } from '../../engine/fold.js';
import { type Graph, type Node, nodesBetween, tapOf } from '../../engine/graph.js';
import { activation } from './lower-activations.js';
import { convolution, dense, depthwise } from './lower-kernels.js';
import { batchNorm, groupNorm, layerNorm } from './lower-normalizations.js';
import { adaptiveAveragePool, averagePool, maxPool } from './lower-pools.js';
import { attention, classToken, takeToken } from './lower-tokens.js';
import {
  channelwise,
  elementwise,
  emit,
  emitFor,
  FLOAT,
  INT,
  type Lowering,
  type LoweringOptions,
  mean,
  reshape,
  slashed,
  startLowering,
  structure,
} from './lowering.js';
import type { PlainNetwork } from './operations.js';
import { normalisePixels } from './pixels.js';

export type { LoweringOptions } from './lowering.js';

const INPUT = 'input';
const LOGITS = 'logits';
const PROBABILITIES = 'probabilities';

/**
 * Lowers what the tap `logits` needs, and adds the softmax. Dropout vanishes; the padding of a convolution stays an
 * attribute (`EXPLICIT`), that of a max pool becomes a `PadV2` before it.
 * @param read reads the parameters of `graph`, C order; it is called when a constant is read, not before
 */
export function lowerGraph(
  graph: Graph,
  read: ReadParameter,
  options: LoweringOptions = { depthwisePadding: 'operation' },
): PlainNetwork {
  const folded = foldGraph(graph);
  const l = startLowering(folded.read(read), options);
  const names = new Map<Node, string>();
  const logits = tapOf(folded.graph, LOGITS);
  for (const node of nodesBetween(folded.graph, new Set(), [logits])) {
    const inputs = node.inputs.map((input) => names.get(input)!);
    names.set(node, lower(l, node, inputs));
  }
  emit(l, { name: LOGITS, op: 'Identity', inputs: [names.get(logits)!], attributes: { T: FLOAT } });
  emit(l, { name: PROBABILITIES, op: 'Softmax', inputs: [LOGITS], attributes: { T: FLOAT } });
  return {
    input: { name: INPUT, type: options.pixels?.type ?? 'float32', shape: [-1, ...folded.graph.input.shape] },
    operations: l.operations,
    constants: l.constants,
    outputs: { logits: LOGITS, probabilities: PROBABILITIES },
  };
}

/** Adds the operations of one node and gives the name of its value. */
function lower(l: Lowering, node: Node, inputs: readonly string[]): string {
  const { operation } = node;
  const [x, y] = inputs as readonly [string, string];
  switch (operation.kind) {
    case 'input':
      return l.pixels === undefined ? INPUT : normalisePixels(l, INPUT, l.pixels);
    case 'conv2d':
      return convolution(l, node, x, operation);
    case 'depthwise_conv2d':
      return depthwise(l, node, x, operation);
    case 'dense':
      return dense(l, node, x);
    case 'low_rank':
      throw new Error(`${node.path}: adapters are merged before a model is written`);
    case 'batch_norm':
      return batchNorm(l, node, x, operation);
    case 'group_norm':
      return groupNorm(l, node, x, operation);
    case 'layer_norm':
      return layerNorm(l, node, x, operation);
    case 'activation':
      return activation(l, node, x, operation.name);
    case 'add':
      return elementwise(l, node, 'AddV2', x, y);
    case 'scale_channels':
      return elementwise(l, node, 'Mul', x, reshape(l, node, y, [1, 1, node.shape.at(-1)!]));
    case 'layer_scale':
      return elementwise(l, node, 'Mul', x, channelwise(l, node, 'gamma'));
    case 'concat': {
      if (inputs.length === 1) return x;
      const axis = structure(l, `${slashed(node.path)}/axis`, [], [node.shape.length]);
      const count = { kind: 'int', value: inputs.length } as const;
      return emitFor(l, node, 'ConcatV2', [...inputs, axis], { T: FLOAT, Tidx: INT, N: count });
    }
    case 'max_pool':
      return maxPool(l, node, x, operation);
    case 'average_pool':
      return averagePool(l, node, x, operation);
    case 'adaptive_average_pool':
      return adaptiveAveragePool(l, node, x, operation);
    case 'global_average_pool':
      return mean(l, node, x, [1, 2], false);
    case 'reshape':
      return reshape(l, node, x, node.shape);
    case 'class_token':
      return classToken(l, node, x);
    case 'position_embedding':
      return elementwise(l, node, 'AddV2', x, channelwise(l, node, 'embedding'));
    case 'attention':
      return attention(l, node, inputs, operation);
    case 'take_token':
      return takeToken(l, node, x, operation);
    case 'dropout':
    case 'drop_path':
      return x;
  }
}
