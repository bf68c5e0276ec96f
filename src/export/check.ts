/**
 * The check on the way out: what was written is read back and run by stock TensorFlow.js, with none of this toolkit's
 * code, on its WebAssembly backend, in a thread that has no other. The same pictures go through the source network.
 */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { type DenseArray, forwardInBatches } from '../engine/forward.js';
import type { Engine } from '../engine/tensorflow.js';
import { messageOf, ToolkitError } from '../errors.js';
import { rng } from '../rng.js';
import type { OpenedModel } from '../weights/model-folder.js';
import type { Quantization } from './quantize/quantize.js';
import { type Reply, runStock, type StockRun } from './tfjs/stock.js';

export interface CheckReport {
  /** What ran the written files. */
  readonly backend: string;
  readonly pictures: number;
  /** Largest difference of a probability from the source network's. */
  readonly maxDifference: number;
  /** What it may be; none for `uint8`, which is judged by its answers. */
  readonly tolerance: number | null;
  /** Share of pictures with the source network's answer. */
  readonly agreement: number;
}

/** Network inputs `[N, height, width, channels]`, already preprocessed. */
export type CheckPictures = DenseArray;

/** Float32 differs in the order of sums only; float16 rounds each weight to 11 bits. */
const TOLERANCE = { none: 1e-4, float16: 1e-2 } as const;
/** Of the pictures on whose class the source network is clear, `uint8` must name the same for at least this share. */
const MIN_AGREEMENT = 0.75;
/** Clear: the first probability exceeds the second by this much. */
const CLEAR_MARGIN = 0.25;

/** Generated pictures for one check: enough to run a single one and a batch. */
const GENERATED = 4;

interface CheckOptions {
  readonly quantize: Quantization;
  readonly pictures: CheckPictures | undefined;
}

/** @throws EXPORT_UNREADABLE, EXPORT_DIFFERS */
export async function checkExport(
  folder: string,
  model: Pick<OpenedModel, 'record' | 'graph' | 'read'>,
  { quantize, pictures = generatedPictures(model.record) }: CheckOptions,
  engine: Engine,
): Promise<CheckReport> {
  const request = { input: pictures, taps: ['logits'] };
  const { logits } = await forwardInBatches(model.graph, model.read, engine, request);
  const expected = softmaxRows(logits!);
  const { backend, probabilities } = await runInThread(folder, pictures);
  const report = compare(expected, probabilities, { backend, quantize, classes: logits!.shape[1]! });
  if (report.fault !== undefined) {
    throw new ToolkitError({
      code: 'EXPORT_DIFFERS',
      message: `the exported model does not compute what the source does: ${report.fault} (${pictures.shape[0]} pictures, ${backend} against ${engine.name})`,
      hint:
        quantize === 'none'
          ? 'please report this with the model folder; nothing was written'
          : 'export with --quantize none, or float16, and check the source with `tl evaluate`; nothing was written',
    });
  }
  return report.check;
}

interface Comparison {
  readonly backend: string;
  readonly quantize: Quantization;
  readonly classes: number;
}

function compare(
  expected: Float32Array,
  received: Float32Array,
  { backend, quantize, classes }: Comparison,
): { check: CheckReport; fault: string | undefined } {
  const pictures = expected.length / classes;
  let [maxDifference, same, clear, clearSame] = [0, 0, 0, 0];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(expected[i]! - received[i]!);
    if (!(difference <= maxDifference)) maxDifference = Number.isNaN(difference) ? Infinity : difference;
  }
  for (let i = 0; i < pictures; i++) {
    const row = expected.subarray(i * classes, (i + 1) * classes);
    const [first, second] = [...row].sort((a, b) => b - a) as [number, number];
    const agrees = row.indexOf(first) === argMax(received.subarray(i * classes, (i + 1) * classes));
    if (agrees) same++;
    if (first - second >= CLEAR_MARGIN) {
      clear++;
      if (agrees) clearSame++;
    }
  }
  const tolerance = quantize === 'uint8' ? null : TOLERANCE[quantize];
  const check: CheckReport = { backend, pictures, maxDifference, tolerance, agreement: same / pictures };
  return { check, fault: faultOf(check, expected.length === received.length, clear, clearSame) };
}

function faultOf(check: CheckReport, whole: boolean, clear: number, clearSame: number): string | undefined {
  const { tolerance, maxDifference } = check;
  if (!whole || maxDifference === Infinity) return 'its output has another size or is not a number';
  if (tolerance !== null) {
    if (maxDifference <= tolerance) return undefined;
    return `a probability differs by ${maxDifference.toExponential(1)}, expected at most ${tolerance}`;
  }
  if (clearSame >= MIN_AGREEMENT * clear) return undefined;
  return `it names the same class for ${clearSame} of the ${clear} pictures on which the source is clear, expected at least ${MIN_AGREEMENT * 100} %`;
}

const argMax = (row: Float32Array): number => row.reduce((best, value, i) => (value > row[best]! ? i : best), 0);

function softmaxRows({ shape, data }: DenseArray): Float32Array {
  const classes = shape[1]!;
  const out = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += classes) {
    const row = data.subarray(start, start + classes);
    const top = row.reduce((a, b) => Math.max(a, b));
    const powers = Float64Array.from(row, (value) => Math.exp(value - top));
    const sum = powers.reduce((a, b) => a + b);
    out.set(
      powers.map((power) => power / sum),
      start,
    );
  }
  return out;
}

/** Colour gradients with waves over them, normalised as the record says: nothing to recognise, but not noise. */
function generatedPictures({ inputSize, preprocessing }: OpenedModel['record']): CheckPictures {
  const { height, width } = inputSize;
  const { scale, mean, std } = preprocessing;
  const data = new Float32Array(GENERATED * height * width * mean.length);
  let i = 0;
  for (let picture = 0; picture < GENERATED; picture++) {
    const random = rng('export check').split(picture);
    const waves = mean.map(() => ({
      base: 255 * random.uniform(),
      slope: [255 * (random.uniform() - 0.5), 255 * (random.uniform() - 0.5)] as const,
      wave: [20 * random.uniform(), 20 * random.uniform()] as const,
      strength: 100 * random.uniform(),
    }));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        waves.forEach(({ base, slope, wave, strength }, c) => {
          const [v, u] = [y / height, x / width];
          const value = base + slope[0] * v + slope[1] * u + strength * Math.sin(wave[0] * v + wave[1] * u);
          const pixel = Math.min(255, Math.max(0, value));
          data[i++] = (pixel * scale - mean[c]!) / std[c]!;
        });
      }
    }
  }
  return { shape: [GENERATED, height, width, mean.length], data };
}

/** @throws EXPORT_UNREADABLE */
async function runInThread(folder: string, pictures: CheckPictures): Promise<Reply> {
  const { resolve } = createRequire(import.meta.url);
  const modules = {
    core: resolve('@tensorflow/tfjs-core'),
    wasm: resolve('@tensorflow/tfjs-backend-wasm'),
    converter: resolve('@tensorflow/tfjs-converter'),
  };
  const workerData: StockRun = { folder, modules, shape: pictures.shape, data: pictures.data };
  // A thread of its own source text needs no compiled file beside this one, so it runs from src/ too.
  const code = `const { parentPort, workerData } = require('node:worker_threads');
    (${runStock.toString()})(workerData, require).then((reply) => parentPort.postMessage(reply));`;
  const worker = new Worker(code, { eval: true, workerData });
  try {
    return await new Promise<Reply>((done, fail) => {
      worker.once('message', done);
      worker.once('error', fail);
      worker.once('exit', (status) => fail(new Error(`its thread ended with status ${status}`)));
    });
  } catch (cause) {
    throw new ToolkitError({
      code: 'EXPORT_UNREADABLE',
      message: `stock TensorFlow.js fails on the model that was written: ${messageOf(cause)}`,
      hint: 'please report this with the model folder; nothing was written',
      cause,
    });
  } finally {
    await worker.terminate();
  }
}
