/**
 * Names: under which a parameter may stand in a file, and which of a file's tensors carries one of them. The family's
 * table gives the layer's name, the dialect's the parameter's; a user's own table goes before both.
 */
import { type BuildOptions, buildBackbone, type Published } from '../../backbones/index.js';
import { type Graph, ownerOf, type Parameter } from '../../engine/graph.js';
import { isCounted, namesByPosition } from '../keras/keras-positions.js';
import type { TensorInfo, TensorSource } from '../source.js';
import { placesOf, withOuterNames, withoutCounts } from './counted-names.js';
import { dialectOf } from './dialects.js';
import { type NameMap, tensorsByMap } from './name-map.js';

/** What a parameter's name follows from. */
export type Named = Pick<Parameter, 'path' | 'role'>;

/** Finds the tensors of one file. */
export interface Lookup {
  find(parameter: Named): TensorInfo | undefined;
  /** Names that are looked for, best first. */
  sought(parameter: Named): readonly string[];
  /** A prefix that every used name carries in the file: the name of a wrapping model. */
  readonly wrapper: string;
  /** Whether it knows the parameters of a head by our own names, `head.logits.kernel`. */
  readonly knowsHeads: boolean;
  /** Whether a parameter's tensor was named by the user, so that its layout is anybody's. */
  isMapped(parameter: Named): boolean;
}

/** By the names of a published variant. */
export function publishedLookup(source: TensorSource, published: Published, headless: Graph): Lookup {
  const [height, width] = headless.input.shape as readonly [number, number, number];
  const sought = (parameter: Named): readonly string[] => soughtNames(published, parameter);
  const readings = namingsOf(source, published, { height, width }).map((names) => {
    const wrapper = findWrapper(names, published, headless);
    const byName = new Map<string, TensorInfo>();
    for (const [i, tensor] of source.tensors.entries()) {
      if (names[i]!.startsWith(wrapper)) byName.set(names[i]!.slice(wrapper.length), tensor);
    }
    return { wrapper, tensors: byName };
  });
  const foundBy = (tensors: ReadonlyMap<string, TensorInfo>): number =>
    headless.parameters.filter((each) => sought(each).some((name) => tensors.has(name))).length;
  const { wrapper, tensors } = readings.reduce((best, each) =>
    foundBy(each.tensors) > foundBy(best.tensors) ? each : best,
  );
  const { average = '' } = dialectOf(published.dialect);
  return {
    find: (parameter) => {
      const candidates = sought(parameter);
      const name =
        candidates.find((each) => tensors.has(each)) ?? // a file may keep the averages alone
        candidates.map((each) => each + average).find((each) => tensors.has(each));
      return name === undefined ? undefined : tensors.get(name);
    },
    sought,
    wrapper,
    knowsHeads: false,
    isMapped: () => false,
  };
}

/** By our own paths: the local store's, or a model folder's. */
export function ownLookup(source: TensorSource): Lookup {
  const tensors = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  return {
    find: ({ path }) => tensors.get(path),
    sought: ({ path }) => [path],
    wrapper: '',
    knowsHeads: true,
    isMapped: () => false,
  };
}

/**
 * By a user's table, and by published names for what it does not list.
 * @throws NAME_MAP
 */
export function mappedLookup(source: TensorSource, published: Published, headless: Graph, map: NameMap): Lookup {
  const byName = publishedLookup(source, published, headless);
  const found = tensorsByMap(map, source.tensors, mappable(published, headless, map));
  const listed = new Map(map.rows.map((row) => [row.parameter, row]));
  return {
    find: (parameter) =>
      listed.has(parameter.path)
        ? found.get(parameter.path)
        : parameter.path.startsWith('head.')
          ? undefined
          : byName.find(parameter),
    sought: (parameter) => {
      const row = listed.get(parameter.path);
      return row === undefined ? byName.sought(parameter) : [row.tensor ?? `nothing, as ${map.path} says`];
    },
    wrapper: byName.wrapper,
    knowsHeads: true,
    isMapped: ({ path }) => listed.has(path),
  };
}

/** Paths of the parameters that a file of this network can have, with the parts that not every file has. */
function mappable(published: Published, headless: Graph, map: NameMap): Parameters<typeof tensorsByMap>[2] {
  const [height, width, channels] = headless.input.shape as readonly [number, number, number];
  const whole = buildBackbone(published, {
    size: { height, width },
    channels,
    classes: 1, // names do not depend on it
    auxiliary: published.auxiliary === undefined ? undefined : 1,
    representation: published.representation !== undefined,
  });
  const heads = map.rows.filter(({ parameter }) => /^head\.(dense[1-9]\d?|logits)\.(kernel|bias)$/.test(parameter));
  return new Map(
    [...whole.parameters, ...heads.map(({ parameter }) => ({ path: parameter }))].map((parameter) => [
      parameter.path,
      { parameter, part: published.part?.(ownerOf(parameter.path))?.index },
    ]),
  );
}

/** `stem.conv.kernel` -> `stem.conv`. */

/** Every name under which a parameter may stand in a published file, best first. */
export function soughtNames(published: Published, parameter: Named): string[] {
  const dialect = dialectOf(published.dialect);
  return published.ownerNames(ownerOf(parameter.path)).flatMap((owner) => {
    const layer = owner.slice(owner.lastIndexOf('/') + 1);
    return dialect
      .leafs(parameter.role, layer)
      .map((leaf) => (owner === '' ? leaf : `${owner}${dialect.separator}${leaf}`));
  });
}

/** What the tensors may be called, all by one rule or all by another: their names, and where their objects keep them. */
export function namingsOf(source: TensorSource, published: Published, size: BuildOptions['size']): string[][] {
  const { tensors, objectPaths, givenNames } = source;
  const byPosition = isCounted(source) ? namesByPosition(tensors, published, size) : undefined;
  if (byPosition !== undefined) return [byPosition];
  const names = tensors.map(({ name }) => name);
  const told = (each: readonly string[]): string[] =>
    published.counted === true ? placesOf(each) : published.dialect === 'keras' ? withoutCounts(each) : [...each];
  if (objectPaths === undefined) return [told(names)];
  const paths = names.map((name) => objectPaths.get(name) ?? name);
  const given = names.map((name) => givenNames?.get(name) ?? name);
  return [told(names), paths, told(withOuterNames(given, paths))];
}

/** Prefixes that are tried, where several tensors end like the first parameter's. */
const MOST_WRAPPERS = 32;

/**
 * Models wrapped in others carry the wrappers' names before every tensor's: `resnet50/conv1_conv/kernel`. Where several
 * prefixes may be one, that with most of the network behind it.
 */
function findWrapper(names: readonly string[], published: Published, graph: Graph): string {
  const { separator } = dialectOf(published.dialect);
  const sought = soughtNames(published, graph.parameters[0]!);
  if (names.some((name) => sought.includes(name))) return '';
  const prefixes = new Set<string>(['']);
  for (const name of names) {
    const match = sought.find((each) => name.endsWith(separator + each));
    if (match !== undefined) prefixes.add(name.slice(0, -match.length));
  }
  if (prefixes.size === 1) return '';
  const all = new Set(names);
  let best = { prefix: '', found: 0 };
  for (const prefix of [...prefixes].slice(0, MOST_WRAPPERS)) {
    const has = (parameter: Parameter) => soughtNames(published, parameter).some((each) => all.has(prefix + each));
    const found = graph.parameters.filter(has).length;
    if (found > best.found) best = { prefix, found };
  }
  return best.prefix;
}
