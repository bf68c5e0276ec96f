/**
 * What Keras says of a model beside its weights: the JSON of `model.to_json()`, which whole-model `.h5` files keep in the
 * attribute `model_config` and `.keras` archives in `config.json`. Nothing in it is executed, and no class is built from it.
 */

import { z } from 'zod';
import { FormatError, messageOf } from '../../errors.js';
import { DAMAGED_HINT, limitExceeded, MAX_TENSORS } from '../limits.js';

/** A model or layer of Keras, as its configuration describes it. */
export interface KerasLayer {
  readonly name: string;
  /** The Python class: `Conv2D`, `Functional`. */
  readonly className: string;
  /** Where Keras finds that class (Keras 2.12 and later): `keras.layers`, `keras.src.ops.numpy`. */
  readonly module: string | undefined;
  /** Arguments of the class: units, activation, use_bias, ... */
  readonly config: Readonly<Record<string, unknown>>;
  /** The same in every place where one layer stands in several models. */
  readonly sharedId: number | undefined;
  /** Of a model: its layers in Keras' own order; undefined for a layer. */
  readonly layers: readonly KerasLayer[] | undefined;
}

/** ResNet-152 has 517 layers and its configuration 250 kB; HDF5 attributes have the same limit in the reader. */
export const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

/** Models in models in wrappers; the deepest published one has three levels. */
const MAX_DEPTH = 64;

const fieldsOf = z.record(z.string(), z.unknown());
const serialized = z.object({
  class_name: z.string(),
  module: z.string().nullish(),
  name: z.string().nullish(),
  config: z.unknown(),
  shared_object_id: z.number().nullish(),
});
type Serialized = z.infer<typeof serialized>;

/**
 * Reads a model's configuration of Keras 1 to 3.
 * @param path the file that it is from, for errors
 * @throws KERAS_CONFIG, LIMIT_EXCEEDED
 */
export function parseKerasConfig(path: string, text: string): KerasLayer {
  if (text.length > MAX_CONFIG_BYTES) {
    throw limitExceeded(path, `the model's configuration has ${text.length} characters`, MAX_CONFIG_BYTES);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw configError(path, `is no JSON (${messageOf(error).split('\n')[0]})`);
  }
  const model = serialized.safeParse(json);
  if (!model.success) throw configError(path, 'names no class');
  let left = MAX_TENSORS;
  const read = (found: Serialized, depth: number): KerasLayer => {
    if (depth > MAX_DEPTH) throw limitExceeded(path, `models are nested ${depth} deep`, MAX_DEPTH);
    if (left-- <= 0) throw limitExceeded(path, "the model's configuration has more layers", MAX_TENSORS);
    return { ...plainLayer(found), layers: layersIn(found.config)?.map((each) => read(each, depth + 1)) };
  };
  return read(model.data, 0);
}

function plainLayer({ class_name: className, module, name, config, shared_object_id: id }: Serialized): KerasLayer {
  const fields = fieldsOf.safeParse(config).data ?? {};
  return {
    name: typeof fields.name === 'string' ? fields.name : (name ?? className),
    className,
    module: module ?? undefined,
    config: fields,
    sharedId: id ?? undefined,
    layers: undefined,
  };
}

/** The layers that an argument `layers` lists, where all of it are layers: a class of the user may call anything so. */
function layersIn(config: unknown): Serialized[] | undefined {
  // a Sequential was a bare list of its layers before Keras 2.2.3
  const listed: unknown = Array.isArray(config) ? config : fieldsOf.safeParse(config).data?.layers;
  return z.array(serialized).safeParse(listed).data;
}

/** A layer that another one holds by an attribute: what a TimeDistributed repeats. */
export function heldLayer({ config }: KerasLayer, attribute: string): KerasLayer | undefined {
  const { data } = serialized.safeParse(config[attribute]);
  return data === undefined ? undefined : plainLayer(data);
}

/** The activation that a layer's own arguments name: `relu` of a Dense; undefined where it has none or no plain name. */
export function activationOf({ className, config }: KerasLayer): string | undefined {
  if (className === 'Softmax') return 'softmax';
  if (className === 'ReLU') return 'relu';
  const { activation } = config;
  if (typeof activation === 'string') return activation;
  // a function in Keras 3: {"class_name": "function", "config": "relu"}; a layer: {"config": {"name": "re_lu"}}
  const named = z.object({ config: z.union([z.string(), z.object({ name: z.string() })]) }).safeParse(activation).data;
  return typeof named?.config === 'object' ? named.config.name : named?.config;
}

function configError(path: string, what: string): FormatError {
  return new FormatError({
    code: 'KERAS_CONFIG',
    message: `${path}: the model's configuration ${what}; expected {"class_name": ..., "config": {...}}`,
    hint: DAMAGED_HINT,
  });
}
