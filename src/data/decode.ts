/**
 * Picture files to 8-bit RGB, by sharp.
 *
 * The published networks saw their pictures through Pillow's `Image.open(path).convert('RGB')`, and this does the
 * same wherever that makes sense:
 * - grey is repeated three times; palettes are looked up;
 * - an alpha channel is dropped, not composited over a background;
 * - colour profiles are ignored: the numbers in the file are taken as sRGB;
 * - CMYK and YCCK become RGB by Pillow's formula, `(255 - k) * (255 - ink) / 255`, without a profile.
 *
 * It differs on purpose in two places: EXIF orientation is applied (Pillow leaves such pictures lying on their side),
 * and 16-bit samples are divided by 257 and rounded (Pillow saturates 16-bit grey to white, and truncates colour).
 * Of an animation the first frame counts. A half file is an error, never a picture with a grey lower half.
 */

import { readFile } from 'node:fs/promises';
import sharp, { type Metadata, type Sharp } from 'sharp';
import type { RgbImage } from '../augment/image.js';
import { DataError, messageOf } from '../errors.js';

// Every picture is read once an epoch: a cache of decoded files would only hold memory.
sharp.cache(false);

/** What sharp calls the formats of photographs. SVG and PDF are programs that draw, and are refused. */
const FORMATS = new Set(['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']);

/** One decoding thread a picture: several pictures at once use the cores better than several threads for one. */
export function useOneThreadPerPicture(): void {
  sharp.concurrency(1);
}

/**
 * Decodes a file, or its bytes, to interleaved 8-bit RGB.
 * @throws DataError `BAD_IMAGE` with the path and the reason: missing, empty, truncated, corrupt, not a picture,
 *   or more than 268 million pixels (0x3FFF squared, sharp's guard against decompression bombs)
 */
export async function decodeImage(source: string | Buffer): Promise<RgbImage> {
  const name = typeof source === 'string' ? source : 'the picture in memory';
  try {
    // Read here, so that a wrong path and an unreadable file are told apart from a bad picture.
    return await decode(typeof source === 'string' ? await readFile(source) : source);
  } catch (thrown) {
    throw badImage(name, thrown);
  }
}

async function decode(bytes: Buffer): Promise<RgbImage> {
  if (bytes.length === 0) throw new Error('the file is empty');
  // failOn 'error' includes 'truncated'; sharp's default, 'warning', would refuse files that every viewer shows.
  const open = (): Sharp => sharp(bytes, { failOn: 'error', autoOrient: true, ignoreIcc: true });
  const metadata = await open().metadata();
  if (!FORMATS.has(metadata.format)) throw new Error(`the format ${metadata.format} is not one of photographs`);
  if (metadata.depth === 'ushort') return decode16(open(), metadata);
  // Anything else (32-bit integers, floats) has no agreed range.
  if (metadata.depth !== 'uchar') throw new Error(`samples of type ${metadata.depth}, expected 8 or 16 bits`);
  if (metadata.space === 'cmyk') return decodeCmyk(open());

  const { data, info } = await open().toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const pixels = new Uint8Array(data.buffer, data.byteOffset, data.length);
  return { data: toRgb(pixels, channels, width * height), width, height };
}

async function decode16(image: Sharp, { space }: Metadata): Promise<RgbImage> {
  if (space !== 'rgb16' && space !== 'grey16') throw new Error(`16-bit samples in colour space ${space}`);
  const raw = image.toColourspace(space).raw({ depth: 'ushort' });
  const { data, info } = await raw.toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const samples = new Uint16Array(new Uint8Array(data).buffer); // copied: the view must start at an even byte
  const bytes = new Uint8Array(samples.length);
  // 65535 / 257 = 255 exactly.
  for (let i = 0; i < samples.length; i++) bytes[i] = Math.round(samples[i]! / 257);
  return { data: toRgb(bytes, channels, width * height), width, height };
}

async function decodeCmyk(image: Sharp): Promise<RgbImage> {
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
  return { data: out, width, height };
}

/** `a * b / 255` rounded, in Pillow's integers (ImagingUtils.h, MULDIV255). */
function times255(a: number, b: number): number {
  const product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

/** Keeps the first three of RGB(A), repeats the first of grey(+alpha). */
function toRgb(data: Uint8Array, channels: number, pixels: number): Uint8Array {
  if (channels === 3) return data;
  const out = new Uint8Array(pixels * 3);
  const [g, b] = channels >= 3 ? [1, 2] : [0, 0];
  for (let p = 0; p < pixels; p++) {
    const i = p * channels;
    out[p * 3] = data[i]!;
    out[p * 3 + 1] = data[i + g]!;
    out[p * 3 + 2] = data[i + b]!;
  }
  return out;
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
