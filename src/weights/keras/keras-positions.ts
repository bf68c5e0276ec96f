/**
 * Names for layers that a file calls by class and number alone (`conv2d_12`), as `.weights.h5` files of Keras 2.12 to 3.5
 * do: the thirteenth Conv2D of a file is the thirteenth of the network in Keras' own order of layers. Numbers go to names
 * only where the file has as many layers of each class as the network; otherwise it keeps the names that it has.
 */
import { buildBackbone, type Published } from '../../backbones/index.js';
import { ownerOf, type Parameter, type Role } from '../../engine/graph.js';
import { dialectOf } from '../plan/dialects.js';
import { layoutsOf, sameShape } from '../plan/layouts.js';
import type { TensorInfo, TensorSource } from '../source.js';
import { comesBefore, placesOf } from './keras-places.js';
import { countedName } from './keras3-names.js';

/** Whether a file's layers are called by class and number. */
export function isCounted({ metadata }: Pick<TensorSource, 'metadata'>): boolean {
  return metadata.layers === 'counted';
}

/**
 * The tensors' names with those of the network in the place of class and number.
 * @param size of the pictures that the file's network takes
 * @returns undefined where the file has other layers than that network
 */
export function namesByPosition(
  tensors: readonly TensorInfo[],
  published: Published,
  size: { readonly height: number; readonly width: number },
): string[] | undefined {
  const network = published.dialect === 'keras' ? networkOf(published, size) : undefined;
  if (network === undefined) return undefined;
  const models = modelsIn(tensors);
  const names = tensors.map(({ name }) => name);
  let isFound = false;
  const inner = innerModels(models);
  // where the shapes are another network's, the layers of one with as many of each class tell best what differs
  for (const byShape of [true, false]) {
    if (isFound) break;
    for (const [path, model] of models) {
      const found = match(model, inner.get(path) ?? [], network, byShape);
      for (const [index, name] of found ?? []) names[index] = path === '' ? name : `${path}/${name}`;
      isFound ||= found !== undefined;
    }
  }
  return isFound ? names : undefined;
}

interface Variable {
  /** Among the file's tensors. */
  readonly index: number;
  readonly tensor: TensorInfo;
}

/** A layer of a file: its variables in order. */
type CountedLayer = readonly Variable[];

/** Class -> layers, the first one first. */
type CountedModel = ReadonlyMap<string, readonly CountedLayer[]>;

/** `functional/conv2d_3/kernel` -> the model `functional`, its class `conv2d`, the layer of number 3. */
function modelsIn(tensors: readonly TensorInfo[]): ReadonlyMap<string, CountedModel> {
  const models = new Map<string, Map<string, Map<number, Variable[]>>>();
  for (const [index, tensor] of tensors.entries()) {
    const owner = tensor.name.replace(/\/(?:vars\/\d+|[^/]+)$/, '');
    const slash = owner.lastIndexOf('/');
    const path = owner.slice(0, Math.max(0, slash));
    const [kind, number] = countedName(owner.slice(slash + 1));
    const kinds = models.get(path) ?? new Map<string, Map<number, Variable[]>>();
    const layers = kinds.get(kind) ?? new Map<number, Variable[]>();
    const variables = layers.get(number) ?? [];
    variables.push({ index, tensor });
    models.set(path, kinds.set(kind, layers.set(number, variables)));
  }
  const inOrder = (layers: Map<number, Variable[]>): CountedLayer[] =>
    [...layers].sort(([a], [b]) => a - b).map(([, variables]) => variables);
  return new Map(
    [...models].map(([path, kinds]) => [
      path,
      new Map([...kinds].map(([kind, layers]) => [kind, inOrder(layers)] as const)),
    ]),
  );
}

/** A layer of the network as Keras has it. */
export interface NetworkLayer {
  /** Its class; that of a dense layer is open, since on one pixel a convolution is the same. */
  readonly kind: string;
  /** Its published name; behind that of a model, where it lies in one. */
  readonly name: string;
  /** The name of the Sequential that it lies in; '' for a layer of the network itself. */
  readonly model: string;
  /** The names of its variables in the file, and the shapes that each may have; -1 for any size. */
  readonly variables: readonly { readonly leaf: string; readonly shapes: readonly (readonly number[])[] }[];
  /** Whether files may do without it. */
  readonly optional: boolean;
}

const networks = new WeakMap<Published, Map<string, readonly NetworkLayer[] | undefined>>();

/** The layers of a published network in Keras' order; undefined where some are of no class of Keras. */
function networkOf(
  published: Published,
  size: { readonly height: number; readonly width: number },
): readonly NetworkLayer[] | undefined {
  const known = networks.get(published) ?? new Map<string, readonly NetworkLayer[] | undefined>();
  networks.set(published, known);
  const key = `${size.height}x${size.width}`;
  if (!known.has(key)) known.set(key, kerasLayers(published, size));
  return known.get(key);
}

/** Keras adds a layer's variables in this order (`build` of its layers). */
const ORDER: readonly Role[] = [
  'conv.kernel',
  'depthwise.kernel',
  'dense.kernel',
  'layer_scale',
  'norm.gamma',
  'bias',
  'norm.beta',
  'norm.mean',
  'norm.variance',
];

/**
 * The layers of a published network as a model of Keras lists them.
 * @returns undefined where it has parameters that no layer of Keras has
 */
export function kerasLayers(
  published: Published,
  size: { readonly height: number; readonly width: number },
): readonly NetworkLayer[] | undefined {
  const graph = buildBackbone(published, { size, classes: 1 });
  const places = placesOf(graph);
  const owners = new Map<string, Parameter[]>();
  for (const parameter of graph.parameters) {
    const owner = ownerOf(parameter.path);
    owners.set(owner, [...(owners.get(owner) ?? []), parameter]);
  }
  const layers = [...owners].map(([owner, parameters]) => {
    const [name] = published.ownerNames(owner);
    const kind = kindOf(published, parameters);
    return { owner, name, kind, parameters, place: places.get(parameters[0]!.path)! };
  });
  layers.sort((a, b) => (comesBefore(a.place, b.place) ? -1 : 1));
  const named: NetworkLayer[] = [];
  for (const { owner, name, kind, parameters } of layers) {
    if (name === undefined || kind === undefined) return undefined;
    const sorted = [...parameters].sort((a, b) => ORDER.indexOf(a.role) - ORDER.indexOf(b.role));
    const optional = owner === 'classifier';
    const variables = sorted.map((parameter) => {
      const [leaf] = dialectOf(published.dialect).leafs(parameter.role, name.slice(name.lastIndexOf('/') + 1));
      const shapes = layoutsOf(published, parameter).map(({ shape }) =>
        optional ? [...shape.slice(0, -1), -1] : shape,
      );
      return { leaf: leaf!, shapes };
    });
    const [first = ''] = name.split('/');
    const model = published.submodels?.test(first) === true ? first : '';
    named.push({ kind, name, model, variables, optional });
  }
  return named;
}

function kindOf(published: Published, parameters: readonly Parameter[]): string | undefined {
  const roles = new Map(parameters.map((parameter) => [parameter.role, parameter]));
  const kernel = roles.get('conv.kernel') ?? roles.get('depthwise.kernel');
  if (kernel !== undefined) {
    // a depthwise kernel is [height, width, in, multiplier]; in a Conv2D of as many groups it is [height, width, 1, out]
    const shape = layoutsOf(published, kernel)[0]!.shape;
    const isDepthwise =
      kernel.role === 'depthwise.kernel' ? shape[2] !== 1 || shape[3] === 1 : !sameShape(shape, kernel.shape);
    return isDepthwise ? 'depthwise_conv2d' : 'conv2d';
  }
  if (roles.has('dense.kernel')) return 'dense';
  if (roles.has('norm.mean')) return 'batch_normalization';
  if (roles.has('norm.gamma') || roles.has('norm.beta')) return 'layer_normalization';
  return roles.has('layer_scale') ? 'layer_scale' : undefined;
}

/** The class of a network's own dense layers, and that of its classifier: MobileNets and gates have convolutions there. */
export const DENSE = [
  ['dense', 'dense'],
  ['conv2d', 'conv2d'],
  ['conv2d', 'dense'],
  ['dense', 'conv2d'],
] as const;

/** The class of a layer in a file of one of these readings. */
export function classOf({ kind, optional }: NetworkLayer, [own, classifier]: (typeof DENSE)[number]): string {
  return kind !== 'dense' ? kind : optional ? classifier : own;
}

/**
 * Tensor -> name, for the network in one model of the file; undefined where the model is not that network. Dense layers
 * behind it are somebody's own head, and keep their names.
 */
function match(
  model: CountedModel,
  inner: readonly CountedModel[],
  network: readonly NetworkLayer[],
  byShape: boolean,
): ReadonlyMap<number, string> | undefined {
  const named = [...new Set(network.map((layer) => layer.model))].filter((each) => each !== '');
  if (named.length > inner.length) return undefined;
  let best: ReadonlyMap<number, string> | undefined;
  for (const dense of DENSE) {
    const found = matchAs(model, new Map(named.map((name, i) => [name, inner[i]!])), network, dense, byShape);
    if (found !== undefined && found.size > (best?.size ?? 0)) best = found; // that with the classifier
  }
  return best;
}

function matchAs(
  model: CountedModel,
  inner: ReadonlyMap<string, CountedModel>,
  network: readonly NetworkLayer[],
  dense: (typeof DENSE)[number],
  byShape: boolean,
): ReadonlyMap<number, string> | undefined {
  const used = new Map<CountedModel, Map<string, number>>();
  const names = new Map<number, string>();
  for (const layer of network) {
    const { name, variables, optional } = layer;
    const kind = classOf(layer, dense);
    const here = inner.get(layer.model) ?? model;
    const counts = used.get(here) ?? new Map<string, number>();
    const place = counts.get(kind) ?? 0;
    const all = here.get(kind) ?? [];
    const found = all[place];
    const fits = found?.length === variables.length && (!byShape || isLayer(found, variables));
    // of several dense layers behind a network, the first may look like its classifier
    if (optional && (!fits || place !== all.length - 1)) continue;
    if (!fits) return undefined;
    used.set(here, counts.set(kind, place + 1));
    found.forEach(({ index }, i) => {
      names.set(index, `${name}/${variables[i]!.leaf}`);
    });
  }
  for (const here of [model, ...inner.values()]) {
    for (const [kind, count] of used.get(here) ?? []) {
      if (kind !== 'dense' && count !== here.get(kind)!.length) return undefined;
    }
  }
  return names;
}

/** Model -> the Sequentials in it, the first one first. */
function innerModels(models: ReadonlyMap<string, CountedModel>): ReadonlyMap<string, readonly CountedModel[]> {
  const found = new Map<string, [number: number, model: CountedModel][]>();
  for (const [path, model] of models) {
    const [, outer = '', number] = /^(?:(.*)\/)?sequential(?:_(\d+))?$/.exec(path) ?? [];
    if (number === undefined && !/(^|\/)sequential$/.test(path)) continue;
    const inner = found.get(outer) ?? [];
    inner.push([Number(number ?? 0), model]);
    found.set(outer, inner);
  }
  return new Map(
    [...found].map(([outer, inner]) => [outer, inner.sort(([a], [b]) => a - b).map(([, model]) => model)]),
  );
}

function isLayer(layer: CountedLayer, variables: NetworkLayer['variables']): boolean {
  return layer.every(({ tensor }, i) =>
    variables[i]!.shapes.some(
      (shape) =>
        shape.length === tensor.shape.length && shape.every((size, axis) => size === -1 || size === tensor.shape[axis]),
    ),
  );
}
