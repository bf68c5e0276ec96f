/**
 * TensorFlow's fused kernels with their gradients, registered with tfjs as kernels of the `tensorflow` backend. tfjs
 * asks for the gradient of one input at a time, so what nobody needs (of the pixels, of a frozen kernel) costs nothing.
 * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops for every operation named here
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ConvolutionGeometry, Kernels } from './kernels.js';
import type { ActivationName, Padding } from './operations.js';
import type { NativeAttribute, NativeKernels } from './tensorflow.js';

const BACKEND = 'tensorflow';
const registered = new Set<string>();

type Inputs = Record<string, tf.Tensor>;
type Attributes = Record<string, unknown>;

interface Definition {
  readonly name: string;
  readonly forward: (inputs: Inputs, attributes: Attributes) => tf.Tensor | tf.Tensor[];
  readonly saveInputs?: string[];
  readonly saveOutputs?: boolean[];
  readonly gradient?: (dy: tf.Tensor[], saved: tf.Tensor[], attributes: Attributes) => Record<string, () => tf.Tensor>;
}

function define({ name, forward, saveInputs = [], saveOutputs = [], gradient }: Definition): void {
  if (registered.has(name)) return;
  registered.add(name);
  tf.registerKernel({
    kernelName: name,
    backendName: BACKEND,
    kernelFunc: ({ inputs, attrs }) => forward(inputs as Inputs, (attrs ?? {}) as Attributes) as tf.TensorInfo,
  });
  if (gradient === undefined) return;
  tf.registerGradient({
    kernelName: name,
    inputsToSave: saveInputs,
    outputsToSave: saveOutputs,
    gradFunc: (dy, saved, attrs) => gradient(Array.isArray(dy) ? dy : [dy], saved, attrs as Attributes),
  });
}

const call = <T>(name: string, inputs: Inputs, attributes: Attributes = {}): T =>
  tf.engine().runKernel(name, inputs as unknown as tf.NamedTensorMap, attributes as unknown as tf.NamedAttrMap) as T;

/** The kernels that TensorFlow does better than tfjs composes them. */
export function nativeKernels(native: NativeKernels): Partial<Kernels> {
  defineConvolutions(native);
  defineElementwise(native);
  defineBatchNorm(native);
  defineLoss(native);
  return {
    conv2d: (x, kernel, geometry) => call('TlConv2D', { x, kernel }, { geometry }),
    depthwiseConv2d: (x, kernel, geometry) => call('TlDepthwiseConv2D', { x, kernel }, { geometry }),
    biasAdd: (x, bias) => call('TlBiasAdd', { x, bias }),
    activation: (x, name) => call(ACTIVATIONS[name].kernel, { x }),
    batchNorm: (x, p, epsilon) => call<tf.Tensor4D[]>('TlBatchNorm', { x, ...p }, { epsilon })[0]!,
    batchNormTraining: (x, p, { epsilon, momentum }) => {
      const [y, mean, variance] = call<tf.Tensor[]>('TlBatchNormTraining', { x, ...p }, { epsilon, momentum });
      return { y: y as tf.Tensor4D, mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D };
    },
    softmaxCrossEntropy: (labels, logits) => call<tf.Tensor1D[]>('TlSoftmaxCrossEntropy', { labels, logits })[0]!,
  };
}

function defineConvolutions(native: NativeKernels): void {
  const attributes = ({ strides, padding }: ConvolutionGeometry): NativeAttribute[] => [
    native.typeAttribute('T', 'float32'),
    native.intListAttribute('strides', [1, strides[0], strides[1], 1]),
    native.intListAttribute('dilations', [1, 1, 1, 1]),
    native.stringAttribute('data_format', 'NHWC'),
    ...paddingAttributes(native, padding),
  ];
  const shapeTensor = (shape: readonly number[]) => tf.tensor1d([...shape], 'int32');
  const both = [
    { name: 'TlConv2D', op: 'Conv2D', input: 'Conv2DBackpropInput', filter: 'Conv2DBackpropFilter' },
    {
      name: 'TlDepthwiseConv2D',
      op: 'DepthwiseConv2dNative',
      input: 'DepthwiseConv2dNativeBackpropInput',
      filter: 'DepthwiseConv2dNativeBackpropFilter',
    },
  ];
  for (const { name, op, input, filter } of both) {
    define({
      name,
      forward: ({ x, kernel }, { geometry }) =>
        native.execute(op, attributes(geometry as ConvolutionGeometry), [x!, kernel!]),
      saveInputs: ['x', 'kernel'],
      gradient: ([dy], [x, kernel], { geometry }) => {
        const attrs = attributes(geometry as ConvolutionGeometry);
        return {
          x: () => tf.tidy(() => native.execute(input, attrs, [shapeTensor(x!.shape), kernel!, dy!])),
          kernel: () => tf.tidy(() => native.execute(filter, attrs, [x!, shapeTensor(kernel!.shape), dy!])),
        };
      },
    });
  }
}

function paddingAttributes(native: NativeKernels, padding: Padding): NativeAttribute[] {
  if (typeof padding === 'string') return [native.stringAttribute('padding', padding.toUpperCase())];
  const { top, bottom, left, right } = padding;
  return [
    native.stringAttribute('padding', 'EXPLICIT'),
    native.intListAttribute('explicit_paddings', [0, 0, top, bottom, left, right, 0, 0]),
  ];
}

const ACTIVATIONS: Record<ActivationName, { kernel: string; op: string; gradient: string }> = {
  relu: { kernel: 'TlRelu', op: 'Relu', gradient: 'ReluGrad' },
  relu6: { kernel: 'TlRelu6', op: 'Relu6', gradient: 'Relu6Grad' },
};

function defineElementwise(native: NativeKernels): void {
  const float = [native.typeAttribute('T', 'float32')];
  for (const { kernel, op, gradient } of Object.values(ACTIVATIONS)) {
    define({
      name: kernel,
      forward: ({ x }) => native.execute(op, float, [x!]),
      saveOutputs: [true], // the result tells as much as the argument, and the next layer keeps it anyway
      gradient: ([dy], [y]) => ({ x: () => native.execute(gradient, float, [dy!, y!]) }),
    });
  }
  const layout = [...float, native.stringAttribute('data_format', 'NHWC')];
  define({
    name: 'TlBiasAdd',
    forward: ({ x, bias }) => native.execute('BiasAdd', layout, [x!, bias!]),
    gradient: ([dy]) => ({ x: () => tf.clone(dy!), bias: () => native.execute('BiasAddGrad', layout, [dy!]) }),
  });
}

function defineBatchNorm(native: NativeKernels): void {
  const attributes = (training: boolean, epsilon: number): NativeAttribute[] => [
    native.typeAttribute('T', 'float32'),
    native.typeAttribute('U', 'float32'),
    native.floatAttribute('epsilon', epsilon),
    native.stringAttribute('data_format', 'NHWC'),
    native.boolAttribute('is_training', training),
  ];
  const order = ({ x, gamma, beta, mean, variance }: Inputs) => [x!, gamma!, beta!, mean!, variance!];
  const gradientOf =
    (training: boolean) =>
    (dy: tf.Tensor[], saved: tf.Tensor[], { epsilon }: Attributes) => {
      const [x, gamma, ...reserved] = saved;
      let results: tf.Tensor[] | undefined;
      // One kernel gives all three; it runs when the first is asked for.
      const result = (index: number) => () => {
        results ??= native.executeMany(
          'FusedBatchNormGradV3',
          attributes(training, epsilon as number),
          [dy[0]!, x!, gamma!, ...reserved],
          5,
        );
        return results![index]!;
      };
      const none = () => tf.zerosLike(gamma!); // moving statistics are never trained by a gradient
      return { x: result(0), gamma: result(1), beta: result(2), mean: none, variance: none };
    };
  define({
    name: 'TlBatchNormTraining', // -> y, new moving mean, new moving variance (unbiased), three reserves
    forward: (inputs, { epsilon, momentum }) =>
      native.executeMany(
        'FusedBatchNormV3',
        [
          ...attributes(true, epsilon as number),
          native.floatAttribute('exponential_avg_factor', 1 - (momentum as number)),
        ],
        order(inputs),
        6,
      ),
    saveInputs: ['x', 'gamma'],
    saveOutputs: [false, false, false, true, true, true],
    gradient: gradientOf(true),
  });
  define({
    name: 'TlBatchNorm',
    forward: (inputs, { epsilon }) =>
      native.executeMany('FusedBatchNormV3', attributes(false, epsilon as number), order(inputs), 6),
    saveInputs: ['x', 'gamma'],
    saveOutputs: [false, false, false, true, true, true],
    gradient: gradientOf(false),
  });
}

function defineLoss(native: NativeKernels): void {
  define({
    name: 'TlSoftmaxCrossEntropy', // -> loss of each row, its gradient
    forward: ({ labels, logits }) =>
      native.executeMany(
        'SoftmaxCrossEntropyWithLogits',
        [native.typeAttribute('T', 'float32')],
        [logits!, labels!],
        2,
      ),
    saveOutputs: [false, true],
    gradient: ([dy], [gradient]) => ({
      logits: () => tf.mul(tf.expandDims(dy!, 1), gradient!),
      labels: () => tf.zerosLike(gradient!),
    }),
  });
}
