import { channelsOf, type Picture } from './image.js';

/** The picture with its last row first. */
export function upsideDown(picture: Picture): Picture {
  const { data, width, height } = picture;
  const row = width * channelsOf(picture);
  const out = data.slice();
  for (let y = 0; y < height; y++) out.set(data.subarray(y * row, (y + 1) * row), (height - 1 - y) * row);
  return { data: out, width, height };
}
