/**
 * The preprocessing record: everything that happens between a decoded picture and the numbers a network was trained
 * on. It is stored with the model, and training, evaluation, prediction and export all read the same record.
 *
 * Each preset is one published pipeline; a network's published entry names the one its weights were trained with.
 */

import { z } from 'zod';
import { type Channels, channelCounts, type ImageSize } from './image.js';

/**
 * Whose resize to reproduce; they differ by up to 100/255 in single pixels of the same photograph.
 *
 * - `pil_bilinear`, `pil_bicubic`: Pillow's, which widens its filter when shrinking (antialiased) and rounds to bytes.
 * - `tf_bilinear`: TensorFlow 2's `tf.image.resize(..., 'bilinear')`: half-pixel centres, no antialiasing, no rounding.
 * - `tf1_bilinear`: TensorFlow 1's `resize_bilinear(align_corners=False)`: as before, but sampled from the top left
 *   corner of each pixel (`x * scale`), which shifts the picture by up to half a pixel.
 * - `tf1_bilinear_corners`: the same with `align_corners=True`: the corners' centres stay where they are.
 */
export type ResizeKernel = 'pil_bilinear' | 'pil_bicubic' | 'tf_bilinear' | 'tf1_bilinear' | 'tf1_bilinear_corners';

/** How the picture gets to the network's size. */
export type ResizeRule =
  /** Straight to the size, whatever the shape of the picture. */
  | { readonly rule: 'stretch' }
  /** The short side becomes `round(ratio * size)` pixels with the shape kept (`256/224`: 256 for a crop of 224). */
  | { readonly rule: 'short_side'; readonly ratio: number }
  /** The central `fraction` of each side is cut out first, then stretched to the size. */
  | { readonly rule: 'central_fraction'; readonly fraction: number }
  /** The whole picture with its shape kept, as large as fits, in the middle; the rest is {@link meanColour}. */
  | { readonly rule: 'pad' };

/** From pixels 0..255 to the network's input: resize, crop, reorder channels, `(pixel * scale - mean) / std`. */
export interface Preprocessing {
  readonly resize: ResizeRule;
  readonly kernel: ResizeKernel;
  /** `center` cuts the network's size out of the middle after resizing; `none` where resizing already gives it. */
  readonly crop: 'center' | 'none';
  /** Of the colours; alpha comes last in both, and grey has no order. */
  readonly channelOrder: 'rgb' | 'bgr';
  /** Multiplies the pixel, 0..255, before the mean is subtracted. */
  readonly scale: number;
  /** A value for each channel of the network's input, in `channelOrder`, in units of the scaled pixel. */
  readonly mean: readonly number[];
  /** As many values as `mean`, in `channelOrder`, in units of the scaled pixel; none is 0. */
  readonly std: readonly number[];
}

const positive = z.number().positive();

/** Reads a {@link Preprocessing} back from a model's `model.json`; rejects unknown fields, so nothing is dropped. */
export const preprocessingSchema: z.ZodType<Preprocessing> = z
  .strictObject({
    resize: z.discriminatedUnion('rule', [
      z.strictObject({ rule: z.literal('stretch') }),
      // Below 1 the resized picture would be smaller than the crop.
      z.strictObject({ rule: z.literal('short_side'), ratio: z.number().min(1) }),
      z.strictObject({ rule: z.literal('central_fraction'), fraction: positive.max(1) }),
      z.strictObject({ rule: z.literal('pad') }),
    ]),
    kernel: z.enum(['pil_bilinear', 'pil_bicubic', 'tf_bilinear', 'tf1_bilinear', 'tf1_bilinear_corners']),
    crop: z.enum(['center', 'none']),
    channelOrder: z.enum(['rgb', 'bgr']),
    scale: positive,
    mean: z.array(z.number()).refine((values) => channelCounts.some((count) => count === values.length), {
      message: 'one value for each channel of the pictures, which are 1, 3 or 4',
    }),
    std: z.array(positive),
  })
  .refine((p) => p.mean.length === p.std.length, { message: 'as many values as mean has', path: ['std'] })
  .refine((p) => (p.resize.rule === 'short_side') === (p.crop === 'center'), {
    message: "crop must be 'center' with resize rule 'short_side', and 'none' with the other rules",
    path: ['crop'],
  });

/** Channels of the pictures that a record makes ready, which it has a mean for each. */
export function channelsFor({ mean }: Pick<Preprocessing, 'mean'>): Channels {
  return mean.length as Channels;
}

/**
 * A record for pictures of another number of channels than the network was trained on.
 *
 * Grey pictures take the average of all means and of all deviations, and have no channel order. With more channels than
 * there are values, these come again from the first on, as the channels of the first convolution do
 * (`weights/adapt.ts`): alpha is treated as the first colour. timm asks its users for such values.
 */
export function withChannels(p: Preprocessing, channels: Channels): Preprocessing {
  const trained = channelsFor(p);
  if (channels === trained) return p;
  const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  if (channels === 1) return { ...p, channelOrder: 'rgb', mean: [average(p.mean)], std: [average(p.std)] };
  const again = (values: readonly number[]): number[] =>
    Array.from({ length: channels }, (_, i) => values[i % trained]!);
  return { ...p, mean: again(p.mean), std: again(p.std) };
}

/** What becomes zero, or nearly, for the network: 0..255 for each channel of the picture, in the picture's own order. */
export function meanColour({ channelOrder, scale, mean }: Preprocessing): readonly number[] {
  const bytes = mean.map((value) => Math.min(Math.max(Math.round(value / scale), 0), 255));
  return channelOrder === 'bgr' && bytes.length > 1 ? [bytes[2]!, bytes[1]!, bytes[0]!, ...bytes.slice(3)] : bytes;
}

/**
 * How a picture of another shape than the network's input gets into it.
 * - `crop`: the short side as long as the input's and cut off at the middle; where the network's own record crops, as
 *   there.
 * - `pad`: all of it, with its shape kept, and {@link meanColour} around it.
 * - `stretch`: all of it, both sides as long as the input's.
 */
export const fits = ['crop', 'pad', 'stretch'] as const;

export type Fit = (typeof fits)[number];

/** A record that fits pictures so, and is otherwise the same. */
export function fittedBy(p: Preprocessing, fit: Fit): Preprocessing {
  if (fit === 'crop')
    return p.crop === 'center' ? p : { ...p, resize: { rule: 'short_side', ratio: 1 }, crop: 'center' };
  return { ...p, resize: { rule: fit }, crop: 'none' };
}

/**
 * torchvision's and timm's evaluation: `Resize(256)`, `CenterCrop(224)`, `ToTensor()`, `Normalize(...)`, on PIL images.
 * @see https://github.com/pytorch/vision/blob/main/references/classification/presets.py (ClassificationPresetEval)
 */
export const torchPreprocessing: Preprocessing = {
  resize: { rule: 'short_side', ratio: 256 / 224 },
  kernel: 'pil_bilinear',
  crop: 'center',
  channelOrder: 'rgb',
  scale: 1 / 255, // ToTensor
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
};

/**
 * Keras applications in mode `caffe` (ResNet-50/101/152 v1, VGG): BGR minus the ImageNet means, no scaling.
 *
 * Keras publishes no evaluation resize; `image_dataset_from_directory` and `tf.image.resize` both stretch with plain
 * bilinear sampling, which is what this preset does.
 * @see https://github.com/keras-team/keras/blob/master/keras/src/applications/imagenet_utils.py (_preprocess_numpy_input)
 */
export const caffePreprocessing: Preprocessing = {
  resize: { rule: 'stretch' },
  kernel: 'tf_bilinear',
  crop: 'none',
  channelOrder: 'bgr',
  scale: 1,
  mean: [103.939, 116.779, 123.68],
  std: [1, 1, 1],
};

/**
 * Keras applications in mode `tf` (MobileNet v1 and v2), and Google's ViT: `x / 127.5 - 1`, stretched.
 * @see https://github.com/keras-team/keras/blob/master/keras/src/applications/imagenet_utils.py (_preprocess_numpy_input)
 */
export const tfPreprocessing: Preprocessing = {
  resize: { rule: 'stretch' },
  kernel: 'tf_bilinear',
  crop: 'none',
  channelOrder: 'rgb',
  scale: 1 / 127.5,
  mean: [1, 1, 1],
  std: [1, 1, 1],
};

/**
 * Keras applications in mode `torch` (ResNeXt, DenseNet), and what EfficientNet and ConvNeXt have as layers of their own:
 * torchvision's numbers, stretched.
 * @see https://github.com/keras-team/keras/blob/master/keras/src/applications/imagenet_utils.py (_preprocess_numpy_input)
 */
export const kerasTorchPreprocessing: Preprocessing = {
  ...torchPreprocessing,
  resize: { rule: 'stretch' },
  kernel: 'tf_bilinear',
  crop: 'none',
};

/**
 * `x / 255`, stretched: what tutorials train small networks on (`ImageDataGenerator(rescale=1. / 255)`), resized by
 * Pillow's `Image.resize` with the filter that it takes by itself, bicubic.
 */
export const unitPreprocessing: Preprocessing = {
  resize: { rule: 'stretch' },
  kernel: 'pil_bicubic',
  crop: 'none',
  channelOrder: 'rgb',
  scale: 1 / 255,
  mean: [0, 0, 0],
  std: [1, 1, 1],
};

/**
 * slim's `vgg_preprocessing.preprocess_for_eval` (VGG and ResNet v1): short side 256 (`_RESIZE_SIDE_MIN`), centre crop,
 * RGB minus the means `_R_MEAN`, `_G_MEAN`, `_B_MEAN`.
 * @see https://github.com/tensorflow/models/blob/master/research/slim/preprocessing/vgg_preprocessing.py
 */
export const slimVggPreprocessing: Preprocessing = {
  resize: { rule: 'short_side', ratio: 256 / 224 },
  kernel: 'tf1_bilinear',
  crop: 'center',
  channelOrder: 'rgb',
  scale: 1,
  mean: [123.68, 116.78, 103.94],
  std: [1, 1, 1],
};

/**
 * slim's `inception_preprocessing.preprocess_for_eval` (Inception, MobileNet v1 to v3): the central 87.5 %, then
 * TF1's `resize_bilinear(align_corners=False)`, which has no half-pixel centres, then `(x / 255 - 0.5) * 2`.
 * @see https://github.com/tensorflow/models/blob/master/research/slim/preprocessing/inception_preprocessing.py
 */
export const slimInceptionPreprocessing: Preprocessing = {
  resize: { rule: 'central_fraction', fraction: 0.875 },
  kernel: 'tf1_bilinear',
  crop: 'none',
  channelOrder: 'rgb',
  scale: 1 / 127.5,
  mean: [1, 1, 1],
  std: [1, 1, 1],
};

/**
 * `@tensorflow-models/mobilenet`, `infer`: `tf.image.resizeBilinear(x, [224, 224], alignCorners)` whatever the shape,
 * on values that its graph brings to -1 to 1.
 * @see https://github.com/tensorflow/tfjs-models/blob/master/mobilenet/src/index.ts
 */
export const tfjsPreprocessing: Preprocessing = { ...tfPreprocessing, kernel: 'tf1_bilinear_corners' };

/** The published pipelines by name. */
export const presets = {
  torch: torchPreprocessing,
  caffe: caffePreprocessing,
  tf: tfPreprocessing,
  keras_torch: kerasTorchPreprocessing,
  unit: unitPreprocessing,
  slim_vgg: slimVggPreprocessing,
  slim_inception: slimInceptionPreprocessing,
  tfjs: tfjsPreprocessing,
} as const satisfies Record<string, Preprocessing>;

const kernelNames: Record<ResizeKernel, string> = {
  pil_bilinear: "Pillow's antialiased bilinear filter",
  pil_bicubic: "Pillow's antialiased bicubic filter",
  tf_bilinear: "TensorFlow's bilinear sampling with half-pixel centres",
  tf1_bilinear: "TensorFlow 1's bilinear sampling without half-pixel centres",
  tf1_bilinear_corners: "TensorFlow 1's bilinear sampling with aligned corners",
};

/** Pixels of the resized short side; the larger side of `size` decides, so that the crop always lies inside. */
export function shortSideOf(ratio: number, size: ImageSize): number {
  return Math.round(ratio * Math.max(size.height, size.width));
}

/** One sentence for people: how a picture becomes the network's input at this size, height x width. */
export function describePreprocessing(p: Preprocessing, size: ImageSize): string {
  const target = `${size.height}x${size.width}`;
  const steps: string[] = [];
  if (p.resize.rule === 'stretch') steps.push(`stretch to ${target}`);
  else if (p.resize.rule === 'pad') steps.push(`fit into ${target}`);
  else if (p.resize.rule === 'short_side') steps.push(`short side to ${shortSideOf(p.resize.ratio, size)}`);
  else steps.push(`central ${round(p.resize.fraction * 100)} % stretched to ${target}`);
  const kernel = `with ${kernelNames[p.kernel]}`;
  const around = p.resize.rule === 'pad' ? `, [${meanColour(p).join(', ')}] around it` : '';
  const crop = p.crop === 'center' ? `, centre crop ${target}` : around;
  return `${steps[0]} ${kernel}${crop}, ${describeOrder(p)}, ${describeRange(p)}.`;
}

function describeOrder(p: Preprocessing): string {
  const channels = channelsFor(p);
  if (channels === 1) return 'grey';
  return `${p.channelOrder.toUpperCase()}${channels === 4 ? 'A' : ''}`;
}

function describeRange(p: Preprocessing): string {
  const allEqual = (values: readonly number[], to: number): boolean => values.every((value) => value === to);
  if (allEqual(p.std, 1) && allEqual(p.mean, 1) && p.scale === 1 / 127.5) return 'x / 127.5 - 1';
  const scaled = p.scale === 1 ? 'x' : `x / ${round(1 / p.scale)}`;
  const centred = allEqual(p.mean, 0) ? scaled : `${scaled} - [${p.mean.map(round).join(', ')}]`;
  return allEqual(p.std, 1) ? centred : `(${centred}) / [${p.std.map(round).join(', ')}]`;
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
