/** Which tensors of a checkpoint belong to its training and not to the network, and why. */
import type { SetAside, TensorInfo } from '../source.js';
import { STRING, TYPE_NAMES } from './types.js';

/** Names that TensorFlow 1 and slim give to single tensors. */
const KNOWN: Readonly<Record<string, string>> = {
  global_step: 'the number of training steps', // tf.compat.v1.train.get_or_create_global_step
  mean_rgb: 'the mean colour of the training pictures', // of slim's ResNet v1 and VGG
  beta1_power: 'state of the optimiser', // AdamOptimizer._create_slots
  beta2_power: 'state of the optimiser',
  save_counter: 'the number of saves', // tf.train.Checkpoint.save
};

/** Last part of an average's name: tf.train.ExponentialMovingAverage.name. */
const AVERAGE = /^ExponentialMovingAverage(_\d+)?$/;

/** In keys of an object-based checkpoint. @see tensorflow/python/checkpoint/checkpoint_management.py, trackable_utils.py */
const SLOT = '/.OPTIMIZER_SLOT/';
const METRICS = /(^|\/)keras_api\/metrics\//;

/** Of a text, or a type that is no plain number. */
export const reasonOfType = (type: number): string =>
  type === STRING ? 'text' : `numbers of type ${TYPE_NAMES[type] ?? type}`;

/** A tensor and, in an object-based checkpoint, its key there without the ending. */
export interface Keyed extends TensorInfo {
  readonly key?: string | undefined;
}

/** Those of training and bookkeeping, in file order. */
export function trainingTensors(tensors: readonly Keyed[]): SetAside[] {
  const names = new Set(tensors.map(({ name }) => name));
  const optimizers = optimizersIn(tensors);
  return tensors.flatMap((tensor) => {
    const reason = reasonOf(tensor, names, optimizers);
    return reason === undefined ? [] : [{ name: tensor.name, reason }];
  });
}

function reasonOf(
  { name, key, dtype, shape }: Keyed,
  names: ReadonlySet<string>,
  optimizers: readonly string[],
): string | undefined {
  if (key !== undefined) {
    const slot = key.indexOf(SLOT);
    if (slot >= 0) return 'slot of an optimiser';
    const average = /^[^/]+\/average\/(.+)$/.exec(name)?.[1]; // Keras' optimisers with use_ema
    const isState = optimizers.some((path) => key.startsWith(path));
    if (isState && average !== undefined && names.has(average))
      return `running average of ${average}, kept by the optimiser`;
    if (isState) return 'state of the optimiser';
    if (METRICS.test(key)) return 'state of a metric';
  }
  const at = name.lastIndexOf('/');
  const [owner, leaf] = [name.slice(0, Math.max(at, 0)), name.slice(at + 1)];
  const known = KNOWN[leaf];
  if (known !== undefined && (at < 0 || leaf.endsWith('_power'))) return known;
  if (leaf === 'seed_generator_state') return 'state of a random number generator'; // keras.random.SeedGenerator
  // tensorflow/python/training/slot_creator.py: a slot is a variable in the scope that its variable's name makes
  if (AVERAGE.test(leaf)) return `running average of ${owner}`;
  if (key === undefined && names.has(owner)) return `slot of an optimiser, for ${owner}`;
  return shape.length === 0 && dtype.includes('int') ? 'a counter' : undefined;
}

/** Paths of the optimisers of an object-based checkpoint: what counts its own steps. */
function optimizersIn(tensors: readonly Keyed[]): string[] {
  return tensors.flatMap(({ key }) => {
    const path = key === undefined ? undefined : /^(.*\/)?(iter|_iterations)$/.exec(key);
    return path?.[1] === undefined ? [] : [path[1]];
  });
}
