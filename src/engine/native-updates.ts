/** Variables and update rules of TensorFlow: resources, and the kernels that write them in place. */
import * as tf from '@tensorflow/tfjs-core';
import { lambStep } from './lamb.js';
import type { NativeHandle, NativeKernels } from './tensorflow.js';
import type { Updates, Variable } from './variables.js';

interface Resource extends Variable {
  readonly handle: NativeHandle;
}

let resources = 0; // every resource of the process has a name of its own

export function nativeUpdates(native: NativeKernels): Updates {
  const type = (name: string) => native.typeAttribute(name, 'float32');
  const flags = [type('T'), native.boolAttribute('use_locking', false)];
  const nesterovFlags = (nesterov: boolean) => [...flags, native.boolAttribute('use_nesterov', nesterov)];
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
  /** `target -= value`, in place: what `value` was made of is gone by then, or TensorFlow would copy the target first. */
  const subtract = (target: Variable, make: () => tf.Tensor): void => {
    const value = tf.tidy(make);
    native.executeRaw('AssignSubVariableOp', [type('dtype')], [handleOf(target), value], 0);
    value.dispose();
  };
  /** Moves a running mean: `beta` is the share of the old one. */
  const blend = (mean: Variable, beta: number, value: () => tf.Tensor): void =>
    subtract(mean, () => tf.mul(tf.sub(mean.read(), value()), 1 - beta));
  /** Half the sum of squares. */
  const squares = (x: tf.Tensor): tf.Tensor => native.execute('L2Loss', [type('T')], [x]);

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
        native.executeRaw('ResourceApplyAdam', nesterovFlags(false), inputs, 0);
      }),
    momentum: (target, accumulator, gradient, { lr, momentum, nesterov }) =>
      withScalars([lr, momentum], (rate, share) => {
        const inputs = [handleOf(target), handleOf(accumulator), rate!, gradient, share!];
        native.executeRaw('ResourceApplyKerasMomentum', nesterovFlags(nesterov), inputs, 0);
      }),
    rmsprop: (target, square, accumulator, gradient, { lr, rho, momentum, epsilon }) =>
      withScalars([lr, rho, momentum, epsilon], (...scalars) => {
        const inputs = [handleOf(target), handleOf(square), handleOf(accumulator), ...scalars, gradient];
        native.executeRaw('ResourceApplyRMSProp', flags, inputs, 0);
      }),
    lion: (target, m, gradient, { lr, beta1, beta2 }) => {
      subtract(target, () => {
        const direction = tf.sign(tf.add(tf.mul(m.read(), beta1), tf.mul(gradient, 1 - beta1)));
        return tf.mul(direction, lr);
      });
      blend(m, beta2, () => gradient);
    },
    lamb: (target, m, v, gradient, step) => {
      blend(m, step.beta1, () => gradient);
      blend(v, step.beta2, () => tf.square(gradient));
      subtract(target, () => lambStep(target.read(), { m: m.read(), v: v.read() }, step, squares));
    },
    descend: (target, gradient, lr) => subtract(target, () => tf.mul(gradient, lr)),
    scale: (target, factor) => subtract(target, () => tf.mul(target.read(), 1 - factor)),
    average: (target, source, share) => {
      const difference = tf.tidy(() => tf.sub(target.read(), source.read()));
      withScalars([share], (alpha) => {
        native.executeRaw('ResourceApplyGradientDescent', flags, [handleOf(target), alpha!, difference], 0);
      });
      difference.dispose();
    },
  };
}
