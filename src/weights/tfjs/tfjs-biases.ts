/** Dense layers that were made without a bias: it is zero, and the network has one. */
import { ToolkitError } from '../../errors.js';
import { type KerasLayer, parseKerasConfig } from '../keras/keras-config.js';
import type { TensorInfo } from '../source.js';

/**
 * The biases that a layers model has not, since its own configuration says so; a bias that is merely missing is none of
 * them.
 * @param config `model_config`
 */
export function zeroBiases(path: string, config: string | undefined, tensors: readonly TensorInfo[]): TensorInfo[] {
  if (config === undefined) return [];
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return layersIn(path, config).flatMap(({ className, name, config: { use_bias } }) => {
    const kernel = byName.get(`${name}/kernel`);
    const isWithout = className === 'Dense' && use_bias === false && !byName.has(`${name}/bias`);
    if (!isWithout || kernel?.shape.length !== 2) return [];
    return [{ name: `${name}/bias`, dtype: kernel.dtype, shape: [kernel.shape[1]!] }];
  });
}

/** Of a damaged configuration none: its tensors can be listed all the same, and whoever needs it is told. */
function layersIn(path: string, config: string): KerasLayer[] {
  try {
    return flat(parseKerasConfig(path, config));
  } catch (error) {
    if (error instanceof ToolkitError) return [];
    throw error;
  }
}

const flat = (layer: KerasLayer): KerasLayer[] => layer.layers?.flatMap(flat) ?? [layer];
