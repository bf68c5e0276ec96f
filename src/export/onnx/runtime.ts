/** A written ONNX file in onnxruntime's WebAssembly build, which an installation may lack. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { InferenceSession } from 'onnxruntime-web';
import type { DenseArray } from '../../engine/forward.js';
import { messageOf, ToolkitError } from '../../errors.js';
import { fileError } from '../../files.js';
import type { Runtime } from '../format.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { DATA_FILE, MODEL_FILE } from './model-file.js';

/** What onnxruntime-web itself takes at most where it chooses. @see onnxruntime-common, Env.WebAssemblyFlags */
const MOST_THREADS = 4;

/**
 * Opens a written model; a Runtime's questions are answered one after the other, since a session takes one at a time.
 * @throws EXPORT_NO_RUNTIME, EXPORT_UNREADABLE, FILE_NOT_READ
 */
export async function openOnnx(
  folder: string,
  record: Pick<ExportRecord, 'input' | 'preprocessing'>,
): Promise<Runtime> {
  const ort = await load();
  // Counts until the first session of the process starts, which keeps its threads.
  ort.env.wasm.numThreads = Math.min(MOST_THREADS, availableParallelism());
  const session = await create(ort, folder);
  const [input] = session.inputNames as readonly [string];
  const answerTo = async (pictures: DenseArray): Promise<Float32Array> => {
    const dims = [...pictures.shape];
    const x =
      record.input === 'pixels'
        ? new ort.Tensor('uint8', pixelsOf(pictures, record), dims)
        : new ort.Tensor('float32', pictures.data, dims);
    try {
      const { probabilities } = await session.run({ [input]: x }, ['probabilities']);
      const values = Float32Array.from(probabilities!.data as Float32Array);
      probabilities!.dispose();
      return values;
    } catch (cause) {
      throw unreadable(folder, cause);
    }
  };
  let last: Promise<unknown> = Promise.resolve();
  return {
    name: `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common}`,
    run: (pictures) => {
      const answer = last.then(() => answerTo(pictures));
      last = answer.catch(() => undefined);
      return answer;
    },
    close: () => session.release(),
  };
}

type Ort = typeof import('onnxruntime-web');

async function load(): Promise<Ort> {
  try {
    return await import('onnxruntime-web');
  } catch (cause) {
    throw new ToolkitError({
      code: 'EXPORT_NO_RUNTIME',
      message: `ONNX models are run by the package onnxruntime-web, which does not load: ${messageOf(cause)}`,
      hint: 'install it: npm install onnxruntime-web',
      cause,
    });
  }
}

async function create(ort: Ort, folder: string): Promise<InferenceSession> {
  const read = async (name: string): Promise<Uint8Array> => {
    try {
      return await readFile(join(folder, name));
    } catch (cause) {
      throw fileError('FILE_NOT_READ', join(folder, name), 'cannot be read', cause);
    }
  };
  const model = await read(MODEL_FILE);
  const data = existsSync(join(folder, DATA_FILE)) ? [{ path: DATA_FILE, data: await read(DATA_FILE) }] : [];
  try {
    return await ort.InferenceSession.create(model, { externalData: data });
  } catch (cause) {
    throw unreadable(folder, cause);
  }
}

const unreadable = (folder: string, cause: unknown): ToolkitError =>
  new ToolkitError({
    code: 'EXPORT_UNREADABLE',
    message: `${join(folder, MODEL_FILE)}: onnxruntime-web fails on this model: ${messageOf(cause)}`,
    hint: 'the file may be damaged: export the model again; if it was just written, please report it',
    cause,
  });
