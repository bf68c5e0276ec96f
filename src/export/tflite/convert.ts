/** A lowered network as TensorFlow Lite's operators. */
import { ToolkitError } from '../../errors.js';
import { elementsOf } from '../../weights/float-formats.js';
import type { PlainNetwork } from '../lowering/operations.js';
import type { Moments } from '../quantize/moments.js';
import type { Quantization } from '../quantize/quantizations.js';
import { type Grids, gridsOf, LOGISTIC_GRID, noGrids, outputsOf, type Range } from './grids.js';
import type { Affine, Operator, Tensor, TfliteModel } from './model.js';
import { type Activation, type Builtin, type Options, optionsOf, type PaddingName, type TensorType } from './schema.js';
import { type Shape, shapesOf, valueOfCount } from './shapes.js';
import { attributesOf, type Step, stepsOf } from './steps.js';
import { bytesOf, type KernelStorage, Weights } from './weights.js';

export interface ConvertOptions {
  readonly quantize: Quantization;
  readonly moments: ReadonlyMap<string, Moments>;
  /** Of the values, by name: then activations are in 8 bits too. */
  readonly ranges?: ReadonlyMap<string, Range> | undefined;
}

/** What has been converted so far. */
interface Conversion {
  readonly weights: Weights;
  readonly grids: Grids;
  readonly numbers: ReadonlyMap<string, Int32Array | Float32Array>;
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly operators: Operator[];
  /** Values and constants by name, as float32 and in 8 bits. */
  readonly floats: Map<string, Tensor>;
  readonly integers: Map<string, Tensor>;
}

/**
 * @param network lowered with a depthwise padding of its own as an operation
 * @throws EXPORT_UNSUPPORTED, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE
 */
export async function convert(
  network: PlainNetwork,
  { quantize, moments, ranges }: ConvertOptions,
): Promise<Pick<TfliteModel, 'operators' | 'inputs' | 'outputs'>> {
  const { input, outputs } = network;
  const numbers = new Map<string, Int32Array | Float32Array>();
  for (const { name, use, read } of network.constants) {
    if (use.kind === 'structure') numbers.set(name, await read());
  }
  const { steps, added } = stepsOf(network, numbers);
  for (const { name, values } of added) numbers.set(name, values);
  const shapes = allShapes(network, steps, added, numbers);
  const source: Tensor = { name: input.name, type: input.type, ...shapeOf(shapes, input.name) };
  const weights = await Weights.plan(network.constants, quantize, moments, ranges !== undefined);
  const c: Conversion = {
    weights,
    grids:
      ranges === undefined
        ? noGrids
        : gridsOf(
            { source: sourceOf(network), logits: outputs.logits, isWide: (kernel) => weights.isWide(kernel) },
            steps,
            shapes,
            withGroups(steps, rangesWith(network, ranges)),
          ),
    numbers,
    shapes,
    operators: [],
    floats: new Map([[input.name, source]]),
    integers: new Map(),
  };
  for (const { name, shape, values } of added) {
    const content = async () => ({ bytes: bytesOf(values) });
    c.floats.set(name, { name, type: 'int32', shape, batched: false, content, bytes: 4 * values.length, turn: 1 });
  }
  for (const step of steps) {
    if (c.grids.isInteger(step)) integerStep(c, step);
    else floatStep(c, step);
  }
  const { probabilities, logits } = outputs;
  return {
    operators: c.operators,
    inputs: { [input.name]: source },
    outputs: { probabilities: asFloat(c, probabilities), logits: asFloat(c, logits) },
  };
}

function allShapes(
  { input, constants }: PlainNetwork,
  steps: readonly Step[],
  added: readonly { readonly name: string; readonly shape: readonly number[] }[],
  numbers: Conversion['numbers'],
): ReadonlyMap<string, Shape> {
  const shapes = new Map<string, Shape>([[input.name, { sizes: [1, ...input.shape.slice(1)], batched: true }]]);
  for (const { name, shape } of [...constants, ...added]) shapes.set(name, { sizes: shape, batched: false });
  for (const step of steps) {
    const inputs = step.inputs.map((name) => shapes.get(name)!);
    shapesOf(step, inputs, numbers).forEach((shape, i) => {
      shapes.set(i === 0 ? step.name : `${step.name}:${i}`, shape);
    });
  }
  return shapes;
}

/** The name of the normalised pictures: the input itself, or what the network makes of pixels first. */
function sourceOf({ input, operations }: PlainNetwork): string {
  return operations.filter(({ name }) => name.startsWith('preprocessing/')).at(-1)?.name ?? input.name;
}

/** Ranges are measured on normalised pictures, whether or not the network normalises them by itself. */
function rangesWith(network: PlainNetwork, ranges: ReadonlyMap<string, Range>): ReadonlyMap<string, Range> {
  return new Map([...ranges, [sourceOf(network), ranges.get(network.input.name)!]]);
}

/** The bias and the activation of a grouped convolution act before its groups are joined: the range is the whole's. */
function withGroups(steps: readonly Step[], ranges: ReadonlyMap<string, Range>): ReadonlyMap<string, Range> {
  const all = new Map(ranges);
  const parts = new Set(
    steps
      .filter(({ op, bias, activation }) => op === 'Conv2D' && (bias ?? activation) !== undefined)
      .map(({ name }) => name),
  );
  for (const { op, name, inputs } of steps) {
    const before = all.get(inputs[0]!);
    // The padding of a convolution was not measured, and that of a max pool is the lowest number there is.
    if (before !== undefined && (op === 'PadV2' || (op === 'Pad' && !all.has(name)))) all.set(name, before);
    const range = ranges.get(name);
    if (op !== 'ConcatV2' || range === undefined) continue;
    for (const part of inputs) if (parts.has(part)) all.set(part, range);
  }
  return all;
}

const shapeOf = (shapes: Conversion['shapes'], name: string): { shape: readonly number[]; batched: boolean } => {
  const { sizes, batched } = shapes.get(name)!;
  return { shape: sizes, batched };
};

/** A value or constant as float32 (or as the whole numbers that it consists of). */
function asFloat(c: Conversion, name: string): Tensor {
  const known = c.floats.get(name);
  if (known !== undefined) return known;
  const integer = c.integers.get(name);
  const tensor = integer === undefined ? c.weights.plain(name) : valueTensor(c, name, 'float32');
  c.floats.set(name, tensor);
  if (integer !== undefined) {
    c.operators.push({
      builtin: 'DEQUANTIZE',
      version: 2,
      inputs: [integer],
      outputs: [tensor],
      options: optionsOf.dequantize(),
    });
  }
  return tensor;
}

/** A value in 8 bits. */
function asInteger(c: Conversion, name: string): Tensor {
  const known = c.integers.get(name);
  if (known !== undefined) return known;
  const tensor = integerTensor(c, name);
  c.integers.set(name, tensor);
  c.operators.push({
    builtin: 'QUANTIZE',
    version: 1,
    inputs: [asFloat(c, name)],
    outputs: [tensor],
    options: optionsOf.quantize(),
  });
  return tensor;
}

const valueTensor = (c: Conversion, name: string, type: TensorType): Tensor => ({
  name,
  type,
  ...shapeOf(c.shapes, name),
});

function integerTensor(c: Conversion, name: string): Tensor {
  return { ...valueTensor(c, name, 'int8'), name: `${name}/int8`, quantization: c.grids.gridOf(name) };
}

/** A number in 8 bits, as the greatest of their levels, or the least where it is negative. */
function integerScalar(c: Conversion, name: string, like?: Affine): Tensor {
  const value = c.numbers.get(name)![0]!;
  const own: Affine = { scales: [Math.abs(value) / 127 || 1], zeroPoints: [0], dimension: 0 };
  const { scales, zeroPoints } = like ?? own;
  const level = Math.min(127, Math.max(-128, Math.round(value / scales[0]!) + zeroPoints[0]!));
  const quantization = like ?? own;
  const content = async () => ({ bytes: bytesOf(Int8Array.of(level)), quantization });
  const called = like === undefined ? `${name}/int8` : `${name}/int8/${scales[0]}`;
  return { name: called, type: 'int8', shape: [], batched: false, content, bytes: 1, turn: 1 };
}

interface Plain {
  readonly builtin: Builtin;
  readonly options?: Options | undefined;
  /** Of the float32 kernel, and of that for 8 bits. */
  readonly versions?: readonly [float: number, integer: number];
  /** The places of the values among the inputs, in the order that TensorFlow Lite wants; the rest steers. */
  readonly order?: readonly number[];
}

/** What a step is called in TensorFlow Lite, for all that have no kernel. @throws EXPORT_UNSUPPORTED */
function plainOf(c: Conversion, step: Step): Plain {
  const { ints, flag, text } = attributesOf(step);
  const activation = step.activation ?? 'none';
  const window = () => ({
    padding: text('padding') as PaddingName,
    strides: [ints('strides')[1]!, ints('strides')[2]!] as const,
    size: [ints('ksize')[1]!, ints('ksize')[2]!] as const,
  });
  const number = (at: number): number => c.numbers.get(step.inputs[at]!)![0]!;
  const both = [1, 2] as const;
  switch (step.op) {
    case 'AddV2':
    case 'BiasAdd':
      return { builtin: 'ADD', options: optionsOf.add(activation), versions: both };
    case 'Sub':
      return { builtin: 'SUB', options: optionsOf.sub(activation), versions: both };
    case 'Mul':
      return { builtin: 'MUL', options: optionsOf.mul(activation), versions: both };
    case 'Relu':
      return { builtin: 'RELU', versions: both };
    case 'Relu6':
      return { builtin: 'RELU6', versions: both };
    case 'Sigmoid':
      return { builtin: 'LOGISTIC', versions: both };
    case 'Tanh':
      return { builtin: 'TANH' };
    case 'HardSwish':
      return { builtin: 'HARD_SWISH', options: optionsOf.hardSwish() };
    case 'Gelu':
      return { builtin: 'GELU', options: optionsOf.gelu(false) };
    case 'GeluTanh':
      return { builtin: 'GELU', options: optionsOf.gelu(true) };
    case 'Square':
      return { builtin: 'SQUARE', options: optionsOf.square() };
    case 'Rsqrt':
      return { builtin: 'RSQRT' };
    case 'Softmax':
      return { builtin: 'SOFTMAX', options: optionsOf.softmax() };
    case 'Mean':
      return { builtin: 'MEAN', options: optionsOf.reducer(flag('keep_dims')), versions: both };
    case 'MaxPool':
      return { builtin: 'MAX_POOL_2D', options: optionsOf.pool2d(window()), versions: both };
    case 'AvgPool':
      return { builtin: 'AVERAGE_POOL_2D', options: optionsOf.pool2d(window()), versions: both };
    case 'Pad':
      return { builtin: 'PAD', options: optionsOf.pad(), versions: both };
    case 'PadV2':
      return { builtin: 'PADV2', options: optionsOf.padV2(), versions: both };
    case 'Reshape':
      return { builtin: 'RESHAPE', options: optionsOf.reshape() };
    case 'Transpose':
      return { builtin: 'TRANSPOSE', options: optionsOf.transpose(), versions: both };
    case 'Slice':
      return { builtin: 'SLICE', options: optionsOf.slice(), versions: both };
    case 'Split':
      return { builtin: 'SPLIT', options: optionsOf.split(valueOfCount(step)), versions: both };
    case 'ConcatV2': {
      const order = step.inputs.slice(0, -1).map((_, i) => i);
      return {
        builtin: 'CONCATENATION',
        options: optionsOf.concatenation(number(order.length)),
        versions: both,
        order,
      };
    }
    case 'GatherV2':
      return { builtin: 'GATHER', options: optionsOf.gather(number(2)), order: [0, 1] };
    case 'BatchMatMulV2':
      return { builtin: 'BATCH_MATMUL', options: optionsOf.batchMatMul(flag('adj_x'), flag('adj_y')) };
    case 'Cast': {
      const from = asFloat(c, step.inputs[0]!).type;
      return { builtin: 'CAST', options: optionsOf.cast(from, 'float32') };
    }
    default:
      throw new ToolkitError({
        code: 'EXPORT_UNSUPPORTED',
        message: `${step.name}: TensorFlow Lite has no operator for ${step.op}`,
        hint: 'export to another format',
      });
  }
}

function floatStep(c: Conversion, step: Step): void {
  const outputs = outputsOf(step, c.shapes).map((name) => valueTensor(c, name, 'float32'));
  for (const output of outputs) c.floats.set(output.name, output);
  if (isKernel(step)) {
    kernelStep(c, step, outputs[0]!);
    return;
  }
  if (step.op === 'ChannelAffine') {
    affineInFloat(c, step, outputs[0]!);
    return;
  }
  const { builtin, options, versions = [1], order } = plainOf(c, step);
  const names = order === undefined ? step.inputs : order.map((at) => step.inputs[at]!);
  const inputs = names.map((name) => asFloat(c, name));
  c.operators.push({ builtin, version: versions[0], inputs, outputs, options });
}

/** `x * scale`, then `+ shift`. */
function affineInFloat(c: Conversion, step: Step, output: Tensor): void {
  const [x, scale, shift] = step.inputs.map((name) => asFloat(c, name)) as [Tensor, Tensor, Tensor];
  const scaled = { ...output, name: `${step.name}/scaled` };
  const activation = step.activation ?? 'none';
  c.operators.push(
    { builtin: 'MUL', version: 1, inputs: [x, scale], outputs: [scaled], options: optionsOf.mul('none') },
    { builtin: 'ADD', version: 1, inputs: [scaled, shift], outputs: [output], options: optionsOf.add(activation) },
  );
}

function integerStep(c: Conversion, step: Step): void {
  const outputs = outputsOf(step, c.shapes).map((name) => {
    const output = integerTensor(c, name);
    c.integers.set(name, output);
    return output;
  });
  if (isKernel(step)) {
    kernelStep(c, step, outputs[0]!);
    return;
  }
  if (step.op === 'ChannelAffine') {
    affineInIntegers(c, step, outputs[0]!);
    return;
  }
  const { builtin, options, versions = [1, 1], order } = plainOf(c, step);
  const names = order === undefined ? step.inputs : order.map((at) => step.inputs[at]!);
  const grid = outputs[0]!.quantization!;
  const inputs = names.map((name) => {
    if (c.shapes.get(name)!.batched) return asInteger(c, name);
    if (c.numbers.get(name) instanceof Float32Array)
      return integerScalar(c, name, step.op === 'PadV2' ? grid : undefined);
    return asFloat(c, name);
  });
  if (step.op === 'Sigmoid' && grid !== LOGISTIC_GRID) {
    const own = { ...outputs[0]!, name: `${step.name}/own`, quantization: LOGISTIC_GRID };
    c.operators.push(
      { builtin, version: versions[1], inputs, outputs: [own], options },
      { builtin: 'QUANTIZE', version: 1, inputs: [own], outputs, options: optionsOf.quantize() },
    );
    return;
  }
  const version = builtin === 'MUL' && rescales(inputs, grid) ? 3 : versions[1];
  c.operators.push({ builtin, version, inputs, outputs, options });
}

/** Whether a product's scale is coarser than its result's, which MUL knows from version 3 on. @see op_version.cc, MUL */
function rescales(inputs: readonly Tensor[], { scales }: Affine): boolean {
  const product = inputs.reduce((scale, { quantization }) => scale * (quantization?.scales[0] ?? 0), 1);
  return product / scales[0]! >= 1;
}

/** A depthwise convolution of one place, which has a scale for each channel. */
function affineInIntegers(c: Conversion, step: Step, output: Tensor): void {
  const [x, scale, shift] = step.inputs as readonly [string, string, string];
  const channels = c.shapes.get(scale)!.sizes[0]!;
  const input = asInteger(c, x);
  const site = { input: input.quantization!, bias: { name: shift, first: 0 } };
  const inputs = [
    input,
    c.weights.channelKernel(scale, channels, site),
    c.weights.integerBias(`${step.name}/bias/int32`, channels, scale, site),
  ];
  const options = optionsOf.depthwiseConv2d({
    padding: 'VALID',
    strides: [1, 1],
    depthMultiplier: 1,
    activation: step.activation,
  });
  c.operators.push({ builtin: 'DEPTHWISE_CONV_2D', version: 3, inputs, outputs: [output], options });
}

interface KernelKind {
  readonly builtin: Builtin;
  readonly layout: KernelStorage['layout'];
  /** For float32 and for 8 bits. @see op_version.cc */
  readonly versions: readonly [float: number, integer: number];
}

const kernelKinds: Readonly<Record<string, KernelKind>> = {
  Conv2D: { builtin: 'CONV_2D', layout: 'OHWI', versions: [1, 3] },
  DepthwiseConv2dNative: { builtin: 'DEPTHWISE_CONV_2D', layout: '1HWO', versions: [1, 3] },
  MatMul: { builtin: 'FULLY_CONNECTED', layout: 'OI', versions: [1, 4] },
};
const isKernel = ({ op }: Step): boolean => kernelKinds[op] !== undefined;

function kernelStep(c: Conversion, step: Step, output: Tensor): void {
  const { builtin, layout, versions } = kernelKinds[step.op]!;
  const [x, kernel] = step.inputs as readonly [string, string];
  const channels = output.shape.at(-1)!;
  const isInteger = output.type === 'int8';
  const type = isInteger ? 'int8' : c.weights.typeOf(kernel);
  const input = isInteger ? asInteger(c, x) : asFloat(c, x);
  const site = isInteger ? { input: input.quantization!, bias: step.bias } : undefined;
  const stored = c.weights.kernel(kernel, { type, layout }, site);
  const bias =
    site === undefined
      ? c.weights.bias(`${step.name}/bias`, channels, step.bias)
      : c.weights.integerBias(`${step.name}/bias/int32`, channels, kernel, site);
  const weights = type === 'float32' || isInteger ? stored : widened(c, stored);
  const version = versions[isInteger ? 1 : 0];
  const options = kernelOptions(step, input, output);
  c.operators.push({ builtin, version, inputs: [input, weights, bias], outputs: [output], options });
}

/**
 * Float32 again, which interpreters do once, when they start. Kernels that round their input to 8 bits picture by
 * picture, as TensorFlow's converter chooses them, would take a twentieth of the answers of a MobileNet with them.
 */
function widened(c: Conversion, stored: Tensor): Tensor {
  const { name, shape } = stored;
  const output: Tensor = { name: `${name}/float32`, type: 'float32', shape, batched: false };
  const options = optionsOf.dequantize();
  c.operators.push({
    builtin: 'DEQUANTIZE',
    version: stored.type === 'float16' ? 3 : 5,
    inputs: [stored],
    outputs: [output],
    options,
  });
  return output;
}

function kernelOptions(step: Step, input: Tensor, output: Tensor): Options {
  const activation: Activation = step.activation ?? 'none';
  if (step.op === 'MatMul') return optionsOf.fullyConnected(activation);
  const { ints, text } = attributesOf(step);
  const strides = [ints('strides')[1]!, ints('strides')[2]!] as const;
  const window = { padding: text('padding') as PaddingName, strides, activation };
  if (step.op === 'Conv2D') return optionsOf.conv2d(window);
  const depthMultiplier = elementsOf(output.shape.slice(-1)) / input.shape.at(-1)!;
  return optionsOf.depthwiseConv2d({ ...window, depthMultiplier });
}
