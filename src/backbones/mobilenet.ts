/** What MobileNets, and networks made like them, share: rounded widths, timm's count of blocks, 1x1 convolutions. */
import type { Reference } from './backbone.js';

/**
 * Rounds a channel count to a multiple of 8, and up once more if that took away over a tenth.
 * @see https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/mobilenet.py
 */
export function makeDivisible(value: number, divisor = 8): number {
  const rounded = Math.max(divisor, Math.floor((value + divisor / 2) / divisor) * divisor);
  return rounded < 0.9 * value ? rounded + divisor : rounded;
}

/**
 * Where timm keeps a block, `blocks.2.1`: a stage begins where the width changes.
 * @param widths output channels of every block, before any multiplier
 * @param block counted from 0
 */
export function timmBlock(widths: readonly number[], block: number): string {
  const starts = widths.flatMap((width, i) => (i <= block && width !== widths[i - 1] ? [i] : []));
  return `blocks.${starts.length - 1}.${block - starts.at(-1)!}`;
}

/** 1x1 convolutions of the published code that are dense layers here, by a part of their paths. */
export const pointwise =
  (...parts: readonly string[]): NonNullable<Reference['rank']> =>
  ({ role, path }) =>
    role === 'dense.kernel' && path.split('.').some((part) => parts.includes(part)) ? 4 : undefined;
