/** Optimisers: slots, and when which update rule runs. The rules themselves belong to the engine. */
import * as tf from '@tensorflow/tfjs-core';
import type { Updates, Variable } from '../engine/variables.js';

export const optimizerNames = ['adam', 'adamw', 'sgd'] as const;
export type OptimizerName = (typeof optimizerNames)[number];

export interface OptimizerOptions {
  readonly name: OptimizerName;
  /** Of SGD; 0 to below 1. */
  readonly momentum: number;
  /** Decoupled, of AdamW, and of SGD in the same way; biases and norms are left out. */
  readonly weightDecay: number;
  /** Of Adam; 1e-7, as Keras has it, when absent. */
  readonly epsilon?: number;
  /**
   * Of Adam: whether epsilon is added to the root of the second moment as it is kept (`raw`: TensorFlow and Keras) or
   * after its bias correction (`corrected`: PyTorch, and Kingma and Ba's algorithm 1). `raw` when absent.
   */
  readonly epsilonRule?: 'raw' | 'corrected';
}

/** Kingma and Ba 2015, algorithm 1. */
const ADAM = { beta1: 0.9, beta2: 0.999 };
/** keras.optimizers.Adam's default. */
const EPSILON = 1e-7;

/** Slots by name, for a checkpoint: `<parameter path>/<slot>`. */
export type SlotMap = ReadonlyMap<string, Variable>;

export interface Optimizer {
  /** Changes every variable that has a gradient. */
  apply(gradients: ReadonlyMap<string, tf.Tensor>, lr: number): void;
  /** Updates done so far: part of the state of Adam. */
  steps: number;
  readonly slots: SlotMap;
  dispose(): void;
}

/** Weight decay is for kernels: a bias or a norm's gamma and beta has one dimension (He et al. 2018, section 3.1). */
const decays = (variable: Variable): boolean => variable.shape.length > 1;

/** Makes an optimiser for variables by parameter path. */
export function createOptimizer(
  variables: ReadonlyMap<string, Variable>,
  updates: Updates,
  { name, momentum, weightDecay, epsilon = EPSILON, epsilonRule = 'raw' }: OptimizerOptions,
): Optimizer {
  const slotNames = name === 'sgd' ? (momentum > 0 ? ['momentum'] : []) : ['m', 'v'];
  const slots = new Map<string, Variable>();
  for (const [path, { shape }] of variables) {
    for (const slot of slotNames) {
      const zeros = tf.zeros([...shape]);
      slots.set(`${path}/${slot}`, updates.variable(shape, zeros));
      zeros.dispose();
    }
  }
  const optimizer: Optimizer = {
    steps: 0,
    slots,
    apply: (gradients, lr) => {
      optimizer.steps++;
      // Adding e * sqrt(1 - beta2^t) to the raw root is adding e to the corrected one.
      const correction = epsilonRule === 'raw' ? 1 : Math.sqrt(1 - ADAM.beta2 ** optimizer.steps);
      const adam = { ...ADAM, epsilon: epsilon * correction, lr, step: optimizer.steps };
      updates.together(() => {
        for (const [path, gradient] of gradients) {
          const variable = variables.get(path)!;
          const slot = (each: string): Variable => slots.get(`${path}/${each}`)!;
          if (weightDecay > 0 && decays(variable)) updates.scale(variable, 1 - lr * weightDecay);
          if (name !== 'sgd') updates.adam(variable, slot('m'), slot('v'), gradient, adam);
          else if (momentum > 0)
            updates.momentum(variable, slot('momentum'), gradient, { lr, momentum, nesterov: false });
          else updates.descend(variable, gradient, lr);
        }
      });
    },
    dispose: () => {
      for (const slot of slots.values()) slot.dispose();
    },
  };
  return optimizer;
}
