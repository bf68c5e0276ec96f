/**
 * 8 bits with a range of its own for each output channel of a kernel, whose output channels vary fastest: `[..., out]`,
 * or `[h, w, in, multiplier]` of a depthwise one. A value is `(stored - zeroPoint) * scale`, and zero is exact.
 * @see Krishnamoorthi 2018, Quantizing deep convolutional networks, section 3.1.1, https://arxiv.org/abs/1806.08342
 */

export interface ChannelRounding<Stored extends Int8Array | Uint8Array> {
  /** In the order of the values. */
  readonly stored: Stored;
  /** One a channel, above zero. */
  readonly scales: Float32Array;
  /** One a channel. */
  readonly zeroPoints: Stored;
  /** What a reader makes of it. */
  readonly restored: Float32Array;
}

/** -128 is left out, so that the levels are as many on both sides of zero. */
const SYMMETRIC_TOP = 127;
const AFFINE_TOP = 255;

/**
 * To -127..127, zero points 0.
 * @param leastScales a channel's scale is at least this; a bias in 32 bits of `input scale * scale` may need it
 */
export function roundSymmetric(
  values: Float32Array,
  channels: number,
  leastScales?: ArrayLike<number>,
): ChannelRounding<Int8Array> {
  const { low, high } = rangesOf(values, channels);
  const scales = low.map((least, c) => {
    const needed = Math.max(-least, high[c]!) / SYMMETRIC_TOP;
    return scaleOf(Math.max(needed, leastScales?.[c] ?? 0));
  });
  const stored = new Int8Array(values.length);
  const restored = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const scale = scales[i % channels]!;
    stored[i] = Math.min(SYMMETRIC_TOP, Math.max(-SYMMETRIC_TOP, Math.round(values[i]! / scale)));
    restored[i] = stored[i]! * scale;
  }
  return { stored, scales, zeroPoints: new Int8Array(channels), restored };
}

/** To 0..255, whose levels span the channel's values and zero. */
export function roundAffine(values: Float32Array, channels: number): ChannelRounding<Uint8Array> {
  const { low, high } = rangesOf(values, channels);
  const scales = new Float32Array(channels);
  const zeroPoints = new Uint8Array(channels);
  for (let c = 0; c < channels; c++) {
    const [least, most] = [low[c]!, high[c]!];
    const zero = most === least ? 0 : Math.round((-least / (most - least)) * AFFINE_TOP);
    // The smallest scale whose levels reach both ends once zero has been put on one of them.
    const below = zero === 0 ? 0 : -least / zero;
    const above = zero === AFFINE_TOP ? 0 : most / (AFFINE_TOP - zero);
    zeroPoints[c] = zero;
    scales[c] = scaleOf(Math.max(below, above));
  }
  const stored = new Uint8Array(values.length);
  const restored = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const [scale, zero] = [scales[i % channels]!, zeroPoints[i % channels]!];
    const level = Math.min(AFFINE_TOP, Math.max(0, Math.round(values[i]! / scale) + zero));
    stored[i] = level;
    restored[i] = (level - zero) * scale;
  }
  return { stored, scales, zeroPoints, restored };
}

/** The smallest float32 with all of its digits, IEEE 754 binary32: below it a scale would be coarse, or zero. */
const LEAST_SCALE = 2 ** -126;

/** A channel of zeros gets 1. */
const scaleOf = (needed: number): number => (needed === 0 ? 1 : Math.max(LEAST_SCALE, Math.fround(needed)));

/** Of each channel, with zero in it. */
function rangesOf(values: Float32Array, channels: number): { low: Float32Array; high: Float32Array } {
  const [low, high] = [new Float32Array(channels), new Float32Array(channels)];
  for (let i = 0; i < values.length; i++) {
    const [value, c] = [values[i]!, i % channels];
    if (value < low[c]!) low[c] = value;
    if (value > high[c]!) high[c] = value;
  }
  return { low, high };
}
