/** The last step of preprocessing as a layer: from pixels to what the network was trained on. */
import type { Preprocessing } from '../../augment/preprocessing.js';
import type { Front } from './topology.js';

/**
 * `(pixel * scale - mean) / std`, with blue and red in their places.
 * @param pixel what a pixel is of the input: `pixel = input * pixel.scale + pixel.offset`; by default the input itself
 */
export function normalisingFront(
  { scale, mean, std, channelOrder }: Preprocessing,
  pixel: { readonly scale: number; readonly offset: number } = { scale: 1, offset: 0 },
): Front {
  return {
    scale: std.map((deviation) => (pixel.scale * scale) / deviation),
    offset: std.map((deviation, c) => (pixel.offset * scale - mean[c]!) / deviation),
    from: mean.map((_, c) => (channelOrder === 'bgr' && mean.length > 1 && c < 3 ? 2 - c : c)),
  };
}
