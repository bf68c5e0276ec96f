/** What values a network's operations take on calibration pictures: the ranges that 8-bit activations span. */
import { type GraphModel, loadGraphModel } from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import type { Engine } from '../../engine/tensorflow.js';
import { UsageError } from '../../errors.js';
import type { Pictures } from '../format.js';
import type { PlainNetwork } from '../lowering/operations.js';
import { graphDefOf, tensorInfo } from '../tfjs/graph-def.js';
import { bestRange, count, emptyHistogram, type Histogram, type RoundedRange } from './histogram.js';
import { readFinite } from './rounding.js';

export type { Range } from './histogram.js';

/** Of the values that are kept at the same time. */
const MOST_BYTES = 256 * 1024 * 1024;

/**
 * The range of every value that 8 bits should span, by the name of its operation, input and outputs too; `name:1` for
 * further outputs of one. Runs on the loaded engine, a few pictures at a time.
 * @param network takes normalised pictures
 * @throws BAD_CALIBRATION where there are no pictures, WEIGHTS_NOT_FINITE
 */
export async function activationRanges(
  network: PlainNetwork,
  pictures: Pictures,
  _engine: Engine,
): Promise<ReadonlyMap<string, RoundedRange>> {
  const histograms = new Map<string, Histogram>();
  await observe(network, pictures, (name, values) => {
    const histogram = histograms.get(name) ?? emptyHistogram();
    count(histogram, values);
    histograms.set(name, histogram);
  });
  if (histograms.size === 0) {
    throw new UsageError({
      code: 'BAD_CALIBRATION',
      message: 'there are no calibration pictures; expected at least one',
      hint: 'give a folder of pictures such as the network will see',
    });
  }
  return new Map([...histograms].map(([name, histogram]) => [name, bestRange(histogram)]));
}

/** Calls `see` with every value of the network, for some pictures and then for the next. */
async function observe(
  network: PlainNetwork,
  pictures: Pictures,
  see: (name: string, values: Float32Array) => void,
): Promise<void> {
  const [, ...picture] = network.input.shape as [number, number, number, number];
  const size = picture.reduce((a, b) => a * b);
  const names = valuesOf(network);
  const model = await load(network);
  let atOnce = 1;
  try {
    for await (const { pixels, count } of pictures()) {
      for (let start = 0; start < count; ) {
        const taken = Math.min(atOnce, count - start);
        const x = tf.tensor(pixels.subarray(start * size, (start + taken) * size), [taken, ...picture]);
        const outputs = model.execute({ [network.input.name]: x }, names) as tf.Tensor[];
        let numbers = 0;
        see(network.input.name, await x.data<'float32'>());
        for (const [i, output] of outputs.entries()) {
          numbers += output.size;
          see(names[i]!, (await output.data()) as Float32Array);
        }
        tf.dispose([x, ...outputs]);
        start += taken;
        atOnce = Math.max(1, Math.floor(MOST_BYTES / (4 * (numbers / taken))));
      }
    }
  } finally {
    model.dispose();
  }
}

function valuesOf({ operations }: PlainNetwork): string[] {
  const split = (count: number, name: string): string[] =>
    Array.from({ length: count }, (_, i) => (i === 0 ? name : `${name}:${i}`));
  return operations.flatMap(({ name, attributes }) => {
    const count = attributes.num_split;
    return count?.kind === 'int' ? split(count.value, name) : [name];
  });
}

async function load(network: PlainNetwork): Promise<GraphModel> {
  const parts: Buffer[] = [];
  for (const constant of network.constants) {
    const { buffer, byteOffset, byteLength } = await readFinite(constant);
    parts.push(Buffer.from(buffer, byteOffset, byteLength));
  }
  const { input, outputs } = network;
  return loadGraphModel({
    load: async () => ({
      format: 'graph-model',
      modelTopology: graphDefOf(network),
      signature: {
        inputs: { [input.name]: tensorInfo(input.name, input.shape) },
        outputs: { probabilities: tensorInfo(outputs.probabilities, [-1, -1]) },
      },
      weightSpecs: network.constants.map(({ name, shape, type }) => ({ name, shape: [...shape], dtype: type })),
      weightData: parts.map((part) => Uint8Array.from(part).buffer),
    }),
  });
}
