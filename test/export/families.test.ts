/**
 * Every family of networks, each source of it in its smallest variant: stock TensorFlow.js computes from what is
 * exported what we compute, and so does our own network on the WebAssembly engine, which trains a head on it.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { type Backbone, backbones, buildBackbone, type Published } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import type { Graph } from '../../src/engine/graph.js';
import type { ReadParameter } from '../../src/engine/network.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { ToolkitError } from '../../src/errors.js';
import { fuseOperations } from '../../src/export/lowering/fuse.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { rng } from '../../src/rng.js';
import { loadTrainable } from '../../src/train/trainable.js';
import { randomParameters, recordOf } from './models.js';
import { expectWellFormed, picturesFor, plainLogits, relativeDifference, sourceLogits } from './stock.js';

/** Sources of a family beyond its smallest network are left out above this, so that the list takes a minute. */
const MOST_PARAMETERS = 8e6;

const classes = 7;

/** The network on a small picture that is no square, or on the one size that it takes. */
function smallGraph({ inputSize }: Backbone, published: Published): Graph {
  try {
    return buildBackbone(published, { size: { height: 64, width: 96 }, classes });
  } catch (error) {
    if (!(error instanceof ToolkitError)) throw error;
    return buildBackbone(published, { size: { height: inputSize, width: inputSize }, classes });
  }
}

const parametersOf = (graph: Graph): number => analyse(graph).totals.parameters;

interface Small {
  readonly name: string;
  readonly source: string;
  readonly graph: Graph;
}

/** The smallest network of each source, the smallest of all first. */
function smallest(family: string): Small[] {
  const found = new Map<string, Small>();
  for (const backbone of backbones.filter((each) => each.family === family)) {
    for (const published of backbone.published) {
      const { source } = published;
      const graph = smallGraph(backbone, published);
      const best = found.get(source)?.graph;
      if (best !== undefined && parametersOf(best) <= parametersOf(graph)) continue;
      found.set(source, { name: backbone.name, source, graph });
    }
  }
  return [...found.values()].sort((a, b) => parametersOf(a.graph) - parametersOf(b.graph));
}

/** Draws the numbers of a network once. */
function remembering(read: ReadParameter): ReadParameter {
  const known = new Map<string, Promise<Float32Array>>();
  return (path) => {
    const numbers = known.get(path) ?? read(path);
    known.set(path, numbers);
    return numbers;
  };
}

/** The loss of one row of logits, and its derivatives by them. */
function crossEntropy(logits: Float32Array, label: number): { loss: number; slopes: number[] } {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b);
  return {
    loss: Math.log(sum) + top - logits[label]!,
    slopes: powers.map((power, i) => power / sum - (i === label ? 1 : 0)),
  };
}

const families = [...new Set(backbones.map(({ family }) => family))];

describe.each(families)('%s', (family) => {
  const networks = smallest(family).filter(({ graph }, i) => i === 0 || parametersOf(graph) < MOST_PARAMETERS);

  test.each(networks)('$name $source', async ({ name, source, graph }) => {
    const [height, width] = graph.input.shape as readonly [number, number];
    const record = recordOf(name, source, { height, width }, classes);
    const model = { graph, read: remembering(randomParameters(graph)), record };
    const pictures = picturesFor(model, 2);
    const expected = await sourceLogits(model, pictures);
    expect(expected.every(Number.isFinite)).toBe(true);

    const lowered = lowerGraph(graph, model.read, { depthwisePadding: 'attribute' });
    expectWellFormed(lowered);
    const stock = relativeDifference(await plainLogits(fuseOperations(lowered), pictures), expected);

    const before = tf.memory().numTensors;
    const network = await loadTrainable(graph, model.read, await loadEngine({ engine: 'wasm' }), { cut: 'pre_logits' });
    const labels = [2, 5];
    const tensors = {
      x: tf.tensor(pictures.data, [...pictures.shape]),
      labels: tf.tensor1d(labels, 'int32'),
      targets: tf.tensor2d(labels.map((label) => Array.from({ length: classes }, (_, i) => Number(i === label)))),
    };
    const frozen = await network.loadFrozen();
    const entry = frozen.enter(tensors.x);
    frozen.dispose();
    const logits = network.logits(entry);
    const values = (await logits.data()) as Float32Array;
    const own = relativeDifference(values, expected);
    const { loss, gradients } = network.step({ ...tensors, x: entry, random: rng(0) });
    const rows = labels.map((label, i) => crossEntropy(values.subarray(i * classes, (i + 1) * classes), label));
    const mean = (rows[0]!.loss + rows[1]!.loss) / 2;
    expect(Math.abs(loss - mean)).toBeLessThan(1e-5 * (1 + mean));
    const slopes = await gradients.get('classifier.bias')!.data();
    slopes.forEach((slope, i) => {
      expect(slope).toBeCloseTo((rows[0]!.slopes[i]! + rows[1]!.slopes[i]!) / 2, 3);
    });
    tf.dispose([...Object.values(tensors), entry, logits, ...gradients.values()]);
    network.dispose();
    expect(tf.memory().numTensors).toBe(before);
    expect(stock).toBeLessThan(1e-4);
    expect(own).toBeLessThan(1e-4);
  });
});
