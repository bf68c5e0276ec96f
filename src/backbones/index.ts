/** Every backbone there is. A new family is one import and one line here. */
import { distance } from 'fastest-levenshtein';
import {
  buildGraph,
  extendGraph,
  firstParameterOf,
  type Graph,
  type Node,
  type Parameter,
  tapOf,
} from '../engine/graph.js';
import { activation, dense } from '../engine/layers.js';
import { UsageError } from '../errors.js';
import { alexnets } from './alexnet.js';
import type { Auxiliary, Backbone, Published, Source } from './backbone.js';
import { convnexts } from './convnext.js';
import { demoCnns } from './demo-cnn.js';
import { densenets } from './densenet.js';
import { efficientnets } from './efficientnet.js';
import { googlenets } from './googlenet.js';
import { mobilenetsV1 } from './mobilenet-v1.js';
import { mobilenetsV2 } from './mobilenet-v2.js';
import { mobilenetsV3 } from './mobilenet-v3.js';
import { resnets } from './resnet.js';
import { sizeError } from './size-error.js';
import { vggs } from './vgg.js';
import { vits } from './vit.js';

export type {
  Auxiliary,
  Backbone,
  DialectName,
  Layout,
  OwnerNames,
  Part,
  Published,
  Reference,
  Source,
} from './backbone.js';
export type { Download, HubFile, KnownOfFile } from './download.js';

export const backbones: readonly Backbone[] = [
  ...demoCnns,
  ...alexnets,
  ...vggs,
  ...googlenets,
  ...resnets,
  ...mobilenetsV1,
  ...mobilenetsV2,
  ...mobilenetsV3,
  ...vits,
  ...efficientnets,
  ...convnexts,
  ...densenets,
];

/** The backbone of a name or alias. @throws UNKNOWN_BACKBONE with the nearest names. */
export function findBackbone(name: string): Backbone {
  const found = backbones.find((each) => each.name === name || each.aliases.includes(name));
  if (found !== undefined) return found;
  const names = backbones.flatMap((each) => [each.name, ...each.aliases]);
  const near = names
    .filter((each) => distance(each, name) <= 3 || each.startsWith(name))
    .sort((a, b) => distance(a, name) - distance(b, name))
    .slice(0, 5);
  throw new UsageError({
    code: 'UNKNOWN_BACKBONE',
    message: `there is no backbone called "${name}"`,
    hint: near.length > 0 ? `did you mean ${near.join(' or ')}?` : '`tl backbones` lists them all',
  });
}

/**
 * The published variant of a backbone that a source names: the one of that name, else the first variant of it.
 * @throws UNKNOWN_SOURCE with those that there are
 */
export function findPublished(backbone: Backbone, source: string): Published {
  const { published } = backbone;
  const found = published.find((each) => each.source === source) ?? published.find((each) => answersTo(each, source));
  if (found !== undefined) return found;
  throw new UsageError({
    code: 'UNKNOWN_SOURCE',
    message: `${backbone.name} has no source "${source}"`,
    hint: `its sources are: ${backbone.published.map((each) => each.source).join(', ')}`,
  });
}

export interface BuildOptions {
  readonly size: { readonly height: number; readonly width: number };
  /** Adds the published classifier, `classifier`, with that many classes, as the tap `logits`. */
  readonly classes?: number | undefined;
  /** Channels of the pictures; by default those it was trained on. */
  readonly channels?: number | undefined;
  /** Adds the representation layer: `pre_logits` then comes after it, and `encoded` before it. */
  readonly representation?: boolean | undefined;
  /** Adds the auxiliary classifiers, with that many classes, as the taps `aux1.logits`, ... */
  readonly auxiliary?: number | undefined;
}

/**
 * Builds a published variant: from `[height, width, channels]` to the tap `pre_logits`, and `logits` where asked for.
 * @throws INPUT_TOO_SMALL, INPUT_SIZE with the sizes that the network takes
 */
export function buildBackbone(published: Published, options: BuildOptions): Graph {
  try {
    return build(published, options);
  } catch (error) {
    throw sizeError(error, {
      name: backbones.find((each) => each.published.includes(published))?.name,
      source: published.source,
      size: options.size,
      buildAt: (side) => build(published, { ...options, size: { height: side, width: side } }),
    });
  }
}

/** The first parameter of a published variant: most are told apart by its name, and the rest need not be built for it. */
export function firstParameter(
  published: Published,
  { size, channels = published.channels ?? 3 }: BuildOptions,
): Parameter {
  return firstParameterOf([size.height, size.width, channels], (s, x) => published.build(s, x));
}

function build(published: Published, options: BuildOptions): Graph {
  const { size, classes, auxiliary, channels = published.channels ?? 3 } = options;
  const backbone = buildGraph([size.height, size.width, channels], (s, x) => {
    const encoded = published.build(s, x);
    if (options.representation !== true) return s.at('pre_logits').tap(encoded);
    s.at('encoded').tap(encoded);
    const at = s.at('representation');
    return s.at('pre_logits').tap(activation(at, dense(at, encoded, published.representation!), 'tanh'));
  });
  const graph = classes === undefined ? backbone : withClassifier(backbone, 'classifier', classes);
  return auxiliary === undefined ? graph : withAuxiliary(graph, published.auxiliary ?? [], auxiliary);
}

/** Adds a dense layer on `pre_logits` as the tap `logits`. */
function withClassifier(graph: Graph, path: string, classes: number): Graph {
  return extendGraph(graph, (s) => {
    s.at('logits').tap(dense(s.at(path), tapOf(graph, 'pre_logits'), classes));
  });
}

/**
 * Adds auxiliary classifiers, each as the tap `<name>.logits`.
 * @throws INPUT_SIZE where one was made for a grid that this input size does not give
 */
export function withAuxiliary(graph: Graph, auxiliary: readonly Auxiliary[], classes: number): Graph {
  return extendGraph(graph, (s) => {
    for (const { name, tap, build } of auxiliary) {
      s.at(`${name}.logits`).tap(build(s.at(name), tapOf(graph, tap), classes));
    }
  });
}

/** Whether a published variant may be what users mean by a source: that source itself, or a variant of it. */
export function answersTo({ source, variantOf }: Published, named: string): boolean {
  return source === named || variantOf === named;
}

/** Whether a node is part of what the publisher counts as the classifier. */
export function isTop({ top = ['classifier'] }: Published, { path }: Node): boolean {
  return top.some((each) => path === each || path.startsWith(`${each}.`));
}

/** Whether a name is one of the sources that some backbone has. */
export function isSource(name: string): name is Source {
  return backbones.some((each) => each.published.some((entry) => entry.source === name));
}
