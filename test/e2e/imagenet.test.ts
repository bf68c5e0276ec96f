/** Real ImageNet weights, imported from the published file, name what is on real photographs. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildBackbone } from '../../src/backbones/index.js';
import { closeLoader, loadOne } from '../../src/data/loader.js';
import { forwardInBatches } from '../../src/engine/forward.js';
import { softmaxRows } from '../../src/engine/softmax.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { topIndices } from '../../src/train/classifier.js';
import { importWeights } from '../../src/weights/import.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { asset } from '../../tools/assets.mjs';
import { workplace } from '../cli/harness.js';
import { setHome } from '../support/home.js';

/**
 * Index among ImageNet's 1000 classes, and its probability by torchvision 0.20.1 itself with this file: `Resize(256)`,
 * `CenterCrop(224)`, `ToTensor()`, `Normalize(...)` on Pillow's picture. For the motorcycle, 379 pixels wide after the
 * resize, the half pixel counts: a crop from 77 instead of torchvision's 78 gives 0.687.
 */
const photographs = [
  { name: 'chelsea.png', about: 'Egyptian cat', index: 285, probability: 0.7166 },
  { name: 'coffee.png', about: 'espresso', index: 967, probability: 0.9921 },
  { name: 'motorcycle_left.png', about: 'moped', index: 665, probability: 0.5923 },
];

let place: ReturnType<typeof workplace>;
let published: string;
let pictures: string[];
beforeAll(async () => {
  published = await asset('mobilenet_v2-b0353104.pth');
  pictures = await Promise.all(photographs.map(({ name }) => asset(name)));
  place = workplace();
  setHome(place.home);
});
afterAll(async () => {
  place.remove();
  await closeLoader();
});

test("torchvision's MobileNet v2 by way of the store: the right class, as sure as torchvision is", async () => {
  const report = await importWeights(published, { backbone: 'mobilenet_v2' });
  expect(report).toMatchObject({
    backbone: 'mobilenet_v2_1.0',
    source: 'torch',
    format: 'torch',
    classes: 1000,
    file: { sha256: 'b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889' },
  });
  expect(report.folder!.startsWith(place.home)).toBe(true);

  const weights = await resolveWeights({ backbone: 'mobilenet_v2', weights: 'auto' });
  try {
    const size = { height: 224, width: 224 };
    const graph = buildBackbone(weights.published, { size, classes: 1000 });
    const length = size.height * size.width * 3;
    const data = new Float32Array(pictures.length * length);
    for (const [i, path] of pictures.entries())
      data.set(await loadOne(path, weights.published.preprocessing, size), i * length);
    const { logits } = await forwardInBatches(graph, weights.read!, await loadEngine(), {
      input: { shape: [pictures.length, size.height, size.width, 3], data },
      taps: ['logits'],
    });
    expect(logits!.shape).toEqual([pictures.length, 1000]);
    for (const [i, { about, index, probability }] of photographs.entries()) {
      const probabilities = softmaxRows(logits!.data.subarray(i * 1000, (i + 1) * 1000), 1000);
      expect(topIndices(probabilities, 5), about).toContain(index);
      expect(Math.abs(probabilities[index]! - probability), about).toBeLessThan(0.001);
    }
  } finally {
    await weights.close();
  }
});
