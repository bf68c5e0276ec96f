/**
 * In which order the axes of a value lie in memory. TensorFlow's operations have channels last, ONNX' convolutions have
 * them second; every value remembers where its axes are, and is transposed only for an operator that needs them
 * elsewhere.
 */

/** `order[i]` is the axis, as TensorFlow counts them, that is stored at place i. */
export type Order = readonly number[];

/**
 * The batch's length while shapes are inferred: a prime that is no size's factor, so that a length is a multiple of it
 * if and only if the batch is part of it.
 */
export const BATCH = 1_000_003;

export const isBatch = (length: number): boolean => length % BATCH === 0 && length > 0;

/** Channels before places, as ONNX' convolutions and pools take them. */
export const CHANNELS_FIRST: Order = [0, 3, 1, 2];

export const plainOrder = (rank: number): Order => Array.from({ length: rank }, (_, i) => i);

export const sameOrder = (a: Order, b: Order): boolean => a.length === b.length && a.every((axis, i) => axis === b[i]);

export const isPlain = (order: Order): boolean => order.every((axis, i) => axis === i);

/** The lengths as they are stored. */
export const stored = (shape: readonly number[], order: Order): number[] => order.map((axis) => shape[axis]!);

/** What takes `from` to `to`: the attribute `perm` of Transpose. */
export const permutation = (from: Order, to: Order): number[] => to.map((axis) => from.indexOf(axis));

/** Whether two orders are the same numbers in memory: axes of length one may lie anywhere. */
export function sameInMemory(shape: readonly number[], a: Order, b: Order): boolean {
  const long = (order: Order): number[] => order.filter((axis) => shape[axis] !== 1);
  return sameOrder(long(a), long(b));
}

/**
 * The order in which a reshaped value lies in memory when its numbers stay where they are; undefined where the new
 * shape joins or cuts axes that do not lie side by side.
 */
export function reshapedOrder(from: readonly number[], order: Order, to: readonly number[]): Order | undefined {
  const blocks = matchBlocks(from, to);
  if (blocks === undefined) return undefined;
  const blockOf = (axis: number): number => blocks.findIndex(({ before }) => before.includes(axis));
  const long = order.filter((axis) => from[axis] !== 1);
  const result: number[] = [];
  for (let i = 0; i < long.length; ) {
    const block = blocks[blockOf(long[i]!)]!;
    const members = block.before.filter((axis) => from[axis] !== 1);
    if (!sameOrder(long.slice(i, i + members.length), members)) return undefined;
    result.push(...block.after.filter((axis) => to[axis] !== 1));
    i += members.length;
  }
  // Axes of length one go where they make one of the usual orders.
  const usual = [...(to.length === 4 ? [CHANNELS_FIRST] : []), plainOrder(to.length)];
  const found = usual.find((each) => sameInMemory(to, each, [...result, ...onesOf(to)]));
  return found ?? [...result, ...onesOf(to)];
}

const onesOf = (shape: readonly number[]): number[] => shape.flatMap((length, axis) => (length === 1 ? [axis] : []));

interface Block {
  readonly before: number[];
  readonly after: number[];
}

/** The finest runs of axes of both shapes that hold equally many numbers. */
function matchBlocks(from: readonly number[], to: readonly number[]): Block[] | undefined {
  const blocks: Block[] = [];
  let [i, j] = [0, 0];
  while (i < from.length || j < to.length) {
    const block: Block = { before: [], after: [] };
    let [a, b] = [1, 1];
    do {
      if (a <= b && i < from.length) {
        block.before.push(i);
        a *= from[i++]!;
      } else if (j < to.length) {
        block.after.push(j);
        b *= to[j++]!;
      } else return undefined;
    } while (a !== b);
    blocks.push(block);
  }
  // Axes of length one at the end belong to no run.
  return blocks;
}
