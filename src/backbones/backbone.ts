/**
 * What a backbone is: a function from a scope and a picture to `pre_logits`, and the published variants of it. The
 * same name is a different function in Keras, slim and torch, so each published entry carries its own configuration
 * and its own preprocessing.
 */
import type { Preprocessing } from '../augment/preprocessing.js';
import type { Node, Scope } from '../engine/graph.js';

/** Where a published file comes from, as `--source` names it. */
export type Source = 'keras' | 'keras_v1' | 'slim' | 'torch';

/** How a format names and lays out the parameters of one layer; `weights/dialects.ts` holds the tables. */
export type DialectName = 'keras' | 'slim' | 'torch';

/**
 * Translates the path of a layer into its published name, or names, if files differ: `stage1.block1.reduce.conv` ->
 * `['conv2_block1_1_conv']`. The classifier's path is `classifier`.
 */
export type OwnerNames = (path: string) => readonly string[];

export interface Published {
  readonly source: Source;
  readonly dialect: DialectName;
  /** 1000, or 1001 with a background class at index 0. */
  readonly classes: 1000 | 1001;
  readonly ownerNames: OwnerNames;
  readonly preprocessing: Preprocessing;
  /** Where the publisher keeps it, for people: an address or a package and a name. */
  readonly origin: string;
  readonly license: string;
  /** Adds the layers from the picture to `pre_logits`, `[units]`. */
  build(s: Scope, x: Node): Node;
}

export interface Backbone {
  /** As published: `resnet50`, `mobilenet_v1_0.25`. */
  readonly name: string;
  readonly family: string;
  /** Other names that users type: `mobilenet_v2` for `mobilenet_v2_1.0`. */
  readonly aliases: readonly string[];
  /** Height and width of the pictures it was trained on. */
  readonly inputSize: number;
  /** In the order of preference when nothing else decides. */
  readonly published: readonly Published[];
}
