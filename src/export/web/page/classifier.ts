/** The model in TensorFlow.js, and the way from a decoded picture to its probabilities. */
import type { Picture } from '../../../augment/image.js';
import { plainView, preprocessInto, resizeAndCrop } from '../../../augment/pipeline.js';
import { type PageDescription, runtimeScripts, wasmFiles } from './description.js';
import type { ReadFile } from './files.js';
import { readPixels } from './pixels.js';
import { type GraphModel, type Tensor, type TensorFlow, tensorflow } from './tensorflow.js';

export interface Answer {
  /** In the order of the classes. */
  readonly probabilities: Float32Array;
  /** Whether colours of transparent pixels were rounded on the way. */
  readonly rounded: boolean;
  /** From the decoded picture to its probabilities. */
  readonly milliseconds: number;
}

export interface Classifier {
  /** What computes: `WebAssembly`. */
  readonly backend: string;
  /** @param bitmap decoded `asStored`; closed afterwards */
  classify(bitmap: ImageBitmap): Promise<Answer>;
}

export interface Surroundings {
  readonly read: ReadFile;
  /** Runs a script of the page, once. */
  readonly run: (script: string) => Promise<void>;
  /** Of the model's files that have come, 0 to 1. */
  readonly onProgress: (share: number) => void;
}

export async function openClassifier(description: PageDescription, around: Surroundings): Promise<Classifier> {
  for (const script of [runtimeScripts.core, runtimeScripts.converter, runtimeScripts.wasm]) await around.run(script);
  const tf = tensorflow();
  const backend = await startBackend(tf, around);
  const model = await loadModel(tf, description, around);
  const { height, width } = description.inputSize;
  const classify = async (picture: Picture): Promise<Float32Array> => {
    const x = inputOf(tf, picture, description);
    const y = model.predict(x) as Tensor;
    const probabilities = (await y.data()) as Float32Array;
    tf.dispose([x, y]);
    return probabilities;
  };
  // The first run makes ready what the others need, and shows that the model runs at all.
  const empty = { data: new Uint8Array(height * width * description.channels), width, height };
  const { length } = await classify(empty);
  if (length !== description.classes.length) throw new Error(`the model gives ${length} probabilities`);
  return {
    backend,
    classify: async (bitmap) => {
      const start = performance.now();
      try {
        const { picture, rounded } = readPixels(bitmap, description.channels);
        const probabilities = await classify(picture);
        return { probabilities, rounded, milliseconds: performance.now() - start };
      } finally {
        bitmap.close();
      }
    },
  };
}

async function startBackend(tf: TensorFlow, { read, run }: Surroundings): Promise<string> {
  if (typeof WebAssembly !== 'undefined') {
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false); // its program needs headers that static hosts do not send
    const simd = await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT');
    const program = new Blob([await read(simd ? wasmFiles.simd : wasmFiles.plain)], { type: 'application/wasm' });
    const address = URL.createObjectURL(program);
    const names = ['tfjs-backend-wasm.wasm', 'tfjs-backend-wasm-simd.wasm', 'tfjs-backend-wasm-threaded-simd.wasm'];
    tf.wasm.setWasmPaths(Object.fromEntries(names.map((name) => [name, address]))); // it wants all; it starts one
    const started = await tf.setBackend('wasm').catch(() => false);
    URL.revokeObjectURL(address);
    if (started) return 'WebAssembly';
  }
  await run(runtimeScripts.cpu);
  if (!(await tf.setBackend('cpu'))) throw new Error('TensorFlow.js does not start in this browser');
  return 'plain JavaScript';
}

interface ModelFile {
  readonly weightsManifest: readonly { readonly paths: readonly string[]; readonly weights: never[] }[];
}

async function loadModel(
  tf: TensorFlow,
  { modelFiles }: PageDescription,
  { read, onProgress }: Surroundings,
): Promise<GraphModel> {
  const total = modelFiles.reduce((sum, { bytes }) => sum + bytes, 0);
  let come = 0;
  const count = (bytes: number): void => {
    come += bytes;
    onProgress(Math.min(1, come / total));
  };
  const [file, ...shards] = await Promise.all(
    modelFiles.map(async ({ name, bytes }) => {
      const blob = await read(name, count);
      if (blob.size !== bytes) throw new Error(`${name} has ${blob.size} bytes, expected ${bytes}`);
      return blob;
    }),
  );
  const { weightsManifest, ...rest } = JSON.parse(await file!.text()) as ModelFile;
  const weightData = await Promise.all(shards.map((blob) => blob.arrayBuffer()));
  const weightSpecs = weightsManifest.flatMap(({ weights }) => weights);
  return tf.loadGraphModel({ load: async () => ({ ...rest, weightSpecs, weightData }) });
}

/** `[1, height, width, channels]`, by the model's preprocessing record. */
function inputOf(tf: TensorFlow, picture: Picture, description: PageDescription): Tensor {
  const { preprocessing, inputSize, channels, input } = description;
  const shape: [number, number, number, number] = [1, inputSize.height, inputSize.width, channels];
  if (input === 'pixels') {
    const { data } = resizeAndCrop(picture, preprocessing, inputSize);
    return tf.tensor4d(Int32Array.from(data, Math.round), shape, 'int32');
  }
  const values = new Float32Array(inputSize.height * inputSize.width * channels);
  preprocessInto(picture, preprocessing, inputSize, values, 0, plainView);
  return tf.tensor4d(values, shape);
}
