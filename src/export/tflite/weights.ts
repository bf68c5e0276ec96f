/** Constants as TensorFlow Lite lays them out and stores them. */
import { elementsOf } from '../../weights/float-formats.js';
import type { Constant, KernelUse } from '../lowering/operations.js';
import type { Moments } from '../quantize/moments.js';
import { roundSymmetric } from '../quantize/per-channel.js';
import type { Quantization } from '../quantize/quantizations.js';
import {
  type BiasCorrections,
  noteMeanError,
  readCorrected,
  readFinite,
  roundHalf,
  widestKernels,
} from '../quantize/rounding.js';
import type { Affine, Content, Tensor } from './model.js';
import type { BiasPart } from './steps.js';

/** A kernel's numbers: in which type, and in which order of dimensions. */
export interface KernelStorage {
  readonly type: 'float32' | 'float16' | 'int8';
  /**
   * `OHWI` of `[height, width, in, out]`; `1HWO` of `[height, width, in, multiplier]`; `OI` of `[in, out]`.
   * @see https://github.com/google-ai-edge/LiteRT/blob/main/tflite/kernels/conv.cc, depthwise_conv.cc, fully_connected.cc
   */
  readonly layout: 'OHWI' | '1HWO' | 'OI';
}

/** Of a kernel in 8 bits whose input is in 8 bits too. */
export interface IntegerSite {
  readonly input: Affine;
  readonly bias: BiasPart | undefined;
}

/** A bias of 32 bits stays below a quarter of what they hold, so that the sums that it is added to fit as well. */
const MOST_BIAS = 2 ** 29;

/**
 * Share of the weights that stay in twice as many bits, those that lose most. Measured on MobileNet v1 and v2 with
 * ImageNet weights. Where activations are in 8 bits as well, a convolution with such a kernel computes in float32. Of the
 * answers for 406 photographs among 1000 classes this share keeps 96 % of v1's and 96 % of v2's; five times as much keeps 97
 * and 95 %, and takes a seventh of the multiply-adds out of 8 bits; without any, 91 and 93 % are left.
 */
const WIDE_SHARE = { float16: 0.02, int8: 0.07, calibrated: 0.002 } as const;

export class Weights {
  private readonly corrections: BiasCorrections = new Map();
  /** Of kernels in 8 bits, by name; known once they are encoded. */
  private readonly scales = new Map<string, Float32Array>();
  private readonly biases = new Map<string, Promise<Float32Array>>();

  private constructor(
    private readonly constants: ReadonlyMap<string, Constant>,
    private readonly quantize: Quantization,
    private readonly moments: ReadonlyMap<string, Moments>,
    private readonly wide: ReadonlySet<Constant>,
  ) {}

  /** @throws WEIGHTS_NOT_FINITE, EXPORT_OUT_OF_RANGE */
  static async plan(
    constants: readonly Constant[],
    quantize: Quantization,
    moments: ReadonlyMap<string, Moments>,
    isCalibrated: boolean,
  ): Promise<Weights> {
    let wide: ReadonlySet<Constant> = new Set();
    if (quantize === 'float16') {
      const round = (constant: Constant, values: Float32Array) => roundHalf(constant, values).restored;
      wide = await widestKernels(constants, WIDE_SHARE.float16, moments, round);
    } else if (quantize === 'int8') {
      const round = ({ use }: Constant, values: Float32Array) =>
        roundSymmetric(values, (use as KernelUse).channels).restored;
      wide = await widestKernels(constants, isCalibrated ? WIDE_SHARE.calibrated : WIDE_SHARE.int8, moments, round);
    }
    return new Weights(new Map(constants.map((each) => [each.name, each])), quantize, moments, wide);
  }

  /** Whether a kernel has twice as many bits as the others, because it would suffer most. */
  isWide(name: string): boolean {
    const constant = this.constants.get(name);
    return constant !== undefined && this.wide.has(constant);
  }

  /** How a kernel is stored that meets numbers of 32 bits. */
  typeOf(name: string): KernelStorage['type'] {
    const constant = this.constants.get(name);
    if (constant?.use.kind !== 'kernel') return 'float32';
    const isWide = this.wide.has(constant);
    if (this.quantize === 'int8') return isWide ? 'float16' : 'int8';
    return this.quantize === 'float16' && !isWide ? 'float16' : 'float32';
  }

  /** A constant as it is. */
  plain(name: string): Tensor {
    const constant = this.constants.get(name)!;
    const { shape, type } = constant;
    const content = async (): Promise<Content> => ({ bytes: bytesOf(await readCorrected(constant, this.corrections)) });
    return { name, type, shape, batched: false, content, bytes: 4 * elementsOf(shape), turn: 1 };
  }

  /** A kernel; `site` where it meets numbers of 8 bits. */
  kernel(name: string, { type, layout }: KernelStorage, site?: IntegerSite): Tensor {
    const constant = this.constants.get(name)!;
    const { shape } = constant;
    const use = constant.use as KernelUse;
    const count = elementsOf(shape);
    const laidOut = <Numbers extends Float32Array | Uint16Array | Int8Array>(numbers: Numbers): Uint8Array =>
      bytesOf(layout === '1HWO' ? numbers : outputsFirst(numbers, use.channels));
    const content = async (): Promise<Content> => {
      const values = (await readFinite(constant)) as Float32Array;
      if (type === 'float32') return { bytes: laidOut(values) };
      if (type === 'float16') {
        const { stored, restored } = roundHalf(constant, values);
        noteMeanError({ shape, use, values, restored }, this.moments, this.corrections);
        return { bytes: laidOut(stored) };
      }
      // A dense layer between numbers of 8 bits has one scale: the specification's FULLY_CONNECTED is per tensor.
      const ranges = layout === 'OI' && site !== undefined ? 1 : use.channels;
      const least = site && (await this.leastScales(site, use.channels));
      const leastScales = least && ranges === 1 ? [Math.max(...least)] : least;
      const { stored, scales, restored } = roundSymmetric(values, ranges, leastScales);
      this.scales.set(name, scales);
      noteMeanError({ shape, use, values, restored }, this.moments, this.corrections);
      const zeroPoints = new Int8Array(ranges);
      const quantization = { scales, zeroPoints, dimension: layout === '1HWO' ? 3 : 0 };
      return { bytes: laidOut(stored), quantization };
    };
    return {
      name,
      type,
      shape: shapeIn(layout, shape, use.channels),
      batched: false,
      content,
      bytes: bytesFor(type, count),
      turn: 0,
    };
  }

  /** Factors of channels, as the kernel of a depthwise convolution of one place in 8 bits; exact but for the scale. */
  channelKernel(name: string, channels: number, site: IntegerSite): Tensor {
    const content = async (): Promise<Content> => {
      const values = (await readFinite(this.constants.get(name)!)) as Float32Array;
      const { stored, scales } = roundSymmetric(values, channels, await this.leastScales(site, channels));
      this.scales.set(name, scales);
      return { bytes: bytesOf(stored), quantization: { scales, zeroPoints: new Int8Array(channels), dimension: 3 } };
    };
    return { name, type: 'int8', shape: [1, 1, 1, channels], batched: false, content, bytes: channels, turn: 0 };
  }

  /** What is added to the output channels of a kernel: float32, zeros where there is no bias. */
  bias(name: string, channels: number, part: BiasPart | undefined): Tensor {
    const content = async (): Promise<Content> => ({ bytes: bytesOf(await this.biasOf(channels, part)) });
    return { name, type: 'float32', shape: [channels], batched: false, content, bytes: 4 * channels, turn: 1 };
  }

  /**
   * The same in whole numbers of 32 bits, whose scale is the input's times the kernel's, as the specification fixes it.
   * @see https://ai.google.dev/edge/litert/models/quantization_spec, CONV_2D
   */
  integerBias(name: string, channels: number, kernel: string, { input, bias }: IntegerSite): Tensor {
    const content = async (): Promise<Content> => {
      const values = await this.biasOf(channels, bias);
      const scales = Float32Array.from(this.scales.get(kernel)!, (scale) => scale * input.scales[0]!);
      const scaleOf = (c: number): number => scales[scales.length === 1 ? 0 : c]!;
      const bytes = bytesOf(Int32Array.from(values, (value, c) => Math.round(value / scaleOf(c))));
      return { bytes, quantization: { scales, zeroPoints: new Int32Array(scales.length), dimension: 0 } };
    };
    return { name, type: 'int32', shape: [channels], batched: false, content, bytes: 4 * channels, turn: 1 };
  }

  private async biasOf(channels: number, part: BiasPart | undefined): Promise<Float32Array> {
    if (part === undefined) return new Float32Array(channels);
    const { name, first } = part;
    const whole = this.biases.get(name) ?? readCorrected(this.constants.get(name)!, this.corrections);
    this.biases.set(name, whole as Promise<Float32Array>);
    return (await whole).slice(first, first + channels) as Float32Array;
  }

  /** The least scale of each channel with which its bias fits. */
  private async leastScales({ input, bias }: IntegerSite, channels: number): Promise<Float64Array> {
    if (bias === undefined) return new Float64Array(channels);
    const values = await this.constants.get(bias.name)!.read();
    return Float64Array.from({ length: channels }, (_, c) => {
      return Math.abs(values[bias.first + c]!) / (input.scales[0]! * MOST_BIAS);
    });
  }
}

const bytesFor = (type: KernelStorage['type'], count: number): number =>
  count * { float32: 4, float16: 2, int8: 1 }[type];

function shapeIn(layout: KernelStorage['layout'], shape: readonly number[], channels: number): number[] {
  if (layout === '1HWO') return [1, ...shape.slice(0, 2), channels];
  return [channels, ...shape.slice(0, -1)];
}

/** `[..., out]` -> `[out, ...]`. */
function outputsFirst<Numbers extends Float32Array | Uint16Array | Int8Array>(
  numbers: Numbers,
  outputs: number,
): Numbers {
  const turned = numbers.slice() as Numbers;
  const rows = numbers.length / outputs;
  for (let row = 0; row < rows; row++) {
    for (let out = 0; out < outputs; out++) turned[out * rows + row] = numbers[row * outputs + out]!;
  }
  return turned;
}

export const bytesOf = ({
  buffer,
  byteOffset,
  byteLength,
}: Float32Array | Int32Array | Uint16Array | Int8Array): Uint8Array =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
