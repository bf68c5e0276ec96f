/** An ONNX model: `model.onnx`, for onnxruntime and every other runtime of the format. */
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { lowerGraph } from '../lowering/lower.js';
import type { Constant } from '../lowering/operations.js';
import { channelMoments, type Moments } from '../quantize/moments.js';
import { activationRanges } from '../quantize/ranges.js';
import { widestKernels } from '../quantize/rounding.js';
import { type Levels, levelsOf, roundActivations } from './activations.js';
import { modelInformation } from './metadata.js';
import { writeModelFile } from './model-file.js';
import { openOnnx } from './runtime.js';
import { translate } from './translate.js';
import { onnxUsage } from './usage.js';
import { createWeights, type KernelStorage, roundKernel } from './weights.js';

/**
 * Input `input`: float32 `[N, height, width, channels]`, preprocessed, channels last as everywhere in this toolkit; or
 * pixels, uint8. Outputs `probabilities` and `logits`, `[N, classes]`.
 */
export const onnx: ExportFormat = {
  title: 'ONNX model',
  quantizations: ['none', 'float16', 'uint8', 'int8'],
  takesPixels: true,
  calibrates: true,
  write: writeOnnx,
  open: openOnnx,
  usage: onnxUsage,
};

/** @throws EXPORT_OUT_OF_RANGE, EXPORT_UNSUPPORTED, BAD_CALIBRATION, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeOnnx(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const { graph, read, record } = model;
  const { quantize, withPreprocessing } = options;
  const network = lowerGraph(graph, read, {
    depthwisePadding: 'attribute',
    pixels: withPreprocessing ? { type: 'uint8', preprocessing: record.preprocessing } : undefined,
  });
  const moments = quantize === 'none' ? new Map<string, Moments>() : await channelMoments(graph, read);
  const storageOf = await storageBy(network.constants, options, moments);
  const known = await levelsBy(model, options);
  const kept = new Set<string>();
  const levels = (value: string): Levels | undefined => (kept.has(value) ? undefined : known?.(value));
  const keep = (value: string): void => void kept.add(value);
  const weights = createWeights({ storageOf, moments, scaleOf: (value) => levels(value)?.scale, keep });
  const translated = await translate(network, weights, record.classes.length);
  const written = known
    ? roundActivations(translated, (tensor) => levels(translated.origins.get(tensor)!))
    : translated;
  return { weightBytes: await writeModelFile(folder, written, modelInformation(record, options)) };
}

/**
 * What rounds worse than this stays in float32. Measured on MobileNet v2 with ImageNet weights: without this rule its
 * probabilities move twice as far, by the few values whose numbers are spread widest.
 */
const MOST_NOISE = 2.5e-4;

/** How each value of the network is rounded, by the calibration pictures; undefined where there are none. */
async function levelsBy(
  { graph, read }: ExportableModel,
  { calibration, engine }: WriteOptions,
): Promise<((value: string) => Levels | undefined) | undefined> {
  if (calibration === undefined) return undefined;
  const network = lowerGraph(graph, read, { depthwisePadding: 'operation' });
  const ranges = await activationRanges(network, calibration, engine);
  return (value) => {
    // What a network that takes pixels makes of them first is what the other one takes.
    const range = ranges.get(value.startsWith('preprocessing/') ? network.input.name : value);
    return range && range.noise <= MOST_NOISE ? levelsOf(range) : undefined;
  };
}

/**
 * Share of the weights that is kept in more bits, those that lose most: float16 leaves them in float32, 8 bits in
 * float16, fewer where values are rounded too, since convolutions with such a kernel compute in float32. Measured with
 * ImageNet weights on 406 photographs: by 8 bits MobileNet v1 names the same of 1000 classes for 97 %, v2 for 98 %, and for
 * 98 to 99 % of those whose first two probabilities are 0.01 apart; twice the share gives no more.
 */
const WIDE_SHARE = { float16: 0.02, uint8: 0.05, int8: 0.05, calibrated: 0.002 };

async function storageBy(
  constants: readonly Constant[],
  { quantize, calibration }: Pick<WriteOptions, 'quantize' | 'calibration'>,
  moments: ReadonlyMap<string, Moments>,
): Promise<(kernel: Constant) => KernelStorage> {
  if (quantize === 'none') return () => 'float32';
  const round = (kernel: Constant, values: Float32Array): Float32Array =>
    roundKernel(quantize, kernel, values).restored;
  const share = WIDE_SHARE[calibration === undefined ? quantize : 'calibrated'];
  const wide = await widestKernels(constants, share, moments, round);
  return (kernel) => (wide.has(kernel) ? (quantize === 'float16' ? 'float32' : 'float16') : quantize);
}
