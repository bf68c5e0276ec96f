/**
 * What a backbone is: a function from a scope and a picture to `pre_logits`, and the published variants of it. The
 * same name is a different function in Keras, slim and torch, so each published entry carries its own configuration
 * and its own preprocessing.
 */
import type { Preprocessing } from '../augment/preprocessing.js';
import type { Node, Parameter, Scope, Shape } from '../engine/graph.js';
import type { Download } from './download.js';

/** Where a published file comes from, as `--source` names it. */
export type Source =
  | 'keras'
  | 'keras_v1'
  | 'keras_notop'
  | 'slim'
  | 'torch'
  | 'timm'
  | 'timm_native'
  | 'flax'
  | 'notes'
  | 'tfjs';

/** How a format names and lays out the parameters of one layer; `weights/plan/dialects.ts` holds the tables. */
export type DialectName = 'keras' | 'slim' | 'torch' | 'flax';

/**
 * Translates the path of a layer into its published name, or names, if files differ: `stage1.block1.reduce.conv` ->
 * `['conv2_block1_1_conv']`. The classifier's path is `classifier`. An empty name stands for parameters that belong to
 * the network itself.
 */
export type OwnerNames = (path: string) => readonly string[];

/** How a file holds the numbers of one parameter. */
export interface Layout {
  readonly shape: Shape;
  /** The numbers are one of `of` equal runs along the first axis of the file's tensor. */
  readonly part?: Part;
  /** Dimensions that the numbers are divided into before axes are moved; by default those of the file (or the part). */
  readonly view?: Shape;
  /** Axes of the view in the order in which ours are; none where the numbers lie as they should. */
  readonly permutation?: readonly number[];
  /** What the numbers are multiplied by, where a constant of the published network differs from ours. */
  readonly factor?: number;
  /** What the report says was done, beyond moving axes. */
  readonly adaptation?: string;
}

/** One of several parameters that a file holds as one tensor: `index` of `of`. */
export interface Part {
  readonly index: number;
  readonly of: number;
}

/** A classifier on an intermediate that helps training and vanishes afterwards. */
export interface Auxiliary {
  /** Its path: `aux1`. */
  readonly name: string;
  /** The tap it stands on. */
  readonly tap: string;
  /** Share of its loss in the whole. */
  readonly weight: number;
  /** The layers up to its logits; the last one, which knows the classes, is called `logits`. */
  build(s: Scope, x: Node, classes: number): Node;
}

/**
 * Today's code of a publisher, which a weights file is written for: how it makes the network, and where it differs from
 * the first of the names and layouts that a published file may have.
 */
export interface Reference {
  /** What makes the network in Python: `keras.applications.MobileNet`. */
  readonly call: string;
  /** Arguments of its own: `alpha=0.5`. */
  readonly arguments?: string;
  /** Lines of Python that the call needs first, besides those that every network of its dialect needs. */
  readonly imports?: readonly string[];
  /** slim's networks: the argument scope that they are built in. */
  readonly scope?: string;
  /** Arguments that only some networks take: the side of the pictures, the two parts that not every file has. */
  readonly settings?: { readonly size?: string; readonly auxiliary?: string; readonly representation?: string };
  /** It ends in `pre_logits`, and whoever uses it adds a dense layer. */
  readonly topless?: boolean;
  /** The network itself normalises pixels of 0 to 255; its layer that does so by numbers, where the file has those. */
  readonly pixels?: { readonly layer?: string };
  /** Which of `ownerNames` it calls its layers; 0, the first, by default. */
  readonly naming?: number;
  /** The last part of a parameter's name, where it is not the dialect's first. */
  leaf?(parameter: Parameter): string | undefined;
  /** Dimensions in which it keeps a parameter, where those are not the dialect's first: 4 of a 1x1 convolution. */
  rank?(parameter: Parameter): number | undefined;
}

export interface Published {
  readonly source: Source;
  /** The source that users would name for this file too: `keras` for `keras_v1`. */
  readonly variantOf?: Source;
  readonly dialect: DialectName;
  /** Of the published classifier; slim's 1001 have a background class at index 0. */
  readonly classes: number;
  readonly ownerNames: OwnerNames;
  /**
   * Its layers have the names that Keras gives by counting through a whole program, so that two files of one network
   * differ (`conv2d_19`, `conv2d_20`). Then `ownerNames` says the layer's place among those of its kind beside it:
   * `conv2d`, `conv2d_1`.
   */
  readonly counted?: boolean;
  /** Keras: names of layers that are models themselves, whose layers' names follow behind a slash. */
  readonly submodels?: RegExp;
  /** Which part of a tensor a layer's parameters are, where a file holds several layers as one. */
  part?(path: string): Part | undefined;
  /** Layouts that differ from the dialect's. */
  layouts?(parameter: Parameter): readonly Layout[] | undefined;
  /** Tensors of the file that no parameter takes: constants, or what belongs to preprocessing. */
  readonly setAside?: readonly RegExp[];
  readonly preprocessing: Preprocessing;
  /** None where nobody publishes the code: then the first names and layouts hold. */
  readonly reference?: Reference;
  /** Channels of the pictures it was trained on; 3 by default. */
  readonly channels?: 1 | 3;
  readonly auxiliary?: readonly Auxiliary[];
  /** Units of a dense tanh layer that some files have between the backbone and the classifier. */
  readonly representation?: number;
  /** Paths of the layers that the publisher counts as the classifier; `classifier` alone by default. */
  readonly top?: readonly string[];
  /** The model of @tensorflow-models/mobilenet that this is, which that package can download. */
  readonly packaged?: { readonly version: 1 | 2; readonly alpha: number };
  /** Where the publisher's file can be fetched, and what is known of it; none where nobody publishes one. */
  readonly download?: Download;
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
