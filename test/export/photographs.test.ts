/** Real ImageNet weights on real photographs: what 16 and 8 bits cost where it matters. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { closeLoader, loadOne } from '../../src/data/loader.js';
import type { DenseArray } from '../../src/engine/forward.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import { openWeights, type TensorSource } from '../../src/weights/source.js';
import { asset, foodPictures } from '../../tools/assets.mjs';
import { temporary } from '../weights/support/temporary.js';
import { picturesOf, recordOf } from './models.js';

const SIZE = { height: 224, width: 224 };
/** One food picture in seven: 58 of them. */
const EVERY = 7;

let weights: TensorSource;
beforeAll(async () => {
  weights = await openWeights(await asset('mobilenet_v2-b0353104.pth'));
});
afterAll(async () => {
  await weights.close();
  await closeLoader();
});

async function photographs(): Promise<DenseArray> {
  const { preprocessing } = findPublished(findBackbone('mobilenet_v2_1.0'), 'torch');
  const { dir } = await foodPictures(temporary('food'));
  const paths = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.jpe?g$/i.test(name))
    .sort()
    .filter((_, i) => i % EVERY === 0);
  const data = new Float32Array(paths.length * SIZE.height * SIZE.width * 3);
  for (const [i, path] of paths.entries()) {
    const pixels = await loadOne(join(dir, path), preprocessing, SIZE);
    data.set(pixels, i * pixels.length);
  }
  return { shape: [paths.length, SIZE.height, SIZE.width, 3], data };
}

test("torchvision's MobileNet v2 keeps its answers among 1000 classes", async () => {
  const backbone = findBackbone('mobilenet_v2_1.0');
  const published = findPublished(backbone, 'torch');
  const plan = planWeights(weights, backbone, published);
  const rows = new Map(plan.rows.flatMap((row) => (row.parameter ? [[row.parameter.path, row] as const] : [])));
  const model = {
    record: { ...recordOf(backbone.name, 'torch', SIZE, 1000), preprocessing: published.preprocessing },
    graph: buildBackbone(published, { size: SIZE, classes: 1000 }),
    read: (path: string) => readPlanned(weights, rows.get(path)!),
  };
  const pictures = await photographs();
  expect(pictures.shape[0]).toBeGreaterThan(50);
  const engine = await loadEngine();
  const write = (quantize: 'none' | 'float16' | 'uint8') =>
    exportModel(
      model,
      {
        format: 'tfjs',
        quantize,
        out: temporary(quantize),
        validation: picturesOf(pictures),
        allowDifference: true,
      },
      engine,
    );

  const [float32, float16, uint8] = [await write('none'), await write('float16'), await write('uint8')];
  expect(float32.check.maxDifference).toBeLessThan(1e-5);
  expect(float16.check.maxDifference).toBeLessThan(5e-3);
  expect(float16.check.agreement).toBe(1);
  // Food is not what ImageNet is about: the first of 1000 probabilities is 0.5 on the mean, so many answers are close.
  expect(uint8.check.agreement).toBeGreaterThan(0.88);
  expect(uint8.check.maxDifference).toBeLessThan(0.2);
  expect(uint8.bytes).toBeLessThan(0.285 * float32.bytes);
  expect(float16.bytes).toBeLessThan(0.52 * float32.bytes);
});
