/**
 * One decoded picture into its slot of a batch: resize, crop, flip, and normalise last, by the preprocessing record.
 * Training, evaluation, prediction and export all come through here.
 */

import { type Memory, newMemory, reusedMemory } from '../addon.js';
import { compiledJpeg, compiledStandard, type Standard, type StoredJpeg, uprightSize } from './compiled.js';
import { type Box, type Channels, channelsOf, type ImageSize, type Picture } from './image.js';
import { channelsFor, meanColour, type Preprocessing, shortSideOf } from './preprocessing.js';
import { axesOf, type Placement, resampleWindow, wholeOf } from './resample.js';

/** What may differ between two passes over the same picture without any randomness. */
export interface View {
  /** Mirrored left to right. */
  readonly flip: boolean;
  /** One of five parts of a picture that is a little larger than the network's input; just what the record shows when absent. */
  readonly part?: Part;
}

/** The corners and the middle, in torchvision's order. */
export const parts = ['top left', 'top right', 'bottom left', 'bottom right', 'centre'] as const;

export type Part = (typeof parts)[number];

/**
 * How much larger a picture is than the parts that are cut out of it: 224 of 256 pixels.
 * @see Krizhevsky et al. 2012, section 4.1
 */
const MARGIN = 256 / 224;

/** The picture as it is. */
export const plainView: View = { flip: false };

/**
 * Writes a picture into `out[offset ...]` as `[size.height, size.width, channels]`, ready for the network. It has as many
 * channels as the record has means.
 *
 * @param offset index of the slot's first value in `out`
 * @throws UsageError `BAD_SIZE` for a size of less than one pixel
 */
export function preprocessInto(
  image: Picture,
  preprocessing: Preprocessing,
  size: ImageSize,
  out: Float32Array,
  offset: number,
  view: View,
): void {
  placeInto(image, { placement: placementIn(view, image, preprocessing, size), view }, preprocessing, out, offset);
}

/** Which part of a picture is shown and how large, and on which side. */
export interface Placed {
  readonly placement: Placement;
  readonly view: View;
}

/** {@link preprocessInto} for another part of the picture than the record says. @throws UsageError `BAD_SIZE` */
export function placeInto(
  image: Picture,
  { placement, view }: Placed,
  preprocessing: Preprocessing,
  out: Float32Array,
  offset: number,
): void {
  const resized = placed(image, placement, preprocessing, resizedMemory);
  normaliseInto(resized, preprocessing, out.subarray(offset, offset + resized.data.length), view);
}

/**
 * What a placement shows of a picture, still 0..255.
 * @param memory may hold the result
 * @throws UsageError `BAD_SIZE`
 */
export function placed(
  image: Picture,
  { scaled, window, box, within }: Placement,
  preprocessing: Preprocessing,
  memory: Memory = newMemory,
): Picture {
  const shown = resampleWindow(image, preprocessing.kernel, scaled, window, box, memory);
  return within === undefined ? shown : pasted(shown, within, meanColour(preprocessing));
}

/** A picture of one colour, each channel 0..255, with another one in it. */
function pasted(
  picture: Picture,
  { x, y, size }: NonNullable<Placement['within']>,
  colour: readonly number[],
): Picture {
  const channels = channelsOf(picture);
  const length = size.height * size.width * channels;
  const data = picture.data instanceof Uint8Array ? new Uint8Array(length) : new Float32Array(length);
  for (let i = 0; i < length; i++) data[i] = colour[i % channels]!;
  const row = picture.width * channels;
  for (let from = 0; from < picture.height; from++) {
    const at = ((y + from) * size.width + x) * channels;
    data.set(picture.data.subarray(from * row, (from + 1) * row), at);
  }
  return { data, width: size.width, height: size.height };
}

/** Of the picture on its way, which nobody else sees. */
const resizedMemory = reusedMemory();

/**
 * {@link placeInto} of a JPEG that is still to be decoded, off this thread.
 * @param out `[height, width, 3]` of the placement's window; nobody else's until the promise is settled
 * @returns whether it did; undefined where no addon is there, or not for such records and placements
 * @throws UsageError `BAD_SIZE`
 */
export function placeJpegInto(
  jpeg: StoredJpeg,
  { placement, view }: Placed,
  preprocessing: Preprocessing,
  out: Float32Array,
): Promise<boolean> | undefined {
  if (placement.within !== undefined) return undefined;
  const axes = axesOf(uprightSize(jpeg, jpeg.orientation), preprocessing.kernel, placement);
  const standard = standardOf(preprocessing, channelsFor(preprocessing), view);
  return compiledJpeg(jpeg, { box: placement.box, axes, standard, tables: () => tablesOf(preprocessing) }, out);
}

/**
 * The resize and crop of a preprocessing record: a picture of exactly `size`, still 0..255.
 * @param memory may hold the result
 */
export function resizeAndCrop(
  image: Picture,
  preprocessing: Preprocessing,
  size: ImageSize,
  memory: Memory = newMemory,
): Picture {
  return placed(image, placementOf(image, preprocessing, size), preprocessing, memory);
}

/** Which part of a picture a preprocessing record shows, and how large: known before its pixels are. */
export function placementOf(image: ImageSize, { resize, kernel }: Preprocessing, size: ImageSize): Placement {
  if (resize.rule === 'stretch') return stretched(wholeOf(image), size);
  if (resize.rule === 'pad') return inTheMiddle(image, size);
  if (resize.rule === 'central_fraction') return stretched(centralBox(image, resize.fraction), size);
  const scaled = shortSideSize(image, shortSideOf(resize.ratio, size), kernel === 'tf1_bilinear' ? 'slim' : 'torch');
  const offset = kernel === 'tf1_bilinear' ? Math.trunc : roundHalfToEven;
  const window: Box = {
    ...wholeOf(size),
    x: offset((scaled.width - size.width) / 2),
    y: offset((scaled.height - size.height) / 2),
  };
  return { scaled, window, box: wholeOf(image) };
}

/**
 * A whole picture with its shape kept, as large as `size` holds it, in its middle: Pillow's `ImageOps.pad`, but that a side
 * is never rounded to nothing.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageOps.py (contain, pad)
 */
function inTheMiddle(image: ImageSize, size: ImageSize): Placement {
  const [shape, wanted] = [image.width / image.height, size.width / size.height];
  const side = (length: number): number => Math.max(1, roundHalfToEven(length));
  const scaled = {
    height: shape > wanted ? side((image.height / image.width) * size.width) : size.height,
    width: shape < wanted ? side((image.width / image.height) * size.height) : size.width,
  };
  const [x, y] = [size.width - scaled.width, size.height - scaled.height].map((rest) => roundHalfToEven(rest / 2));
  return { ...stretched(wholeOf(image), scaled), within: { x: x!, y: y!, size } };
}

/** Which part of a picture a view shows, and how large. */
export function placementIn(
  { part }: View,
  image: ImageSize,
  preprocessing: Preprocessing,
  size: ImageSize,
): Placement {
  if (part === undefined) return placementOf(image, preprocessing, size);
  const large = { height: Math.round(size.height * MARGIN), width: Math.round(size.width * MARGIN) };
  const { scaled, window, box, within } = placementOf(image, scaledFor(preprocessing, size, large), large);
  const rest = { x: large.width - size.width, y: large.height - size.height };
  const x = part === 'centre' ? roundHalfToEven(rest.x / 2) : part.endsWith('right') ? rest.x : 0;
  const y = part === 'centre' ? roundHalfToEven(rest.y / 2) : part.startsWith('bottom') ? rest.y : 0;
  if (within === undefined) return { scaled, window: { ...size, x: window.x + x, y: window.y + y }, box };
  // What of the picture in the middle lies inside the part; there is always something, for the part has the middle.
  const [left, top] = [Math.max(within.x, x), Math.max(within.y, y)];
  const width = Math.min(within.x + window.width, x + size.width) - left;
  const height = Math.min(within.y + window.height, y + size.height) - top;
  const shown = { x: left - within.x, y: top - within.y, width, height };
  return { scaled, window: shown, box, within: { x: left - x, y: top - y, size } };
}

/** The record for a larger picture: where the short side is longer than even that, it stays as long. */
function scaledFor(p: Preprocessing, size: ImageSize, large: ImageSize): Preprocessing {
  if (p.resize.rule !== 'short_side') return p;
  const ratio = Math.max(1, shortSideOf(p.resize.ratio, size) / Math.max(large.height, large.width));
  return { ...p, resize: { rule: 'short_side', ratio } };
}

/** A part of a picture, all of it as large as `size`. */
export const stretched = (box: Box, size: ImageSize): Placement => ({ scaled: size, window: wholeOf(size), box });

/**
 * The size of a picture whose short side becomes `shortSide` pixels and whose shape is kept.
 *
 * `torch`: the long side is `int(shortSide * long / short)`, truncated (torchvision, _compute_resized_output_size).
 * `slim`: both sides are multiplied by a float32 scale and rounded half to even (vgg_preprocessing,
 * _smallest_size_at_least, since 2017; before, it truncated, and a short side could become 255).
 */
export function shortSideSize(image: ImageSize, shortSide: number, rounding: 'torch' | 'slim'): ImageSize {
  const { height, width } = image;
  const short = Math.min(height, width);
  if (rounding === 'slim') {
    const scale = Math.fround(shortSide / short);
    const side = (length: number): number => roundHalfToEven(Math.fround(length * scale));
    return { height: side(height), width: side(width) };
  }
  const long = Math.trunc((shortSide * Math.max(height, width)) / short);
  return height < width ? { height: shortSide, width: long } : { height: long, width: shortSide };
}

/**
 * The central part of both sides, as `tf.image.central_crop` cuts it: what is left away is truncated to whole pixels
 * at the start, and as much goes at the end.
 */
export function centralBox({ height, width }: ImageSize, fraction: number): Box {
  const x = Math.trunc((width - width * fraction) / 2);
  const y = Math.trunc((height - height * fraction) / 2);
  return { x, y, width: width - 2 * x, height: height - 2 * y };
}

/** Python's `round`: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2. torchvision's CenterCrop and TensorFlow's `rint` use it. */
function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Writes `(pixel * scale - mean) / std` in the record's channel order, mirrored when the view is. */
export function normaliseInto(image: Picture, preprocessing: Preprocessing, out: Float32Array, view: View): void {
  const { data } = image;
  const { scale, mean, std } = preprocessing;
  const { flip } = view;
  const channels = channelsOf(image);
  const standard = standardOf(preprocessing, channels, view);
  const tables = (): Float32Array => tablesOf(preprocessing);
  if (compiledStandard(data, image.width, standard, tables, out)) return;
  const { sources } = standard;
  const bytes = data instanceof Uint8Array ? { data, tables: tables() } : undefined;
  for (let c = 0; c < channels; c++) {
    const way: Way = { stride: image.width * channels, channels, source: sources[c]!, target: c, flip };
    if (bytes) lookUp(bytes.data, bytes.tables.subarray(c * 256, (c + 1) * 256), out, way);
    else standardise(data as Float32Array, { scale, shift: mean[c]!, spread: std[c]! }, out, way);
  }
}

/** How a record makes numbers of pictures of so many channels. */
export function standardOf(
  { channelOrder, scale, mean, std }: Preprocessing,
  channels: Channels,
  { flip }: View,
): Standard {
  return { sources: sourcesOf(channels, channelOrder), scale, shifts: mean, spreads: std, flip };
}

const madeTables = new WeakMap<Preprocessing, Float32Array>();

/** What each of the 256 values of a byte becomes, channel after channel: faster than the arithmetic, and the same. */
export function tablesOf(preprocessing: Preprocessing): Float32Array {
  let tables = madeTables.get(preprocessing);
  if (!tables) {
    const { scale, mean, std } = preprocessing;
    const of = (i: number): number => ((i % 256) * scale - mean[i >> 8]!) / std[i >> 8]!;
    tables = Float32Array.from({ length: mean.length * 256 }, (_, i) => of(i));
    madeTables.set(preprocessing, tables);
  }
  return tables;
}

/** The channel of the picture for each of the network's input: alpha stays last, and grey has no order. */
const sourcesOf = (channels: Channels, order: Preprocessing['channelOrder']): number[] =>
  Array.from({ length: channels }, (_, c) => (order === 'bgr' && channels > 1 && c < 3 ? 2 - c : c));

/**
 * The picture that {@link normaliseInto} made these numbers of, in 8 bits, so that people can look at it; what lies
 * outside 0..255, as noise may, becomes the nearest value inside.
 * @param values `[height, width, channels]`, as the network takes them
 */
export function denormalise(values: Float32Array, preprocessing: Preprocessing, { height, width }: ImageSize): Picture {
  const { channelOrder, scale, mean, std } = preprocessing;
  const channels = channelsFor(preprocessing);
  const sources = sourcesOf(channels, channelOrder);
  const data = new Uint8ClampedArray(height * width * channels); // rounds, too
  for (let pixel = 0; pixel < data.length; pixel += channels) {
    for (const [c, source] of sources.entries()) {
      data[pixel + source] = (values[pixel + c]! * std[c]! + mean[c]!) / scale;
    }
  }
  return { data: new Uint8Array(data.buffer), width, height };
}

/** How one channel goes from a picture to the network's input, row after row. */
interface Way {
  readonly stride: number;
  readonly channels: number;
  /** The channel in the picture. */
  readonly source: number;
  /** The channel in the output. */
  readonly target: number;
  /** Rows are written from their end. */
  readonly flip: boolean;
}

// Two plain loops: with the arithmetic handed in as a function, they take up to twice the time.

function lookUp(data: Uint8Array, table: Float32Array, out: Float32Array, way: Way): void {
  const { stride, channels, source, target, flip } = way;
  const step = flip ? -channels : channels;
  for (let row = 0; row < data.length; row += stride) {
    let o = row + target + (flip ? stride - channels : 0);
    for (let i = row + source; i < row + stride; i += channels, o += step) out[o] = table[data[i]!]!;
  }
}

function standardise(
  data: Float32Array,
  { scale, shift, spread }: { readonly scale: number; readonly shift: number; readonly spread: number },
  out: Float32Array,
  way: Way,
): void {
  const { stride, channels, source, target, flip } = way;
  const step = flip ? -channels : channels;
  for (let row = 0; row < data.length; row += stride) {
    let o = row + target + (flip ? stride - channels : 0);
    for (let i = row + source; i < row + stride; i += channels, o += step) out[o] = (data[i]! * scale - shift) / spread;
  }
}
