/** The files of exported weights: which tensors they have, and their writers. */
import { join } from 'node:path';
import type { Published } from '../../backbones/index.js';
import type { Graph, Parameter } from '../../engine/graph.js';
import { writeVersion2 } from '../../weights/checkpoint/write-version2.js';
import { type LayerToWrite, writeKerasH5 } from '../../weights/keras/h5-writer.js';
import { orderedKerasLayers } from '../../weights/keras/keras-order.js';
import { writeNpzTensors } from '../../weights/numpy/write-npz.js';
import { dialectOf } from '../../weights/plan/dialects.js';
import { type PlannedTensor, planFile, readForFile } from '../../weights/plan/write-plan.js';
import { writeSafetensors } from '../../weights/safetensors.js';
import type { TensorToWrite } from '../../weights/tensor-to-write.js';
import { type HeadLayer, headLayers, headOwner, type NetworkToWrite } from './weights-network.js';

/** The Keras whose layout of h5 files is written; Keras 3 reads it as well. */
const KERAS_VERSION = '2.15.0';

/** What a file of weights holds. */
export interface FileOfWeights {
  /** Of the network as its publisher has it. */
  readonly tensors: readonly PlannedTensor[];
  /** Of dense layers that the publisher's network has not. */
  readonly head: readonly PlannedTensor[];
}

/** @param graph of {@link graphToWrite} */
export function planWeightsFile(network: NetworkToWrite, published: Published, graph: Graph): FileOfWeights {
  const layers = headLayers(network, published, graph);
  return {
    tensors: planFile(published, graph.parameters),
    head: layers.flatMap((layer) => headTensors(layer, published)),
  };
}

function headTensors(layer: HeadLayer, published: Published): PlannedTensor[] {
  const { separator, leafs, layouts } = dialectOf(published.dialect);
  const owner = headOwner(layer, published);
  return [layer.kernel, layer.bias].map((parameter: Parameter): PlannedTensor => {
    const layout = layouts(parameter)[0]!;
    const name = `${owner}${separator}${leafs(parameter.role, '')[0]}`;
    return { name, owner, shape: layout.shape, dtype: 'float32', parts: [{ parameter, layout }] };
  });
}

/** What a program gives to its loader: a file's name, or what the names of a checkpoint's files begin with. */
export function fileNameOf({ backbone }: NetworkToWrite, { dialect }: Published): string {
  return `${backbone.name}${{ keras: '.h5', slim: '.ckpt', flax: '.npz', torch: '.safetensors' }[dialect]}`;
}

/** Writes the file, or the files of a checkpoint, into a folder, one tensor in memory at a time. */
export async function writeWeightsFile(
  folder: string,
  network: NetworkToWrite,
  published: Published,
  graph: Graph,
  { tensors, head }: FileOfWeights,
): Promise<void> {
  const path = join(folder, fileNameOf(network, published));
  const toWrite = (tensor: PlannedTensor): TensorToWrite => ({
    ...{ name: tensor.name, shape: tensor.shape, dtype: tensor.dtype },
    read: async () => await readForFile(tensor, network.read),
  });
  const all = [...tensors, ...head].map(toWrite);
  switch (published.dialect) {
    case 'keras': {
      const layers = orderedKerasLayers(graph, tensors, published.submodels);
      const ofHead = [...new Set(head.map(({ owner }) => owner))];
      const ordered = [
        ...layers,
        ...ofHead.map((name) => ({ name, weights: head.filter(({ owner }) => owner === name) })),
      ];
      const own = ordered.map(({ name, weights }) => ({
        name,
        weights: weights.map((each) => kerasWeight(name, toWrite(each))),
      }));
      return await writeKerasH5(path, [...normalization(network, published), ...own], KERAS_VERSION);
    }
    case 'slim':
      return await writeVersion2(path, all);
    case 'flax':
      return await writeNpzTensors(path, all);
    case 'torch':
      return await writeSafetensors(path, all, { format: 'pt' }); // as safetensors.torch.save_file says it is PyTorch's
  }
}

/** Keras lists a weight of a layer by the name of its variable; in a submodel, without the submodel's name. */
function kerasWeight(layer: string, tensor: TensorToWrite): TensorToWrite {
  const isNested = tensor.name.startsWith(`${layer}/`) && tensor.name.slice(layer.length + 1).includes('/');
  return { ...tensor, name: `${isNested ? tensor.name.slice(layer.length + 1) : tensor.name}:0` };
}

/**
 * The layer of a Keras network that normalises pictures by numbers of its own, behind a layer that divides pixels by
 * 255: its mean and variance, such that both together do what the preprocessing record says.
 * @see keras.layers.Normalization, whose weights are `mean`, `variance` and `count`
 */
function normalization({ preprocessing }: NetworkToWrite, { reference }: Published): LayerToWrite[] {
  const layer = reference?.pixels?.layer;
  if (layer === undefined) return [];
  const { scale, mean, std } = preprocessing;
  const unit = 255 * scale;
  const constant = (name: string, dtype: TensorToWrite['dtype'], shape: number[], values: number[]): TensorToWrite => ({
    ...{ name: `${name}:0`, dtype, shape },
    read: async () => Float32Array.from(values),
  });
  const shape = [mean.length];
  const means = constant(
    'mean',
    'float32',
    shape,
    mean.map((value) => value / unit),
  );
  const variances = constant(
    'variance',
    'float32',
    shape,
    std.map((value) => (value / unit) ** 2),
  );
  return [{ name: layer, weights: [means, variances, constant('count', 'int64', [], [0])] }];
}
