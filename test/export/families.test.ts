/**
 * Every family of networks, each source of it in its smallest variant: stock TensorFlow.js computes what we compute
 * from what is exported, and so does our own network on the WebAssembly engine.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { type Backbone, backbones, buildBackbone, type Published } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import type { Graph } from '../../src/engine/graph.js';
import { loadNetwork, type ReadParameter } from '../../src/engine/network.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { ToolkitError } from '../../src/errors.js';
import { fuseOperations } from '../../src/export/fuse.js';
import { lowerGraph } from '../../src/export/lower.js';
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
    const network = await loadNetwork(graph, model.read, await loadEngine({ engine: 'wasm' }), { outputs: ['logits'] });
    const x = tf.tensor(pictures.data, [...pictures.shape]);
    const logits = network.run(x, ['logits']).get('logits')!;
    const own = relativeDifference((await logits.data()) as Float32Array, expected);
    tf.dispose([x, logits]);
    network.dispose();
    expect(tf.memory().numTensors).toBe(before);
    expect(stock).toBeLessThan(1e-4);
    expect(own).toBeLessThan(1e-4);
  });
});
