/**
 * The order in which Keras keeps the layers of a network. Its h5 files of weights are loaded by that order, not by
 * names, so a file has to have it.
 */
import type { Graph } from '../../engine/graph.js';
import type { PlannedTensor } from '../plan/write-plan.js';
import { comesBefore, type Place, placesOf } from './keras-places.js';

/** A layer of the model, or a model among its layers, with its weights in the order in which Keras lists them. */
export interface OrderedLayer {
  readonly name: string;
  readonly weights: readonly PlannedTensor[];
}

/**
 * Groups a file's tensors by the layers of the model. In a layer, trained weights come before statistics (Keras'
 * `_legacy_weights`).
 * @param graph the network whose parameters the tensors hold, none of them constant
 * @param submodels layers that are models themselves: `block1` of `block1/unit_2/conv1`
 */
export function orderedKerasLayers(
  graph: Graph,
  tensors: readonly PlannedTensor[],
  submodels: RegExp | undefined,
): OrderedLayer[] {
  const places = placesOf(graph);
  // a group stands where its last layer does
  const layers = new Map<string, { place: Place; weights: PlannedTensor[] }>();
  for (const tensor of tensors) {
    const [first = ''] = tensor.owner.split('/');
    const name = submodels?.test(first) === true ? first : tensor.owner;
    const place = places.get(tensor.parts[0]!.parameter.path)!;
    const layer = layers.get(name) ?? { place, weights: [] };
    layers.set(name, {
      place: comesBefore(layer.place, place) ? place : layer.place,
      weights: [...layer.weights, tensor],
    });
  }
  const trained = ({ parts }: PlannedTensor): boolean => parts.every(({ parameter }) => parameter.trainable);
  return [...layers]
    .sort(([, a], [, b]) => (comesBefore(a.place, b.place) ? -1 : 1))
    .map(([name, { weights }]) => ({
      name,
      weights: [...weights.filter(trained), ...weights.filter((w) => !trained(w))],
    }));
}
