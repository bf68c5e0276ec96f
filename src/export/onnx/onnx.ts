/** An ONNX model: `model.onnx`, for onnxruntime and every other runtime of the format. */
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import { lowerGraph } from '../lowering/lower.js';
import type { Constant } from '../lowering/operations.js';
import { channelMoments, type Moments } from '../quantize/moments.js';
import type { Quantization } from '../quantize/quantizations.js';
import { roundHalf, widestKernels } from '../quantize/rounding.js';
import { modelInformation } from './metadata.js';
import { writeModelFile } from './model-file.js';
import { openOnnx } from './runtime.js';
import { translate } from './translate.js';
import { onnxUsage } from './usage.js';
import { createWeights, type KernelStorage } from './weights.js';

/**
 * Input `input`: float32 `[N, height, width, channels]`, preprocessed, channels last as everywhere in this toolkit; or
 * pixels, uint8. Outputs `probabilities` and `logits`, `[N, classes]`.
 */
export const onnx: ExportFormat = {
  title: 'ONNX model',
  quantizations: ['none', 'float16', 'uint8', 'int8'],
  takesPixels: true,
  calibrates: false,
  write: writeOnnx,
  open: openOnnx,
  usage: onnxUsage,
};

/** @throws EXPORT_OUT_OF_RANGE, EXPORT_UNSUPPORTED, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeOnnx(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const { graph, read, record } = model;
  const { quantize, withPreprocessing } = options;
  const network = lowerGraph(graph, read, {
    depthwisePadding: 'attribute',
    pixels: withPreprocessing ? { type: 'uint8', preprocessing: record.preprocessing } : undefined,
  });
  const moments = quantize === 'none' ? new Map<string, Moments>() : await channelMoments(graph, read);
  const storageOf = await storageBy(network.constants, quantize, moments);
  const weights = createWeights({ storageOf, moments, scaleOf: () => undefined });
  const translated = await translate(network, weights, record.classes.length);
  return { weightBytes: await writeModelFile(folder, translated, modelInformation(record, options)) };
}

/** Of the weights, what float16 leaves in float32: those that lose most. As for TensorFlow.js, see quantize.ts. */
const WIDE_SHARE = 0.02;

async function storageBy(
  constants: readonly Constant[],
  quantize: Quantization,
  moments: ReadonlyMap<string, Moments>,
): Promise<(kernel: Constant) => KernelStorage> {
  if (quantize === 'none') return () => 'float32';
  if (quantize !== 'float16') return () => quantize;
  const round = (kernel: Constant, values: Float32Array): Float32Array => roundHalf(kernel, values).restored;
  const wide = await widestKernels(constants, WIDE_SHARE, moments, round);
  return (kernel) => (wide.has(kernel) ? 'float32' : 'float16');
}
