/** What `tl export --format weights` writes: a network, its numbers, and where they come from. */

import type { Channels } from '../../augment/image.js';
import { type Preprocessing, withChannels } from '../../augment/preprocessing.js';
import {
  type Backbone,
  type BuildOptions,
  buildBackbone,
  findBackbone,
  findPublished,
  type Published,
} from '../../backbones/index.js';
import type { Graph, Parameter } from '../../engine/graph.js';
import type { ReadParameter } from '../../engine/network.js';
import type { Head } from '../../heads/heads.js';
import type { OpenedModel } from '../../weights/model-folder.js';
import { writtenOwner } from '../../weights/plan/write-plan.js';
import type { ResolvedWeights } from '../../weights/resolve.js';

/** A network with numbers, of a model folder or of imported weights. */
export interface NetworkToWrite {
  readonly backbone: Backbone;
  readonly published: Published;
  readonly size: { readonly height: number; readonly width: number };
  readonly channels: Channels;
  /** Of the classifier or head; undefined where it ends in `pre_logits`. */
  readonly classes: number | undefined;
  /** Hidden layers of the head, each followed by ReLU, in units. */
  readonly hidden: readonly number[];
  /** Parts that not every file has. */
  readonly parts: Pick<BuildOptions, 'representation' | 'auxiliary'>;
  /** Names of the classes, where they are known. */
  readonly labels: readonly string[] | undefined;
  readonly preprocessing: Preprocessing;
  readonly weights: { readonly origin: string; readonly license: string };
  /** Reads a parameter by its path in {@link graphToWrite}, or one of {@link headLayers}. */
  readonly read: ReadParameter;
}

/** The trained network of a model folder. */
export function networkOfModel({ record, read }: Pick<OpenedModel, 'record' | 'read'>): NetworkToWrite {
  const backbone = findBackbone(record.backbone);
  const { inputSize, channels = 3, head, classes, preprocessing, weights } = record;
  return {
    backbone,
    published: findPublished(backbone, record.source),
    size: inputSize,
    channels,
    classes: classes.length,
    hidden: head.hidden,
    parts: {},
    labels: classes,
    preprocessing,
    weights,
    read: async (path) => await read(path.replace(/^classifier\./, 'head.logits.')),
  };
}

/** A published network with imported weights, and their classifier where they have one. */
export function networkOfWeights(resolved: ResolvedWeights & { readonly read: ReadParameter }): NetworkToWrite {
  const { backbone, published, classes, channels, origin, license, parameters, read } = resolved;
  const has = (start: string): boolean => parameters.some(({ path }) => path.startsWith(start));
  const auxiliary = published.auxiliary?.find(({ name }) => has(`${name}.`));
  return {
    backbone,
    published,
    size: sizeOf(backbone, published, parameters),
    channels,
    classes,
    hidden: [],
    parts: {
      representation: has('representation.'),
      auxiliary: parameters.find(({ path }) => path === `${auxiliary?.name}.logits.bias`)?.shape[0],
    },
    labels: undefined,
    preprocessing: withChannels(published.preprocessing, channels),
    weights: { origin, license },
    read,
  };
}

/** Of the pictures: what is published, or what a position embedding of another grid is for. */
function sizeOf(backbone: Backbone, published: Published, stored: readonly Parameter[]): NetworkToWrite['size'] {
  const { inputSize: side } = backbone;
  const size = { height: side, width: side };
  const places = stored.find((parameter) => parameter.places !== undefined)?.places;
  if (places === undefined) return size;
  const { parameters } = buildBackbone(published, { size });
  const { grid } = parameters.find((parameter) => parameter.places !== undefined)!.places!;
  return { height: (side / grid[0]) * places.grid[0], width: (side / grid[1]) * places.grid[1] };
}

/** Whether a variant's own classifier holds the network's last layer: a dense layer on `pre_logits`. */
export function endsInClassifier({ hidden, classes }: NetworkToWrite, { reference }: Published): boolean {
  return classes !== undefined && hidden.length === 0 && reference?.topless !== true;
}

/** The network as a variant has it, up to `pre_logits` where its head is none that the publisher has. */
export function graphToWrite(network: NetworkToWrite, published: Published): Graph {
  const { size, channels, classes, parts } = network;
  const own = endsInClassifier(network, published);
  return buildBackbone(published, { size, channels, ...parts, ...(own ? { classes } : {}) });
}

/** A dense layer of a head that the publisher's network has not. */
export interface HeadLayer {
  readonly name: string;
  readonly inputs: number;
  readonly units: number;
  readonly kernel: Parameter;
  readonly bias: Parameter;
  readonly isLast: boolean;
}

/** The dense layers that come on `pre_logits`, in their order; none where the classifier is the publisher's own. */
export function headLayers(network: NetworkToWrite, published: Published, graph: Graph): HeadLayer[] {
  const { classes, hidden } = network;
  if (classes === undefined || endsInClassifier(network, published)) return [];
  const units = [...hidden, classes];
  return units.map((count, i): HeadLayer => {
    const inputs = units[i - 1] ?? graph.taps.get('pre_logits')!.shape[0]!;
    const isLast = i === hidden.length;
    const name = isLast ? 'logits' : `dense${i + 1}`;
    // paths of heads/heads.ts; networkOfModel knows the last one as the classifier too
    const common = { trainable: true, initializer: { kind: 'zeros' } } as const;
    return {
      ...{ name, inputs, units: count, isLast },
      kernel: { path: `head.${name}.kernel`, role: 'dense.kernel', shape: [inputs, count], ...common },
      bias: { path: `head.${name}.bias`, role: 'bias', shape: [count], ...common },
    };
  });
}

/** What the publisher's code calls a layer of a head: a name that no layer of its own network has. */
export function headOwner({ name, isLast }: HeadLayer, published: Published): string {
  const { dialect, reference } = published;
  const classifier = writtenOwner(published, 'classifier') ?? '';
  if (dialect === 'keras') return isLast && reference?.topless === true ? classifier : `head_${name}`;
  return dialect === 'torch' ? `${classifier}.${name}` : `head/${name}`;
}

/** How a head is said in a sentence. */
export const headText = ({ hidden }: Pick<Head, 'hidden'>): string =>
  hidden.length === 0 ? 'a dense layer' : `dense layers of ${hidden.join(', ')} units with ReLU, and a dense layer`;
