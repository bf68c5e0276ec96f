/** Writes HDF5 files in the layouts of Keras, with h5wasm itself. */

import * as h5 from 'h5wasm/node';

export interface H5Tensor {
  /** As it stands in `weight_names`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array;
}

export type Layers = readonly (readonly [layer: string, weights: readonly H5Tensor[]])[];

/** Opens a new file, lets `fill` write it, closes it. */
export async function writeH5(path: string, fill: (file: h5.File) => void): Promise<void> {
  await h5.ready;
  const file = new h5.File(path, 'w');
  try {
    fill(file);
  } finally {
    file.close();
  }
}

export function tensorOf(name: string, shape: readonly number[], first = 0): H5Tensor {
  const length = shape.reduce((n, size) => n * size, 1);
  return { name, shape, data: Float32Array.from({ length }, (_, i) => first + i) };
}

export interface KerasOptions {
  /** Strings of a fixed length, as Keras 2 writes them, rather than of variable length. */
  readonly fixed?: boolean;
  /** Splits the lists into attributes of this many names: `layer_names0`, ... */
  readonly chunk?: number;
}

/** Groups and attributes as save_weights writes them, into the file or a group of it. */
export function writeKeras(target: h5.Group, layers: Layers, options: KerasOptions = {}): void {
  writeNames(
    target,
    'layer_names',
    layers.map(([layer]) => layer),
    options,
  );
  for (const [layer, weights] of layers) {
    const group = groupAt(target, layer);
    writeNames(
      group,
      'weight_names',
      weights.map(({ name }) => name),
      options,
    );
    for (const { name, shape, data } of weights) {
      const parts = name.split('/');
      const parent = groupAt(group, parts.slice(0, -1).join('/'));
      parent.create_dataset({ name: parts.at(-1)!, data, shape: [...shape] });
    }
  }
}

export function writeText(target: h5.Group, name: string, value: string): void {
  target.create_attribute(name, value, [], 'S');
}

function writeNames(target: h5.Group, name: string, values: string[], { fixed = false, chunk }: KerasOptions): void {
  const write = (attribute: string, list: string[]): void => {
    // an empty list is an array of float64 of length 0: numpy's default
    if (list.length === 0) target.create_attribute(attribute, new Float64Array(), [0]);
    else
      target.create_attribute(
        attribute,
        list,
        [list.length],
        fixed ? `S${Math.max(...list.map((s) => s.length))}` : 'S',
      );
  };
  if (chunk === undefined || values.length <= chunk) {
    write(name, values);
    return;
  }
  for (let i = 0; i * chunk < values.length; i++) write(`${name}${i}`, values.slice(i * chunk, (i + 1) * chunk));
}

/** The group of that path below another, made where it is missing. */
function groupAt(root: h5.Group, path: string): h5.Group {
  let group = root;
  for (const part of path.split('/').filter((each) => each !== '')) {
    group = (group.keys().includes(part) ? group.get(part) : group.create_group(part)) as h5.Group;
  }
  return group;
}
