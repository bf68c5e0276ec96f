/**
 * How each constant is stored. TensorFlow.js knows one range a tensor, not one a channel, and a folded kernel's
 * channels have ranges up to a thousand times apart; plain `uint8` takes real networks from 72 to 52 % accuracy. Two
 * things bring that back to within a point, at no cost when the model runs: the mean error that rounding gives each
 * output channel goes into its bias, and what suffers most, up to 7 % of the weights, is kept in 16 bits.
 */
import { elementsOf } from '../../weights/float-formats.js';
import type { Constant, PlainNetwork } from '../lowering/operations.js';
import type { Moments } from './moments.js';
import { type BiasCorrections, noteMeanError, readCorrected, roundHalf, widestKernels } from './rounding.js';

/** What a manifest of TensorFlow.js can hold. */
export const manifestQuantizations = ['none', 'float16', 'uint8'] as const;
export type ManifestQuantization = (typeof manifestQuantizations)[number];

/** An entry of a weights manifest. @see tfjs-core, src/io/types.ts, WeightsManifestEntry */
export interface WeightEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'int32';
  readonly quantization?: { readonly dtype: 'float16' } | AffineRange;
}

/** The value is `stored * scale + min`. */
export interface AffineRange {
  readonly dtype: 'uint8';
  readonly min: number;
  readonly scale: number;
}

/** One constant whose length in bytes is known before its numbers are read. */
export interface PlannedConstant {
  readonly bytes: number;
  encode(): Promise<{ readonly entry: WeightEntry; readonly bytes: Uint8Array }>;
}

type Storage = 'float32' | 'float16' | 'uint8';

interface Rule {
  readonly kernels: Storage;
  /** Of the kernels that suffer most. */
  readonly wide: Storage;
  /** Share of the weights that may be kept wide. */
  readonly wideShare: number;
  /** Of biases and other numbers of which a channel has one. */
  readonly channels: Storage;
}

/**
 * The shares are measured on MobileNet v1 and v2 with ImageNet weights. `float16`: a probability differs by 0.004 at
 * most instead of 0.015, for 1 % of the size. `uint8`: a larger share gains nothing, and the files are to stay below
 * 30 % of the float32 files, `model.json` of the smallest network and all.
 */
const rules: Record<Exclude<ManifestQuantization, 'none'>, Rule> = {
  float16: { kernels: 'float16', wide: 'float32', wideShare: 0.02, channels: 'float32' },
  uint8: { kernels: 'uint8', wide: 'float16', wideShare: 0.07, channels: 'float16' },
};

const bytesPer: Record<Storage, number> = { float32: 4, float16: 2, uint8: 1 };

/** Plans every constant; encode them in the order given, since a bias depends on what became of its kernel. */
export async function planConstants(
  network: Pick<PlainNetwork, 'constants'>,
  quantization: ManifestQuantization,
  moments: ReadonlyMap<string, Moments>,
): Promise<PlannedConstant[]> {
  const storageOf = await storageBy(network.constants, quantization, moments);
  const corrections: BiasCorrections = new Map();
  return network.constants.map((constant) => {
    const storage = storageOf(constant);
    return {
      bytes: elementsOf(constant.shape) * bytesPer[storage],
      encode: async () => {
        const { name, shape, type: dtype, use } = constant;
        const values = await readCorrected(constant, corrections);
        if (storage === 'float32' || !(values instanceof Float32Array)) {
          return { entry: { name, shape, dtype }, bytes: bytesOf(values) };
        }
        const { stored, restored, record } = store(storage, constant, values);
        if (use.kind === 'kernel') noteMeanError({ shape, use, values, restored }, moments, corrections);
        return { entry: { name, shape, dtype, quantization: record }, bytes: bytesOf(stored) };
      },
    };
  });
}

interface Stored {
  readonly stored: Uint8Array | Uint16Array;
  /** What a reader makes of it. */
  readonly restored: Float32Array;
  readonly record: NonNullable<WeightEntry['quantization']>;
}

function store(storage: Storage, constant: Constant, values: Float32Array): Stored {
  if (storage === 'uint8') return affine(values);
  return { ...roundHalf(constant, values), record: { dtype: 'float16' } };
}

/** Levels above the lowest that 8 bits have. */
const STEPS = 255;

/**
 * Rounds to 256 levels that span the values and zero, with zero itself one of them.
 * @see Jacob et al. 2018, Quantization and Training of Neural Networks, section 2.1, https://arxiv.org/abs/1712.05877
 */
export function affine(values: Float32Array): Stored {
  const { low, high } = rangeWithZero(values);
  const zero = high === low ? 0 : Math.round((-low / (high - low)) * STEPS);
  // The smallest scale whose levels reach both ends once zero has been put on one of them.
  const scale = Math.max(zero === 0 ? 0 : -low / zero, zero === STEPS ? 0 : high / (STEPS - zero)) || 1;
  const min = -zero * scale;
  const stored = new Uint8Array(values.length);
  const restored = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const level = Math.min(STEPS, Math.max(0, Math.round(values[i]! / scale) + zero));
    stored[i] = level;
    restored[i] = level * scale + min; // as tfjs-core's decodeWeights computes it
  }
  return { stored, restored, record: { dtype: 'uint8', min, scale } };
}

function rangeWithZero(values: Float32Array): { low: number; high: number } {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

async function storageBy(
  constants: readonly Constant[],
  quantization: ManifestQuantization,
  moments: ReadonlyMap<string, Moments>,
): Promise<(constant: Constant) => Storage> {
  if (quantization === 'none') return () => 'float32';
  const rule = rules[quantization];
  const round = (each: Constant, values: Float32Array): Float32Array => store(rule.kernels, each, values).restored;
  const wide = await widestKernels(constants, rule.wideShare, moments, round);
  return (constant) => {
    if (constant.use.kind === 'structure') return 'float32'; // as it is: 4 bytes, whatever the type
    if (constant.use.kind === 'channel') return rule.channels;
    return wide.has(constant) ? rule.wide : rule.kernels;
  };
}

const bytesOf = ({
  buffer,
  byteOffset,
  byteLength,
}: Float32Array | Int32Array | Uint16Array | Uint8Array): Uint8Array => new Uint8Array(buffer, byteOffset, byteLength);
