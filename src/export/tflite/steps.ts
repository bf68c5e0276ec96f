/**
 * A lowered network in steps that TensorFlow Lite has an operator for: biases and activations belong to the operator
 * that they follow, and what the lowering spells out (GELU, hard swish) is one step again.
 */
import type { Attribute, PlainNetwork } from '../lowering/operations.js';

/** A run of numbers of a constant that is added to the result. */
export interface BiasPart {
  readonly name: string;
  readonly first: number;
}

export interface Step {
  /** Of its value. */
  readonly name: string;
  /** As in the lowered network, or `Gelu`, `GeluTanh`, `HardSwish`, `ChannelAffine` (`x * scale + shift`). */
  readonly op: string;
  /** Names of the input, of steps or of constants. */
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly bias?: BiasPart | undefined;
  readonly activation?: 'relu' | 'relu6' | undefined;
}

/** Whole numbers that a step needs and the network has no constant for. */
export interface AddedConstant {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Int32Array;
}

export interface StepNetwork {
  readonly steps: readonly Step[];
  readonly added: readonly AddedConstant[];
}

const kernelOps = new Set(['Conv2D', 'DepthwiseConv2dNative', 'MatMul']);
const activationOps: Readonly<Record<string, 'relu' | 'relu6'>> = { Relu: 'relu', Relu6: 'relu6' };
/** Operators with a place for an activation. @see schema.fbs, fused_activation_function */
const activatable = new Set([...kernelOps, 'AddV2', 'Sub', 'Mul', 'ChannelAffine']);

/** @param numbers the values of constants that steer or scale: scalars, axes, shapes */
export function stepsOf(network: PlainNetwork, numbers: ReadonlyMap<string, ArrayLike<number>>): StepNetwork {
  const added: AddedConstant[] = [];
  let steps: readonly Step[] = withoutIdentities(network);
  steps = withPads(steps, added);
  steps = spelledOut(steps, numbers);
  steps = withBiases(steps, network);
  steps = withChannelAffines(steps, network);
  steps = withActivations(steps);
  return { steps, added };
}

/** Their inputs take over their names. */
function withoutIdentities({ operations }: PlainNetwork): Step[] {
  const names = new Map(
    operations.filter(({ op }) => op === 'Identity').map(({ name, inputs }) => [inputs[0]!, name] as const),
  );
  const renamed = (name: string): string => names.get(name) ?? name;
  return operations
    .filter(({ op }) => op !== 'Identity')
    .map(({ name, op, inputs, attributes }) => ({ name: renamed(name), op, inputs: inputs.map(renamed), attributes }));
}

/** TensorFlow Lite's convolutions know SAME and VALID: what is neither is padded before. */
function withPads(steps: readonly Step[], added: AddedConstant[]): Step[] {
  return steps.flatMap((step) => {
    const padding = step.attributes.padding;
    if (padding?.kind !== 'string' || padding.value !== 'EXPLICIT') return [step];
    const values = Int32Array.from(attributesOf(step).ints('explicit_paddings'));
    const [pad, amounts] = [`${step.name}/Pad`, `${step.name}/paddings`];
    added.push({ name: amounts, shape: [values.length / 2, 2], values });
    const attributes = { ...step.attributes, padding: { kind: 'string', value: 'VALID' } as const };
    const [x, ...rest] = step.inputs as readonly [string, ...string[]];
    return [
      { name: pad, op: 'Pad', inputs: [x, amounts], attributes: {} },
      { ...step, inputs: [pad, ...rest], attributes },
    ];
  });
}

/** What a value is made by, and who uses it. */
class Uses {
  private readonly producers: ReadonlyMap<string, Step>;
  private readonly counts = new Map<string, number>();

  constructor(steps: readonly Step[]) {
    this.producers = new Map(steps.map((step) => [step.name, step]));
    for (const { inputs } of steps) {
      for (const input of inputs) this.counts.set(input, (this.counts.get(input) ?? 0) + 1);
    }
  }

  /** The step of that kind that makes a value nobody else uses. */
  only(name: string, op: string): Step | undefined {
    const step = this.producers.get(name);
    return step?.op === op && this.counts.get(name) === 1 ? step : undefined;
  }

  isOnly(name: string): boolean {
    return this.counts.get(name) === 1;
  }

  by(name: string): Step | undefined {
    return this.producers.get(name);
  }
}

/** Puts one step in the place of the several that the lowering writes an activation in. */
function spelledOut(steps: readonly Step[], numbers: ReadonlyMap<string, ArrayLike<number>>): Step[] {
  const uses = new Uses(steps);
  const is = (name: string, value: number): boolean => {
    const constant = numbers.get(name);
    return constant?.length === 1 && constant[0] === Math.fround(value);
  };
  /** `[x, inner]` where a value is `op(x, constant)`, and its step is nobody else's. */
  const scaled = (name: string, op: 'Mul' | 'AddV2', value: number): Step | undefined => {
    const step = uses.only(name, op);
    return step !== undefined && is(step.inputs[1]!, value) ? step : undefined;
  };
  const gone = new Set<Step>();
  const whole = new Map<Step, Step>();
  const replace = (root: Step, op: string, x: string, inner: readonly (Step | undefined)[]): boolean => {
    if (inner.some((each) => each === undefined)) return false;
    for (const each of inner) gone.add(each!);
    whole.set(root, { name: root.name, op, inputs: [x], attributes: {} });
    return true;
  };
  for (const root of steps.filter(({ op }) => op === 'Mul')) {
    const [left, right] = root.inputs as readonly [string, string];
    // x * (relu6(x + 3) / 6)
    const sixth = scaled(right, 'Mul', 1 / 6);
    const clipped = sixth && uses.only(sixth.inputs[0]!, 'Relu6');
    const moved = clipped && scaled(clipped.inputs[0]!, 'AddV2', 3);
    if (moved?.inputs[0] === left && replace(root, 'HardSwish', left, [sixth, clipped, moved])) continue;
    // (x / 2) * (erf(x / sqrt 2) + 1), or with tanh
    const half = scaled(left, 'Mul', 0.5);
    const sum = scaled(right, 'AddV2', 1);
    const x = half?.inputs[0];
    if (x === undefined || sum === undefined) continue;
    const erf = uses.only(sum.inputs[0]!, 'Erf');
    const argument = erf && scaled(erf.inputs[0]!, 'Mul', Math.SQRT1_2);
    if (argument?.inputs[0] === x && replace(root, 'Gelu', x, [half, sum, erf, argument])) continue;
    // tanh(sqrt(2 / pi) x (0.044715 x^2 + 1))
    const tanh = uses.only(sum.inputs[0]!, 'Tanh');
    const inner = tanh && scaled(tanh.inputs[0]!, 'Mul', Math.sqrt(2 / Math.PI));
    const product = inner && uses.only(inner.inputs[0]!, 'Mul');
    const slope = product && scaled(product.inputs[1]!, 'AddV2', 1);
    const cubic = slope && scaled(slope.inputs[0]!, 'Mul', 0.044715);
    const square = cubic && uses.only(cubic.inputs[0]!, 'Square');
    if (product?.inputs[0] !== x || square?.inputs[0] !== x) continue;
    replace(root, 'GeluTanh', x, [half, sum, tanh, inner, product, slope, cubic, square]);
  }
  return steps.flatMap((step) => (gone.has(step) ? [] : [whole.get(step) ?? step]));
}

/** A bias goes into its kernel's step; behind the concatenation of a grouped convolution, each group takes its part. */
function withBiases(steps: readonly Step[], { constants }: PlainNetwork): Step[] {
  const uses = new Uses(steps);
  const widths = new Map(constants.map(({ name, shape }) => [name, shape.at(-1) ?? 1]));
  const gone = new Set<Step>();
  const changed = new Map<Step, Step>();
  for (const step of steps.filter(({ op }) => op === 'BiasAdd')) {
    const [value, bias] = step.inputs as readonly [string, string];
    const producer = uses.isOnly(value) ? uses.by(value) : undefined;
    if (producer === undefined) continue;
    if (kernelOps.has(producer.op)) {
      gone.add(step);
      changed.set(producer, { ...producer, name: step.name, bias: { name: bias, first: 0 } });
      continue;
    }
    const groups = groupsOf(producer, uses);
    if (groups === undefined) continue;
    gone.add(step);
    changed.set(producer, { ...producer, name: step.name });
    let first = 0;
    for (const group of groups) {
      changed.set(group, { ...group, bias: { name: bias, first } });
      first += widths.get(group.inputs[1]!)!;
    }
  }
  return steps.flatMap((step) => (gone.has(step) ? [] : [changed.get(step) ?? step]));
}

/** A batch norm that stayed apart, or the end of another norm: `x * scale + shift`, a number a channel each. */
function withChannelAffines(steps: readonly Step[], { constants }: PlainNetwork): Step[] {
  const uses = new Uses(steps);
  const channels = new Set(constants.filter(({ shape, use }) => use.kind === 'channel' && shape.length === 1));
  const names = new Set([...channels].map(({ name }) => name));
  const gone = new Set<Step>();
  const changed = new Map<Step, Step>();
  for (const step of steps.filter(({ op }) => op === 'AddV2')) {
    const [value, shift] = step.inputs as readonly [string, string];
    const product = uses.only(value, 'Mul');
    if (product === undefined || !names.has(shift) || !names.has(product.inputs[1]!)) continue;
    gone.add(product);
    changed.set(step, { ...step, op: 'ChannelAffine', inputs: [...product.inputs, shift] });
  }
  return steps.flatMap((step) => (gone.has(step) ? [] : [changed.get(step) ?? step]));
}

/** The convolutions that a concatenation joins, where it joins nothing else and nobody else needs them. */
function groupsOf(step: Step, uses: Uses): Step[] | undefined {
  if (step.op !== 'ConcatV2') return undefined;
  const parts = step.inputs.slice(0, -1).map((name) => uses.only(name, 'Conv2D'));
  return parts.every((part) => part !== undefined) ? parts : undefined;
}

function withActivations(steps: readonly Step[]): Step[] {
  const uses = new Uses(steps);
  const gone = new Set<Step>();
  const changed = new Map<Step, Step>();
  for (const step of steps) {
    const activation = activationOps[step.op];
    if (activation === undefined) continue;
    const value = step.inputs[0]!;
    const producer = uses.isOnly(value) ? uses.by(value) : undefined;
    if (producer === undefined) continue;
    const groups = groupsOf(producer, uses);
    if (groups === undefined && !activatable.has(producer.op)) continue;
    gone.add(step);
    changed.set(producer, { ...producer, name: step.name, ...(groups === undefined ? { activation } : {}) });
    for (const group of groups ?? []) changed.set(group, { ...group, activation });
  }
  return steps.flatMap((step) => (gone.has(step) ? [] : [changed.get(step) ?? step]));
}

/** How the attributes of a step are read. */
export const attributesOf = ({ name, attributes }: Pick<Step, 'name' | 'attributes'>) => ({
  ints: (key: string): readonly number[] => attributeValue(name, attributes[key], 'ints') as readonly number[],
  flag: (key: string): boolean => attributeValue(name, attributes[key], 'bool') as boolean,
  text: (key: string): string => attributeValue(name, attributes[key], 'string') as string,
});

function attributeValue(name: string, attribute: Attribute | undefined, kind: Attribute['kind']): Attribute['value'] {
  if (attribute?.kind !== kind) throw new Error(`${name}: an attribute is ${attribute?.kind}, expected ${kind}`);
  return attribute.value;
}
