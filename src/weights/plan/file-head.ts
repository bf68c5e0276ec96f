/**
 * Heads in files: whoever fine-tuned a network saved dense layers of their own behind it. A chain of them that leads
 * from `pre_logits` to classes, and is the only one, is the file's head; anything else behind the backbone is told.
 */
import type { Published } from '../../backbones/index.js';
import { formatHead, type Head } from '../../heads/heads.js';
import type { TensorInfo, TensorSource } from '../source.js';
import { dialectOf } from './dialects.js';
import { headConfigOf } from './head-config.js';
import type { Lookup } from './names.js';

/** Hidden layers with ReLU and a last one whose outputs are the classes. */
export interface FileHead extends Head {
  readonly classes: number;
  /** Whether the file itself says which activations its layers have; else ReLU is taken for granted. */
  readonly stated: boolean;
  /** Path of a parameter, `head.dense1.kernel` -> its tensor. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** A chain has few layers: VGG's own classifier, the longest that was published, has three. */
const MOST_LAYERS = 8;

/** A dense layer of the file: `[in, out]`. */
interface DenseLayer {
  readonly owner: string;
  readonly kernel: TensorInfo;
  readonly bias: TensorInfo;
  readonly from: number;
  readonly to: number;
}

/** How a head is written, with its classes: `mlp:1024 of 5 classes`. */
export const describeHead = (head: FileHead | (Head & { readonly classes: number })): string =>
  `${formatHead(head)} of ${head.classes} classes`;

/** The head of a file that calls its parameters by our own paths; undefined where it has none that is whole. */
export function namedHead({ find }: Lookup, units: number): FileHead | undefined {
  const tensors = new Map<string, TensorInfo>();
  const hidden: number[] = [];
  const take = (layer: string): number | undefined => {
    const kernel = find({ path: `head.${layer}.kernel`, role: 'dense.kernel' });
    const bias = find({ path: `head.${layer}.bias`, role: 'bias' });
    if (kernel === undefined || bias === undefined) return undefined;
    tensors.set(`head.${layer}.kernel`, kernel).set(`head.${layer}.bias`, bias);
    return bias.shape[0];
  };
  for (let i = 1; i <= MOST_LAYERS; i++) {
    const out = take(`dense${i}`);
    if (out === undefined) break;
    hidden.push(out);
  }
  const classes = take('logits');
  const first = tensors.get('head.dense1.kernel') ?? tensors.get('head.logits.kernel');
  if (classes === undefined || first?.shape.includes(units) !== true) return undefined;
  return { hidden, classes, dropout: 0, stated: true, tensors };
}

/**
 * The head that tensors make which no parameter of the backbone takes.
 * @param free those tensors, in file order
 * @param classifier tensors of the published classifier: part of a chain whose layers are numbered with its own
 * @param units of `pre_logits`
 * @returns the head, or why what there is makes none; undefined where nothing is dense
 */
export function findHead(
  { path, metadata }: TensorSource,
  published: Published,
  free: readonly TensorInfo[],
  classifier: readonly TensorInfo[],
  units: number,
): FileHead | { readonly fault: string } | undefined {
  const behind = denseLayers(published, free);
  if (behind.layers.length === 0) return undefined;
  const own = denseLayers(published, classifier).layers;
  const numbered = own.every(({ owner }) => behind.layers.some((each) => baseOf(each.owner) === baseOf(owner)));
  if (own.length > 0 && !numbered) return undefined; // the published classifier, and something behind it
  const layers = [...own, ...behind.layers];
  if (behind.others.length > 0) {
    return { fault: `beside dense layers stands ${behind.others[0]!.name}, which no head here has` };
  }
  if (layers.length > MOST_LAYERS) return { fault: `${layers.length} dense layers; a head has at most ${MOST_LAYERS}` };
  const config = headConfigOf(
    path,
    metadata.model_config,
    layers.map(({ owner }) => owner),
  );
  if (config !== undefined && 'fault' in config) return config;
  const chain = chainOf(layers, units, config?.order);
  if ('fault' in chain) return chain;
  const tensors = new Map<string, TensorInfo>();
  chain.forEach(({ kernel, bias }, i) => {
    const layer = i === chain.length - 1 ? 'logits' : `dense${i + 1}`;
    tensors.set(`head.${layer}.kernel`, kernel).set(`head.${layer}.bias`, bias);
  });
  return {
    hidden: chain.slice(0, -1).map(({ to }) => to),
    classes: chain.at(-1)!.to,
    dropout: config?.dropout ?? 0,
    stated: config !== undefined,
    tensors,
  };
}

/** Layers of a kernel of two dimensions and a bias that fits, and what is left. */
function denseLayers(published: Published, tensors: readonly TensorInfo[]) {
  const dialect = dialectOf(published.dialect);
  const owners = new Map<string, { kernel?: TensorInfo; bias?: TensorInfo; others: TensorInfo[] }>();
  for (const tensor of tensors) {
    const end = tensor.name.lastIndexOf(dialect.separator);
    const [owner, leaf] = [tensor.name.slice(0, Math.max(0, end)), tensor.name.slice(end + 1)];
    const entry = owners.get(owner) ?? { others: [] };
    owners.set(owner, entry);
    const layer = owner.slice(owner.lastIndexOf('/') + 1);
    const rank = tensor.shape.length;
    if (rank === 2 && dialect.leafs('dense.kernel', layer).includes(leaf)) entry.kernel = tensor;
    else if (rank === 1 && dialect.leafs('bias', layer).includes(leaf)) entry.bias = tensor;
    else entry.others.push(tensor);
  }
  const layers: DenseLayer[] = [];
  const others: TensorInfo[] = [];
  for (const [owner, { kernel, bias, others: rest }] of owners) {
    others.push(...rest);
    const to = bias?.shape[0];
    const [first, second] = kernel?.shape ?? [];
    const outFirst = dialect.layouts({ role: 'dense.kernel', shape: [1, 2] })[0]!.shape[0] === 2; // PyTorch's [out, in]
    const [from, out] = outFirst ? [second, first] : [first, second];
    if (kernel !== undefined && bias !== undefined && out === to) {
      layers.push({ owner, kernel, bias, from: from!, to: out! });
    } else others.push(...[kernel, bias].filter((each) => each !== undefined));
  }
  return { layers, others };
}

/** Layers that count through a program, or through a Sequential, have one base: `dense_7`, `dense_8`; `fc.1`, `fc.4`. */
const baseOf = (owner: string): string => owner.replace(/[_.]?\d+$/, '');
const numberOf = (owner: string): number => Number(/\d+$/.exec(owner)?.[0] ?? 0);

/** All layers in a row, from `units` on: by their order in the file's own configuration, by shapes, by numbers. */
function chainOf(
  layers: readonly DenseLayer[],
  units: number,
  order: readonly string[] | undefined,
): DenseLayer[] | { readonly fault: string } {
  const said = order?.map((owner) => layers.find((each) => each.owner === owner)!);
  if (said !== undefined && leads(said, units)) return said;
  const chains = chainsFrom(layers, units);
  if (chains.length === 1) return chains[0]!;
  const named = layers.map(({ owner, from, to }) => `${owner} [${from}, ${to}]`).join(', ');
  if (chains.length === 0) return { fault: `${named}: no chain of dense layers on the ${units} numbers of pre_logits` };
  const counted = [...layers].sort((a, b) => numberOf(a.owner) - numberOf(b.owner));
  if (new Set(layers.map(({ owner }) => baseOf(owner))).size === 1 && leads(counted, units)) return counted;
  return { fault: `${named}: their order cannot be told from shapes and names` };
}

const leads = (layers: readonly DenseLayer[], units: number): boolean =>
  layers.every(({ from }, i) => from === (i === 0 ? units : layers[i - 1]!.to));

/** Orders of all layers in which each takes what the one before gives; two are as good as many. */
function chainsFrom(layers: readonly DenseLayer[], units: number): DenseLayer[][] {
  if (layers.length === 0) return [[]];
  const chains: DenseLayer[][] = [];
  for (const layer of layers) {
    if (layer.from !== units || chains.length > 1) continue;
    const rest = layers.filter((each) => each !== layer);
    chains.push(...chainsFrom(rest, layer.to).map((chain) => [layer, ...chain]));
  }
  return chains;
}
