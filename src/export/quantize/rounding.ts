/**
 * What rounding does to the output channels of a kernel, and what is done against it: the mean error that it gives a
 * channel goes into the bias, and the kernels that suffer most are kept in more bits.
 * @see Nagel et al. 2019, Data-Free Quantization, section 4.2, https://arxiv.org/abs/1906.04721
 */
import { WeightsError } from '../../errors.js';
import { bytesOf, toFloat16, toFloat32 } from '../../weights/float-formats.js';
import type { Constant, KernelUse } from '../lowering/operations.js';
import { inputChannel, type Moments } from './moments.js';

/** A kernel and what a reader makes of its rounded numbers; `[..., in, out]` or `[h, w, in, multiplier]`. */
export interface RoundedKernel {
  readonly shape: readonly number[];
  readonly use: KernelUse;
  readonly values: Float32Array;
  readonly restored: Float32Array;
}

/** By the name of a bias: what must be added to each of its numbers. */
export type BiasCorrections = Map<string, Float64Array>;

/** Variance that rounding adds to an output channel, as a share of the channel's own: at most 1, mean over channels. */
export function noiseOf(
  { shape, use, values, restored }: RoundedKernel,
  moments: ReadonlyMap<string, Moments>,
): number {
  const { channels, input } = use;
  const x = moments.get(input.path);
  const from = inputChannel(shape);
  const [noise, signal] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < values.length; i++) {
    const weight = x?.variance[from(i) + input.first] ?? 1;
    noise[i % channels]! += (values[i]! - restored[i]!) ** 2 * weight;
    signal[i % channels]! += values[i]! ** 2 * weight;
  }
  return noise.reduce((sum, n, i) => sum + (n === 0 ? 0 : Math.min(1, n / signal[i]!)), 0) / channels;
}

/** Adds what rounding takes from the mean of a kernel's output channels to what their bias must make up for. */
export function noteMeanError(
  { shape, use, values, restored }: RoundedKernel,
  moments: ReadonlyMap<string, Moments>,
  corrections: BiasCorrections,
): void {
  const { channels, input, bias } = use;
  const x = moments.get(input.path);
  if (x === undefined || bias === undefined) return;
  const errors = corrections.get(bias.name) ?? new Float64Array(bias.length);
  corrections.set(bias.name, errors);
  const from = inputChannel(shape);
  for (let i = 0; i < values.length; i++) {
    errors[bias.first + (i % channels)]! += (values[i]! - restored[i]!) * x.mean[from(i) + input.first]!;
  }
}

/**
 * The numbers of a constant, corrected where it is a bias of a kernel that was rounded before.
 * @throws WEIGHTS_NOT_FINITE
 */
export async function readCorrected(
  constant: Constant,
  corrections: BiasCorrections,
): Promise<Float32Array | Int32Array> {
  const values = await readFinite(constant);
  const errors = corrections.get(constant.name);
  corrections.delete(constant.name);
  if (errors === undefined) return values;
  return Float32Array.from(values, (value, i) => value + errors[i]!);
}

/** @throws WEIGHTS_NOT_FINITE */
export async function readFinite(constant: Constant): Promise<Float32Array | Int32Array> {
  const values = await constant.read();
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at === -1) return values;
  throw new WeightsError({
    code: 'WEIGHTS_NOT_FINITE',
    message: `${constant.name}: number ${at} of ${values.length} is ${values[at]}, expected a finite number`,
    hint: 'the training diverged: train again with a lower learning rate',
  });
}

/**
 * The kernels that lose most by rounding for their size, up to a share of all weights.
 * @param round what a reader makes of a kernel's rounded numbers
 * @throws WEIGHTS_NOT_FINITE
 */
export async function widestKernels(
  constants: readonly Constant[],
  share: number,
  moments: ReadonlyMap<string, Moments>,
  round: (constant: Constant, values: Float32Array) => Float32Array,
): Promise<ReadonlySet<Constant>> {
  const rated: { constant: Constant; size: number; loss: number }[] = [];
  for (const constant of constants) {
    const { shape, use } = constant;
    if (use.kind !== 'kernel') continue;
    const values = (await readFinite(constant)) as Float32Array;
    const size = values.length;
    const loss = noiseOf({ shape, use, values, restored: round(constant, values) }, moments) / size;
    rated.push({ constant, size, loss });
  }
  let left = share * rated.reduce((sum, { size }) => sum + size, 0);
  const chosen = new Set<Constant>();
  for (const { constant, size } of rated.sort((a, b) => b.loss - a.loss)) {
    if (size > left) continue;
    chosen.add(constant);
    left -= size;
  }
  return chosen;
}

/** Largest finite float16, IEEE 754 binary16. */
const MAX_FLOAT16 = 65504;

/** @throws EXPORT_OUT_OF_RANGE */
export function roundHalf(
  { name }: Pick<Constant, 'name'>,
  values: Float32Array,
): { readonly stored: Uint16Array; readonly restored: Float32Array } {
  const far = values.find((value) => Math.abs(value) > MAX_FLOAT16);
  if (far !== undefined) {
    throw new WeightsError({
      code: 'EXPORT_OUT_OF_RANGE',
      message: `${name} holds ${far}; expected values up to ${MAX_FLOAT16}, the largest that 16 bits can hold`,
      hint: 'export with --quantize none',
    });
  }
  const stored = toFloat16(values);
  return { stored, restored: toFloat32(bytesOf(stored), 'float16') };
}
