/**
 * What a Keras model says of the layers behind its backbone: the `model_config` of an HDF5 file or a layers model.
 * Weights alone do not tell a ReLU from a tanh.
 */
import { activationOf, type KerasLayer, parseKerasConfig } from '../keras/keras-config.js';

/** What a configuration says of a head. */
export interface HeadConfig {
  /** Its dense layers, in their order. */
  readonly order: readonly string[];
  /** The share dropped before every dense layer; 0 where they differ. */
  readonly dropout: number;
}

/** Layers without effect on one row of numbers, once a network is trained. */
const PASSED_OVER = new Set([
  'InputLayer',
  'Dropout',
  'Flatten',
  'GlobalAveragePooling2D',
  'ActivityRegularization',
  'GaussianNoise',
  'GaussianDropout',
  'AlphaDropout',
]);

/**
 * @param path the file that the configuration is from, for errors
 * @param json `model_config`
 * @param owners names of the dense layers in the file, of which the last parts are Keras' names
 * @returns undefined where there is no configuration of all these layers; a fault where a head here cannot do as it says
 * @throws KERAS_CONFIG, LIMIT_EXCEEDED
 */
export function headConfigOf(
  path: string,
  json: string | undefined,
  owners: readonly string[],
): HeadConfig | { readonly fault: string } | undefined {
  if (json === undefined) return undefined;
  const layers = flat(parseKerasConfig(path, json));
  const ownerOf = new Map(owners.map((owner) => [owner.slice(owner.lastIndexOf('/') + 1), owner]));
  const at = layers.flatMap(({ className, name }, i) => (className === 'Dense' && ownerOf.has(name) ? [i] : []));
  if (at.length !== owners.length || ownerOf.size !== owners.length) return undefined;
  const pool = layers.find(({ className }) => /^GlobalMaxPool/.test(className));
  if (pool !== undefined) return { fault: `${labelOf(pool)}: the head stands on maxima, and pre_logits are averages` };
  const from = at.map((place, i) => layers.slice(place, at[i + 1] ?? layers.length));
  for (const [i, [dense, ...after]] of from.entries()) {
    const fault = activationFault(dense!, after, i === from.length - 1);
    if (fault !== undefined) return { fault };
  }
  const before = at.map((place, i) => layers.slice(i === 0 ? Math.max(0, place - 1) : at[i - 1]! + 1, place));
  const rates = before.map((each) => each.findLast(({ className }) => className === 'Dropout')?.config.rate ?? 0);
  const [rate] = rates;
  const isShared = typeof rate === 'number' && rate >= 0 && rate < 1 && rates.every((each) => each === rate);
  return { order: at.map((place) => ownerOf.get(layers[place]!.name)!), dropout: isShared ? rate : 0 };
}

/** Every layer that is no model, in the order in which Keras lists them. */
const flat = (layer: KerasLayer): KerasLayer[] => layer.layers?.flatMap(flat) ?? [layer];

const labelOf = ({ className, name }: KerasLayer): string => `${className} ${name}`;

/** A hidden layer ends in one ReLU, the last one in nothing or a softmax. */
function activationFault(dense: KerasLayer, after: readonly KerasLayer[], isLast: boolean): string | undefined {
  const activations = [nameOfActivation(dense)];
  for (const layer of after) {
    if (PASSED_OVER.has(layer.className)) continue;
    const activation = nameOfActivation(layer);
    if (activation === undefined) return `${labelOf(layer)} stands behind ${labelOf(dense)}, which no head here has`;
    activations.push(activation);
  }
  const real = activations.filter((each) => each !== 'linear');
  const expected = isLast ? ['', 'softmax'] : ['relu'];
  if (expected.includes(real.join(' then '))) return undefined;
  return (
    `${labelOf(dense)} is followed by ${real.join(' then ') || 'no activation'}; ` +
    `a head here has ${isLast ? 'none or a softmax after its last layer' : 'ReLU after each hidden one'}`
  );
}

/** Undefined for layers that are no activation. */
function nameOfActivation(layer: KerasLayer): string | undefined {
  const { className, config } = layer;
  if (!['Dense', 'Activation', 'Softmax', 'ReLU'].includes(className)) return undefined;
  if (className === 'ReLU') {
    const plain = (config.negative_slope ?? 0) === 0 && (config.max_value ?? null) === null;
    return plain && (config.threshold ?? 0) === 0 ? 'relu' : 'a ReLU with a slope or a limit';
  }
  const none = config.activation === null || config.activation === undefined;
  return activationOf(layer) ?? (none ? 'linear' : 'an activation of its own');
}
