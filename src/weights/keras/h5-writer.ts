/** Writes HDF5 files as Keras does, by a thread that ends with the file: WebAssembly's memory never shrinks. */
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { messageOf, ToolkitError } from '../../errors.js';
import { fileError } from '../../files.js';
import { readBytes, type TensorToWrite } from '../tensor-to-write.js';
import { startH5Worker } from './h5-worker.js';
import { type H5WriteReply, type H5WriteRequest, serveH5Writer } from './h5-writer-thread.js';

/** Keras' HDF5_OBJECT_HEADER_LIMIT: an attribute with more bytes is split over several. */
const MAX_ATTRIBUTE_BYTES = 64_512;

/** A layer of a Keras model, and its weights in Keras' order. */
export interface LayerToWrite {
  readonly name: string;
  readonly weights: readonly TensorToWrite[];
}

/** What a file has beside weights, where it is a whole model: the layout of `model.save` to `.h5`. */
export interface KerasModelToWrite {
  /** JSON of `model.to_json()`. */
  readonly config: string;
  /** More attributes of the file, of any length. */
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * Writes weights in the layout of `save_weights` to `.h5`, one tensor in memory at a time. Not atomic: for a new folder
 * that is renamed as a whole.
 * @param layers in the order of the model's layers, by which Keras loads them; each tensor's name is that of Keras,
 * `conv1/kernel:0`
 * @param kerasVersion of the Keras whose layout this is
 * @param model writes a whole model
 * @throws FILE_NOT_WRITTEN
 */
export async function writeKerasH5(
  path: string,
  layers: readonly LayerToWrite[],
  kerasVersion: string,
  model?: KerasModelToWrite,
): Promise<void> {
  const file = startWriter(path);
  const root = model === undefined ? '' : 'model_weights';
  const said = { backend: 'tensorflow', keras_version: kerasVersion };
  const attribute = (object: string, name: string, strings: string, anyLength = false): Promise<void> =>
    file.ask({ do: 'attribute', object, name, strings, anyLength });
  try {
    await file.ask({ do: 'create', path: resolve(path) });
    if (root !== '') {
      await file.ask({ do: 'group', path: root });
      for (const [name, text] of Object.entries(said)) await attribute('', name, text);
    }
    if (model !== undefined) {
      const texts = { model_config: model.config, ...model.attributes };
      for (const [name, text] of Object.entries(texts)) await attribute('', name, text, true);
    }
    await writeNames(
      file,
      root,
      'layer_names',
      layers.map(({ name }) => name),
    );
    for (const [name, text] of Object.entries(said)) await attribute(root, name, text);
    for (const { name, weights } of layers) {
      const group = root === '' ? name : `${root}/${name}`;
      await file.ask({ do: 'group', path: group });
      await writeNames(
        file,
        group,
        'weight_names',
        weights.map((weight) => weight.name),
      );
      for (const weight of weights) {
        const { dtype, shape } = weight;
        const bytes = await readBytes(path, weight);
        await file.ask({ do: 'dataset', path: `${group}/${weight.name}`, dtype, shape, bytes });
      }
    }
    await file.ask({ do: 'close' });
  } finally {
    await file.end();
  }
  await flush(path);
}

/** Keras' save_attributes_to_hdf5_group: numpy.array_split into as many parts as are needed, `name0`, `name1`, ... */
async function writeNames(file: Writer, object: string, name: string, strings: string[]): Promise<void> {
  const width = Math.max(1, ...strings.map((each) => Buffer.byteLength(each)));
  const most = Math.floor(MAX_ATTRIBUTE_BYTES / width);
  if (strings.length <= most) {
    await file.ask({ do: 'attribute', object, name, strings });
    return;
  }
  const parts = Math.ceil(strings.length / most);
  const length = Math.ceil(strings.length / parts);
  for (let i = 0; i < parts; i++) {
    const part = strings.slice(i * length, (i + 1) * length);
    await file.ask({ do: 'attribute', object, name: `${name}${i}`, strings: part });
  }
}

async function flush(path: string): Promise<void> {
  try {
    const file = await open(path, 'r+');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError('FILE_NOT_WRITTEN', path, 'cannot be written', error);
  }
}

interface Writer {
  ask(command: H5WriteRequest['command']): Promise<void>;
  end(): Promise<void>;
}

function startWriter(path: string): Writer {
  const worker = startH5Worker(serveH5Writer);
  const failed = (reason: string): ToolkitError =>
    new ToolkitError({
      code: 'FILE_NOT_WRITTEN',
      message: `${path}: the HDF5 library (h5wasm) could not write it: ${reason}`,
      hint: 'check that there is room on the disk and that the folder can be written',
    });
  let lastId = 0;
  let pending: { readonly id: number; settle(reply: H5WriteReply): void } | undefined;
  let stopped: string | undefined;
  worker.on('message', (reply: H5WriteReply) => {
    if (pending?.id === reply.id) pending.settle(reply);
  });
  const stop = (reason: string): void => {
    stopped ??= reason;
    pending?.settle({ id: pending.id, ok: false, reason });
  };
  worker.on('error', (error) => stop(messageOf(error).split('\n')[0]!));
  worker.on('exit', (code) => stop(`its thread ended with code ${code}`));
  return {
    async ask(command) {
      if (stopped !== undefined) throw failed(stopped);
      const id = ++lastId;
      const reply = await new Promise<H5WriteReply>((settle) => {
        pending = { id, settle };
        worker.postMessage({ id, command } satisfies H5WriteRequest, transferOf(command));
      });
      pending = undefined;
      if (!reply.ok) throw failed(reply.reason);
    },
    async end() {
      await worker.terminate();
    },
  };
}

/** Numbers that are alone in their memory change hands; others are copied. */
function transferOf(command: H5WriteRequest['command']): ArrayBuffer[] {
  if (command.do !== 'dataset') return [];
  const { buffer, byteLength } = command.bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
}
