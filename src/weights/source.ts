/**
 * A file of weights as a list of named tensors: names and shapes first, each tensor's numbers only when asked for.
 * One reader a format stands behind this door; the format is told by the first bytes, never by the file's name.
 */

import { FormatError } from '../errors.js';
import { openByteFile } from './byte-file.js';
import { findVersion2 } from './checkpoint/find.js';
import { openGraphDef } from './checkpoint/graph-def.js';
import { openVersion1 } from './checkpoint/version1.js';
import { openVersion2 } from './checkpoint/version2.js';
import { openH5 } from './h5.js';
import { isKerasArchive, kerasFromZip } from './keras-archive.js';
import { npzFromZip } from './npz.js';
import { type Container, checkIsFile, FORMATS_READ, recognise } from './recognise.js';
import { openSafetensors } from './safetensors.js';
import { findTfjsModel, openTfjsModel } from './tfjs-model.js';
import { openTorchStreamFile, torchFromZip } from './torch.js';
import { torchPrefix } from './torch-zip.js';
import { openZip, type ZipArchive } from './zip.js';

/** Number type of a tensor as it lies in the file. */
export type FileDtype =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool';

/** What a file says of one tensor before any of its numbers are read. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: FileDtype;
  readonly shape: readonly number[];
}

/** Something in a file that no network reads, and why: `global_step`, an optimiser's slot, a text. */
export interface SetAside {
  readonly name: string;
  readonly reason: string;
}

export type WeightsFormat =
  | 'keras-h5'
  | 'torch'
  | 'safetensors'
  | 'npz'
  | 'tfjs-layers'
  | 'tfjs-graph'
  | 'tf-checkpoint'
  | 'tf-graph';

/** An open weights file. Close it: readers keep the file open to read one tensor at a time. */
export interface TensorSource {
  readonly format: WeightsFormat;
  readonly path: string;
  /** Every tensor of the file in file order; names are unique. */
  readonly tensors: readonly TensorInfo[];
  /**
   * What else the file says. Safetensors: its `__metadata__`. Keras: `layout` (keras-weights, keras-model,
   * keras3-weights, keras3-archive, plain), `keras_version`, `backend`, `model_config`, and `layers: counted` where layers
   * are called by their class and number. PyTorch: `container` (zip, stream), `version`,
   * `wrapper` (where the state dict was), `strippedPrefix`, `ignoredEntries`. Npz: `ignored`.
   */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * What the reader knows to belong to no network, in file order: of `tensors`, those of training and bookkeeping, and
   * things that are no tensors of numbers and so not among `tensors`.
   */
  readonly setAside?: readonly SetAside[];
  /**
   * Running averages that the file keeps apart from its weights, as timm's `state_dict_ema`: name of a tensor -> name of
   * the tensor that holds its average. Both are among `tensors`; the planner takes one of them.
   */
  readonly averages?: ReadonlyMap<string, string>;
  /**
   * One tensor's numbers in C order, converted to float32 (integers and booleans too).
   * @throws TENSOR_ABSENT, or a FormatError when its bytes are damaged
   */
  read(name: string): Promise<Float32Array>;
  /**
   * For files that carry a network of their own: compares its embedding of a picture with that of the imported one.
   * @param embed pixels [1, 224, 224, 3] in -1 to 1 -> `pre_logits`
   * @returns a sentence about how well they agree
   * @throws WEIGHTS_DIFFER
   */
  verify?(embed: (pixels: Float32Array) => Promise<Float32Array>): Promise<string>;
  close(): Promise<void>;
}

/**
 * Opens a weights file of any supported format, recognised by its content, and reads its names and shapes.
 * @throws FILE_NOT_FOUND, FILE_IS_FOLDER, FILE_EMPTY, FILE_IS_HTML, FILE_IS_LFS_POINTER, FORMAT_UNKNOWN, and what the
 * reader of the format throws for a damaged file
 */
export async function openWeights(path: string): Promise<TensorSource> {
  const tfjsModel = await findTfjsModel(path);
  if (tfjsModel !== undefined) return await openTfjsModel(tfjsModel);
  const checkpoint = await findVersion2(path);
  if (checkpoint !== undefined) return await openVersion2(checkpoint);
  checkIsFile(path);
  return await READERS[await containerOf(path)](path);
}

const READERS: Readonly<Record<Container, (path: string) => Promise<TensorSource>>> = {
  hdf5: (path) => openH5(path),
  checkpoint: openVersion1,
  'graph-def': openGraphDef,
  safetensors: openSafetensors,
  'torch-stream': openTorchStreamFile,
  zip: async (path) => await fromZip(await openZip(path)),
};

async function containerOf(path: string): Promise<Container> {
  const file = await openByteFile(path);
  try {
    return await recognise(file);
  } finally {
    await file.close();
  }
}

async function fromZip(zip: ZipArchive): Promise<TensorSource> {
  if (torchPrefix(zip) !== undefined) return await torchFromZip(zip);
  const names = [...zip.entries.keys()];
  if (names.some((name) => name.endsWith('.npy'))) return await npzFromZip(zip);
  if (isKerasArchive(zip)) return await kerasFromZip(zip);
  await zip.close();
  throw new FormatError({
    code: 'FORMAT_UNKNOWN',
    message: `${zip.path}: a zip archive with neither PyTorch's data.pkl nor NumPy's .npy arrays; expected ${FORMATS_READ}`,
    hint: 'if the weights file lies inside the archive, unzip it first',
  });
}
