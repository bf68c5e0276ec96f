/** Moving the axes of a tensor: what takes longest of an import where a publisher lays its kernels out another way. */
import type { Shape } from '../../engine/graph.js';

/** Numbers of one cache line (64 bytes): so many are written one after the other, each out of its own line. */
const LINE = 16;

/** Lines of the result that are filled in turn. Each may lie in a page of its own, and processors know some hundred (TLB). */
const PAGES = 128;

/** How the places of some axes lie in a tensor, before and after it is permuted. */
interface Axis {
  readonly size: number;
  readonly from: number;
  readonly to: number;
}

/** Settings of {@link permute}. */
export interface PermuteOptions {
  readonly range?: readonly [begin: number, end: number];
  readonly memory?: Memory;
}

/** Where results are put: an array of so many numbers, whatever is in it. */
export type Memory = (length: number) => Float32Array;

/** The same two arrays in turn, so that one can still be written to a file while the other is filled. */
export function twoArrays(): Memory {
  const arrays = [new Float32Array(0), new Float32Array(0)] as [Float32Array, Float32Array];
  let turn: 0 | 1 = 0;
  return (length) => {
    turn = turn === 0 ? 1 : 0;
    if (arrays[turn].length < length) arrays[turn] = new Float32Array(length);
    return arrays[turn].subarray(0, length);
  };
}

/**
 * Moves axes: `permutation[i]` is the axis of `shape` that becomes axis i. Values are in C order before and after.
 * @param options.range of the first axis of the result: only that part of it is given; default all of it
 * @param options.memory gives the array to put it in; default a new one
 */
export function permute(
  values: Float32Array,
  shape: Shape,
  permutation: readonly number[],
  { range, memory = (length) => new Float32Array(length) }: PermuteOptions = {},
): Float32Array {
  const stride = (sizes: Shape, axis: number): number => sizes.slice(axis + 1).reduce((a, b) => a * b, 1);
  const sizes = permutation.map((axis) => shape[axis]!);
  const [begin, end] = range ?? [0, sizes[0] ?? 1];
  const row = stride(sizes, 0);
  const own = range === undefined ? values : values.subarray(begin * stride(shape, permutation[0]!));
  const out = memory((end - begin) * row);
  if (out.length === 0) return out;
  const axes = permutation.map((axis, i): Axis => {
    return { size: i === 0 ? end - begin : sizes[i]!, from: stride(shape, axis), to: stride(sizes, i) };
  });
  const outer = joined(axes);
  const last = outer.pop() ?? { size: 1, from: 1, to: 1 };
  if (last.from === 1) copyRuns(own, out, outer, last.size);
  else turn(own, out, outer, last);
  return out;
}

/** Fewer axes that say the same: none of one place, and none that follows another one before and after. */
function joined(axes: readonly Axis[]): Axis[] {
  const out: Axis[] = [];
  for (const axis of axes) {
    const { size, from, to } = axis;
    const before = out.at(-1);
    if (size === 1) continue;
    if (before?.from === size * from && before.to === size * to)
      out.splice(-1, 1, { ...axis, size: before.size * size });
    else out.push(axis);
  }
  return out;
}

/** The last axis stays the last: its runs are copied as they are. */
function copyRuns(values: Float32Array, out: Float32Array, outer: readonly Axis[], length: number): void {
  walk(outer, (from, to) => out.set(values.subarray(from, from + length), to));
}

/**
 * Another axis becomes the last. A cache line of the result is filled from as many places of the tensor, which all move on
 * together through the tensor as it lies: each of its lines is then read once. They move no further than the processor
 * has pages of the result at hand.
 */
function turn(values: Float32Array, out: Float32Array, outer: readonly Axis[], { size, from: step }: Axis): void {
  const inOrder = [...outer].sort((a, b) => b.from - a.from);
  const one: Axis = { size: 1, from: 0, to: 0 };
  const [inner, middle] = [inOrder.pop() ?? one, inOrder.pop() ?? one];
  const innerStep = Math.min(inner.size, PAGES);
  const middleStep = Math.max(1, Math.floor(PAGES / innerStep));
  const steps: Axis[] = [
    { size: Math.ceil(middle.size / middleStep), from: middleStep, to: 0 },
    { size: Math.ceil(inner.size / innerStep), from: 0, to: innerStep },
  ];
  walk(steps, (middleBegin, innerBegin) => {
    const middleEnd = Math.min(middle.size, middleBegin + middleStep);
    const innerEnd = Math.min(inner.size, innerBegin + innerStep);
    for (let first = 0; first < size; first += LINE) {
      const count = Math.min(LINE, size - first);
      walk(inOrder, (from, to) => {
        for (let j = middleBegin; j < middleEnd; j++) {
          for (let i = innerBegin; i < innerEnd; i++) {
            let source = from + j * middle.from + i * inner.from + first * step;
            const target = to + j * middle.to + i * inner.to + first;
            for (let k = target; k < target + count; k++) {
              out[k] = values[source]!;
              source += step;
            }
          }
        }
      });
    }
  });
}

/** Every place of some axes, the last one fastest. */
function walk(axes: readonly Axis[], visit: (from: number, to: number) => void): void {
  const places = axes.reduce((product, { size }) => product * size, 1);
  const index = new Array<number>(axes.length).fill(0);
  let [from, to] = [0, 0];
  for (let n = 0; n < places; n++) {
    visit(from, to);
    for (let i = axes.length - 1; i >= 0; i--) {
      const { size, from: inStep, to: outStep } = axes[i]!;
      from += inStep;
      to += outStep;
      if (++index[i]! < size) break;
      from -= inStep * size;
      to -= outStep * size;
      index[i] = 0;
    }
  }
}
