/**
 * A decoded picture to 8-bit values as `tl` decodes it: alpha dropped, not composited, where the model has three channels;
 * grey by the luma of ITU-R BT.601 where it has one. Browsers decode JPEG, PNG, GIF and WebP to the same bytes; CMYK, AVIF
 * and 16-bit samples to bytes that differ in the last digits.
 */
import type { Channels, Picture } from '../../../augment/image.js';

/** How the browser has to decode: upright, and the numbers of the file as they are. */
export const asStored: ImageBitmapOptions = {
  imageOrientation: 'from-image',
  colorSpaceConversion: 'none',
  premultiplyAlpha: 'none',
};

/** Pixels that a canvas holds at once; phones refuse canvases above 16 million, and memory is taken twice. */
const STRIP_PIXELS = 4_000_000;

export interface Read {
  readonly picture: Picture;
  /** Whether colours of transparent pixels were rounded, because there is no WebGL to read them by. */
  readonly rounded: boolean;
}

/** A picture as the decoder of `tl` gives it. */
export function readPixels(bitmap: ImageBitmap, channels: Channels): Read {
  const { width, height } = bitmap;
  const data = new Uint8Array(width * height * channels);
  const write = (rgba: ArrayLike<number>, firstPixel: number): void =>
    toChannels(rgba, channels, data, firstPixel * channels);
  const opaque = throughCanvas(bitmap, write);
  // A canvas keeps colours times alpha, which rounds them: where there is any, WebGL reads them as they are.
  const exact = opaque || throughTexture(bitmap, write);
  return { picture: { data, width, height }, rounded: !exact };
}

/** RGBA of pixels from a pixel on, row after row. */
type Write = (rgba: ArrayLike<number>, firstPixel: number) => void;

/** @returns whether every pixel is opaque, and so what it was in the file */
function throughCanvas(bitmap: ImageBitmap, write: Write): boolean {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP_PIXELS / width)));
  const context = canvasOf(width, rows).getContext('2d', {
    willReadFrequently: true,
  }) as CanvasRenderingContext2D | null;
  if (!context) throw new Error('this browser has no canvas to read pictures by');
  context.globalCompositeOperation = 'copy';
  let opaque = true;
  for (let y = 0; y < height; y += rows) {
    const count = Math.min(rows, height - y);
    context.drawImage(bitmap, 0, y, width, count, 0, 0, width, count);
    const { data } = context.getImageData(0, 0, width, count);
    for (let i = 3; opaque && i < data.length; i += 4) opaque = data[i] === 255;
    write(data, y * width);
  }
  return opaque;
}

/** @returns whether there is a WebGL that takes a texture of this size */
function throughTexture(bitmap: ImageBitmap, write: Write): boolean {
  const { width, height } = bitmap;
  const gl = canvasOf(1, 1).getContext('webgl', { antialias: false }) as WebGLRenderingContext | null;
  if (!gl) return false;
  try {
    if (Math.max(width, height) > (gl.getParameter(gl.MAX_TEXTURE_SIZE) as number)) return false;
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER,
      gl.COLOR_ATTACHMENT0,
      gl.TEXTURE_2D,
      gl.getParameter(gl.TEXTURE_BINDING_2D),
      0,
    );
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return false;
    const rows = Math.min(height, Math.max(1, Math.floor(STRIP_PIXELS / width)));
    const strip = new Uint8Array(rows * width * 4);
    for (let y = 0; y < height; y += rows) {
      const count = Math.min(rows, height - y);
      gl.readPixels(0, y, width, count, gl.RGBA, gl.UNSIGNED_BYTE, strip);
      write(strip.subarray(0, count * width * 4), y * width);
    }
    return gl.getError() === gl.NO_ERROR;
  } finally {
    gl.getExtension('WEBGL_lose_context')?.loseContext(); // a page has only some sixteen
  }
}

function canvasOf(width: number, height: number): HTMLCanvasElement | OffscreenCanvas {
  if (typeof document === 'undefined') return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement('canvas'), { width, height });
}

function toChannels(rgba: ArrayLike<number>, channels: Channels, out: Uint8Array, start: number): void {
  if (channels === 4) {
    out.set(rgba, start);
    return;
  }
  for (let i = 0, o = start; i < rgba.length; i += 4, o += channels) {
    if (channels === 1) out[o] = luma(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!);
    else {
      out[o] = rgba[i]!;
      out[o + 1] = rgba[i + 1]!;
      out[o + 2] = rgba[i + 2]!;
    }
  }
}

/**
 * Grey of a colour, as Pillow's `convert('L')` rounds it; of grey, the same.
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Convert.c (L24)
 */
function luma(r: number, g: number, b: number): number {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}
