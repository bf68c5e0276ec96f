/**
 * What a Keras model says of the layers behind its backbone: the `model_config` of an HDF5 file or a layers model.
 * Weights alone do not tell a ReLU from a tanh.
 */
import { z } from 'zod';

/** A layer, and those inside it where it is a model. @see keras.saving.serialize_keras_object */
interface LayerConfig {
  readonly class_name: string;
  readonly config: {
    readonly name?: string | undefined;
    readonly activation?: unknown;
    readonly rate?: number | undefined;
    /** Of a ReLU: its slope below 0, its highest value, and where it begins. */
    readonly negative_slope?: unknown;
    readonly max_value?: unknown;
    readonly threshold?: unknown;
    readonly layers?: readonly LayerConfig[] | undefined;
  };
}

const layerSchema: z.ZodType<LayerConfig> = z.lazy(() =>
  z.object({
    class_name: z.string(),
    config: z.object({
      name: z.string().optional(),
      activation: z.unknown().optional(),
      rate: z.number().optional().catch(undefined),
      negative_slope: z.unknown().optional(),
      max_value: z.unknown().optional(),
      threshold: z.unknown().optional(),
      layers: z.array(layerSchema).optional(),
    }),
  }),
);

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
 * @param json `model_config`
 * @param owners names of the dense layers in the file, of which the last parts are Keras' names
 * @returns undefined where there is no configuration of all these layers; a fault where a head here cannot do as it says
 */
export function headConfigOf(
  json: string | undefined,
  owners: readonly string[],
): HeadConfig | { readonly fault: string } | undefined {
  const layers = json === undefined ? undefined : layersOf(json);
  if (layers === undefined) return undefined;
  const ownerOf = new Map(owners.map((owner) => [owner.slice(owner.lastIndexOf('/') + 1), owner]));
  const at = layers.flatMap(({ class_name, config }, i) =>
    class_name === 'Dense' && ownerOf.has(config.name ?? '') ? [i] : [],
  );
  if (at.length !== owners.length || ownerOf.size !== owners.length) return undefined;
  const pool = layers.find(({ class_name }) => /^GlobalMaxPool/.test(class_name));
  if (pool !== undefined) return { fault: `${labelOf(pool)}: the head stands on maxima, and pre_logits are averages` };
  const between = at.map((place, i) => layers.slice(place, at[i + 1] ?? layers.length));
  for (const [i, [dense, ...after]] of between.entries()) {
    const fault = activationFault(dense!, after, i === between.length - 1);
    if (fault !== undefined) return { fault };
  }
  const before = at.map((place, i) => layers.slice(i === 0 ? Math.max(0, place - 1) : at[i - 1]! + 1, place));
  const rates = before.map((each) => each.findLast(({ class_name }) => class_name === 'Dropout')?.config.rate ?? 0);
  return {
    order: at.map((place) => ownerOf.get(layers[place]!.config.name!)!),
    dropout: rates.every((rate) => rate === rates[0] && rate >= 0 && rate < 1) ? rates[0]! : 0,
  };
}

/** Every layer that is no model, in the order in which Keras lists them. */
function layersOf(json: string): LayerConfig[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined;
  }
  const model = layerSchema.safeParse(value).data;
  const flat = (layer: LayerConfig): LayerConfig[] => layer.config.layers?.flatMap(flat) ?? [layer];
  return model === undefined ? undefined : flat(model);
}

const labelOf = ({ class_name, config }: LayerConfig): string => `${class_name} ${config.name ?? ''}`.trim();

/** A hidden layer ends in one ReLU, the last one in nothing or a softmax. */
function activationFault(dense: LayerConfig, after: readonly LayerConfig[], isLast: boolean): string | undefined {
  const activations = [nameOfActivation(dense)];
  for (const layer of after) {
    if (PASSED_OVER.has(layer.class_name)) continue;
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
function nameOfActivation({ class_name, config }: LayerConfig): string | undefined {
  if (class_name === 'Softmax') return 'softmax';
  if (class_name === 'ReLU') {
    const plain = (config.negative_slope ?? 0) === 0 && (config.max_value ?? null) === null;
    return plain && (config.threshold ?? 0) === 0 ? 'relu' : 'a ReLU with a slope or a limit';
  }
  if (class_name !== 'Dense' && class_name !== 'Activation') return undefined;
  const { activation } = config;
  if (activation === null || activation === undefined) return 'linear';
  if (typeof activation === 'string') return activation;
  // Keras 2.13 and later: { class_name: 'function', config: 'relu' } or an object of a registered class
  const written = z
    .object({ config: z.union([z.string(), z.object({ name: z.string() })]) })
    .safeParse(activation).data;
  if (written === undefined) return 'an activation of its own';
  return typeof written.config === 'string' ? written.config : written.config.name;
}
