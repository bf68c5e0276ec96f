/**
 * The planner the other way round: which tensors a file of a published variant has, so that today's code of its
 * publisher loads it, and how each is made of our parameters. Decided from names and shapes alone, as reading is.
 */
import type { DialectName, Layout, Published } from '../../backbones/index.js';
import { ownerOf, type Parameter, type Shape } from '../../engine/graph.js';
import type { ReadParameter } from '../../engine/network.js';
import { elementsOf } from '../float-formats.js';
import type { TensorToWrite } from '../tensor-to-write.js';
import { dialectOf } from './dialects.js';
import { layoutsOf } from './layouts.js';
import { permute } from './permute.js';

/** A tensor of a file, before any number is read. */
export interface PlannedTensor {
  readonly name: string;
  /** The publisher's name of the layer that it belongs to; empty for the network itself. */
  readonly owner: string;
  readonly shape: Shape;
  readonly dtype: TensorToWrite['dtype'];
  /** The parameters that it holds, in their order in it; none in a constant, which is zero. */
  readonly parts: readonly { readonly parameter: Parameter; readonly layout: Layout }[];
}

/**
 * The tensors of a file with the given parameters, in their order. Counters that a publisher's code keeps beside its
 * weights and no network reads are among them, as zeros: PyTorch's `num_batches_tracked`, slim's `global_step`.
 * @param parameters those of a graph of this variant; the classifier under `classifier`
 */
export function planFile(published: Published, parameters: readonly Parameter[]): PlannedTensor[] {
  const tensors = new Map<string, PlannedTensor>();
  for (const parameter of parameters) {
    const { name, owner } = writtenName(published, parameter);
    const layout = writtenLayout(published, parameter);
    const before = tensors.get(name);
    const parts = [...(before?.parts ?? []), { parameter, layout }];
    tensors.set(name, { name, owner, shape: layout.shape, dtype: 'float32', parts });
    if (published.dialect === 'torch' && parameter.role === 'norm.variance') {
      const counter = `${owner}.num_batches_tracked`; // a buffer of torch.nn.BatchNorm2d, a scalar
      tensors.set(counter, { name: counter, owner, shape: [], dtype: 'int64', parts: [] });
    }
  }
  for (const { name, parts } of tensors.values()) assertWhole(published, name, parts);
  const planned = [...tensors.values()];
  if (published.dialect !== 'slim') return planned;
  return [...planned, { name: 'global_step', owner: '', shape: [], dtype: 'int64', parts: [] }]; // slim's Saver keeps it
}

/** The parts of one tensor come in their order, and all of them. */
function assertWhole({ source }: Published, name: string, parts: PlannedTensor['parts']): void {
  const wanted = parts[0]?.layout.part?.of ?? Math.min(1, parts.length);
  if (parts.length === wanted && parts.every(({ layout }, i) => (layout.part?.index ?? 0) === i)) return;
  throw new Error(`${name} of ${source} is made of ${parts.map((each) => each.parameter.path).join(', ')}`);
}

/** What today's code of the publisher calls a layer; undefined where it has no name for it. */
export const writtenOwner = ({ ownerNames, reference }: Published, path: string): string | undefined =>
  ownerNames(path)[reference?.naming ?? 0];

function writtenName(published: Published, parameter: Parameter): { name: string; owner: string } {
  const { reference } = published;
  const { leafs, separator } = dialectOf(published.dialect);
  const owner = writtenOwner(published, ownerOf(parameter.path));
  if (owner === undefined) throw new Error(`${published.source} has no name for ${parameter.path}`);
  const layer = owner.slice(owner.lastIndexOf('/') + 1);
  const leaf = reference?.leaf?.(parameter) ?? leafs(parameter.role, layer)[0]!;
  return { name: owner === '' ? leaf : `${owner}${separator}${leaf}`, owner };
}

/** In how many dimensions a dialect's code keeps a parameter, where its files come in several. */
const ranks: Readonly<Record<DialectName, (parameter: Parameter) => number | undefined>> = {
  keras: () => undefined,
  slim: ({ role }) => (role === 'dense.kernel' ? 4 : undefined), // every dense layer of slim's networks is a convolution
  torch: () => undefined,
  flax: ({ unflattened }) => unflattened?.length, // flax.linen.MultiHeadDotProductAttention: heads apart
};

/** Of a batch of one, in every implementation. */
const tokenRanks: Partial<Record<Parameter['role'], number>> = { class_token: 3, position_embedding: 3 };

function writtenLayout(published: Published, parameter: Parameter): Layout {
  const layouts = layoutsOf(published, parameter);
  const rank =
    published.reference?.rank?.(parameter) ??
    ranks[published.dialect](parameter) ??
    tokenRanks[parameter.role] ??
    layouts[0]!.shape.length;
  const layout = layouts.find(({ shape }) => shape.length === rank);
  if (layout === undefined) throw new Error(`${published.source} has no ${rank} dimensions for ${parameter.path}`);
  return layout;
}

/** The numbers of a planned tensor, one parameter after the other. */
export async function readForFile(tensor: PlannedTensor, read: ReadParameter): Promise<Float32Array> {
  const [first, ...others] = tensor.parts;
  if (first === undefined) return new Float32Array(elementsOf(tensor.shape));
  const one = unrelay(await read(first.parameter.path), first.layout);
  if (others.length === 0) return one;
  const whole = new Float32Array(elementsOf(tensor.shape));
  whole.set(one);
  let at = one.length;
  for (const { parameter, layout } of others) {
    const values = unrelay(await read(parameter.path), layout);
    whole.set(values, at);
    at += values.length;
  }
  return whole;
}

/** The inverse of `relay`: a file's numbers (or one part of them), from a parameter's in our layout. */
function unrelay(values: Float32Array, { shape, part, view, permutation, factor }: Layout): Float32Array {
  const [first = 1, ...rest] = shape;
  const dimensions = view ?? (part === undefined ? shape : [first / part.of, ...rest]);
  const moved =
    permutation === undefined
      ? values
      : permute(
          values,
          permutation.map((axis) => dimensions[axis]!),
          dimensions.map((_, axis) => permutation.indexOf(axis)),
        );
  return factor === undefined ? moved : moved.map((value) => dividedBy(value, factor));
}

/**
 * The float32 that gives `value` again when it is multiplied by `factor`; where the steps of float32 are too wide for
 * that, the nearest.
 */
function dividedBy(value: number, factor: number): number {
  const cell = Float32Array.of(value / factor);
  const quotient = cell[0]!;
  const bits = new Int32Array(cell.buffer);
  const nearest = bits[0]!;
  for (const step of [0, -1, 1]) {
    bits[0] = nearest + step;
    if (Math.fround(cell[0]! * factor) === value) return cell[0]!;
  }
  return quotient;
}
