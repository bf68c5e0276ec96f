/** Small pictures. */
import type { Sharp } from 'sharp';

/** Sides in pixels of the square that each is fitted into. */
export const THUMBNAIL = 192;

/** Decoded pixels, 8 bits a channel. */
export interface Pixels {
  /** `[height, width, channels]`: grey, RGB or RGBA. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** A picture file as JPEG bytes, whole and upright; undefined where it cannot be read. */
export async function thumbnailOf(path: string): Promise<Buffer | undefined> {
  const { default: sharp } = await import('sharp');
  try {
    return await small(sharp(path, { failOn: 'none' }).autoOrient());
  } catch {
    return undefined; // gone, or damaged since it was read: the tile says so
  }
}

/** Pixels as JPEG bytes. */
export async function thumbnailOfPixels({ data, width, height }: Pixels): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  const channels = (data.length / (width * height)) as 1 | 3 | 4;
  return small(sharp(data, { raw: { width, height, channels } }));
}

/** Transparent parts are white; what is beside an oblong picture is light grey. */
const small = (image: Sharp): Promise<Buffer> =>
  image
    .flatten({ background: '#ffffff' })
    .resize(THUMBNAIL, THUMBNAIL, { fit: 'contain', background: '#eceff2' })
    .toColourspace('srgb')
    .jpeg({ quality: 85 })
    .toBuffer();
