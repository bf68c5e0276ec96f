/** What the three MobileNets have in common: how a width is rounded, and how timm counts blocks. */

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
