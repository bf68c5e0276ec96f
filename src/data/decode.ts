/**
 * Picture files to 8-bit grey, RGB or RGBA, by sharp; plain JPEGs by the engine's addon where there is one, which gives
 * the same pixels in a third of the time.
 *
 * The published networks saw their pictures through Pillow's `Image.open(path).convert('RGB')`, and this does the
 * same wherever that makes sense; for one channel it does `convert('L')`, for four `convert('RGBA')`:
 * - grey is repeated three times; palettes are looked up;
 * - an alpha channel is dropped, not composited over a background; with four channels it is kept, and 255 where the
 *   picture has none;
 * - colours become grey by the luma of ITU-R BT.601, in Pillow's integers;
 * - colour profiles are ignored: the numbers in the file are taken as sRGB;
 * - CMYK and YCCK become RGB by Pillow's formula, `(255 - k) * (255 - ink) / 255`, without a profile.
 *
 * It differs on purpose in two places: EXIF orientation is applied (Pillow leaves such pictures lying on their side),
 * and 16-bit samples are divided by 257 and rounded (Pillow saturates 16-bit grey to white, and truncates colour).
 * Of an animation the first frame counts. A half file is an error, never a picture with a grey lower half.
 */

import { readFile } from 'node:fs/promises';
import sharp, { type Metadata, type Sharp } from 'sharp';
import { type Memory, newMemory, picturesAddon } from '../addon.js';
import { times255 } from '../augment/alpha.js';
import { uprightSize } from '../augment/compiled.js';
import { type Channels, luma, type Picture } from '../augment/image.js';
import { DataError, messageOf, ToolkitError } from '../errors.js';
import { type PlainJpeg, plainJpeg } from './jpeg.js';

// Every picture is read once an epoch: a cache of decoded files would only hold memory.
sharp.cache(false);

/** What sharp calls the formats of photographs. SVG and PDF are programs that draw, and are refused. */
const FORMATS = new Set(['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']);

/** One decoding thread a picture: several pictures at once use the cores better than several threads for one. */
export function useOneThreadPerPicture(): void {
  sharp.concurrency(1);
}

/**
 * Decodes a file, or its bytes, to 8-bit values, interleaved: grey, RGB or RGBA.
 * @param memory where the addon puts the pixels that are returned
 * @throws DataError `BAD_IMAGE` with the path and the reason: missing, empty, truncated, corrupt, not a picture,
 *   or more than 268 million pixels (0x3FFF squared, sharp's guard against decompression bombs)
 */
export async function decodeImage(
  source: string | Buffer,
  channels: Channels = 3,
  memory: Memory = newMemory,
): Promise<Picture> {
  return (await decodeUnless(() => undefined, source, channels, memory))!;
}

/** A plain JPEG in memory. */
export interface JpegFile extends PlainJpeg {
  readonly file: Buffer;
}

/**
 * {@link decodeImage} of what `take` does not take further by itself.
 * @param take is shown plain JPEGs where the addon is there; gives undefined where one is not for it, and false where it
 *   could not decode it
 * @returns undefined where `take` did
 * @throws DataError `BAD_IMAGE`, and what `take` throws
 */
export async function decodeUnless(
  take: (jpeg: JpegFile) => Promise<boolean> | undefined,
  source: string | Buffer,
  channels: Channels,
  memory: Memory,
): Promise<Picture | undefined> {
  try {
    const jpeg = await openJpeg(source);
    const taken = jpeg && (await take(jpeg));
    if (taken) return undefined;
    const compiled = jpeg && taken === undefined ? await decodeCompiled(jpeg, memory) : undefined;
    return toChannels(compiled ?? (await decode(source)), channels);
  } catch (thrown) {
    if (thrown instanceof ToolkitError) throw thrown;
    if (typeof source !== 'string') throw badImage('the picture in memory', thrown);
    throw badImage(source, (await faultOfFile(source)) ?? thrown);
  }
}

/** Why a file cannot be read or is empty: libvips, which reads it in its own thread, tells neither from a bad picture. */
async function faultOfFile(path: string): Promise<unknown> {
  try {
    return (await readFile(path)).length === 0 ? new Error(EMPTY) : undefined;
  } catch (thrown) {
    return thrown;
  }
}

const EMPTY = 'the file is empty';

/** What a file holds: 1 value a pixel is grey, 2 grey and alpha, 3 RGB, 4 RGBA. */
interface Decoded {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** For the addon; undefined without one, and for all that is not a plain JPEG: sharp has the last word on it. */
async function openJpeg(source: string | Buffer): Promise<JpegFile | undefined> {
  if (!picturesAddon()) return undefined;
  const file = typeof source === 'string' ? await readJpeg(source) : source;
  const jpeg = file && plainJpeg(file);
  return jpeg && { ...jpeg, file };
}

/** As the addon decodes it; undefined where it could not. */
async function decodeCompiled({ file, orientation, ...jpeg }: JpegFile, memory: Memory): Promise<Decoded | undefined> {
  const data = memory(jpeg.width * jpeg.height * jpeg.channels);
  if (!(await picturesAddon()?.decodeJpeg(file, orientation, data))) return undefined;
  return { ...uprightSize(jpeg, orientation), data, channels: jpeg.channels };
}

/** A file that is called a JPEG; other files are not read twice for it. */
async function readJpeg(path: string): Promise<Buffer | undefined> {
  if (!/\.jpe?g$/i.test(path)) return undefined;
  return readFile(path).catch(() => undefined);
}

async function decode(source: string | Buffer): Promise<Decoded> {
  if (source.length === 0) throw new Error(EMPTY);
  // failOn 'error' includes 'truncated'; sharp's default, 'warning', would refuse files that every viewer shows.
  const open = (): Sharp => sharp(source, { failOn: 'error', autoOrient: true, ignoreIcc: true });
  const metadata = await open().metadata();
  if (!FORMATS.has(metadata.format)) throw new Error(`the format ${metadata.format} is not one of photographs`);
  if (metadata.depth === 'ushort') return decode16(open(), metadata);
  // Anything else (32-bit integers, floats) has no agreed range.
  if (metadata.depth !== 'uchar') throw new Error(`samples of type ${metadata.depth}, expected 8 or 16 bits`);
  if (metadata.space === 'cmyk') return decodeCmyk(open());

  const { data, info } = await open().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  return { ...info, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
}

async function decode16(image: Sharp, { space }: Metadata): Promise<Decoded> {
  if (space !== 'rgb16' && space !== 'grey16') throw new Error(`16-bit samples in colour space ${space}`);
  const raw = image.toColourspace(space).raw({ depth: 'ushort' });
  const { data, info } = await raw.toBuffer({ resolveWithObject: true });
  const samples = new Uint16Array(new Uint8Array(data).buffer); // copied: the view must start at an even byte
  const bytes = new Uint8Array(samples.length);
  // 65535 / 257 = 255 exactly.
  for (let i = 0; i < samples.length; i++) bytes[i] = Math.round(samples[i]! / 257);
  return { ...info, data: bytes };
}

async function decodeCmyk(image: Sharp): Promise<Decoded> {
  const raw = image.pipelineColourspace('cmyk').toColourspace('cmyk').raw();
  const { data, info } = await raw.toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const pixels = width * height;
  const out = new Uint8Array(pixels * 3);
  for (let p = 0; p < pixels; p++) {
    const i = p * channels;
    const light = 255 - data[i + 3]!;
    for (let c = 0; c < 3; c++) out[p * 3 + c] = light - times255(data[i + c]!, light);
  }
  return { data: out, width, height, channels: 3 };
}

function toChannels({ data, width, height, channels: from }: Decoded, to: Channels): Picture {
  if (from === to) return { data, width, height };
  const pixels = width * height;
  const out = new Uint8Array(pixels * to);
  const [g, b] = from >= 3 ? [1, 2] : [0, 0];
  const alpha = from === 2 || from === 4 ? from - 1 : undefined;
  for (let p = 0; p < pixels; p++) {
    const [i, o] = [p * from, p * to];
    if (to === 1) out[o] = from >= 3 ? luma(data[i]!, data[i + 1]!, data[i + 2]!) : data[i]!;
    else {
      out[o] = data[i]!;
      out[o + 1] = data[i + g]!;
      out[o + 2] = data[i + b]!;
      if (to === 4) out[o + 3] = alpha === undefined ? 255 : data[i + alpha]!;
    }
  }
  return { data: out, width, height };
}

function badImage(name: string, thrown: unknown): DataError {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  let reason = messageOf(thrown).trim().split('\n').at(-1)!;
  let hint = 'replace or remove the file, or leave such pictures out with --skip-bad-images';
  if (code === 'ENOENT') reason = 'there is no such file';
  else if (code === 'EISDIR') reason = 'it is a folder';
  else if (reason.includes('unsupported image format')) reason = 'it is not a picture, or in an unknown format';
  else if (reason.includes('pixel limit')) {
    reason = 'it has more than 268 million pixels';
    hint = 'make the picture smaller; the limit guards against files that unpack to more than the memory';
  }
  return new DataError({ code: 'BAD_IMAGE', message: `cannot read ${name}: ${reason}`, hint, cause: thrown });
}
