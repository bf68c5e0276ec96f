/** Exported graph models by stock TensorFlow.js in a browser, on each of its backends: what a page of one's own has. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DenseArray } from '../../src/engine/forward.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { publishedModel, randomModel } from '../export/models.js';
import { picturesFor, relativeDifference, sourceLogits } from '../export/stock.js';
import { describeInBrowser, launchChromium, type Served, serveFolder } from '../support/chromium.js';

const packages = ['core', 'converter', 'backend-cpu', 'backend-wasm', 'backend-webgl'] as const;

type Backend = 'cpu' | 'wasm' | 'webgl';

/** The part of TensorFlow.js that the page calls. */
type TensorFlow = typeof import('@tensorflow/tfjs-core') &
  typeof import('@tensorflow/tfjs-converter') & { readonly wasm: typeof import('@tensorflow/tfjs-backend-wasm') };

let folder: string;
let served: Served;
let browser: Browser;

/** A page that has TensorFlow.js by script elements, as its documentation shows. */
function writePage(): void {
  const { resolve } = createRequire(import.meta.url);
  const scripts = packages.map((name) => {
    const script = `tf-${name}.min.js`;
    copyFileSync(join(dirname(resolve(`@tensorflow/tfjs-${name}`)), script), join(folder, script));
    return `<script src="${script}"></script>`;
  });
  const wasm = 'tfjs-backend-wasm-simd.wasm';
  copyFileSync(join(dirname(resolve('@tensorflow/tfjs-backend-wasm')), wasm), join(folder, wasm));
  writeFileSync(join(folder, 'index.html'), `<!doctype html><link rel="icon" href="data:,">${scripts.join('')}`);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tl-browser-'));
});
afterAll(async () => {
  await browser?.close();
  await served?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Logits of a model below the page, flattened. */
async function logitsIn(page: Page, backend: Backend, model: string, pictures: DenseArray): Promise<Float32Array> {
  const asked = { backend, model, shape: [...pictures.shape], data: [...pictures.data] };
  const { logits, used } = await page.evaluate(async ({ backend, model, shape, data }) => {
    const { tf } = globalThis as unknown as { tf: TensorFlow };
    tf.wasm.setWasmPaths('./');
    if (!(await tf.setBackend(backend))) throw new Error(`${backend} does not start`);
    const loaded = await tf.loadGraphModel(`${model}/model.json`);
    const x = tf.tensor(data, shape, 'float32');
    const y = loaded.execute(x, 'logits') as import('@tensorflow/tfjs-core').Tensor;
    const values = Array.from(await y.data());
    tf.dispose([x, y]);
    loaded.dispose();
    return { logits: values, used: tf.getBackend() };
  }, asked);
  expect(used).toBe(backend);
  return Float32Array.from(logits);
}

describeInBrowser('a graph model in a browser', () => {
  beforeAll(async () => {
    writePage();
    served = await serveFolder(folder);
    browser = await launchChromium();
  });

  // By WebGL the first run takes seconds, in which a processor compiles what a graphics card would run.
  test.each([
    ['mobilenet_v2_0.35', ['cpu', 'wasm', 'webgl'], () => publishedModel('mobilenet_v2_0.35', 'keras', 64, 5)],
    [
      'mobilenet_v3_small_1.0',
      ['cpu', 'wasm'],
      () => randomModel('mobilenet_v3_small_1.0', 'keras', { height: 64, width: 64 }, 5),
    ],
    ['vit_ti16', ['cpu', 'wasm', 'webgl'], () => randomModel('vit_ti16', 'flax', { height: 48, width: 32 }, 5)],
  ] as const)('%s gives our logits by %j', async (name, backends, define) => {
    const model = define();
    const out = join(folder, name);
    await exportModel(model, { format: 'tfjs', out }, await loadEngine());
    const pictures = picturesFor(model, 2);
    const expected = await sourceLogits(model, pictures);
    const page = await browser.newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(served.address);
    for (const backend of backends) {
      const logits = await logitsIn(page, backend, name, pictures);
      expect(relativeDifference(logits, expected), backend).toBeLessThan(1e-4);
    }
    expect(faults).toEqual([]);
    await page.close();
  });
});
