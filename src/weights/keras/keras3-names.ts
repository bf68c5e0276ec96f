/**
 * Names for the tensors of Keras 3's own layout, which Keras 2.12 to 2.15 write too: `.weights.h5`, and the file
 * `model.weights.h5` of a `.keras` archive.
 *
 * The path of a dataset says how Keras reached it from the model (`keras.src.saving.saving_lib._save_state`):
 *
 *     layers/functional/layers/conv2d_3/vars/0
 *     └ the model's own list of layers
 *            └ the first layer of class Functional in it, a model in the model
 *                               └ its fourth layer of class Conv2D
 *                                          └ that layer's first variable: the kernel
 *
 * So a layer has no name there, but a place among the layers of its class. What it is called comes from the configuration
 * of a `.keras` archive, or from the attribute `name` that Keras 3.6 and later put on every group `vars`; in other files
 * a layer keeps its class and number (`functional/conv2d_3/kernel`), and `keras-positions.ts` finds out whose it is.
 */

import { FormatError } from '../../errors.js';
import { DAMAGED_HINT, quote } from '../limits.js';
import type { SetAside } from '../source.js';
import { heldLayer, type KerasLayer } from './keras-config.js';
import { heldBy, snakeCase, variableNames } from './keras-variables.js';

/**
 * The list of layers that Keras 2.12 and 2.13 meet first, in which each layer with weights stands twice, so that numbers
 * are left out.
 */
const DOUBLED = '_layer_checkpoint_dependencies';

/** A model's own list of its layers. */
const LISTS: ReadonlySet<string> = new Set(['layers', DOUBLED]);

/** What belongs to training, by the model's attribute that holds it (`keras.src.trainers.trainer.Trainer.compile`). */
const TRAINING: ReadonlyMap<string, string> = new Map([
  ['optimizer', 'state of the optimiser'],
  ['metrics', 'a metric'],
  ['compiled_metrics', 'a metric'],
  ['_compile_metrics', 'a metric'],
  ['loss_tracker', 'a metric'],
  ['_loss_tracker', 'a metric'],
  ['_compile_loss', 'a metric'],
  ['compiled_loss', 'a metric'],
]);

export interface Keras3File {
  /** For errors. */
  readonly path: string;
  readonly datasets: readonly string[];
  readonly groups: readonly string[];
  /** Group `vars` -> the layer's own name, where the file has it. */
  readonly names: ReadonlyMap<string, string>;
  /** Of a `.keras` archive. */
  readonly config?: KerasLayer | undefined;
  /** Of a `.keras` archive: 2 or 3. Keras 2 does not count a layer again that it has met in another model. */
  readonly majorVersion?: number | undefined;
}

export interface Keras3Names {
  /** Name -> dataset, in the order of the model's layers. */
  readonly tensors: readonly (readonly [name: string, dataset: string])[];
  readonly setAside: readonly SetAside[];
  /** Whether layers are called by their class and number, because nothing in the file names them. */
  readonly counted: boolean;
}

/** What is known of the object at a path: a model, a layer, or a list of them. */
interface Owner {
  /** Names from the outermost model's layer on. */
  readonly names: readonly string[];
  /** Its class in snake case; undefined for a list, and for an attribute that nothing tells about. */
  readonly kind: string | undefined;
  /** Of a list, the model whose layers it holds. */
  readonly layer: KerasLayer | undefined;
  readonly isList: boolean;
  /** Its place among its siblings, and that of every model around it. */
  readonly places: readonly number[];
  /** Whether nothing but its class and number is known. */
  readonly counted: boolean;
}

/** @throws H5_LAYOUT where the configuration and the file call a layer by two names */
export function keras3Names(file: Keras3File): Keras3Names {
  const ownerOf = ownersOf(file);
  const variables = new Map<string, { readonly index: number; readonly dataset: string }[]>();
  const setAside: SetAside[] = [];
  const others: string[] = [];
  for (const dataset of file.datasets) {
    const [, path = '', index] = /^(?:(.*)\/)?vars\/(\d+)$/.exec(dataset) ?? [];
    const reason = index === undefined ? undefined : reasonAside(path);
    if (reason !== undefined) setAside.push({ name: dataset, reason });
    else if (index === undefined) others.push(dataset);
    else listAt(variables, path).push({ index: Number(index), dataset });
  }
  const owners = [...variables.keys()].map((path) => ({ path, owner: ownerOf(path) }));
  owners.sort((a, b) => byPlace(a.owner.places, b.owner.places) || byPath(a.path, b.path));
  const named = owners.flatMap(({ path, owner }) => {
    const found = variables.get(path)!.sort((a, b) => a.index - b.index);
    const whole = found.every(({ index }, i) => index === i);
    const leafs = whole && owner.kind !== undefined ? variableNames(owner.kind, found.length, owner.layer?.config) : [];
    return found.map(
      ({ index, dataset }) => [[...owner.names, leafs?.[index] ?? `vars/${index}`].join('/'), dataset] as const,
    );
  });
  const uses = new Map<string, number>();
  for (const [name] of named) uses.set(name, (uses.get(name) ?? 0) + 1);
  return {
    // names are free in a list of layers that a class of the user keeps; where two are the same, paths tell more
    tensors: [
      ...named.map(([name, dataset]) => [uses.get(name) === 1 ? name : dataset, dataset] as const),
      ...others.map((dataset) => [dataset, dataset] as const),
    ],
    setAside,
    counted: owners.some(({ owner }) => owner.counted),
  };
}

function reasonAside(path: string): string | undefined {
  const parts = path.split('/');
  return parts.at(-1) === 'seed_generator' ? 'state of a random number generator' : TRAINING.get(parts[0]!);
}

function ownersOf(file: Keras3File): (path: string) => Owner {
  const known = new Map<string, Owner>();
  const groups = new Set(file.groups);
  const places = file.config === undefined ? undefined : placesOf(file.config, file);
  const find = (path: string): Owner => {
    if (path === '') {
      const kind = file.config && snakeCase(file.config.className);
      return { names: [], kind, layer: file.config, isList: false, places: [], counted: false };
    }
    const slash = path.lastIndexOf('/');
    const last = path.slice(slash + 1);
    const parent = ownerAt(path.slice(0, Math.max(0, slash)));
    // every object has a group for its variables, even without any; a list has none
    if (!groups.has(`${path}/vars`)) {
      const names = LISTS.has(last) ? parent.names : [...parent.names, last];
      return { ...parent, names, kind: undefined, layer: LISTS.has(last) ? parent.layer : undefined, isList: true };
    }
    const stored = file.names.get(`${path}/vars`);
    if (!parent.isList) {
      const layer = parent.layer && heldLayer(parent.layer, last);
      const held = parent.kind === undefined ? undefined : heldBy(parent.kind, last);
      return {
        names: [...parent.names, layer?.name ?? held?.name ?? stored ?? last],
        kind: layer ? snakeCase(layer.className) : (held?.kind ?? automaticKind(stored)),
        layer,
        isList: false,
        places: [...parent.places, Number.POSITIVE_INFINITY],
        counted: parent.counted,
      };
    }
    const [kind, number] = countedName(last);
    const place = parent.layer && places?.get(parent.layer)?.get(kind)?.(number);
    const name = place?.layer.name ?? stored;
    if (stored !== undefined && name !== stored) throw twoNames(file.path, path, stored, name!);
    return {
      names: [...parent.names, name ?? last],
      kind,
      layer: place?.layer,
      isList: false,
      places: [...parent.places, place?.index ?? Number.POSITIVE_INFINITY],
      counted: parent.counted || name === undefined,
    };
  };
  const ownerAt = (path: string): Owner => {
    const found = known.get(path) ?? find(path);
    known.set(path, found);
    return found;
  };
  return ownerAt;
}

/** Keras calls a layer without a name by its class and a number: `conv2d_7` (`keras.src.utils.naming.auto_name`). */
const automaticKind = (name: string | undefined): string | undefined =>
  name === undefined ? undefined : countedName(name)[0];

function twoNames(file: string, path: string, stored: string, configured: string): FormatError {
  return new FormatError({
    code: 'H5_LAYOUT',
    message: `${file}: the layer at ${quote(path)} is called ${quote(stored)} beside its weights and ${quote(configured)} in the model's configuration`,
    hint: DAMAGED_HINT,
  });
}

/** `conv2d_3` -> conv2d, 3; the first one has no number. */
export function countedName(name: string): readonly [kind: string, number: number] {
  const [, kind, number] = /^(.*?)(?:_(\d+))?$/.exec(name)!;
  return [kind!, Number(number ?? 0)];
}

interface Place {
  readonly layer: KerasLayer;
  /** Among all layers of its model. */
  readonly index: number;
}

/** Model -> class -> which of its layers the n-th of that class is. */
type Places = ReadonlyMap<KerasLayer, ReadonlyMap<string, (number: number) => Place | undefined>>;

/** Counts the layers of every model in a configuration as the version that wrote the file counted them. */
function placesOf(model: KerasLayer, { groups, majorVersion = 3 }: Keras3File): Places {
  const found = new Map<KerasLayer, Map<string, (number: number) => Place | undefined>>();
  const numbers = numbersIn(groups);
  const met = new Set<number>();
  const visit = (each: KerasLayer, path: string): void => {
    const list = numbers.has(`${path}${DOUBLED}`) ? DOUBLED : 'layers';
    const all = new Map<string, Place[]>(); // as Keras 3 counts: a layer of another model too
    const own = new Map<string, Place[]>(); // as Keras 2 does
    for (const [index, layer] of savedLayers(each).entries()) {
      const kind = snakeCase(layer.className);
      const isNew = layer.sharedId === undefined || !met.has(layer.sharedId);
      if (layer.sharedId !== undefined) met.add(layer.sharedId);
      listAt(all, kind).push({ layer, index });
      if (isNew) listAt(own, kind).push({ layer, index });
      if (!isNew || layer.layers === undefined) continue;
      const number = (majorVersion >= 3 ? all : own).get(kind)!.length - 1;
      const here = list === DOUBLED ? numbers.get(`${path}${list}`)?.get(kind)?.[number] : number;
      if (here !== undefined) visit(layer, `${path}${list}/${here === 0 ? kind : `${kind}_${here}`}/`);
    }
    const resolvers = new Map<string, (number: number) => Place | undefined>();
    found.set(each, resolvers);
    for (const [kind, counted] of majorVersion >= 3 ? all : own) {
      const present = numbers.get(`${path}${list}`)?.get(kind) ?? [];
      if (list === 'layers') resolvers.set(kind, (number) => counted[number]);
      else if (present.length === counted.length) {
        const places = new Map(present.map((number, i) => [number, counted[i]!]));
        resolvers.set(kind, (number) => places.get(number));
      }
    }
  };
  visit(model, '');
  return found;
}

/** List of layers -> class -> the numbers that occur in it, ascending. */
function numbersIn(groups: readonly string[]): ReadonlyMap<string, ReadonlyMap<string, readonly number[]>> {
  const found = new Map<string, Map<string, number[]>>();
  for (const group of groups) {
    const [, list, layer] = /^(.*)\/([^/]+)\/vars$/.exec(group) ?? [];
    if (list === undefined) continue;
    const [kind, number] = countedName(layer!);
    const kinds = found.get(list) ?? new Map<string, number[]>();
    found.set(list, kinds);
    listAt(kinds, kind).push(number);
  }
  for (const kinds of found.values()) for (const numbers of kinds.values()) numbers.sort((a, b) => a - b);
  return found;
}

/** The list behind a key of a map, made where it is missing. */
function listAt<Value>(map: Map<string, Value[]>, key: string): Value[] {
  const list = map.get(key) ?? [];
  if (list.length === 0) map.set(key, list);
  return list;
}

/** `Functional.layers` leaves operations out that are no layers, `Sequential.layers` the input. */
function savedLayers({ className, layers = [] }: KerasLayer): readonly KerasLayer[] {
  const own = layers.filter(({ module }) => !/^keras(\.src)?\.ops\b/.test(module ?? ''));
  return className === 'Sequential' && own[0]?.className === 'InputLayer' ? own.slice(1) : own;
}

function byPlace(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  }
  return a.length - b.length;
}

/** Numbers by their size: `dense`, `dense_1`, `dense_2`, `dense_10`. */
function byPath(a: string, b: string): number {
  const [left, right] = [a.split('/'), b.split('/')];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [kind, number] = countedName(left[i]!);
    const [otherKind, otherNumber] = countedName(right[i]!);
    if (kind !== otherKind) return kind < otherKind ? -1 : 1;
    if (number !== otherNumber) return number - otherNumber;
  }
  return left.length - right.length;
}
