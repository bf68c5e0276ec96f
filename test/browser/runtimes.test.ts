/**
 * Exported models in a browser by the runtimes that pages have for them: TensorFlow.js' layers, onnxruntime-web and
 * LiteRT. Each must say what the network says, and, where numbers are rounded, what the same runtime says in Node.
 */
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DenseArray } from '../../src/engine/forward.js';
import { softmaxRows } from '../../src/engine/softmax.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { openExport } from '../../src/export/exported.js';
import type { ExportableModel } from '../../src/export/format.js';
import { fixBatch } from '../../src/export/tflite/batch.js';
import { picturesOf, publishedModel, randomModel } from '../export/models.js';
import { picturesFor, sourceLogits } from '../export/stock.js';
import { describeInBrowser, launchChromium, type Served, serveFolder } from '../support/chromium.js';
import { temporaryFolder } from '../weights/support/temporary.js';

/** Folders of packages below the page. */
const packages = {
  'tfjs-core': '@tensorflow/tfjs-core',
  'tfjs-layers': '@tensorflow/tfjs-layers',
  'tfjs-cpu': '@tensorflow/tfjs-backend-cpu',
  'tfjs-wasm': '@tensorflow/tfjs-backend-wasm',
  'tfjs-webgl': '@tensorflow/tfjs-backend-webgl',
  ort: 'onnxruntime-web',
  litert: '@litertjs/core',
  'litert-utils': '@litertjs/wasm-utils',
} as const;

/** Scripts as their documentation shows them, and where LiteRT's module finds the one that it imports. */
const scripts = [
  'tfjs-core/tf-core.min.js',
  'tfjs-layers/tf-layers.min.js',
  'tfjs-cpu/tf-backend-cpu.min.js',
  'tfjs-wasm/tf-backend-wasm.min.js',
  'tfjs-webgl/tf-backend-webgl.min.js',
  'ort/ort.wasm.min.js',
];
const imports = { '@litertjs/core': '/litert/index.js', '@litertjs/wasm-utils': '/litert-utils/index.js' };

const root = temporaryFolder('page');
let served: Served;
let browser: Browser;
let page: Page;
const faults: string[] = [];
afterAll(async () => {
  await browser?.close();
  await served?.close();
});

/** What a page is asked for: the address of the folder that was exported, and the pictures. */
interface Asked {
  readonly model: string;
  readonly shape: number[];
  readonly data: number[];
}
type Run = (page: Page, asked: Asked) => Promise<number[]>;

type TensorFlow = typeof import('@tensorflow/tfjs-core') &
  typeof import('@tensorflow/tfjs-layers') & { readonly wasm: typeof import('@tensorflow/tfjs-backend-wasm') };

const layers =
  (backend: 'cpu' | 'wasm' | 'webgl'): Run =>
  (page, asked) =>
    page.evaluate(
      async ({ backend, model, shape, data }) => {
        const { tf } = globalThis as unknown as { tf: TensorFlow };
        tf.wasm.setWasmPaths('/tfjs-wasm/');
        if (!(await tf.setBackend(backend)) || tf.getBackend() !== backend)
          throw new Error(`${backend} does not start`);
        const loaded = await tf.loadLayersModel(`${model}/model.json`);
        const y = loaded.predict(tf.tensor(data, shape, 'float32')) as import('@tensorflow/tfjs-core').Tensor;
        return Array.from(await y.data());
      },
      { ...asked, backend },
    );

const onnx: Run = (page, asked) =>
  page.evaluate(async ({ model, shape, data }) => {
    const { ort } = globalThis as unknown as { ort: typeof import('onnxruntime-web') };
    ort.env.wasm.wasmPaths = '/ort/';
    ort.env.wasm.numThreads = 1; // more want a page that is isolated from others
    const session = await ort.InferenceSession.create(`${model}/model.onnx`);
    const { probabilities } = await session.run({ input: new ort.Tensor('float32', Float32Array.from(data), shape) });
    return Array.from(probabilities!.data as Float32Array);
  }, asked);

type LiteRt = typeof import('@litertjs/core') & { readonly runtime: import('@litertjs/core').LiteRt };

/** A page loads it once. */
const liteRt = `<script type="module">
  globalThis.litert = import('@litertjs/core').then(async (core) => ({ ...core, runtime: await core.loadLiteRt('/litert-wasm/') }));
</script>`;

const tflite: Run = (page, asked) =>
  page.evaluate(async ({ model, shape, data }) => {
    const { Tensor, runtime } = await (globalThis as unknown as { litert: Promise<LiteRt> }).litert;
    const loaded = await runtime.loadAndCompile(`${model}/model.tflite`, { accelerator: 'wasm' });
    const [pictures, ...picture] = shape as [number, ...number[]];
    const size = data.length / pictures;
    const rows: number[] = [];
    for (let i = 0; i < pictures; i++) {
      const x = new Tensor(Float32Array.from(data.slice(i * size, (i + 1) * size)), [1, ...picture]);
      const outputs = (await loaded.run({ input: x })) as Record<string, InstanceType<typeof Tensor>>;
      rows.push(...(outputs.probabilities!.toTypedArray() as Float32Array));
    }
    return rows;
  }, asked);

const mobilenetV2 = (): ExportableModel => publishedModel('mobilenet_v2_0.35', 'keras', 64, 5);
const mobilenetV3 = (): ExportableModel => randomModel('mobilenet_v3_small_1.0', 'keras', { height: 64, width: 64 }, 5);
const vit = (): ExportableModel => randomModel('vit_ti16', 'flax', { height: 48, width: 32 }, 5);

async function inNode(out: string, { shape, data }: DenseArray): Promise<Float32Array> {
  const exported = await (await openExport(out)).load(await loadEngine());
  const values = await exported.probabilities(data, shape[0]!);
  await exported.dispose();
  return values;
}

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a).toHaveLength(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
};

describeInBrowser('an exported model in a browser', () => {
  beforeAll(async () => {
    const { resolve } = createRequire(import.meta.url);
    for (const [name, of] of Object.entries(packages)) symlinkSync(dirname(resolve(of)), join(root, name));
    symlinkSync(join(dirname(resolve('@litertjs/core')), '..', 'wasm'), join(root, 'litert-wasm'));
    const elements = scripts.map((script) => `<script src="${script}"></script>`).join('');
    const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
    writeFileSync(join(root, 'index.html'), `<!doctype html><link rel="icon" href="data:,">${map}${liteRt}${elements}`);
    served = await serveFolder(root);
    browser = await launchChromium();
    page = await browser.newPage();
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(served.address); // until its scripts have run
  });

  test.each([
    ['tfjs-layers', 'none', false, mobilenetV2, [layers('cpu'), layers('wasm'), layers('webgl')]],
    ['tfjs-layers', 'none', false, mobilenetV3, [layers('wasm')]],
    ['tfjs-layers', 'uint8', false, mobilenetV2, [layers('wasm')]],
    ['onnx', 'none', false, mobilenetV2, [onnx]],
    ['onnx', 'none', false, vit, [onnx]],
    ['onnx', 'uint8', false, mobilenetV2, [onnx]],
    ['onnx', 'int8', false, mobilenetV3, [onnx]],
    ['onnx', 'int8', true, mobilenetV2, [onnx]],
    ['tflite', 'none', false, mobilenetV2, [tflite]],
    ['tflite', 'none', false, vit, [tflite]],
    ['tflite', 'int8', false, mobilenetV3, [tflite]],
    ['tflite', 'int8', true, mobilenetV2, [tflite]],
  ] as const)('%s, %s (activations: %s)', async (format, quantize, calibrated, define, runs) => {
    const model = define();
    const pictures = picturesFor(model, 2);
    const name = `${format}-${quantize}-${calibrated}-${model.record.backbone}`;
    const out = join(root, name);
    const calibration = calibrated ? picturesOf(pictures) : undefined;
    await exportModel(model, { format, quantize, calibration, out, allowDifference: true }, await loadEngine());
    const node = await inNode(out, pictures);
    if (format === 'tflite') {
      const file = join(out, 'model.tflite');
      writeFileSync(file, fixBatch(new Uint8Array(readFileSync(file)))); // LiteRT.js knows no other, in Node either
    }
    const asked = { model: name, shape: [...pictures.shape], data: [...pictures.data] };
    for (const run of runs) {
      const values = await run(page, asked);
      expect(largestDifference(values, node)).toBeLessThan(1e-4);
      if (quantize !== 'none') continue;
      const expected = softmaxRows(await sourceLogits(model, pictures), 5);
      expect(largestDifference(values, expected)).toBeLessThan(1e-4);
    }
    expect(faults).toEqual([]);
  });
});
