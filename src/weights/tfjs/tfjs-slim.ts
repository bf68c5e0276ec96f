/**
 * Which graphs of TensorFlow.js are slim's MobileNets, with batch norms folded into the convolutions: those of
 * `@tensorflow-models/mobilenet`, and TensorFlow Hub's modules that somebody put another classifier on.
 */
import type { Computed, FoldedConvolution } from './tfjs-graph.js';

/** A MobileNet of slim, its convolutions by the names that slim gives them. */
export interface SlimGraph {
  readonly version: 1 | 2;
  /** Nothing but the order of its operations tells what it is, so the package that publishes it has to prove it. */
  readonly unproven: boolean;
  /** `<layer>/weights` or `depthwise_weights`, and `<layer>/biases`. */
  readonly tensors: ReadonlyMap<string, Computed>;
  /** Other constants by what slim calls them: Keras' classifier of version 2 is no convolution. */
  readonly renamed: ReadonlyMap<string, string>;
}

interface Layer {
  readonly slim: string;
  /** In keras.applications, whose network is the same function once its batch norms are folded. */
  readonly keras: string;
}

interface Network {
  readonly version: 1 | 2;
  readonly body: readonly Layer[];
  readonly classifier: Layer;
}

const NETWORKS: readonly Network[] = [
  {
    version: 1,
    body: [
      { slim: 'MobilenetV1/Conv2d_0', keras: 'conv1' },
      ...oneTo(13).flatMap((i) => [
        { slim: `MobilenetV1/Conv2d_${i}_depthwise`, keras: `conv_dw_${i}` },
        { slim: `MobilenetV1/Conv2d_${i}_pointwise`, keras: `conv_pw_${i}` },
      ]),
    ],
    classifier: { slim: 'MobilenetV1/Logits/Conv2d_1c_1x1', keras: 'conv_preds' },
  },
  {
    version: 2,
    body: [
      { slim: 'MobilenetV2/Conv', keras: 'Conv1' },
      ...['depthwise', 'project'].map((unit) => ({
        slim: `MobilenetV2/expanded_conv/${unit}`,
        keras: `expanded_conv_${unit}`,
      })),
      ...oneTo(16).flatMap((i) =>
        ['expand', 'depthwise', 'project'].map((unit) => ({
          slim: `MobilenetV2/expanded_conv_${i}/${unit}`,
          keras: `block_${i}_${unit}`,
        })),
      ),
      { slim: 'MobilenetV2/Conv_1', keras: 'Conv_1' },
    ],
    classifier: { slim: 'MobilenetV2/Logits/Conv2d_1c_1x1', keras: 'predictions' },
  },
];

function oneTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}

/**
 * The MobileNet whose convolutions these are, told by their kinds and kernels in order. One without its classifier must
 * carry the names of slim or Keras too, since no package can prove it.
 * @param others names of the graph's other constants, by their layers where they were variables of such
 */
export function slimGraph(layers: readonly FoldedConvolution[], others: readonly string[]): SlimGraph | undefined {
  for (const { version, body, classifier } of NETWORKS) {
    const isWhole = layers.length === body.length + 1;
    if (!isWhole && layers.length !== body.length) continue;
    const all = isWhole ? [...body, classifier] : body;
    if (!layers.every((layer, i) => isLayer(layer, all[i]!.slim, i))) continue;
    const ofKeras = layers.every((layer, i) => isNamed(layer, all[i]!.keras));
    if (!isWhole && !ofKeras && !layers.every((layer, i) => isNamed(layer, all[i]!.slim))) continue;
    const tensors = new Map<string, Computed>();
    layers.forEach(({ depthwise, kernel, bias }, i) => {
      tensors.set(`${all[i]!.slim}/${depthwise ? 'depthwise_weights' : 'weights'}`, kernel);
      tensors.set(`${all[i]!.slim}/biases`, bias);
    });
    const renamed = ofKeras && !isWhole ? classifierIn(others, classifier) : new Map<string, string>();
    return { version, unproven: isWhole && !ofKeras, tensors, renamed };
  }
  return undefined;
}

/** Depthwise convolutions and the first one are 3x3, all others 1x1. */
function isLayer({ depthwise, kernel }: FoldedConvolution, name: string, i: number): boolean {
  const side = depthwise || i === 0 ? 3 : 1;
  return depthwise === name.endsWith('depthwise') && kernel.shape[0] === side && kernel.shape[1] === side;
}

/** The operation may carry the name of what was fused into it; its kernel keeps the layer's. */
const isNamed = ({ name, constants }: FoldedConvolution, layer: string): boolean =>
  [name, constants[0]!].some((each) => `/${each}/`.includes(`/${layer}/`));

/** A dense layer of that name. */
function classifierIn(others: readonly string[], { slim, keras }: Layer): Map<string, string> {
  const found = others.flatMap((name): [string, string][] => {
    if (name.endsWith(`/${keras}/kernel`)) return [[name, `${slim}/weights`]];
    return name.endsWith(`/${keras}/bias`) ? [[name, `${slim}/biases`]] : [];
  });
  return new Map(found.length === 2 ? found : []);
}
