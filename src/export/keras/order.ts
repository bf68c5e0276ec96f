/**
 * The order of layers in a model of Keras. Its h5 files are loaded by that order, not by names, and a model that was made
 * anew has it whatever the order in its configuration.
 * @see https://github.com/keras-team/keras/blob/v2.15.0/keras/engine/functional.py, _map_graph_network and _build_map
 */
import type { KerasLayerToWrite } from './topology.js';

/**
 * By the longest way to the output, the longest first; layers as far from it as each other, as they are met on the way
 * from the output to the input.
 * @param layers the output last
 */
export function inKerasOrder(layers: readonly KerasLayerToWrite[]): KerasLayerToWrite[] {
  const byName = new Map(layers.map((layer) => [layer.name, layer]));
  const met = new Map<KerasLayerToWrite, number>();
  const before: KerasLayerToWrite[] = []; // each behind all that it takes
  const stack: { readonly layer: KerasLayerToWrite; next: number }[] = [];
  const meet = (layer: KerasLayerToWrite): void => {
    if (met.has(layer)) return;
    met.set(layer, met.size);
    stack.push({ layer, next: 0 });
  };
  meet(layers.at(-1)!);
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const input = top.layer.inputs[top.next++];
    if (input !== undefined) meet(byName.get(input)!);
    else before.push(stack.pop()!.layer);
  }
  const depths = new Map<KerasLayerToWrite, number>();
  for (const layer of before.toReversed()) {
    const depth = depths.get(layer) ?? 0;
    depths.set(layer, depth);
    for (const name of layer.inputs) {
      const input = byName.get(name)!;
      depths.set(input, Math.max(depth + 1, depths.get(input) ?? 0));
    }
  }
  return [...met.keys()].sort((a, b) => depths.get(b)! - depths.get(a)! || met.get(a)! - met.get(b)!);
}
