/** Models with preprocessing: stock TensorFlow.js makes of pixels what the pipeline makes of them. */
import { describe, expect, test } from 'vitest';
import { channelCounts } from '../../src/augment/image.js';
import { normaliseInto, plainView } from '../../src/augment/pipeline.js';
import { type Preprocessing, presets, torchPreprocessing, withChannels } from '../../src/augment/preprocessing.js';
import { buildGraph, type Graph, type Node, type Scope } from '../../src/engine/graph.js';
import { conv2d, dense, globalAveragePool } from '../../src/engine/layers.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { rng } from '../../src/rng.js';
import { randomParameters } from './models.js';
import { expectWellFormed, plainLogits, relativeDifference } from './stock.js';

const [height, width] = [16, 24];

/** Every value of a byte in every channel, in another order in each. */
function pixelsFor(channels: number): Uint8Array {
  return Uint8Array.from({ length: height * width * channels }, (_, i) => {
    const [place, channel] = [Math.floor(i / channels), i % channels];
    return (place * (2 * channel + 1)) % 256;
  });
}

function normalised(data: Uint8Array, preprocessing: Preprocessing): Float32Array {
  const out = new Float32Array(data.length);
  normaliseInto({ data, height, width }, preprocessing, out, plainView);
  return out;
}

function graphOf(channels: number, define: (s: Scope, x: Node) => Node): Graph {
  return buildGraph([height, width, channels], (s, x) => s.at('logits').tap(define(s, x)));
}

const cases = Object.entries(presets).flatMap(([name, preset]) =>
  channelCounts.map((channels) => ({ name, channels, preprocessing: withChannels(preset, channels) })),
);

describe('the last step of preprocessing', () => {
  test.each(cases)('$name, $channels channels', async ({ channels, preprocessing }) => {
    const graph = graphOf(channels, (_, x) => x);
    const network = lowerGraph(graph, randomParameters(graph), {
      depthwisePadding: 'attribute',
      pixels: { type: 'int32', preprocessing },
    });
    expectWellFormed(network);
    expect(network.input).toEqual({ name: 'input', type: 'int32', shape: [-1, height, width, channels] });
    const pixels = pixelsFor(channels);
    const shape = [1, height, width, channels];
    const received = await plainLogits(network, { shape, data: Float32Array.from(pixels) });
    expect(relativeDifference(received, normalised(pixels, preprocessing))).toBeLessThan(3e-7);
  });

  test('a record of its own, with another order, scale, mean and deviation for every channel', async () => {
    const random = rng('pixels');
    for (const channels of channelCounts) {
      const draw = () => Array.from({ length: channels }, () => 0.1 + random.uniform());
      const own = { scale: 0.01, mean: draw(), std: draw() };
      const preprocessing = { ...torchPreprocessing, ...own, channelOrder: channels === 1 ? 'rgb' : 'bgr' } as const;
      const graph = graphOf(channels, (_, x) => x);
      const pixels = pixelsFor(channels);
      const input = { shape: [1, height, width, channels], data: Float32Array.from(pixels) };
      const options = { depthwisePadding: 'attribute', pixels: { type: 'int32', preprocessing } } as const;
      const received = await plainLogits(lowerGraph(graph, randomParameters(graph), options), input);
      expect(relativeDifference(received, normalised(pixels, preprocessing))).toBeLessThan(3e-7);
    }
  });

  test('padding is zero behind it', async () => {
    const graph = graphOf(3, (s, x) => {
      const y = conv2d(s.at('c'), x, 6, 7, { stride: 2, padding: 'same', bias: true });
      return dense(s.at('d'), globalAveragePool(s.at('p'), y), 5);
    });
    const read = randomParameters(graph);
    const pixels = pixelsFor(3);
    const shape = [1, height, width, 3];
    for (const preprocessing of [presets.caffe, presets.torch]) {
      const plain = lowerGraph(graph, read, { depthwisePadding: 'attribute' });
      const whole = lowerGraph(graph, read, {
        depthwisePadding: 'attribute',
        pixels: { type: 'int32', preprocessing },
      });
      const expected = await plainLogits(plain, { shape, data: normalised(pixels, preprocessing) });
      const received = await plainLogits(whole, { shape, data: Float32Array.from(pixels) });
      expect(relativeDifference(received, expected)).toBeLessThan(1e-6);
    }
  });

  test('steps that change nothing are left out, and the type of the pixels is a parameter', () => {
    const graph = graphOf(1, (_, x) => x);
    const preprocessing = withChannels(presets.caffe, 1);
    const { input, operations } = lowerGraph(graph, randomParameters(graph), {
      depthwisePadding: 'operation',
      pixels: { type: 'uint8', preprocessing },
    });
    expect(input.type).toBe('uint8');
    expect(operations.map(({ op }) => op)).toEqual(['Cast', 'Sub', 'Identity', 'Softmax']);
    expect(operations[0]!.attributes.SrcT).toEqual({ kind: 'type', value: 'uint8' });
  });
});
