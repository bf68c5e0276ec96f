/**
 * Numbers that training changes, and the rules that change them. On TensorFlow a variable is a resource that the fused
 * update kernels write in place; elsewhere it is a tensor that is replaced.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Engine, NativeHandle, NativeKernels } from './tensorflow.js';

export interface Variable {
  readonly shape: readonly number[];
  /** A tensor of the numbers as they are now. The caller disposes of it, before the next update for speed. */
  read(): tf.Tensor;
  /** Takes new numbers of the same shape; the given tensor stays the caller's. */
  assign(value: tf.Tensor): void;
  dispose(): void;
}

/** Settings of one Adam update. `step` counts from 1. */
export interface AdamStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly step: number;
}

export interface MomentumStep {
  readonly lr: number;
  readonly momentum: number;
  readonly nesterov: boolean;
}

/** Update rules. The gradient stays the caller's. */
export interface Updates {
  /** Runs the updates of one step, whose settings then go to the engine once and not once for every variable. */
  together(updates: () => void): void;
  variable(shape: readonly number[], value: tf.Tensor): Variable;
  /**
   * Kingma and Ba 2015, in the form of section 2's last paragraph, which TensorFlow and Keras 2 use: the bias
   * corrections are in the rate, and epsilon is added to the uncorrected root.
   * @see https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam
   */
  adam(target: Variable, m: Variable, v: Variable, gradient: tf.Tensor, step: AdamStep): void;
  /** `accumulator = momentum * accumulator - lr * gradient; target += accumulator`, as Keras' SGD. */
  momentum(target: Variable, accumulator: Variable, gradient: tf.Tensor, step: MomentumStep): void;
  /** `target -= lr * gradient`. */
  descend(target: Variable, gradient: tf.Tensor, lr: number): void;
  /** `target *= factor`. */
  scale(target: Variable, factor: number): void;
}

export function updatesOf(engine: Engine): Updates {
  return engine.native === undefined ? composedUpdates : nativeUpdates(engine.native);
}

// ---- tfjs ------------------------------------------------------------------------------------------------------

function replaceable(shape: readonly number[], value: tf.Tensor): Variable {
  let held = tf.keep(tf.clone(value));
  return {
    shape,
    read: () => tf.clone(held),
    assign: (fresh) => {
      const next = tf.keep(tf.clone(fresh));
      held.dispose();
      held = next;
    },
    dispose: () => held.dispose(),
  };
}

const change = (target: Variable, next: (now: tf.Tensor) => tf.Tensor): void =>
  tf.tidy(() => target.assign(next(target.read())));

const composedUpdates: Updates = {
  together: (updates) => updates(),
  variable: replaceable,
  adam: (target, m, v, gradient, { lr, beta1, beta2, epsilon, step }) => {
    const rate = (lr * Math.sqrt(1 - beta2 ** step)) / (1 - beta1 ** step);
    change(m, (now) => tf.add(tf.mul(now, beta1), tf.mul(gradient, 1 - beta1)));
    change(v, (now) => tf.add(tf.mul(now, beta2), tf.mul(tf.square(gradient), 1 - beta2)));
    change(target, (now) => tf.sub(now, tf.div(tf.mul(m.read(), rate), tf.add(tf.sqrt(v.read()), epsilon))));
  },
  momentum: (target, accumulator, gradient, { lr, momentum, nesterov }) => {
    change(accumulator, (now) => tf.sub(tf.mul(now, momentum), tf.mul(gradient, lr)));
    change(target, (now) =>
      nesterov
        ? tf.sub(tf.add(now, tf.mul(accumulator.read(), momentum)), tf.mul(gradient, lr))
        : tf.add(now, accumulator.read()),
    );
  },
  descend: (target, gradient, lr) => change(target, (now) => tf.sub(now, tf.mul(gradient, lr))),
  scale: (target, factor) => change(target, (now) => tf.mul(now, factor)),
};

// ---- TensorFlow ------------------------------------------------------------------------------------------------

interface Resource extends Variable {
  readonly handle: NativeHandle;
}

let resources = 0; // every resource of the process has a name of its own

function nativeUpdates(native: NativeKernels): Updates {
  const type = (name: string) => native.typeAttribute(name, 'float32');
  const flags = (nesterov: boolean) => [
    type('T'),
    native.boolAttribute('use_locking', false),
    native.boolAttribute('use_nesterov', nesterov),
  ];
  const handleOf = (variable: Variable): NativeHandle => (variable as Resource).handle;
  let shared: Map<number, tf.Tensor> | undefined; // while updates run together
  const scalarOf = (value: number): tf.Tensor => {
    const scalar = shared?.get(value) ?? tf.keep(tf.scalar(value));
    shared?.set(value, scalar);
    return scalar;
  };
  const withScalars = (values: readonly number[], use: (...scalars: tf.Tensor[]) => void): void => {
    const scalars = values.map(scalarOf);
    use(...scalars);
    if (shared === undefined) tf.dispose(scalars);
  };
  /** The operation that adds or subtracts in place. */
  const assignBy = (op: 'AssignSubVariableOp', target: Variable, value: tf.Tensor): void => {
    native.executeRaw(op, [type('dtype')], [handleOf(target), value], 0);
  };

  return {
    together: (updates) => {
      shared = new Map();
      try {
        updates();
      } finally {
        tf.dispose([...shared.values()]);
        shared = undefined;
      }
    },
    variable: (shape, value) => {
      const handle = native.executeRaw(
        'VarHandleOp',
        [
          type('dtype'),
          native.shapeAttribute('shape', shape),
          native.stringAttribute('container', ''),
          native.stringAttribute('shared_name', `tl_variable_${resources++}`),
        ],
        [],
        1,
      )[0]!;
      const resource: Resource = {
        shape,
        handle,
        read: () => native.toTensor(native.executeRaw('ReadVariableOp', [type('dtype')], [handle], 1)[0]!),
        assign: (fresh) => {
          native.executeRaw('AssignVariableOp', [type('dtype')], [handle, fresh], 0);
        },
        dispose: () => {
          native.executeRaw('DestroyResourceOp', [native.boolAttribute('ignore_lookup_error', true)], [handle], 0);
          native.release(handle);
        },
      };
      resource.assign(value);
      return resource;
    },
    adam: (target, m, v, gradient, { lr, beta1, beta2, epsilon, step }) =>
      withScalars([beta1 ** step, beta2 ** step, lr, beta1, beta2, epsilon], (...scalars) => {
        const inputs = [handleOf(target), handleOf(m), handleOf(v), ...scalars, gradient];
        native.executeRaw('ResourceApplyAdam', flags(false), inputs, 0);
      }),
    momentum: (target, accumulator, gradient, { lr, momentum, nesterov }) =>
      withScalars([lr, momentum], (rate, share) => {
        const inputs = [handleOf(target), handleOf(accumulator), rate!, gradient, share!];
        native.executeRaw('ResourceApplyKerasMomentum', flags(nesterov), inputs, 0);
      }),
    descend: (target, gradient, lr) => tf.tidy(() => assignBy('AssignSubVariableOp', target, tf.mul(gradient, lr))),
    scale: (target, factor) =>
      tf.tidy(() => assignBy('AssignSubVariableOp', target, tf.mul(target.read(), 1 - factor))),
  };
}
