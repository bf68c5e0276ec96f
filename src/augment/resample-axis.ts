/** What a resize needs to know about one axis, and about the pixels it reads. */

import type { Box } from './image.js';

/** One axis of a resize: `inSize` pixels become `outSize`, of which `count` from `start` on are wanted. */
export interface Axis {
  readonly inSize: number;
  readonly outSize: number;
  readonly start: number;
  readonly count: number;
}

/** The rectangle `box` of interleaved pixels of `channels` values, with `stride` values a row. */
export interface Source {
  readonly data: Uint8Array | Float32Array;
  readonly channels: number;
  readonly stride: number;
  readonly box: Box;
}
