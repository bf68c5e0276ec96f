/**
 * HDF5 files of Keras, in every layout that published classifiers come in. The file is read in place, tensor by tensor.
 *
 * | layout | how it is told | names given out |
 * | --- | --- | --- |
 * | keras-weights | `layer_names` at the root (save_weights of Keras 1, 2 and 3's `.h5`) | `<layer>/<leaf>` |
 * | keras-model | the same in the group `model_weights` (model.save to `.h5`) | `<layer>/<leaf>` |
 * | keras3-weights | `vars/0` in groups (`.weights.h5` of Keras 2.12 and later) | `<layer>/<leaf>`, see keras3-names.ts |
 * | keras3-archive | the same inside a `.keras` archive, see keras-archive.ts | `<layer>/<leaf>` |
 * | plain | anything else | paths of the datasets |
 */

import { FormatError } from '../../errors.js';
import { withByteFile } from '../byte-file.js';
import { DTYPE_BYTES, toFloat32 } from '../float-formats.js';
import { checkTensor, limitExceeded, MAX_DEFLATE_RATIO, quote, TensorTable } from '../limits.js';
import type { FileDtype, SetAside, TensorInfo, TensorSource } from '../source.js';
import { type H5File, h5File, patienceFor } from './h5-client.js';
import type { H5Dataset } from './h5-thread.js';
import type { KerasLayer } from './keras-config.js';
import { checkKernels, type H5Names, listedGroups, listedNames, textsIn } from './keras-h5-names.js';
import { keras3Names } from './keras3-names.js';

/** H5T_class_t of the HDF5 library. */
const INTEGER = 0;
const FLOAT = 1;
const OPAQUE = 5;
const ENUM = 8;

interface Entry extends TensorInfo {
  readonly dataset: string;
  readonly bytes: number;
}

/** What the archive around a file of weights says of it. */
export interface KerasArchive {
  /** The archive's own path. */
  readonly path: string;
  readonly config: KerasLayer;
  /** Keras 2 or 3; undefined where the archive does not say. */
  readonly majorVersion: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * @param options.timeoutMs how long one step of the HDF5 library may take; default 10 s, and more for large files
 * @param options.archive where the file was unpacked from, which errors then name
 * @throws H5_DAMAGED, H5_LAYOUT, H5_TIMEOUT, H5_STOPPED, KERAS_KERNELS, DTYPE_UNSUPPORTED, LIMIT_EXCEEDED
 */
export async function openH5(
  path: string,
  options: { readonly timeoutMs?: number; readonly archive?: KerasArchive } = {},
): Promise<TensorSource> {
  const { archive } = options;
  const size = await fileBytesOf(path);
  const file = h5File(path, size, options.timeoutMs ?? patienceFor(size), archive?.path);
  try {
    return await describe(archive?.path ?? path, file, size, archive);
  } catch (error) {
    await file.close().catch(() => undefined); // the first error says more
    throw error;
  }
}

async function fileBytesOf(path: string): Promise<number> {
  return await withByteFile(path, async ({ size }) => size);
}

type Texts = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

async function textsOf(file: H5File, objects: readonly string[]): Promise<Texts> {
  const found = objects.length === 0 ? [] : await file.attributes(objects);
  return new Map(found.map(([object, list]) => [object, new Map(list)]));
}

async function describe(
  path: string,
  file: H5File,
  fileBytes: number,
  archive: KerasArchive | undefined,
): Promise<TensorSource> {
  const tree = await file.tree();
  const groups = new Set(tree.groups);
  const top = await textsOf(file, ['/', ...(groups.has('model_weights') ? ['model_weights'] : [])]);
  const listOf = (group: string, name: string) => textsIn(top.get(group) ?? new Map(), name);
  const dtypes = await dtypesOf(file, tree.datasets);
  const isReadable = ({ path, shape }: H5Dataset): boolean => dtypes.has(path) && shape !== null;
  const readable = tree.datasets.filter(isReadable);

  const metadata: Record<string, string> = { layout: 'plain', ...archive?.metadata };
  for (const name of ['keras_version', 'backend', 'model_config']) {
    const value = listOf('/', name)?.[0] ?? listOf('model_weights', name)?.[0];
    if (value !== undefined) metadata[name] ??= value;
  }
  const root = ['model_weights', '/'].find((group) => listOf(group, 'layer_names') !== undefined);
  let names: H5Names;
  if (root !== undefined && archive === undefined) {
    metadata.layout = root === '/' ? 'keras-weights' : 'keras-model';
    checkKernels(path, metadata.backend, metadata.model_config);
    const prefix = root === '/' ? '' : `${root}/`;
    const listed = listedGroups(prefix, listOf(root, 'layer_names')!, groups);
    const lists = await textsOf(
      file,
      listed.filter((group) => groups.has(group)),
    );
    const texts = (group: string, name: string) => textsIn(lists.get(group) ?? new Map(), name);
    names = listedNames(path, prefix, listed, { groups, datasets: tree.datasets.map((each) => each.path), texts });
  } else if (archive !== undefined || readable.some((dataset) => /(^|\/)vars\/\d+$/.test(dataset.path))) {
    metadata.layout = archive === undefined ? 'keras3-weights' : 'keras3-archive';
    const owners = tree.groups.filter((group) => /(^|\/)vars$/.test(group));
    const stored = [...(await textsOf(file, owners))].flatMap(([group, texts]) => {
      const name = texts.get('name')?.[0];
      return name === undefined ? [] : [[group, name] as const];
    });
    const { config, majorVersion } = archive ?? {};
    const datasets = readable.map((each) => each.path);
    const found = keras3Names({ path, datasets, groups: tree.groups, names: new Map(stored), config, majorVersion });
    if (found.counted) metadata.layers = 'counted';
    names = found;
  } else {
    names = { tensors: readable.map((each) => [each.path, each.path] as const), setAside: [] };
  }

  const byPath = new Map(tree.datasets.map((dataset) => [dataset.path, dataset]));
  const table = new TensorTable<Entry>(path);
  for (const [name, dataset] of names.tensors) {
    table.add(toEntry(path, name, byPath.get(dataset)!, dtypes.get(dataset), fileBytes));
  }
  const named = new Set(names.tensors.map(([, dataset]) => dataset));
  const aside = new Set(names.setAside.map(({ name }) => name));
  const setAside: SetAside[] = [
    ...names.setAside,
    ...tree.datasets
      .filter((each) => !isReadable(each) && !named.has(each.path) && !aside.has(each.path))
      .map((each) => ({ name: each.path, reason: 'no numbers' })),
    ...tree.links.map((name) => ({ name, reason: 'a link, which is not followed' })),
  ];
  return {
    format: 'keras-h5',
    path,
    tensors: table.infos(),
    metadata,
    ...(setAside.length === 0 ? {} : { setAside }),
    async read(name) {
      const { dataset, bytes, dtype } = table.get(name);
      return toFloat32(await file.read(dataset, bytes), dtype);
    },
    close: () => file.close(),
  };
}

function toEntry(
  path: string,
  name: string,
  dataset: H5Dataset,
  dtype: FileDtype | undefined,
  fileBytes: number,
): Entry {
  const { shape } = dataset;
  if (dtype === undefined || shape === null) {
    throw new FormatError({
      code: 'DTYPE_UNSUPPORTED',
      message: `${path}: dataset ${quote(dataset.path)} holds ${shape === null ? 'nothing' : 'no plain numbers'}; expected floats, integers or booleans`,
      hint: 'save the weights again as float32',
    });
  }
  if (dataset.virtual) {
    throw new FormatError({
      code: 'H5_LAYOUT',
      message: `${path}: dataset ${quote(dataset.path)} is assembled from other files, which are not read`,
      hint: 'copy the datasets into one file with h5repack or h5py',
    });
  }
  const bytes = checkTensor(path, name, dtype, shape) * DTYPE_BYTES[dtype];
  // HDF5 lets a file declare numbers that it does not hold (they read as zeros), and so any size at all
  const possible = dataset.chunked ? fileBytes * MAX_DEFLATE_RATIO : fileBytes;
  if (bytes > possible) {
    throw limitExceeded(
      path,
      `dataset ${quote(dataset.path)} declares ${bytes} bytes in a file of ${fileBytes}`,
      possible,
    );
  }
  return { name, dtype, shape, dataset: dataset.path, bytes };
}

/** Number type of every dataset that has one we read. */
async function dtypesOf(file: H5File, datasets: readonly H5Dataset[]): Promise<ReadonlyMap<string, FileDtype>> {
  // HDF5 has no bfloat16: Keras writes two opaque bytes and says so in an attribute (saving_lib.H5Entry)
  const opaque = datasets.filter(({ type, size }) => type === OPAQUE && size === 2).map(({ path }) => path);
  const said = await textsOf(file, opaque);
  return new Map(
    datasets.flatMap((dataset) => {
      const isBfloat16 = said.get(dataset.path)?.get('dtype')?.[0] === 'bfloat16';
      const dtype = isBfloat16 ? 'bfloat16' : dtypeOf(dataset);
      return dtype === undefined ? [] : [[dataset.path, dtype] as const];
    }),
  );
}

function dtypeOf({ type, size, signed, members }: H5Dataset): FileDtype | undefined {
  if (type === FLOAT) return ({ 2: 'float16', 4: 'float32', 8: 'float64' } as const)[size as 2 | 4 | 8];
  if (type === INTEGER) {
    const unsigned = ({ 1: 'uint8', 2: 'uint16', 4: 'uint32', 8: 'uint64' } as const)[size as 1 | 2 | 4 | 8];
    return signed ? (unsigned?.slice(1) as FileDtype | undefined) : unsigned;
  }
  // h5py's booleans: an enumeration of one byte
  return type === ENUM && size === 1 && members.includes('TRUE') && members.includes('FALSE') ? 'bool' : undefined;
}
