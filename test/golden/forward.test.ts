/** Every published variant against the reference implementation, tap by tap, on the same weights and pictures. */
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { type Operators, operatorsOf } from '../../src/engine/operators.js';
import { inference, run } from '../../src/engine/run.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { adaptWeights } from '../../src/weights/adapt.js';
import { assertComplete } from '../../src/weights/plan/faults.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import {
  generatedSource,
  inputBatch,
  listForwardGoldens,
  readForwardGolden,
  worstDifference,
} from '../support/golden.js';

/** Largest difference from the reference, as a share of the reference's largest absolute value. */
const TOLERANCE = 1e-5;
/** Single cells of inner taps carry the rounding of every layer before them, amplified; averages and sums do not. */
const TAP_TOLERANCE = 1e-4;

let operators: Operators;
beforeAll(async () => {
  operators = operatorsOf(await loadEngine());
});

describe.each(listForwardGoldens())('$backbone $source', ({ backbone: name, source: publisher }) => {
  test('agrees with the reference at every tap', async () => {
    const golden = readForwardGolden(name, publisher);
    const backbone = findBackbone(name);
    const published = findPublished(backbone, golden.source);
    const source = generatedSource(golden.tensors, 'safetensors');
    const plan = planWeights(source, backbone, published);
    assertComplete(plan, golden.reference);
    const planned = plan.rows.flatMap(({ parameter, ...row }) =>
      parameter === undefined ? [] : [{ ...row, parameter }],
    );
    const parameters = new Map<string, tf.Tensor>();
    for (const row of planned) {
      parameters.set(row.parameter.path, tf.tensor(await readPlanned(source, row), [...row.parameter.shape]));
    }
    const stored = planned.map(({ parameter }) => parameter);
    const read = async (path: string) => (await parameters.get(path)!.data()) as Float32Array;
    for (const each of golden.cases) {
      const [, height, width] = each.inputShape;
      const auxiliary = each.taps.get('aux1.logits')?.shape.at(-1);
      const graph = buildBackbone(published, { size: { height, width }, classes: plan.classes, auxiliary });
      const taps = [...each.taps.keys(), 'pre_logits', 'logits'];
      const x = tf.tensor4d(inputBatch(each.inputShape), [...each.inputShape]);
      const adapted = adaptWeights(graph, stored, read);
      const positions = new Map<string, tf.Tensor>();
      for (const { path, shape, places } of graph.parameters) {
        if (places !== undefined) positions.set(path, tf.tensor(await adapted.read(path), [...shape]));
      }
      const options = {
        operators,
        parameters: (path: string) => positions.get(path) ?? parameters.get(path)!,
        mode: inference,
      };
      const outputs = run(graph, new Map([[graph.input, x]]), taps, options);
      for (const [tap, value] of outputs) {
        const reference = tap === 'pre_logits' ? each.preLogits : tap === 'logits' ? each.logits : each.taps.get(tap)!;
        expect(value.shape, `${tap} at ${height}x${width}`).toEqual(reference.shape);
        const bound = tap.endsWith('logits') ? TOLERANCE : TAP_TOLERANCE;
        expect(worstDifference(reference, value.dataSync()), `${tap} at ${height}x${width}`).toBeLessThan(bound);
      }
      tf.dispose([...outputs.values(), ...positions.values(), x]);
    }
    tf.dispose([...parameters.values()]);
  });
});
