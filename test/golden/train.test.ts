/** One training step, and ten of Adam, against Keras and PyTorch: loss, every gradient, moving statistics, losses. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished, type Part, type Published } from '../../src/backbones/index.js';
import { type Graph, type Parameter, rebuilt } from '../../src/engine/graph.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { rng } from '../../src/rng.js';
import { forTraining, lossesOf } from '../../src/train/auxiliary.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { smoothedTargets } from '../../src/train/targets.js';
import { loadTrainable, numbersOf } from '../../src/train/trainable.js';
import { graphOf } from '../../src/weights/model-folder.js';
import { dialectOf, relay } from '../../src/weights/plan/dialects.js';
import { permute } from '../../src/weights/plan/permute.js';
import { generateTensor, inputBatch, listTrainGoldens, readTrainGolden, worstDifference } from '../support/golden.js';

/** Share of the reference's largest absolute value. */
const GRADIENT_TOLERANCE = 1e-3;

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine();
});

/** The same network without dropout and drop path: the references were trained without them, and their masks differ. */
function withoutDropout(graph: Graph): Graph {
  return rebuilt(graph, (twin, place) => {
    const { operation } = twin;
    const drops = operation.kind === 'dropout' || operation.kind === 'drop_path';
    return place({ ...twin, operation: drops ? { ...operation, rate: 0 } : operation });
  });
}

/** The name of a parameter in the fixture, which calls the head's layer `head`. */
function publishedName(published: Published, { path, role }: Parameter, names: ReadonlySet<string>): string {
  const dialect = dialectOf(published.dialect);
  const dot = path.lastIndexOf('.');
  const owner = path.slice(0, dot);
  const owners = owner === 'head.logits' ? ['head'] : published.ownerNames(owner);
  const candidates = owners.flatMap((each) => {
    const layer = each.slice(each.lastIndexOf('/') + 1);
    return dialect.leafs(role, layer).map((leaf) => (each === '' ? leaf : `${each}${dialect.separator}${leaf}`));
  });
  return candidates.find((name) => names.has(name))!;
}

/** Which part of a published tensor a parameter is, where that holds several. */
const partOf = (published: Published, { path }: Parameter): Part | undefined =>
  published.part?.(path.slice(0, path.lastIndexOf('.')));

/** Our layout from the published one. */
function ours(published: Published, parameter: Parameter, values: Float32Array): Float32Array {
  const layout = dialectOf(published.dialect).layouts(parameter)[0]!;
  const part = partOf(published, parameter);
  return relay(values, part === undefined ? layout : { ...layout, part, view: layout.shape });
}

/** The published layout from ours. */
function theirs(published: Published, parameter: Parameter, values: Float32Array): Float32Array {
  const { shape, view = shape, permutation } = dialectOf(published.dialect).layouts(parameter)[0]!;
  if (permutation === undefined) return values;
  return permute(
    values,
    permutation.map((axis) => view[axis]!),
    permutation.map((_, axis) => permutation.indexOf(axis)),
  );
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  return all;
}

describe.each(listTrainGoldens())('$backbone $source', ({ backbone, source }) => {
  test('a step and ten losses agree with the reference', async () => {
    const golden = readTrainGolden(backbone, source);
    const published = findPublished(findBackbone(backbone), source);
    const [count, height, width] = golden.inputShape;
    const classes = Array.from({ length: golden.classes }, (_, i) => `class ${i}`);
    const head = { hidden: [], dropout: 0 };
    const { channels = 3 } = published;
    const record = { backbone, source, inputSize: { height, width }, channels, head, classes };
    const auxiliary = golden.auxiliary === undefined ? [] : published.auxiliary!;
    expect(auxiliary.map(({ weight }) => weight)).toEqual(Object.values(golden.auxiliary ?? {}));
    const graph = withoutDropout(forTraining(graphOf(record), auxiliary, golden.classes));
    const rows = new Map(golden.tensors.map((row) => [row[0], row]));
    const names = new Set(rows.keys());
    const byPath = new Map(graph.parameters.map((p) => [p.path, p]));
    const nameOf = (path: string) => publishedName(published, byPath.get(path)!, names);
    const read = async (path: string) => ours(published, byPath.get(path)!, generateTensor(...rows.get(nameOf(path))!));

    const network = await loadTrainable(graph, read, engine, { auxiliary: lossesOf(auxiliary) });
    const optimizer = createOptimizer(network.trainable, network.updates, {
      name: 'adam',
      momentum: 0,
      weightDecay: 0,
      epsilon: golden.adam.epsilon,
      epsilonRule: published.dialect === 'torch' ? 'corrected' : 'raw',
    });
    const x = tf.tensor4d(inputBatch(golden.inputShape), [...golden.inputShape]);
    const labels = tf.tensor1d([...golden.labels], 'int32');
    const targets = tf.tensor2d(smoothedTargets(golden.labels, golden.classes, golden.labelSmoothing), [
      count,
      golden.classes,
    ]);

    const losses: number[] = [];
    for (let i = 0; i < golden.losses.length; i++) {
      const { loss, gradients } = network.step({ x, targets, labels, random: rng(i) });
      losses.push(loss);
      if (i === 0) {
        const found = new Map<string, Float32Array[]>(); // the parts of each published tensor, in their order
        for (const [path, gradient] of gradients) {
          const parameter = byPath.get(path)!;
          const values = theirs(published, parameter, gradient.dataSync() as Float32Array);
          const parts = found.get(nameOf(path)) ?? [];
          parts[partOf(published, parameter)?.index ?? 0] = values;
          found.set(nameOf(path), parts);
        }
        for (const [name, parts] of found) {
          const difference = worstDifference(golden.gradients.get(name)!, joined(parts));
          expect(difference, `gradient of ${name}`).toBeLessThan(GRADIENT_TOLERANCE);
        }
        expect(found.size).toBe(golden.gradients.size);
        for (const [path, variable] of network.variables) {
          const reference = golden.statistics.get(nameOf(path));
          if (reference === undefined) continue;
          expect(worstDifference(reference, await numbersOf(variable)), `statistics ${path}`).toBeLessThan(1e-4);
        }
      }
      optimizer.apply(gradients, golden.adam.lr);
      tf.dispose([...gradients.values()]);
    }
    losses.forEach((loss, i) => {
      expect(Math.abs(loss / golden.losses[i]! - 1), `loss of step ${i}: ${loss} and ${golden.losses[i]}`).toBeLessThan(
        0.01,
      );
    });
    tf.dispose([x, labels, targets]);
    optimizer.dispose();
    network.dispose();
  });
});
