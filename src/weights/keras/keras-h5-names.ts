/**
 * Names for the tensors of Keras' older h5 layout, which Keras 1 to 3 write: the attribute `layer_names` lists groups, and
 * the attribute `weight_names` of each of them lists datasets (`keras.src.legacy.saving.legacy_h5_format`).
 */

import { FormatError, listFaults } from '../../errors.js';
import { DAMAGED_HINT, quote } from '../limits.js';
import type { SetAside } from '../source.js';

/** The group of Keras for the variables of the model itself rather than of a layer. */
const TOP_LEVEL = 'top_level_model_weights';

export interface H5Names {
  /** Name -> dataset, in the order of the file's lists. */
  readonly tensors: readonly (readonly [name: string, dataset: string])[];
  readonly setAside: readonly SetAside[];
}

/** The strings of an attribute of a group; undefined where it has none of that name. */
export type TextsOf = (group: string, attribute: string) => readonly string[] | undefined;

/** A file's list of strings; above 64,512 bytes Keras splits it into `name0`, `name1`, ... (save_attributes_to_hdf5_group). */
export function textsIn(attributes: ReadonlyMap<string, readonly string[]>, name: string): string[] | undefined {
  const whole = attributes.get(name);
  if (whole !== undefined) return [...whole];
  const parts: string[] = [];
  for (let i = 0; attributes.has(`${name}${i}`); i++) parts.push(...attributes.get(`${name}${i}`)!);
  return attributes.has(`${name}0`) ? parts : undefined;
}

/** The groups with a list of weights: every listed layer, and the model's own variables where it has some. */
export function listedGroups(root: string, layers: readonly string[], groups: ReadonlySet<string>): string[] {
  const all = groups.has(root + TOP_LEVEL) ? [...layers, TOP_LEVEL] : layers;
  return [...new Set(all)].map((layer) => root + layer);
}

/**
 * Every weight that the layers list, in their order, as `<layer>/<leaf>`; datasets that nothing lists are set aside.
 * @param root '' or 'model_weights/'
 * @throws H5_LAYOUT with every listed weight that is not there
 */
export function listedNames(
  path: string,
  root: string,
  listed: readonly string[],
  { groups, datasets, texts }: { groups: ReadonlySet<string>; datasets: readonly string[]; texts: TextsOf },
): H5Names {
  const faults: string[] = [];
  const present = new Set(datasets);
  const named: [name: string, dataset: string][] = [];
  const used = new Set<string>();
  for (const group of listed) {
    const layer = group.slice(root.length);
    if (!groups.has(group)) {
      faults.push(`layer ${quote(layer)} is listed but has no group`);
      continue;
    }
    const weights = texts(group, 'weight_names');
    if (weights === undefined) faults.push(`layer ${quote(layer)} has no attribute weight_names`);
    const own: string[] = [];
    for (const weight of weights ?? []) {
      const dataset = `${group}/${weight}`;
      if (!present.has(dataset)) {
        faults.push(`layer ${quote(layer)} lists ${quote(weight)}, but there is no such dataset`);
      } else if (!used.has(dataset)) {
        used.add(dataset); // a layer that stands twice in a model is listed twice by some versions
        own.push(weight);
      }
    }
    const names = namesIn(layer, own);
    own.forEach((weight, i) => {
      named.push([names[i]!, `${group}/${weight}`]);
    });
  }
  if (faults.length > 0) {
    throw new FormatError({
      code: 'H5_LAYOUT',
      message: `${path}: the file lists weights of Keras that it does not hold:\n${listFaults(faults)}`,
      hint: DAMAGED_HINT,
    });
  }
  const setAside = datasets.flatMap((name): SetAside[] => {
    if (used.has(name)) return [];
    const isOptimizer = /^optimizer(_weights)?\//.test(name);
    return [{ name, reason: isOptimizer ? 'state of the optimiser' : "not listed among any layer's weights" }];
  });
  return { tensors: named, setAside };
}

/**
 * Weights of one layer with its name in front, once: `conv1/kernel:0` in layer conv1 -> `conv1/kernel`;
 * `block1_conv1_W_1:0` or `kernel` get it; what Keras 3 and models of a user's class put before it
 * (`sequential/head/kernel` in layer head) goes. Where a model holds a layer of its own name, all keep the whole path.
 */
function namesIn(layer: string, weights: readonly string[]): string[] {
  const bare = weights.map((weight) => weight.replace(/:\d+$/, ''));
  if (layer === TOP_LEVEL) return bare;
  const short = bare.map((weight) => {
    const at = `/${weight}`.indexOf(`/${layer}/`);
    return at >= 0 ? weight.slice(at) : `${layer}/${weight}`;
  });
  return new Set(short).size === short.length ? short : bare.map((weight) => `${layer}/${weight}`);
}

/**
 * Kernels of Keras on Theano are turned by 180 degrees, and Keras 1 could store them as [out, in, height, width].
 * Neither shows in their shapes for sure, so such a file is refused when it says what it is.
 * @throws KERAS_KERNELS
 */
export function checkKernels(path: string, backend: string | undefined, config: string | undefined): void {
  const first = /"dim_ordering"\s*:\s*"th"/.test(config ?? '');
  if (backend !== 'theano' && !first) return;
  throw new FormatError({
    code: 'KERAS_KERNELS',
    message: `${path}: ${
      first
        ? 'the model has dim_ordering "th", so that its kernels are [out, in, height, width]'
        : 'the weights are of Keras on Theano, whose kernels are turned by 180 degrees'
    }; expected kernels [height, width, in, out] of Keras on TensorFlow`,
    hint: 'load the file in Keras with the TensorFlow backend (it converts the kernels), and save it again',
  });
}
