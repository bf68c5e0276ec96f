/**
 * Which graphs of TensorFlow.js are slim's MobileNets, with batch norms folded into the convolutions: those of
 * `@tensorflow-models/mobilenet`, and TensorFlow Hub's modules that somebody put another classifier on.
 */
import type { Computed, FoldedConvolution } from './tfjs-graph.js';

/** A MobileNet of slim, its convolutions by the names that slim gives them. */
export interface SlimGraph {
  readonly version: 1 | 2;
  /** Its classifier is there: one more convolution. */
  readonly whole: boolean;
  /** `<layer>/weights` or `depthwise_weights`, and `<layer>/biases`. */
  readonly tensors: ReadonlyMap<string, Computed>;
}

const NETWORKS: readonly { readonly version: 1 | 2; readonly names: readonly string[]; readonly classifier: string }[] =
  [
    {
      version: 1,
      names: [
        'MobilenetV1/Conv2d_0',
        ...oneTo(13).flatMap((i) => [`MobilenetV1/Conv2d_${i}_depthwise`, `MobilenetV1/Conv2d_${i}_pointwise`]),
      ],
      classifier: 'MobilenetV1/Logits/Conv2d_1c_1x1',
    },
    {
      version: 2,
      names: [
        'MobilenetV2/Conv',
        ...['depthwise', 'project'].map((unit) => `MobilenetV2/expanded_conv/${unit}`),
        ...oneTo(16).flatMap((i) =>
          ['expand', 'depthwise', 'project'].map((unit) => `MobilenetV2/expanded_conv_${i}/${unit}`),
        ),
        'MobilenetV2/Conv_1',
      ],
      classifier: 'MobilenetV2/Logits/Conv2d_1c_1x1',
    },
  ];

function oneTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}

/**
 * The MobileNet whose convolutions these are, told by their kinds and kernels in order; a graph without its classifier
 * must carry slim's names too, since no package can prove it.
 */
export function slimGraph(layers: readonly FoldedConvolution[]): SlimGraph | undefined {
  for (const { version, names, classifier } of NETWORKS) {
    const whole = layers.length === names.length + 1;
    if (!whole && layers.length !== names.length) continue;
    const all = whole ? [...names, classifier] : names;
    const fits = layers.every(
      (layer, i) => isLayer(layer, all[i]!, i) && (whole || `/${layer.name}/`.includes(`/${all[i]!}/`)),
    );
    if (!fits) continue;
    const tensors = new Map<string, Computed>();
    layers.forEach(({ depthwise, kernel, bias }, i) => {
      tensors.set(`${all[i]!}/${depthwise ? 'depthwise_weights' : 'weights'}`, kernel);
      tensors.set(`${all[i]!}/biases`, bias);
    });
    return { version, whole, tensors };
  }
  return undefined;
}

/** Depthwise convolutions and the first one are 3x3, all others 1x1. */
function isLayer({ depthwise, kernel }: FoldedConvolution, name: string, i: number): boolean {
  const side = depthwise || i === 0 ? 3 : 1;
  return depthwise === name.endsWith('depthwise') && kernel.shape[0] === side && kernel.shape[1] === side;
}
