/**
 * A network as plain TensorFlow operations: the form that every exported format is written from. Names and attributes
 * are those of TensorFlow's op registry, so that a GraphDef is a matter of spelling.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops
 */

/** The value of an attribute, tagged with its type as GraphDef's `AttrValue` is. */
export type Attribute =
  | { readonly kind: 'type'; readonly value: ElementType }
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'strings'; readonly value: readonly string[] };

/** Of the values between operations. */
export type ElementType = 'float32' | 'int32' | 'uint8';

/** Of pixels 0..255 that are not normalised yet. */
export type PixelType = 'int32' | 'uint8';

/** One operation with one output, or with several that are referred to as `name:1`, `name:2`. */
export interface PlainOperation {
  /** Unique: the path of its node with slashes, `stem/conv/Conv2D`. */
  readonly name: string;
  /** As in TensorFlow's registry: `Conv2D`. */
  readonly op: string;
  /** Names of the input, of operations or of constants. */
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** The kernel of a convolution or dense layer; its output channels vary fastest in the numbers. */
export interface KernelUse {
  readonly kind: 'kernel';
  readonly depthwise: boolean;
  /** Output channels. */
  readonly channels: number;
  /** What it is applied to: the path of a node, and which of its channels is the kernel's first. */
  readonly input: { readonly path: string; readonly first: number };
  /** The constant that is added to the result, if any, how long it is, and which of its numbers is the kernel's first. */
  readonly bias: { readonly name: string; readonly length: number; readonly first: number } | undefined;
}

/** What a constant is for, as far as compressing it is concerned. */
export type ConstantUse =
  | KernelUse
  /** One number a channel: a bias, a scale; or one a channel and token: a position embedding. */
  | { readonly kind: 'channel' }
  /** Axes, paddings, shapes and the like, which must stay as they are. */
  | { readonly kind: 'structure' };

export interface Constant {
  readonly name: string;
  readonly type: 'float32' | 'int32';
  readonly shape: readonly number[];
  readonly use: ConstantUse;
  /** The numbers, C order. */
  read(): Promise<Float32Array | Int32Array>;
}

export interface PlainNetwork {
  /** A batch of pictures, of which -1 is any number: float32 and normalised, or pixels. */
  readonly input: {
    readonly name: string;
    readonly type: 'float32' | PixelType;
    readonly shape: readonly number[];
  };
  /** In topological order; the constants too, a kernel before its bias. */
  readonly operations: readonly PlainOperation[];
  readonly constants: readonly Constant[];
  /** Names of operations. */
  readonly outputs: { readonly logits: string; readonly probabilities: string };
}
