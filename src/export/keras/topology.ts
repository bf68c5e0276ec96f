/**
 * A network as a functional model of Keras, made of stock layers only: the form that Keras and TensorFlow.js' layers
 * read alike. Every layer computes exactly what the node it stands for does; what no stock layer says is refused.
 * @see https://keras.io/api/layers/ and https://js.tensorflow.org/api/latest/#Layers
 */
import { backbones, type Published } from '../../backbones/index.js';
import type { ReadParameter } from '../../engine/fold.js';
import { type Graph, type Node, nodesBetween, tapOf } from '../../engine/graph.js';
import { UsageError } from '../../errors.js';
import { writtenOwner } from '../../weights/plan/write-plan.js';
import type { ConstantUse } from '../lowering/operations.js';
import { type Added, layerOf } from './layers.js';
import { inKerasOrder } from './order.js';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Numbers of a layer: `kernel`, `moving_mean`. */
export interface KerasWeight {
  readonly leaf: string;
  readonly shape: readonly number[];
  readonly use: ConstantUse;
  /** C order. */
  read(): Promise<Float32Array>;
}

export interface KerasLayerToWrite {
  /** Unique, without slashes: valid in Keras 2 and 3. */
  readonly name: string;
  readonly className: string;
  /** Arguments of the class beside `name`, `trainable` and `dtype`. */
  readonly config: Readonly<Record<string, Json>>;
  /** Names of layers; none of the input. */
  readonly inputs: readonly string[];
  /** In the order in which Keras lists them. */
  readonly weights: readonly KerasWeight[];
  readonly trainable: boolean;
}

export interface KerasTopology {
  readonly name: string;
  /** In Keras' own order, which is a topological one: the input first, `probabilities` last. */
  readonly layers: readonly KerasLayerToWrite[];
}

/** What the layers of a runtime can do. */
export interface Dialect {
  /** For people: `Keras`. */
  readonly title: string;
  /** Convolutions in groups. */
  readonly groups: boolean;
  /** Whether there are activations `swish` and `gelu`, and a layer `Rescaling`. */
  readonly recent: boolean;
  /**
   * A batch norm as a layer of its own, which training goes on with; or else as the multiplication and sum that it is
   * once it is trained.
   */
  readonly batchNorm: 'layer' | 'affine';
}

/** `(x * scale + offset)` of each channel, in another order of channels if need be: what stands before the network. */
export interface Front {
  readonly scale: readonly number[];
  readonly offset: readonly number[];
  /** The channel of the input that each channel of the network is made of. */
  readonly from: readonly number[];
}

export interface TopologyOptions {
  readonly dialect: Dialect;
  /** Gives layers the names of the publisher's own where that is Keras. */
  readonly published: Published | undefined;
  readonly front?: Front | undefined;
}

const INPUT = 'input';
const PROBABILITIES = 'probabilities';

/**
 * Lowers what the tap `logits` needs, and adds the softmax. What lies behind `pre_logits`, the head, is trainable, and
 * everything before it is not: the state in which transfer learning begins.
 * @param read reads the parameters of `graph`; it is called when a weight is read, not before
 * @throws EXPORT_UNSUPPORTED
 */
export function kerasTopology(graph: Graph, read: ReadParameter, options: TopologyOptions): KerasTopology {
  const { dialect, published, front } = options;
  const logits = tapOf(graph, 'logits');
  const nodes = nodesBetween(graph, new Set(), [logits]);
  const frozen = new Set(nodesBetween(graph, new Set(), [tapOf(graph, 'pre_logits')]));
  const layers: KerasLayerToWrite[] = [];
  const names = new Names(published);
  const outputs = new Map<Node, string>();

  const add = (path: string, { inputs, weights = [], ...layer }: Added, trainable: boolean): string => {
    const name = names.of(path, weights.length > 0);
    layers.push({ ...layer, name, inputs, weights, trainable });
    return name;
  };
  for (const node of nodes) {
    const inputs = node.inputs.map((input) => outputs.get(input)!);
    if (node.operation.kind === 'input') {
      const shape = { batch_input_shape: [null, ...node.shape], sparse: false };
      const input = add(INPUT, { className: 'InputLayer', config: shape, inputs: [] }, false);
      outputs.set(node, front === undefined ? input : add('normalise', frontLayer(front, input), false));
      continue;
    }
    const trainable = !frozen.has(node);
    outputs.set(
      node,
      layerOf(node, inputs, {
        dialect,
        read,
        add: (layer, part) => add(part === undefined ? node.path : `${node.path}.${part}`, layer, trainable),
        refuse: (why) => refused(node, why, dialect),
      }),
    );
  }
  const softmax: Added = { className: 'Activation', config: { activation: 'softmax' }, inputs: [outputs.get(logits)!] };
  add(PROBABILITIES, softmax, true);
  return { name: 'model', layers: inKerasOrder(layers) };
}

/** Names of layers, each given once. */
class Names {
  readonly #given = new Set<string>();
  readonly #published: Published | undefined;

  constructor(published: Published | undefined) {
    this.#published = published?.dialect === 'keras' && published.counted !== true ? published : undefined;
  }

  of(path: string, hasWeights: boolean): string {
    const own = hasWeights && this.#published !== undefined ? writtenOwner(this.#published, path) : undefined;
    const wanted = [own?.replaceAll('/', '_'), path].filter(
      (each): each is string => each !== undefined && each !== '',
    );
    const isFree = (each: string): boolean => !this.#given.has(each);
    let name = wanted.find(isFree);
    for (let i = 1; name === undefined; i++) name = [`${path}_${i}`].find(isFree);
    this.#given.add(name);
    return name;
  }
}

/** A 1x1 convolution, which multiplies, adds, and puts channels into another order, in one stock layer. */
function frontLayer({ scale, offset, from }: Front, input: string): Added {
  const channels = scale.length;
  const kernel = new Float32Array(channels * channels); // [in, out]
  from.forEach((source, c) => {
    kernel[source * channels + c] = scale[c]!;
  });
  const constant = (leaf: string, shape: readonly number[], values: Float32Array): KerasWeight => ({
    ...{ leaf, shape, use: { kind: 'structure' } },
    read: async () => values.slice(), // writers may keep what they are given
  });
  return {
    className: 'Conv2D',
    config: {
      ...{ filters: channels, kernel_size: [1, 1], strides: [1, 1], padding: 'valid' },
      ...{ data_format: 'channels_last', activation: 'linear', use_bias: true },
    },
    inputs: [input],
    weights: [
      constant('kernel', [1, 1, channels, channels], kernel),
      constant('bias', [channels], Float32Array.from(offset)),
    ],
  };
}

function refused({ path, operation }: Node, why: string, { title }: Dialect): UsageError {
  return new UsageError({
    code: 'EXPORT_UNSUPPORTED',
    message: `${path} (${operation.kind}): ${why}, and ${title} has no stock layer for it`,
    hint: 'export with --format saved-model or tfjs, which hold every network, or with --format weights for the code of its publisher',
  });
}

/** The configuration of the whole model, as `model.to_json()` of Keras 2 has it. */
export function modelConfig({ name, layers }: KerasTopology, className: 'Functional' | 'Model'): Json {
  const first = layers[0]!.name;
  const last = layers.at(-1)!.name;
  return {
    class_name: className,
    config: {
      name,
      trainable: true,
      layers: layers.map((layer) => ({
        class_name: layer.className,
        name: layer.name,
        config: {
          name: layer.name,
          ...(layer.className === 'InputLayer' ? {} : { trainable: layer.trainable }), // Keras 2 refuses it there
          ...{ dtype: 'float32', ...layer.config },
        },
        inbound_nodes: layer.inputs.length === 0 ? [] : [layer.inputs.map((input) => [input, 0, 0, {}])],
      })),
      input_layers: [[first, 0, 0]],
      output_layers: [[last, 0, 0]],
    },
  };
}

/** The published variant that a model comes from; undefined for networks that nobody published. */
export const publishedOf = (backbone: string, source: string): Published | undefined =>
  backbones.find(({ name }) => name === backbone)?.published.find((each) => each.source === source);
