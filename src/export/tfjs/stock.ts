/** What the checking thread does. Its source text is the thread's whole program, so it refers to nothing outside. */

export interface StockRun {
  readonly folder: string;
  /** Paths of TensorFlow.js' packages. */
  readonly modules: { readonly core: string; readonly wasm: string; readonly converter: string };
  /** Pictures, `[N, height, width, channels]`. */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface Reply {
  readonly backend: string;
  /** `[N, classes]` */
  readonly probabilities: Float32Array;
}

type Core = typeof import('@tensorflow/tfjs-core');
type Converter = typeof import('@tensorflow/tfjs-converter');

interface ModelFile {
  readonly weightsManifest: readonly { readonly paths: readonly string[]; readonly weights: never[] }[];
}

/** Runs a written model as any program would, the first picture alone and the others together. */
export async function runStock({ folder, modules, shape, data }: StockRun, require: NodeJS.Require): Promise<Reply> {
  const { readFileSync }: typeof import('node:fs') = require('node:fs');
  const { join }: typeof import('node:path') = require('node:path');
  const tf: Core = require(modules.core);
  require(modules.wasm);
  const { loadGraphModel }: Converter = require(modules.converter);
  if (!(await tf.setBackend('wasm'))) throw new Error('its WebAssembly backend does not start');

  const { weightsManifest, ...rest } = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as ModelFile;
  const files = weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(folder, path))));
  const model = await loadGraphModel({
    load: async () => ({
      ...rest,
      weightSpecs: weightsManifest.flatMap(({ weights }) => weights),
      weightData: files.map((file) => Uint8Array.from(file).buffer),
    }),
  });

  const [pictures, ...picture] = shape as [number, number, number, number];
  const size = picture.reduce((a, b) => a * b);
  const parts: Float32Array[] = [];
  for (let start = 0; start < pictures; ) {
    const count = start === 0 ? 1 : Math.min(8, pictures - start); // 8: some hundred MB in the widest layers
    const x = tf.tensor4d(data.subarray(start * size, (start + count) * size), [count, ...picture]);
    const y = model.predict(x) as import('@tensorflow/tfjs-core').Tensor;
    parts.push((await y.data()) as Float32Array);
    tf.dispose([x, y]);
    start += count;
  }
  const probabilities = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    probabilities.set(part, offset);
    offset += part.length;
  }
  return { backend: `tfjs ${tf.version_core} ${tf.getBackend()}`, probabilities };
}
