/**
 * Numbers that were trained on another network shape, brought to the one that is wanted: position embeddings to another
 * grid, the first convolution to another number of channels. Everything else has to have the shape that it had.
 */
import { pillowAxis } from '../augment/resample-pillow.js';
import type { Graph, Parameter, Places } from '../engine/graph.js';
import type { ReadParameter } from '../engine/network.js';
import { listFaults, WeightsError } from '../errors.js';
import { type Adaptation, resamplingRules } from './plan/adaptations.js';

/** Numbers as a network needs them. */
export interface Adapted {
  /** Reads a parameter of the network; paths that were not adapted are passed on. */
  readonly read: ReadParameter;
  /** What is done to the numbers; empty where every shape is the wanted one. */
  readonly adaptations: readonly Adaptation[];
}

/** How one parameter's numbers change, and what a report says of it. */
interface Change {
  readonly kind: 'resampled' | 'channels';
  readonly apply: (values: Float32Array) => Float32Array;
  readonly sentence: string;
}

/**
 * Brings stored numbers to the shapes of a network that was built for another input.
 *
 * - A position embedding is resampled from its grid to the wanted one as its publisher does ({@link Places}); tokens
 *   before the grid, the class token's, stay as they are.
 * - The convolution that reads the picture follows timm's `adapt_input_conv`. For one channel it is summed over its input
 *   channels; for four they come again from the first on, times stored / wanted, so that sums keep their size. timm has
 *   no rule for one stored channel, and this is the same one.
 *
 * @param graph the network that is wanted
 * @param stored the parameters that `read` knows, with the shapes and grids that they have there
 * @throws WEIGHTS_MISMATCH with every parameter of another shape that no rule covers
 * @see https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/_manipulate.py
 */
export function adaptWeights(graph: Graph, stored: readonly Parameter[], read: ReadParameter): Adapted {
  const byPath = new Map(stored.map((parameter) => [parameter.path, parameter]));
  const picture = new Set(
    graph.nodes.filter((node) => node.inputs[0] === graph.input).flatMap((node) => node.parameters),
  );
  const changes = new Map<string, Change>();
  const faults: string[] = [];
  for (const wanted of graph.parameters) {
    const given = byPath.get(wanted.path);
    if (given === undefined || isSame(given, wanted)) continue;
    const change =
      wanted.places === undefined
        ? picture.has(wanted)
          ? adaptChannels(given, wanted)
          : undefined
        : adaptPlaces(given, wanted, wanted.places);
    if (change !== undefined) changes.set(wanted.path, change);
    else faults.push(`${wanted.path} is [${given.shape.join(', ')}], expected [${wanted.shape.join(', ')}]`);
  }
  if (faults.length > 0) {
    throw new WeightsError({
      code: 'WEIGHTS_MISMATCH',
      message: `the weights are those of another network shape:\n${listFaults(faults)}`,
      hint: 'take weights of this backbone and source, or the input size that they were trained at',
    });
  }
  return {
    read: async (path) => {
      const values = await read(path);
      return changes.get(path)?.apply(values) ?? values;
    },
    adaptations: [...changes].map(([path, { kind, sentence }]) => ({
      kind,
      tensors: [path],
      text: `${path}: ${sentence}`,
    })),
  };
}

/** The same shape; of a position embedding, also the same grid: 4x9 and 6x6 have as many places. */
function isSame(a: Parameter, b: Parameter): boolean {
  return a.shape.join() === b.shape.join() && a.places?.grid.join() === b.places?.grid.join();
}

// ---- the first convolution -------------------------------------------------------------------------------------

function adaptChannels(given: Parameter, wanted: Parameter): Change | undefined {
  const [from, to] = [given.shape.at(-2)!, wanted.shape.at(-2)!]; // [height, width, in, out]
  const others = ({ shape }: Parameter): string => shape.filter((_, axis) => axis !== 2).join();
  if (wanted.role !== 'conv.kernel' || others(given) !== others(wanted)) return undefined;
  return {
    kind: 'channels',
    apply: (kernel) => kernelForChannels(kernel, from, to, wanted.shape.at(-1)!),
    sentence:
      to === 1
        ? `summed over its ${from} input channels for pictures of one channel`
        : `its ${from} input channels repeated for pictures of ${to}, times ${from}/${to}`,
  };
}

/** `[..., from, filters] -> [..., to, filters]`. */
function kernelForChannels(kernel: Float32Array, from: number, to: number, filters: number): Float32Array {
  const cells = kernel.length / (from * filters);
  const out = new Float32Array(cells * to * filters);
  for (let cell = 0; cell < cells; cell++) {
    for (let filter = 0; filter < filters; filter++) {
      const at = (c: number): number => kernel[(cell * from + c) * filters + filter]!;
      if (to === 1) {
        let sum = 0;
        for (let c = 0; c < from; c++) sum += at(c);
        out[cell * filters + filter] = sum;
      } else {
        for (let c = 0; c < to; c++) out[(cell * to + c) * filters + filter] = (at(c % from) * from) / to;
      }
    }
  }
  return out;
}

// ---- position embeddings ---------------------------------------------------------------------------------------

function adaptPlaces(given: Parameter, wanted: Parameter, { grid, resampling }: Places): Change | undefined {
  const [from, depth] = [given.places?.grid, wanted.shape[1]!];
  if (from === undefined || given.shape[1] !== depth) return undefined;
  const before = wanted.shape[0]! - grid[0] * grid[1];
  if (given.shape[0]! - from[0] * from[1] !== before) return undefined;
  return {
    kind: 'resampled',
    apply: (values) => {
      const out = new Float32Array((before + grid[0] * grid[1]) * depth);
      out.set(values.subarray(0, before * depth));
      const places = values.subarray(before * depth);
      out.set(resampleGrid(places, from, grid, depth, axes[resampling]), before * depth);
      return out;
    },
    sentence: `resampled from ${from.join('x')} to ${grid.join('x')} places ${resamplingRules[resampling]}`,
  };
}

/** How the places of one axis are made of the stored ones: for each, the first, and the weights from there on. */
type Axis = (from: number, to: number) => readonly { readonly first: number; readonly weights: readonly number[] }[];

const axes: Record<Places['resampling'], Axis> = {
  // torch.nn.functional.interpolate(mode='bicubic', antialias=True) has Pillow's weights, a = -0.5 and all: aten's
  // UpSampleKernel.cpp, _compute_indices_weights_aa. timm's resample_abs_pos_embed calls it.
  bicubic_antialias: (from, to) => {
    const axis = pillowAxis('pil_bicubic', { inSize: from, outSize: to, start: 0, count: to });
    return Array.from({ length: to }, (_, i) => ({
      first: axis.starts[i]!,
      weights: [...axis.weights.subarray(i * axis.taps, i * axis.taps + axis.counts[i]!)],
    }));
  },
  // scipy.ndimage.zoom(order=1), which Google's checkpoint.py calls. Where its step times the last index exceeds the
  // last stored place by a rounding (24 to 22), scipy sees a point outside and writes zeros; here it is the corner.
  linear_corners: (from, to) =>
    Array.from({ length: to }, (_, i) => {
      const at = to === 1 ? 0 : Math.min(i * ((from - 1) / (to - 1)), from - 1);
      const first = Math.floor(at);
      return { first, weights: at === first ? [1] : [first + 1 - at, at - first] };
    }),
  // torch.nn.functional.interpolate(mode='bicubic', align_corners=True), which torchvision's interpolate_embeddings calls
  bicubic_corners: (from, to) =>
    Array.from({ length: to }, (_, i) => {
      const at = to === 1 ? 0 : (i * (from - 1)) / (to - 1);
      const before = Math.floor(at);
      const inside = (place: number): number => Math.min(Math.max(place, 0), from - 1);
      const first = inside(before - 1);
      const weights = new Array<number>(inside(before + 2) - first + 1).fill(0);
      for (let place = before - 1; place <= before + 2; place++) {
        weights[inside(place) - first]! += cubicConvolution(Math.abs(at - place));
      }
      return { first, weights };
    }),
};

/** Keys 1981, equation 15, with a = -0.75: aten's UpSample.h, cubic_convolution1 and 2. */
function cubicConvolution(distance: number): number {
  const a = -0.75;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
}

/** `[h, w, depth] -> [H, W, depth]`, along the rows first, in double precision between the two. */
function resampleGrid(
  places: Float32Array,
  from: Places['grid'],
  to: Places['grid'],
  depth: number,
  axis: Axis,
): Float64Array {
  const wide = resampleAxis(places, { outer: from[0], length: from[1], inner: depth }, axis(from[1], to[1]));
  return resampleAxis(wide, { outer: 1, length: from[0], inner: to[1] * depth }, axis(from[0], to[0]));
}

/** `[outer, length, inner] -> [outer, columns, inner]`. */
function resampleAxis(
  values: Float32Array | Float64Array,
  { outer, length, inner }: { readonly outer: number; readonly length: number; readonly inner: number },
  columns: ReturnType<Axis>,
): Float64Array {
  const out = new Float64Array(outer * columns.length * inner);
  for (let o = 0; o < outer; o++) {
    columns.forEach(({ first, weights }, column) => {
      const to = (o * columns.length + column) * inner;
      weights.forEach((weight, i) => {
        const start = (o * length + first + i) * inner;
        for (let k = 0; k < inner; k++) out[to + k]! += values[start + k]! * weight;
      });
    });
  }
  return out;
}
