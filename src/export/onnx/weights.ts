/**
 * How a network's numbers are stored: the operators between what the file holds and the float32 that others take.
 * `float16` is cast to float32, which a runtime does once when it loads the file; few of them have float16 arithmetic on
 * processors. 8 bits have a scale for each output channel; where values are rounded too, DequantizeLinear tells a
 * runtime to compute on whole numbers.
 * @see https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
 */
import { elementsOf } from '../../weights/float-formats.js';
import type { Constant, KernelUse } from '../lowering/operations.js';
import type { Moments } from '../quantize/moments.js';
import { roundAffine, roundSymmetric } from '../quantize/per-channel.js';
import { type BiasCorrections, noteMeanError, readCorrected, readFinite, roundHalf } from '../quantize/rounding.js';
import type { OnnxTensor, StoredConstant, TensorType } from './graph.js';
import { type Order, plainOrder, stored } from './layout.js';
import { identifier, int, operator, type Translation } from './translation.js';

/** A kernel as an ONNX operator takes it. */
export interface KernelLayout {
  /** The kernel, or those of the groups, which are joined along the first axis. */
  readonly parts: readonly Constant[];
  /** Each part's shape, axes split or joined. */
  readonly view: readonly number[];
  /** Order of the view's axes. */
  readonly order: Order;
  /** Of all parts together. */
  readonly shape: readonly number[];
  /** Axis of the output channels. */
  readonly axis: number;
}

export type KernelStorage = 'float32' | 'float16' | 'uint8' | 'int8';

export interface WeightOptions {
  readonly storageOf: (kernel: Constant) => KernelStorage;
  readonly moments: ReadonlyMap<string, Moments>;
  /** The scale of a value of the plain network that is rounded to 8 bits; undefined where none is. */
  readonly scaleOf: (value: string) => number | undefined;
  /**
   * Told of every value that a kernel in more than 8 bits is applied to. It must not be rounded: onnxruntime rounds
   * such a kernel, with one range for all channels, where it stands between rounded values.
   * @see https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc
   */
  readonly keep: (value: string) => void;
}

/** Makes constants of one network's numbers, for one translation. */
export interface Weights {
  /** A kernel and its bias, for an operator that takes a tensor of the ONNX graph. */
  kernel(t: Translation, layout: KernelLayout, bias: Constant | undefined, input: string): string[];
  /** A constant in float32, in another shape with as many axes as the order, axes of length one added. */
  plain(t: Translation, constant: Constant, shape: readonly number[], order: Order): string;
}

type Numbers = Float32Array | Int32Array | Uint16Array | Uint8Array | Int8Array;

export function createWeights(options: WeightOptions): Weights {
  const corrections: BiasCorrections = new Map();
  const plainNames = new Map<string, string>();
  const plain: Weights['plain'] = (t, constant, shape, order) => {
    const key = `${constant.name} ${shape.join()} ${order.join()}`;
    const known = plainNames.get(key);
    if (known !== undefined) return known;
    const name = identifier(t, constant.name);
    plainNames.set(key, name);
    const tensor: OnnxTensor = { name, type: constant.type, shape: stored(shape, order) };
    t.constants.push({
      tensors: [tensor],
      encode: async () => [bytesOf(relaid(await readCorrected(constant, corrections), shape, order))],
    });
    return name;
  };
  return {
    plain,
    kernel: (t, layout, bias, input) => {
      const origin = t.origins.get(input)!;
      if (options.storageOf(layout.parts[0]!) !== 'int8') options.keep(origin);
      const scale = options.scaleOf(origin);
      const made = storeKernel(t, layout, bias, scale, { ...options, corrections });
      if (bias === undefined) return [made.name];
      if (scale === undefined) return [made.name, plain(t, bias, bias.shape, plainOrder(1))];
      return [made.name, wholeBias(t, bias, scale, made.scales, corrections)];
    },
  };
}

interface StoreOptions extends WeightOptions {
  readonly corrections: BiasCorrections;
}

/** What rounding makes of a part of a kernel. */
export interface Rounded {
  readonly stored: Numbers;
  readonly restored: Float32Array;
  readonly scales?: Float32Array;
  readonly zeroPoints?: Int8Array | Uint8Array;
}

/** `scales` are there once the kernel has been encoded. */
function storeKernel(
  t: Translation,
  layout: KernelLayout,
  bias: Constant | undefined,
  inputScale: number | undefined,
  options: StoreOptions,
): { readonly name: string; readonly scales: Float32Array } {
  const { parts, shape, axis } = layout;
  const storage = options.storageOf(parts[0]!);
  const base = parts.length === 1 ? parts[0]!.name : parts[0]!.name.replace(/_0$/, '');
  const channels = shape[axis]!;
  const scales = new Float32Array(channels);
  const levels: OnnxTensor = { name: identifier(t, suffixed(base, storage)), type: storage, shape };
  // One number a channel: for DequantizeLinear they stand alone, for other operators in line with the kernel.
  const alone = inputScale === undefined ? shape.map((length, i) => (i === axis ? length : 1)) : [channels];
  const perChannel = (suffix: string, type: TensorType): OnnxTensor => {
    return { name: identifier(t, `${base}_${suffix}`), type, shape: alone };
  };
  const tensors = [levels];
  if (storage === 'uint8' || storage === 'int8') tensors.push(perChannel('scale', 'float32'));
  if (storage === 'uint8' || inputScale !== undefined) tensors.push(perChannel('zero', storage));
  const constant: StoredConstant = {
    tensors,
    encode: async () => {
      const biases = inputScale === undefined ? undefined : await bias?.read();
      const zeroPoints = storage === 'uint8' ? new Uint8Array(channels) : new Int8Array(channels);
      const numbers: Numbers[] = [];
      let first = 0;
      for (const part of parts) {
        const use = part.use as KernelUse;
        const values = (await readFinite(part)) as Float32Array;
        const own = biases?.subarray(first, first + use.channels);
        const least = own && Array.from(own, (each) => Math.abs(each) / (inputScale! * MOST_BIAS));
        const rounded = roundKernel(storage, part, values, least);
        if (storage !== 'float32') {
          noteMeanError({ shape: part.shape, use, values, ...rounded }, options.moments, options.corrections);
        }
        numbers.push(relaid(rounded.stored, layout.view, layout.order));
        scales.set(rounded.scales ?? [], first);
        zeroPoints.set(rounded.zeroPoints ?? [], first);
        first += use.channels;
      }
      const all = numbers.length === 1 ? bytesOf(numbers[0]!) : Buffer.concat(numbers.map(bytesOf));
      return [all, bytesOf(scales), bytesOf(zeroPoints)].slice(0, tensors.length);
    },
  };
  t.constants.push(constant);
  const names = tensors.map(({ name }) => name);
  if (storage === 'float32') return { name: levels.name, scales };
  if (inputScale === undefined) return { name: restore(t, base, storage, names), scales };
  return { name: operator(t, base, 'DequantizeLinear', names, { axis: int(axis) }), scales };
}

/** TensorProto.DataType */
const FLOAT = 1;

/**
 * Back to float32, by operators that a runtime computes once when it loads the file. DequantizeLinear would say the
 * same in one, but onnxruntime keeps it for every run when what it feeds has no 8-bit input, which doubles the time.
 * @see https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/optimizer/constant_folding.cc,
 * skip_dequantize_linear
 */
function restore(t: Translation, base: string, storage: KernelStorage, tensors: readonly string[]): string {
  const [levels, scale, zero] = tensors as readonly [string, string, string];
  const cast = (name: string, from: string): string => operator(t, name, 'Cast', [from], { to: int(FLOAT) });
  if (storage === 'float16') return cast(base, levels);
  let numbers = cast(`${base}_cast`, levels);
  if (storage === 'uint8') numbers = operator(t, `${base}_centred`, 'Sub', [numbers, cast(`${base}_zero_cast`, zero)]);
  return operator(t, base, 'Mul', [numbers, scale]);
}

const suffixed = (base: string, storage: KernelStorage): string =>
  storage === 'float32' ? base : `${base}_${storage}`;

/** What a kernel becomes, its output channels varying fastest. */
export function roundKernel(
  storage: KernelStorage,
  part: Constant,
  values: Float32Array,
  least?: readonly number[],
): Rounded {
  const { channels } = part.use as KernelUse;
  switch (storage) {
    case 'float32':
      return { stored: values, restored: values };
    case 'float16':
      return roundHalf(part, values);
    case 'uint8':
      return roundAffine(values, channels);
    case 'int8':
      return roundSymmetric(values, channels, least);
  }
}

/** Half of what 32 bits hold: a bias must leave room for the sum of products that it is added to. */
const MOST_BIAS = 2 ** 30;

/**
 * A bias that is added to whole numbers: its scale is that of the input times that of the kernel.
 * @see https://onnx.ai/onnx/operators/onnx__QLinearConv.html, B
 */
function wholeBias(
  t: Translation,
  bias: Constant,
  inputScale: number,
  kernelScales: Float32Array,
  corrections: BiasCorrections,
): string {
  const shape = bias.shape;
  const levels: OnnxTensor = { name: identifier(t, `${bias.name}_int32`), type: 'int32', shape };
  const scale: OnnxTensor = { name: identifier(t, `${bias.name}_scale`), type: 'float32', shape };
  t.constants.push({
    tensors: [levels, scale],
    encode: async () => {
      const values = await readCorrected(bias, corrections);
      const scales = kernelScales.map((each) => each * inputScale);
      const whole = Int32Array.from(values, (each, c) => {
        return Math.min(2 * MOST_BIAS - 1, Math.max(-2 * MOST_BIAS, Math.round(each / scales[c]!)));
      });
      return [bytesOf(whole), bytesOf(scales)];
    },
  });
  return operator(t, bias.name, 'DequantizeLinear', [levels.name, scale.name], { axis: int(0) });
}

/** The same numbers with their axes in another order, C order. */
function relaid<T extends Numbers>(values: T, shape: readonly number[], order: Order): T {
  if (order.every((axis, i) => axis === i)) return values;
  const strides = shape.map((_, axis) => elementsOf(shape.slice(axis + 1)));
  const [lengths, steps] = [stored(shape, order), stored(strides, order)];
  const out = values.slice() as T;
  const at = lengths.map(() => 0);
  const last = lengths.length - 1;
  let from = 0;
  for (let i = 0; i < out.length; ) {
    for (let k = 0; k < lengths[last]!; k++) out[i++] = values[from + k * steps[last]!]!;
    for (let axis = last - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++at[axis]! < lengths[axis]!) break;
      from -= at[axis]! * steps[axis]!;
      at[axis] = 0;
    }
  }
  return out;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Numbers): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
