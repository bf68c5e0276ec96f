/** Every backbone there is. A new family is one import and one line here. */
import { distance } from 'fastest-levenshtein';
import { buildGraph, extendGraph, type Graph, tapOf } from '../engine/graph.js';
import { dense } from '../engine/layers.js';
import { UsageError } from '../errors.js';
import type { Backbone, Published, Source } from './backbone.js';
import { mobilenetsV1 } from './mobilenet-v1.js';
import { mobilenetsV2 } from './mobilenet-v2.js';
import { resnets } from './resnet.js';

export type { Backbone, DialectName, OwnerNames, Published, Source } from './backbone.js';

export const backbones: readonly Backbone[] = [...resnets, ...mobilenetsV1, ...mobilenetsV2];

/** The backbone of a name or alias. @throws UNKNOWN_BACKBONE with the nearest names. */
export function findBackbone(name: string): Backbone {
  const found = backbones.find((each) => each.name === name || each.aliases.includes(name));
  if (found !== undefined) return found;
  const names = backbones.flatMap((each) => [each.name, ...each.aliases]);
  const near = names.filter((each) => distance(each, name) <= 3 || each.startsWith(name)).slice(0, 5);
  throw new UsageError({
    code: 'UNKNOWN_BACKBONE',
    message: `there is no backbone called "${name}"`,
    hint: near.length > 0 ? `did you mean ${near.join(' or ')}?` : '`tl backbones` lists them all',
  });
}

/** The published variant of a backbone. @throws UNKNOWN_SOURCE with those that there are. */
export function findPublished(backbone: Backbone, source: string): Published {
  const found = backbone.published.find((each) => each.source === source);
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
}

/** Builds a published variant: from `[height, width, 3]` to the tap `pre_logits`, and `logits` where asked for. */
export function buildBackbone(published: Published, { size, classes }: BuildOptions): Graph {
  const graph = buildGraph([size.height, size.width, 3], (s, x) => s.at('pre_logits').tap(published.build(s, x)));
  return classes === undefined ? graph : withClassifier(graph, 'classifier', classes);
}

/** Adds a dense layer on `pre_logits` as the tap `logits`. */
function withClassifier(graph: Graph, path: string, classes: number): Graph {
  return extendGraph(graph, (s) => {
    s.at('logits').tap(dense(s.at(path), tapOf(graph, 'pre_logits'), classes));
  });
}

/** Whether a name is one of the sources that some backbone has. */
export function isSource(name: string): name is Source {
  return backbones.some((each) => each.published.some((entry) => entry.source === name));
}
