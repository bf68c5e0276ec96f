import { channelsOf, type Picture } from './image.js';

/**
 * The picture turned counter-clockwise about its centre, sampled bilinearly. What comes in at the corners is the
 * picture mirrored at its edge: black corners would be a mark that says "turned".
 */
export function rotate(picture: Picture, degrees: number): Picture {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const radians = (degrees * Math.PI) / 180;
  const cos = Math.cos(radians);
  const sin = Math.sin(radians);
  const centerX = (width - 1) / 2;
  const centerY = (height - 1) / 2;
  const out = new Float32Array(data.length);
  let o = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // Where this pixel comes from: the inverse turn, with y pointing down.
      const fromX = centerX + (x - centerX) * cos - (y - centerY) * sin;
      const fromY = centerY + (x - centerX) * sin + (y - centerY) * cos;
      const left = Math.floor(fromX);
      const top = Math.floor(fromY);
      const u = fromX - left;
      const v = fromY - top;
      const x0 = mirror(left, width) * channels;
      const x1 = mirror(left + 1, width) * channels;
      const y0 = mirror(top, height) * width * channels;
      const y1 = mirror(top + 1, height) * width * channels;
      for (let c = 0; c < channels; c++) {
        const above = data[y0 + x0 + c]! * (1 - u) + data[y0 + x1 + c]! * u;
        const below = data[y1 + x0 + c]! * (1 - u) + data[y1 + x1 + c]! * u;
        out[o++] = above * (1 - v) + below * v;
      }
    }
  }
  return { data: out, width, height };
}

/** Index reflected into 0..length-1 with the edge pixel repeated: -1 -> 0, length -> length - 1. */
function mirror(index: number, length: number): number {
  const period = 2 * length;
  const i = ((index % period) + period) % period;
  return i < length ? i : period - 1 - i;
}
