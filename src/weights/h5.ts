/**
 * HDF5 files of Keras, in every layout that published classifiers come in. The file is read in place, tensor by tensor.
 *
 * | layout | how it is told | names given out |
 * | --- | --- | --- |
 * | keras-weights | `layer_names` at the root (save_weights of Keras 1, 2 and 3's `.h5`) | `<layer>/<leaf>` |
 * | keras-model | the same in the group `model_weights` (model.save to `.h5`) | `<layer>/<leaf>` |
 * | keras3-weights | `layers/<name>/vars/0` (`.weights.h5` of Keras 2.13 and later) | paths of the datasets |
 * | plain | anything else | paths of the datasets |
 */

import { FormatError, listFaults } from '../errors.js';
import { openByteFile } from './byte-file.js';
import { DTYPE_BYTES, toFloat32 } from './float-formats.js';
import { type H5File, h5File, patienceFor } from './h5-client.js';
import type { H5Dataset } from './h5-thread.js';
import { checkTensor, DAMAGED_HINT, limitExceeded, MAX_DEFLATE_RATIO, quote, TensorTable } from './limits.js';
import type { FileDtype, TensorInfo, TensorSource } from './source.js';

/** H5T_class_t of the HDF5 library. */
const INTEGER = 0;
const FLOAT = 1;
const ENUM = 8;

/** The group of Keras for the variables of the model itself rather than of a layer. */
const TOP_LEVEL = 'top_level_model_weights';

interface Entry extends TensorInfo {
  readonly dataset: string;
  readonly bytes: number;
}

interface Attributes {
  /** The strings of an attribute; those of `name0`, `name1`, ... where it was too long for one. */
  list(object: string, name: string): readonly string[] | undefined;
}

/**
 * @param options.timeoutMs how long one step of the HDF5 library may take; default 10 s, and more for large files
 * @throws H5_DAMAGED, H5_LAYOUT, H5_TIMEOUT, H5_STOPPED, DTYPE_UNSUPPORTED, LIMIT_EXCEEDED
 */
export async function openH5(path: string, options: { readonly timeoutMs?: number } = {}): Promise<TensorSource> {
  const size = await fileBytesOf(path);
  const file = h5File(path, options.timeoutMs ?? patienceFor(size));
  try {
    return await describe(path, file, size);
  } catch (error) {
    await file.close().catch(() => undefined); // the first error says more
    throw error;
  }
}

async function fileBytesOf(path: string): Promise<number> {
  const file = await openByteFile(path);
  await file.close();
  return file.size;
}

async function describe(path: string, file: H5File, fileBytes: number): Promise<TensorSource> {
  const tree = await file.tree();
  const datasets = new Map(tree.datasets.map((dataset) => [dataset.path, dataset]));
  const groups = new Set(tree.groups);
  const top = await readAttributes(file, ['/', ...(groups.has('model_weights') ? ['model_weights'] : [])]);
  const root = ['model_weights', '/'].find((group) => top.list(group, 'layer_names') !== undefined);
  const ignored: string[] = [...tree.links];
  const table = new TensorTable<Entry>(path);
  if (root !== undefined) {
    const layers = top.list(root, 'layer_names')!;
    for (const [name, dataset] of await kerasNames(
      path,
      file,
      root === '/' ? '' : `${root}/`,
      layers,
      groups,
      datasets,
    )) {
      table.add(toEntry(path, name, dataset, fileBytes));
    }
  } else {
    for (const dataset of tree.datasets) {
      if (/^optimizer(_weights)?\//.test(dataset.path)) ignored.push(dataset.path);
      else if (dtypeOf(dataset) === undefined || dataset.shape === null) ignored.push(dataset.path);
      else table.add(toEntry(path, dataset.path, dataset, fileBytes));
    }
  }
  const isKeras3 = tree.datasets.some((dataset) => /(^|\/)vars\/\d+$/.test(dataset.path));
  const layout =
    root === '/' ? 'keras-weights' : root !== undefined ? 'keras-model' : isKeras3 ? 'keras3-weights' : 'plain';
  const metadata: Record<string, string> = { layout };
  for (const name of ['keras_version', 'backend', 'model_config']) {
    const value = top.list('/', name)?.[0] ?? top.list('model_weights', name)?.[0];
    if (value !== undefined) metadata[name] = value;
  }
  if (ignored.length > 0) metadata.ignored = ignored.join(', ').slice(0, 2000);
  return {
    format: 'keras-h5',
    path,
    tensors: table.infos(),
    metadata,
    async read(name) {
      const { dataset, bytes, dtype } = table.get(name);
      return toFloat32(await file.read(dataset, bytes), dtype);
    },
    close: () => file.close(),
  };
}

async function readAttributes(file: H5File, objects: readonly string[]): Promise<Attributes> {
  const byObject = new Map((await file.attributes(objects)).map(([object, list]) => [object, new Map(list)]));
  return {
    list(object, name) {
      const attributes = byObject.get(object);
      const whole = attributes?.get(name);
      if (whole !== undefined || attributes === undefined) return whole;
      // above 64,512 bytes Keras splits the list (save_attributes_to_hdf5_group)
      const parts: string[] = [];
      for (let i = 0; attributes.has(`${name}${i}`); i++) parts.push(...attributes.get(`${name}${i}`)!);
      return attributes.has(`${name}0`) ? parts : undefined;
    },
  };
}

/** Every weight that the layers list, in their order, as `<layer>/<leaf>`. */
async function kerasNames(
  path: string,
  file: H5File,
  root: string,
  layers: readonly string[],
  groups: ReadonlySet<string>,
  datasets: ReadonlyMap<string, H5Dataset>,
): Promise<[string, H5Dataset][]> {
  const faults: string[] = [];
  const all = groups.has(`${root}${TOP_LEVEL}`) ? [...layers, TOP_LEVEL] : layers;
  const present = all.filter((layer) => {
    if (groups.has(root + layer)) return true;
    faults.push(`layer ${quote(layer)} is listed but has no group`);
    return false;
  });
  const attributes = await readAttributes(
    file,
    present.map((layer) => root + layer),
  );
  const named: [string, H5Dataset][] = [];
  for (const layer of present) {
    const weights = attributes.list(root + layer, 'weight_names');
    if (weights === undefined) faults.push(`layer ${quote(layer)} has no attribute weight_names`);
    for (const weight of weights ?? []) {
      const dataset = datasets.get(`${root}${layer}/${weight}`);
      if (dataset === undefined)
        faults.push(`layer ${quote(layer)} lists ${quote(weight)}, but there is no such dataset`);
      else named.push([tensorName(layer, weight), dataset]);
    }
  }
  if (faults.length > 0) {
    throw new FormatError({
      code: 'H5_LAYOUT',
      message: `${path}: the file lists weights of Keras that it does not hold:\n${listFaults(faults)}`,
      hint: DAMAGED_HINT,
    });
  }
  return named;
}

/**
 * `conv1/kernel:0` in layer conv1 -> `conv1/kernel`; `block1_conv1_W_1:0` or `kernel` get their layer in front; what
 * Keras 3 puts before the layer's name (`sequential/head/kernel` in layer head) goes.
 */
function tensorName(layer: string, weight: string): string {
  const bare = weight.replace(/:\d+$/, '');
  if (layer === TOP_LEVEL) return bare;
  const at = `/${bare}`.indexOf(`/${layer}/`);
  return at >= 0 ? bare.slice(at) : `${layer}/${bare}`;
}

function toEntry(path: string, name: string, dataset: H5Dataset, fileBytes: number): Entry {
  const dtype = dtypeOf(dataset);
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

function dtypeOf({ type, size, signed, members }: H5Dataset): FileDtype | undefined {
  if (type === FLOAT) return ({ 2: 'float16', 4: 'float32', 8: 'float64' } as const)[size as 2 | 4 | 8];
  if (type === INTEGER) {
    const unsigned = ({ 1: 'uint8', 2: 'uint16', 4: 'uint32', 8: 'uint64' } as const)[size as 1 | 2 | 4 | 8];
    return signed ? (unsigned?.slice(1) as FileDtype | undefined) : unsigned;
  }
  // h5py's booleans: an enumeration of one byte
  return type === ENUM && size === 1 && members.includes('TRUE') && members.includes('FALSE') ? 'bool' : undefined;
}
