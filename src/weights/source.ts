/**
 * A file of weights as a list of named tensors: names and shapes first, each tensor's numbers only when asked for.
 * One reader a format stands behind this door; the format is told by the first bytes, never by the file's name.
 */

import type { Preprocessing } from '../augment/preprocessing.js';
import { UsageError } from '../errors.js';
import { isFolder } from '../files.js';
import { type ArchiveMember, openArchive } from './archive/archive.js';
import { openZip, type ZipArchive } from './archive/zip.js';
import { recogniseZip } from './archive/zip-kinds.js';
import { withByteFile } from './byte-file.js';
import { findVersion1, findVersion2 } from './checkpoint/find.js';
import { openGraphDef } from './checkpoint/graph-def.js';
import { openVersion1 } from './checkpoint/version1.js';
import { openVersion2 } from './checkpoint/version2.js';
import { openJson } from './json-files.js';
import { openH5 } from './keras/h5.js';
import { kerasFromZip } from './keras/keras-archive.js';
import { npzFromZip } from './numpy/npz.js';
import type { Memory } from './plan/permute.js';
import { type Container, checkIsFile, checkIsFinished, recognise } from './recognise.js';
import { openSafetensors } from './safetensors.js';
import { findTfjsModel, tfjsSource } from './tfjs/tfjs-model.js';
import { findTfjsModule, openTfjsModule } from './tfjs/tfjs-module.js';
import { openTorchStreamFile, torchFromZip } from './torch/torch.js';

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

/** What a file's maker keeps beside it of the classifier that it is. */
export interface Classifier {
  /** In the order of the logits. */
  readonly classes: readonly string[];
  readonly inputSize: { readonly height: number; readonly width: number };
  readonly preprocessing: Preprocessing;
}

/** An open weights file. Close it: readers keep the file open to read one tensor at a time. */
export interface TensorSource {
  readonly format: WeightsFormat;
  readonly path: string;
  /** Files beside it that hold its numbers, where those are not in it: the shards of a checkpoint. */
  readonly parts?: readonly string[];
  /** Every tensor of the file in file order; names are unique. */
  readonly tensors: readonly TensorInfo[];
  /**
   * What else the file says. Safetensors: its `__metadata__`. Keras: `layout` (keras-weights, keras-model,
   * keras3-weights, keras3-archive, plain), `keras_version`, `backend`, `model_config`, and `layers: counted` where layers
   * are called by their class and number. PyTorch: `container` (zip, stream), `version`,
   * `wrapper` (where the state dict was), `strippedPrefix`, `ignoredEntries`. Npz: `ignored`. TensorFlow: `version` of a
   * checkpoint, `naming: objects` or, of a graph's constants, `layers`; `ignored`. TensorFlow.js: `generatedBy`,
   * `convertedBy`, `quantized` (types that numbers are stored in), `zeroBiases` (biases that are zero since their layers
   * were made without one), and Keras' four.
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
   * Of an object-based checkpoint: name of a tensor -> the path of attributes that leads to it, as
   * `layer_with_weights-0/kernel`; what tells variables apart that share their names.
   */
  readonly objectPaths?: ReadonlyMap<string, string>;
  /** Of an object-based checkpoint: name of a tensor -> the name that its variable was given, unique or not. */
  readonly givenNames?: ReadonlyMap<string, string>;
  /** Where the file is a classifier that somebody trained, and says of which classes. */
  readonly classifier?: Classifier;
  /** Where the file is an archive: the member that was opened. */
  readonly archive?: ArchiveMember;
  /**
   * One tensor's numbers in C order, converted to float32 (integers and booleans too).
   * @param memory gives the array to put them in, for readers that can; by default they are in one of their own
   * @throws TENSOR_ABSENT, or a FormatError when its bytes are damaged
   */
  read(name: string, memory?: Memory): Promise<Float32Array>;
  /**
   * For files that carry a network of their own: compares its embedding of a picture with that of the imported one.
   * @param embed pixels [1, 224, 224, 3] in -1 to 1 -> `pre_logits`
   * @returns a sentence about how well they agree
   * @throws WEIGHTS_DIFFER
   */
  verify?(embed: (pixels: Float32Array) => Promise<Float32Array>): Promise<string>;
  close(): Promise<void>;
}

/** Settings of {@link openWeights}. */
export interface OpenOptions {
  /** Of an archive in which several members hold weights: the path of one, or of a folder, `*` for any characters. */
  readonly member?: string | undefined;
  /** Stops the unpacking of an archive. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a weights file of any supported format, recognised by its content, and reads its names and shapes. Of an archive
 * the weights in it are opened.
 * @throws FILE_NOT_FOUND, FILE_IS_FOLDER, FILE_EMPTY, FILE_UNFINISHED, FORMAT_UNKNOWN and others that say what the file
 * is, NOT_AN_ARCHIVE, and what the reader of the format throws for a damaged file
 */
export async function openWeights(path: string, options: OpenOptions = {}): Promise<TensorSource> {
  const source = await openAny(path, (container) => openArchive(path, container, options, openUnpacked));
  if (options.member === undefined || source.archive !== undefined) return source;
  await source.close();
  throw new UsageError({
    code: 'NOT_AN_ARCHIVE',
    message: `${path}: --member ${options.member} names a file in an archive; this is ${source.format}`,
    hint: 'leave --member out',
  });
}

/** A member of an archive: what is packed once more was refused when the member was chosen. */
const openUnpacked = (path: string): Promise<TensorSource> =>
  openAny(path, (container) => Promise.reject(new Error(`${path}: a ${container} in an archive`)));

async function openAny(
  path: string,
  open: (archive: ArchiveContainer) => Promise<TensorSource>,
): Promise<TensorSource> {
  const tfjsModel = isFolder(path) ? await findTfjsModel(path) : undefined;
  if (tfjsModel !== undefined) return await tfjsSource(tfjsModel.file, tfjsModel.json);
  const tfjsModule = await findTfjsModule(path);
  if (tfjsModule !== undefined) return await openTfjsModule(tfjsModule);
  const version2 = await findVersion2(path);
  if (version2 !== undefined) return await openVersion2(version2);
  const version1 = await findVersion1(path);
  if (version1 !== undefined) return await openVersion1(version1);
  checkIsFile(path);
  checkIsFinished(path);
  const container = await containerOf(path);
  switch (container) {
    case 'zip':
      return await fromZip(await openZip(path), open);
    case 'tar':
    case 'gzip':
      return await open(container);
    case 'json':
      return await openJson(path, openUnpacked);
    default:
      return await READERS[container](path);
  }
}

type ArchiveContainer = Extract<Container, 'zip' | 'tar' | 'gzip'>;

const READERS: Readonly<
  Record<Exclude<Container, ArchiveContainer | 'json'>, (path: string) => Promise<TensorSource>>
> = {
  hdf5: (path) => openH5(path),
  checkpoint: openVersion1,
  'graph-def': openGraphDef,
  safetensors: openSafetensors,
  'torch-stream': openTorchStreamFile,
};

async function containerOf(path: string): Promise<Container> {
  return await withByteFile(path, recognise);
}

async function fromZip(
  zip: ZipArchive,
  open: (archive: ArchiveContainer) => Promise<TensorSource>,
): Promise<TensorSource> {
  switch (recogniseZip(zip)) {
    case 'torch':
      return await torchFromZip(zip);
    case 'keras':
      return await kerasFromZip(zip);
    case 'npz':
      return await npzFromZip(zip);
    case 'archive':
      await zip.close();
      return await open('zip');
  }
}
