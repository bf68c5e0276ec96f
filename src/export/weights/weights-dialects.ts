/** The dialects that weights are written in, and as which published variant a network is written in one of them. */
import { buildBackbone, type DialectName, type Published } from '../../backbones/index.js';
import type { Graph, Node } from '../../engine/graph.js';
import { UsageError } from '../../errors.js';
import type { NetworkToWrite } from './weights-network.js';

/** A publisher's names and layouts, in the format that its code loads. */
export const weightsDialects = ['keras-h5', 'slim-ckpt', 'flax-npz', 'torch-safetensors'] as const;
export type WeightsDialect = (typeof weightsDialects)[number];

const byName: Readonly<Record<DialectName, WeightsDialect>> = {
  keras: 'keras-h5',
  slim: 'slim-ckpt',
  flax: 'flax-npz',
  torch: 'torch-safetensors',
};

/** The dialect of a published variant. */
export const dialectFor = ({ dialect }: Published): WeightsDialect => byName[dialect];

/**
 * The published variant that a network is written as: its own; or another of the same backbone that computes the same
 * function, where its own is of another dialect or nobody publishes the code of it.
 * @param dialect by default that of its own variant
 * @throws DIALECT_DIFFERS with the dialects that are possible; PART_UNKNOWN
 */
export function variantToWrite(network: NetworkToWrite, dialect = dialectFor(network.published)): Published {
  const { backbone, published } = network;
  const isOwn = dialectFor(published) === dialect;
  if (isOwn && published.reference !== undefined) return checked(network, published);
  const own = signatureOf(build(network, published));
  const same = backbone.published.filter(
    (each) => each.reference !== undefined && signatureOf(build(network, each)) === own,
  );
  const found = same.find((each) => dialectFor(each) === dialect) ?? (isOwn ? published : undefined);
  if (found !== undefined) return checked(network, found);
  const others = backbone.published.filter((each) => dialectFor(each) === dialect).map(({ source }) => source);
  throw new UsageError({
    code: 'DIALECT_DIFFERS',
    message:
      `a ${backbone.name} from ${published.source} cannot be written as ${dialect}: ` +
      (others.length === 0
        ? 'nobody publishes this network in it'
        : `from ${others.join(' and ')} it is another function, with other padding, strides, epsilons or activations`),
    hint: `choose --dialect ${[...new Set([published, ...same].map(dialectFor))].join(' or --dialect ')}`,
  });
}

/** A part or an input that the code of the publisher cannot be told of. */
function checked({ backbone, size, parts }: NetworkToWrite, published: Published): Published {
  const { source, reference } = published;
  if (reference === undefined) return published;
  const refuse = (what: string): UsageError =>
    new UsageError({
      code: 'PART_UNKNOWN',
      message: `${reference.call}, which loads weights of ${backbone.name} from ${source}, knows no ${what}`,
      hint: 'export a TensorFlow.js model with --format tfjs, which holds the whole network',
    });
  if (parts.representation === true && reference.settings?.representation === undefined) {
    throw refuse('dense layer between the backbone and the classifier');
  }
  if (parts.auxiliary !== undefined && published.dialect === 'torch' && reference.settings?.auxiliary === undefined) {
    throw refuse('auxiliary classifiers');
  }
  if (reference.settings?.size === 'image_size' && size.height !== size.width) {
    throw refuse(`pictures of ${size.height}x${size.width}, whose sides differ`);
  }
  return published;
}

const build = ({ size, channels }: NetworkToWrite, published: Published): Graph =>
  buildBackbone(published, { size, channels });

/** Everything that decides what a graph computes in inference, and the parameters' paths. */
function signatureOf({ nodes }: Graph): string {
  const places = new Map<Node, number>();
  const lines: string[] = [];
  for (const node of nodes) {
    const { operation, inputs, shape, parameters } = node;
    if (operation.kind === 'dropout' || operation.kind === 'drop_path') {
      places.set(node, places.get(inputs[0]!)!);
      continue;
    }
    places.set(node, lines.length);
    const inference =
      operation.kind === 'batch_norm' ? { kind: operation.kind, epsilon: operation.epsilon } : operation;
    const own = parameters.map((parameter) => [parameter.path, parameter.shape]);
    lines.push(JSON.stringify([inference, inputs.map((input) => places.get(input)), shape, own]));
  }
  return lines.join('\n');
}
