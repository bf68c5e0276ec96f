/** Which values of a network are computed in 8 bits, and on which grid each of them lies. */
import type { Affine } from './model.js';
import type { Shape } from './shapes.js';
import type { Step } from './steps.js';

/** What values 8 bits should span. */
export interface Range {
  readonly min: number;
  readonly max: number;
  /** Mean square of what rounding takes from a number, as a share of their variance. */
  readonly noise: number;
}

/**
 * What rounds worse than this stays float32. Measured on MobileNet v1 and v2 with ImageNet weights, on photographs: all
 * in 8 bits, 93 and 79 % of the answers stay; with this rule and that of the kernels with more bits, 96 % of both. Then
 * 91 % of v1's multiply-adds are in 8 bits, but 47 % of v2's: the sums that its last blocks hand on reach far, with few
 * numbers there. Four times as much noise lets 66 % in, for 91 % of the answers.
 */
const MOST_NOISE = 2.5e-4;

/** The levels of int8. */
const [LEAST, MOST] = [-128, 127] as const;

/** What the specification fixes for a logistic function's values. @see quantization_spec, LOGISTIC */
const LOGISTIC_GRID: Affine = { scales: [1 / 256], zeroPoints: [-128], dimension: 0 };

/** Input and output must lie on one grid. @see quantization_spec, restriction "must all have same scale/zero_point" */
const sameGrid = new Set(['MaxPool', 'AvgPool', 'Pad', 'PadV2', 'Reshape', 'Transpose', 'Slice', 'Split', 'ConcatV2']);
const kernels = new Set(['Conv2D', 'DepthwiseConv2dNative']);
/** Exact enough in 8 bits where their inputs are in 8 bits anyway. */
const followers = new Set([
  ...sameGrid,
  'MatMul',
  'ChannelAffine',
  'AddV2',
  'Sub',
  'Mul',
  'Mean',
  'Relu',
  'Relu6',
  'Sigmoid',
  'HardSwish',
]);

export interface Grids {
  /** Whether a step computes in 8 bits. */
  readonly isInteger: (step: Step) => boolean;
  /** The grid of a value in 8 bits. */
  readonly gridOf: (name: string) => Affine;
}

/** Where nothing was calibrated, nothing is in 8 bits but weights. */
export const noGrids: Grids = {
  isInteger: () => false,
  gridOf: (name) => {
    throw new Error(`${name} is not in 8 bits`);
  },
};

export interface GridRules {
  /** Name of the normalised pictures. */
  readonly source: string;
  /** Name of the logits. */
  readonly logits: string;
  /** Whether a kernel suffers so much from 8 bits that it has more. */
  readonly isWide: (kernel: string) => boolean;
}

/**
 * Convolutions compute in 8 bits, and so does what lies between them. Norms that are computed from the numbers at hand,
 * attention, GELU, the last softmax and what is added to or multiplied with a constant a place stay float32: their
 * values reach far, or differ little, and 255 levels are too few. So do kernels that have more bits, values that round
 * badly, and the classifier: 255 levels for the logits of a thousand classes would make ties of many answers.
 */
export function gridsOf(
  { source, logits, isWide }: GridRules,
  steps: readonly Step[],
  shapes: ReadonlyMap<string, Shape>,
  ranges: ReadonlyMap<string, Range>,
): Grids {
  const floats = new Set([...stepsOfNorms(steps), ...stepsOfClassifier(steps, logits)]);
  const integer = new Set([source]);
  const isExact = (name: string): boolean => (ranges.get(name)?.noise ?? 0) <= MOST_NOISE;
  const chosen = new Set<Step>();
  for (const step of steps) {
    const values = step.inputs.filter((name) => shapes.get(name)!.batched);
    const operands = step.inputs.filter((name) => !shapes.get(name)!.batched);
    const isBinary = ['AddV2', 'Sub', 'Mul'].includes(step.op);
    const isFollowing =
      followers.has(step.op) &&
      values.length > 0 &&
      values.every((name) => integer.has(name)) &&
      (!isBinary || operands.every((name) => shapes.get(name)!.sizes.length === 0)) &&
      (step.op !== 'ChannelAffine' || shapes.get(step.name)!.sizes.length === 4);
    const isKernel = kernels.has(step.op) && isExact(step.inputs[0]!);
    if (floats.has(step) || !(isKernel || isFollowing)) continue;
    if (!isExact(step.name) || isWide(step.inputs[1] ?? '')) continue;
    chosen.add(step);
    for (const name of outputsOf(step, shapes)) integer.add(name);
  }
  const groups = groupsOf(
    steps.filter((step) => chosen.has(step)),
    shapes,
  );
  const grids = new Map<string, Affine>();
  const members = new Map<string, string[]>();
  const makers = new Map(steps.flatMap((step) => outputsOf(step, shapes).map((name) => [name, step] as const)));
  const names = new Set(
    steps.flatMap((step) => [...step.inputs.filter((name) => shapes.get(name)!.batched), ...outputsOf(step, shapes)]),
  );
  for (const name of names) members.set(groups(name), [...(members.get(groups(name)) ?? []), name]);
  for (const [root, all] of members) {
    const sources = all.filter(
      (name) => !(makers.has(name) && sameGrid.has(makers.get(name)!.op) && chosen.has(makers.get(name)!)),
    );
    const isLogistic = sources.every((name) => makers.get(name)?.op === 'Sigmoid');
    const known = all.flatMap((name) => ranges.get(name) ?? []);
    if (isLogistic) grids.set(root, LOGISTIC_GRID);
    else if (known.length > 0) grids.set(root, gridFor(known));
  }
  return {
    isInteger: (step) => chosen.has(step),
    gridOf: (name) => {
      const grid = grids.get(groups(name));
      if (grid === undefined) throw new Error(`${name}: its range was not measured`);
      return grid;
    },
  };
}

/** Names of a step's values. */
export function outputsOf(step: Step, shapes: ReadonlyMap<string, Shape>): string[] {
  const names = [step.name];
  if (step.op !== 'Split') return names;
  for (let i = 1; shapes.has(`${step.name}:${i}`); i++) names.push(`${step.name}:${i}`);
  return names;
}

/** The mean, what is left without it, and its squares: how every norm starts that is computed from its own input. */
function stepsOfNorms(steps: readonly Step[]): ReadonlySet<Step> {
  const by = new Map(steps.map((step) => [step.name, step]));
  const found = new Set<Step>();
  for (const square of steps.filter(({ op }) => op === 'Square')) {
    const centred = by.get(square.inputs[0]!);
    if (centred?.op !== 'Sub') continue;
    const mean = by.get(centred.inputs[1]!);
    for (const step of [square, centred, mean]) if (step !== undefined) found.add(step);
  }
  return found;
}

/** The last kernel, and what only moves its numbers or takes their mean. */
function stepsOfClassifier(steps: readonly Step[], logits: string): ReadonlySet<Step> {
  const by = new Map(steps.map((step) => [step.name, step]));
  const found = new Set<Step>();
  let step = by.get(logits);
  while (step !== undefined) {
    found.add(step);
    step = ['Reshape', 'Mean', 'Transpose', 'AvgPool'].includes(step.op) ? by.get(step.inputs[0]!) : undefined;
  }
  return found;
}

/** Values that share a grid have the same root. */
function groupsOf(integer: readonly Step[], shapes: ReadonlyMap<string, Shape>): (name: string) => string {
  const parents = new Map<string, string>();
  const root = (name: string): string => {
    const parent = parents.get(name);
    return parent === undefined ? name : root(parent);
  };
  for (const step of integer) {
    if (!sameGrid.has(step.op)) continue;
    const values = [...step.inputs.filter((name) => shapes.get(name)!.batched), ...outputsOf(step, shapes)];
    const [first, ...rest] = values.map(root);
    for (const other of rest) if (root(other) !== root(first!)) parents.set(root(other), root(first!));
  }
  return root;
}

/**
 * Levels that span the ranges and zero, with zero itself one of them.
 * @see Jacob et al. 2018, Quantization and Training of Neural Networks, section 2.1, https://arxiv.org/abs/1712.05877
 */
function gridFor(ranges: readonly Range[]): Affine {
  const low = Math.min(0, ...ranges.map(({ min }) => min));
  const high = Math.max(0, ...ranges.map(({ max }) => max));
  const scale = Math.fround((high - low) / (MOST - LEAST)) || 1;
  const zeroPoint = Math.min(MOST, Math.max(LEAST, Math.round(LEAST - low / scale)));
  return { scales: [scale], zeroPoints: [zeroPoint], dimension: 0 };
}

export { LOGISTIC_GRID };
