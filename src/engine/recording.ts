/**
 * What an eager computation did, operation by operation, so that it can be run again as one graph. Shapes are those of
 * the recorded run; nothing in it may depend on the numbers.
 */
import type { NativeAttribute } from './tensorflow-types.js';

/** A value by the operation that gives it and the position of its output: `n3:0`. */
export type ValueName = string;

export interface RecordedOperation {
  readonly name: string;
  /** Of TensorFlow. */
  readonly op: string;
  readonly attributes: readonly NativeAttribute[];
  readonly inputs: readonly ValueName[];
  /** Names of operations that have to be done before, beside those that give the inputs. */
  readonly after?: readonly string[];
  readonly outputs: readonly { readonly dtype: number; readonly shape: readonly number[] }[];
}

/** A tensor that came from JavaScript while recording. */
export interface RecordedConstant {
  readonly name: string;
  readonly dtype: number;
  readonly shape: readonly number[];
  /** In C order, little-endian. */
  readonly bytes: Uint8Array;
}

export interface RecordedInput {
  readonly name: string;
  readonly dtype: number;
  readonly shape: readonly number[];
}

export interface Recording {
  readonly inputs: readonly RecordedInput[];
  readonly constants: readonly RecordedConstant[];
  /** In the order in which they ran. */
  readonly operations: readonly RecordedOperation[];
  readonly outputs: readonly ValueName[];
}

/** The operation of a value, without the position of its output. */
export const operationOf = (value: ValueName): string => value.slice(0, value.indexOf(':'));

/** What a value of a recording is, by its name. */
export function valuesOf({ inputs, constants, operations }: Recording): Map<ValueName, RecordedInput> {
  const single = [...inputs, ...constants].map(
    (each) => [`${each.name}:0`, each] as [ValueName, Omit<RecordedInput, 'bytes'>],
  );
  const many = operations.flatMap(({ name, outputs }) =>
    outputs.map((output, i): [ValueName, RecordedInput] => [`${name}:${i}`, { name, ...output }]),
  );
  return new Map([...single, ...many]);
}

/** The calls of a binding that make tensors, as it has them. */
export interface RecordedCalls {
  executeOp(
    op: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly number[],
    outputs: number,
    /** Tensors that have to be there before, beside the inputs: of a graph alone. */
    after?: readonly number[],
  ): { readonly id: number; readonly shape: readonly number[]; readonly dtype: number }[];
  createTensor(shape: readonly number[], dtype: number, values: ArrayBufferView): number;
}

export interface Recorder {
  /** The same calls, written down. */
  readonly calls: RecordedCalls;
  /** Names a tensor that stands for a value given anew each time. */
  input(id: number, dtype: number, shape: readonly number[]): void;
  /** Ends the recording. @param outputs identities of the tensors that are wanted */
  finish(outputs: readonly number[]): Recording;
}

/** @param real the calls that do the work */
export function startRecorder(real: RecordedCalls): Recorder {
  const values = new Map<number, ValueName>();
  const inputs: RecordedInput[] = [];
  const constants: RecordedConstant[] = [];
  const operations: RecordedOperation[] = [];
  const known = (id: number, by: string): ValueName => {
    const value = values.get(id);
    if (value !== undefined) return value;
    throw new Error(`${by} uses a tensor that was there before the recording and is no input of it`);
  };
  return {
    calls: {
      executeOp: (op, attributes, ids, count, after) => {
        const made = real.executeOp(op, attributes, ids, count);
        const name = `n${operations.length}`;
        operations.push({
          name,
          op,
          attributes: attributes.map((each) => ({ ...each })),
          inputs: ids.map((id) => known(id, op)),
          ...(after === undefined ? {} : { after: after.map((id) => operationOf(known(id, op))) }),
          outputs: made.map(({ dtype, shape }) => ({ dtype, shape: [...shape] })),
        });
        made.forEach(({ id }, i) => {
          values.set(id, `${name}:${i}`);
        });
        return made;
      },
      createTensor: (shape, dtype, data) => {
        const id = real.createTensor(shape, dtype, data);
        const name = `c${constants.length}`;
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
        constants.push({ name, dtype, shape: [...shape], bytes });
        values.set(id, `${name}:0`);
        return id;
      },
    },
    input: (id, dtype, shape) => {
      const name = `x${inputs.length}`;
      inputs.push({ name, dtype, shape: [...shape] });
      values.set(id, `${name}:0`);
    },
    finish: (ids) => {
      const found = valuesOf({ inputs, constants, operations, outputs: [] });
      const outputs = ids.map((id, i): ValueName => {
        // A name of its own for each, as a value may be wanted twice, or be an input.
        const value = known(id, 'the result');
        const { dtype, shape } = found.get(value)!;
        const name = `y${i}`;
        operations.push({ name, op: 'Identity', attributes: [], inputs: [value], outputs: [{ dtype, shape }] });
        return `${name}:0`;
      });
      return { inputs, constants, operations, outputs };
    },
  };
}
