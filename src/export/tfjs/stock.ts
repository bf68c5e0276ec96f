/**
 * Stock TensorFlow.js, with none of this toolkit's code, on its WebAssembly backend, in a thread that has no other:
 * what a written model's user has.
 */
import { createRequire } from 'node:module';
import { ToolkitError } from '../../errors.js';
import type { Runtime } from '../format.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { type Served, startThread } from '../thread.js';

/** What `tf.loadGraphModel` reads, or `tf.loadLayersModel`. */
export type StockKind = 'graph' | 'layers';

/** What the thread is started with. */
interface StockThread {
  /** Holds `model.json` and what that names. */
  readonly folder: string;
  readonly kind: StockKind;
  /** Paths of TensorFlow.js' packages. */
  readonly modules: {
    readonly core: string;
    readonly wasm: string;
    readonly converter: string;
    readonly layers: string;
  };
}

/** Pictures, `[N, height, width, channels]`, in the type that the model takes. */
interface Question {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

type Core = typeof import('@tensorflow/tfjs-core');
type Converter = typeof import('@tensorflow/tfjs-converter');
type Layers = typeof import('@tensorflow/tfjs-layers');
type Tensor = import('@tensorflow/tfjs-core').Tensor;

interface ModelFile {
  readonly weightsManifest: readonly { readonly paths: readonly string[]; readonly weights: never[] }[];
}

/** What the thread does: says its name, then gives probabilities, `[N, classes]`. */
async function serve(
  { folder, kind, modules }: StockThread,
  require: NodeJS.Require,
): Promise<Served<string, Question, Float32Array>> {
  const { readFileSync }: typeof import('node:fs') = require('node:fs');
  const { join }: typeof import('node:path') = require('node:path');
  const tf: Core = require(modules.core);
  require(modules.wasm);
  if (!(await tf.setBackend('wasm'))) throw new Error('its WebAssembly backend does not start');

  const { weightsManifest, ...rest } = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as ModelFile;
  const files = weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(folder, path))));
  const handler = {
    load: async () => ({
      ...rest,
      weightSpecs: weightsManifest.flatMap(({ weights }) => weights),
      weightData: files.map((file) => Uint8Array.from(file).buffer),
    }),
  };
  const model =
    kind === 'graph'
      ? await (require(modules.converter) as Converter).loadGraphModel(handler)
      : await (require(modules.layers) as Layers).loadLayersModel(handler);

  const answer = async ({ shape, data }: Question): Promise<Float32Array> => {
    const [pictures, ...picture] = shape as [number, number, number, number];
    const size = picture.reduce((a, b) => a * b);
    const atOnce = 8; // some hundred MB in the widest layers
    let probabilities: Float32Array | undefined;
    for (let start = 0; start < pictures; start += atOnce) {
      const count = Math.min(atOnce, pictures - start);
      const part = data.subarray(start * size, (start + count) * size);
      const x = tf.tensor(part, [count, ...picture], part instanceof Int32Array ? 'int32' : 'float32');
      const y = model.predict(x) as Tensor;
      const values = (await y.data()) as Float32Array;
      probabilities ??= new Float32Array((values.length / count) * pictures);
      probabilities.set(values, (values.length / count) * start);
      tf.dispose([x, y]);
    }
    return probabilities!;
  };
  return { about: `tfjs ${tf.version_core} ${tf.getBackend()}`, answer };
}

/**
 * Opens a written model; a Runtime's questions are answered one after the other.
 * @param folder with `model.json`
 * @throws EXPORT_UNREADABLE
 */
export async function openStock(
  folder: string,
  kind: StockKind,
  record: Pick<ExportRecord, 'input' | 'preprocessing'>,
): Promise<Runtime> {
  const { resolve } = createRequire(import.meta.url);
  const modules = {
    core: resolve('@tensorflow/tfjs-core'),
    wasm: resolve('@tensorflow/tfjs-backend-wasm'),
    converter: resolve('@tensorflow/tfjs-converter'),
    layers: resolve('@tensorflow/tfjs-layers'),
  };
  const thread = await startThread(serve, {
    data: { folder, kind, modules } satisfies StockThread,
    silent: false,
    failed: (why) => unreadable(folder, why),
  });
  return {
    name: thread.about,
    run: (input) => {
      const data = record.input === 'pixels' ? Int32Array.from(pixelsOf(input, record)) : input.data;
      return thread.ask({ shape: input.shape, data });
    },
    close: thread.close,
  };
}

function unreadable(folder: string, why: string): ToolkitError {
  return new ToolkitError({
    code: 'EXPORT_UNREADABLE',
    message: `${folder}: stock TensorFlow.js fails on this model: ${why}`,
    hint: 'the files may be damaged: export the model again; if it was just written, please report it',
  });
}
