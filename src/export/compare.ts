/**
 * The check on the way out: the written files, in the runtime of their format, against the network that they were made
 * from, on the same pictures.
 */
import * as tf from '@tensorflow/tfjs-core';
import { loadNetwork } from '../engine/network.js';
import { softmaxRows } from '../engine/softmax.js';
import type { Engine } from '../engine/tensorflow.js';
import { rng } from '../rng.js';
import type { ExportableModel, Pictures, Runtime } from './format.js';
import type { Quantization } from './quantize/quantizations.js';
import { inWholePixels } from './record.js';

/** How a model answers. */
export interface Answers {
  /** Share of the labelled pictures whose class is named; null where there are no labels. */
  readonly accuracy: number | null;
  /** Median over batches, after the first of them where there are more; a batch holds up to 16 pictures. */
  readonly millisecondsPerPicture: number;
}

/** An exported model beside the network that it was made from. */
export interface Comparison {
  /** What ran the written files, and what the network. */
  readonly runtime: string;
  readonly engine: string;
  readonly pictures: number;
  /** Whether the pictures are photographs that somebody gave, or generated. */
  readonly given: boolean;
  readonly source: Answers;
  readonly exported: Answers;
  /** Largest difference of a probability. */
  readonly maxDifference: number;
  /** Share of pictures on which both name the same class. */
  readonly agreement: number;
  /** Of the pictures on which the network is clear: how many there are, and on how many both name the same class. */
  readonly clear: number;
  readonly clearAgreeing: number;
}

/** Clear: the first probability exceeds the second by this much. */
const CLEAR_MARGIN = 0.25;

/** Float32 differs in the order of sums only; float16 rounds each weight to 11 bits. */
const MOST_DIFFERENCE: Partial<Record<Quantization, number>> = { none: 1e-4, float16: 1e-2 };
/** With 8 bits the answers count: of given pictures at least this share must be the same. */
const LEAST_AGREEMENT = 0.95;
/** Generated pictures are like nothing that a network knows: of those on which it is clear, this share. */
const LEAST_AGREEMENT_GENERATED = 0.75;

/** The bound that a quantisation has to keep, in words. */
export function boundOf(quantize: Quantization): string {
  const most = MOST_DIFFERENCE[quantize];
  if (most !== undefined) return `probabilities within ${most}`;
  return `the same class for ${100 * LEAST_AGREEMENT} % of the pictures`;
}

/** Why what was written is not the same model; undefined where it keeps its bound. */
export function faultOf(comparison: Comparison, quantize: Quantization): string | undefined {
  const { maxDifference, given, agreement, pictures, clear, clearAgreeing } = comparison;
  if (!Number.isFinite(maxDifference)) return 'its output has another size or is not a number';
  const most = MOST_DIFFERENCE[quantize];
  if (most !== undefined) {
    if (maxDifference <= most) return undefined;
    return `a probability differs by ${maxDifference.toExponential(1)}, expected at most ${most}`;
  }
  if (given) {
    if (agreement >= LEAST_AGREEMENT) return undefined;
    return `it names the same class for ${Math.round(agreement * pictures)} of ${pictures} pictures, expected at least ${100 * LEAST_AGREEMENT} %`;
  }
  if (clearAgreeing >= LEAST_AGREEMENT_GENERATED * clear) return undefined;
  return `it names the same class for ${clearAgreeing} of the ${clear} generated pictures on which the source is clear, expected at least ${100 * LEAST_AGREEMENT_GENERATED} %`;
}

/**
 * Runs both on every picture.
 * @param wholePixels whether what was written takes whole pixels: then both see the same, rounded ones
 * @throws EXPORT_UNREADABLE where the runtime fails on what was written
 */
export async function compare(
  model: ExportableModel,
  exported: Runtime,
  { pictures, wholePixels }: { readonly pictures: Pictures | undefined; readonly wholePixels: boolean },
  engine: Engine,
): Promise<Comparison> {
  const { height, width } = model.record.inputSize;
  const channels = model.record.preprocessing.mean.length;
  const classes = model.record.classes.length;
  const source = await openSource(model, engine);
  const tally = { pictures: 0, labelled: 0, same: 0, clear: 0, clearSame: 0, right: [0, 0], maxDifference: 0 };
  const times: [number[], number[]] = [[], []];
  try {
    for await (const { pixels, labels, count } of (pictures ?? generated(model))()) {
      const prepared = { shape: [count, height, width, channels], data: pixels };
      const input = wholePixels ? inWholePixels(prepared, model.record) : prepared;
      const expected = await timed(times[0], count, () => source.run(input));
      const received = await timed(times[1], count, () => exported.run(input));
      if (received.length !== expected.length) tally.maxDifference = Infinity;
      for (let i = 0; i < count; i++) {
        const row = expected.subarray(i * classes, (i + 1) * classes);
        const other = received.subarray(i * classes, (i + 1) * classes);
        tally.maxDifference = Math.max(tally.maxDifference, largestDifference(row, other));
        const [first, second] = Float32Array.from(row).sort().reverse();
        const answers = [row.indexOf(first!), argMax(other)] as const;
        const agrees = answers[0] === answers[1];
        tally.pictures++;
        if (agrees) tally.same++;
        if (first! - second! >= CLEAR_MARGIN) {
          tally.clear++;
          if (agrees) tally.clearSame++;
        }
        if (labels !== undefined) {
          tally.labelled++;
          answers.forEach((answer, which) => {
            if (answer === labels[i]) tally.right[which]!++;
          });
        }
      }
    }
  } finally {
    await source.close();
  }
  const answers = (which: 0 | 1): Answers => ({
    accuracy: tally.labelled === 0 ? null : tally.right[which]! / tally.labelled,
    millisecondsPerPicture: medianAfterFirst(times[which]),
  });
  return {
    runtime: exported.name,
    engine: source.name,
    pictures: tally.pictures,
    given: pictures !== undefined,
    source: answers(0),
    exported: answers(1),
    maxDifference: tally.maxDifference,
    agreement: tally.same / tally.pictures,
    clear: tally.clear,
    clearAgreeing: tally.clearSame,
  };
}

async function timed<T>(times: number[], count: number, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  times.push((performance.now() - start) / count);
  return result;
}

/** The first batch pays for starting up. */
function medianAfterFirst(times: readonly number[]): number {
  const counted = (times.length > 1 ? times.slice(1) : [...times]).sort((a, b) => a - b);
  return counted[Math.floor(counted.length / 2)] ?? 0;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  const differences = a.map((value, i) => Math.abs(value - (b[i] ?? Number.NaN)));
  return differences.some(Number.isNaN) ? Infinity : differences.reduce((most, each) => Math.max(most, each), 0);
}

const argMax = (row: Float32Array): number => row.reduce((best, value, i) => (value > row[best]! ? i : best), 0);

/** The network itself, as `tl predict` runs it. */
async function openSource({ graph, read, record }: ExportableModel, engine: Engine): Promise<Runtime> {
  const network = await loadNetwork(graph, read, engine, { outputs: ['logits'] });
  return {
    name: engine.name,
    run: async ({ shape, data }) => {
      const x = tf.tensor(data, [...shape]);
      const logits = network.run(x, ['logits']).get('logits')!;
      const values = (await logits.data()) as Float32Array;
      tf.dispose([x, logits]);
      return Float32Array.from(softmaxRows(values, record.classes.length));
    },
    close: async () => network.dispose(),
  };
}

/** Enough to run a batch of one size and one of another. */
const GENERATED = [1, 3] as const;

/** Colour gradients with waves over them, normalised as the record says: nothing to recognise, but not noise. */
function generated({ record: { inputSize, preprocessing } }: ExportableModel): Pictures {
  const { height, width } = inputSize;
  const { scale, mean, std } = preprocessing;
  return async function* () {
    for (const [batch, count] of GENERATED.entries()) {
      const pixels = new Float32Array(count * height * width * mean.length);
      let i = 0;
      for (let picture = 0; picture < count; picture++) {
        const random = rng('export check').split(batch + picture);
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
              // Whole numbers, as pictures have them, so that a model that takes pixels sees the same.
              const pixel = Math.round(Math.min(255, Math.max(0, value)));
              pixels[i++] = (pixel * scale - mean[c]!) / std[c]!;
            });
          }
        }
      }
      yield { pixels, count };
    }
  };
}
