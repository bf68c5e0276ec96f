/** Files as people find them: published under one name with other names inside. */
import { expect, test } from 'vitest';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { plansOf, recognise } from '../../src/weights/plan/variants.js';
import { readForwardGolden } from '../support/golden.js';
import { type H5Tensor, type Layers, writeH5, writeKeras, writeText } from './support/h5-writer.js';
import { temporary, withSource } from './support/temporary.js';

type Row = readonly [name: string, shape: readonly number[]];

const empty = ([name, shape]: Row): H5Tensor => ({
  name: `${name}:0`,
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
});

/** The only network that a file holds, and the prefix of its names. */
async function found(file: string, layers: Layers, version: string): Promise<unknown> {
  const path = temporary(file);
  await writeH5(path, (to) => {
    writeKeras(to, layers, { fixed: true });
    writeText(to, 'keras_version', version);
  });
  return await withSource(path, (source) => {
    const planOf = plansOf(source);
    const fits = recognise(source, planOf);
    expect(fits.flatMap((fit) => faultsOf(planOf(fit)))).toEqual([]);
    return fits.map((fit) => [fit.backbone.name, fit.published.source, planOf(fit).wrapper]);
  });
}

const rowsOf = (backbone: string, source: string): Row[] =>
  readForwardGolden(backbone, source).tensors.map(([name, shape]) => [name, shape]);

// what model.save of hub.KerasLayer("https://tfhub.dev/google/imagenet/mobilenet_v2_035_224/...") holds: one layer
test("TensorFlow Hub's MobileNetV2 in a Keras file keeps slim's names", async () => {
  const weights = rowsOf('mobilenet_v2_0.35', 'slim').map(empty);
  const expected = [['mobilenet_v2_0.35', 'slim', 'keras_layer/']];
  expect(await found('hub.h5', [['keras_layer', weights]], '2.15.0')).toEqual(expected);
});

test('names of Keras 1', async () => {
  const leafs: Record<string, string> = {
    kernel: 'W',
    bias: 'b',
    gamma: 'gamma',
    beta: 'beta',
    moving_mean: 'running_mean',
    moving_variance: 'running_std', // which is the variance
  };
  for (const suffix of ['', '_1']) {
    const layers = new Map<string, H5Tensor[]>();
    for (const [name, shape] of rowsOf('resnet50', 'keras_v1')) {
      const [layer, leaf] = name.split('/') as [string, string];
      const weight = empty([`${layer}_${leafs[leaf]!}${suffix}`, shape]);
      layers.set(layer, [...(layers.get(layer) ?? []), weight]);
    }
    expect(await found(`keras1${suffix}.h5`, [...layers], '1.2.2')).toEqual([['resnet50', 'keras_v1', '']]);
  }
});
