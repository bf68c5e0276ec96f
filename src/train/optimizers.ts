/** Optimisers: slots, and when which update rule runs. The rules themselves belong to the engine. */
import * as tf from '@tensorflow/tfjs-core';
import type { Updates, Variable } from '../engine/variables.js';
import type { ParameterGroup } from './groups.js';

export const optimizerNames = ['adam', 'adamw', 'sgd', 'rmsprop', 'lion', 'lamb'] as const;
export type OptimizerName = (typeof optimizerNames)[number];

/**
 * How one parameter is treated, apart from the rule that all share. LAMB adapts the steps of what decays, as its authors'
 * code and timm do; without any weight decay too, where timm does not unless it is told to.
 */
export type Treatment = Pick<ParameterGroup, 'lrScale' | 'decays'>;

export interface OptimizerOptions {
  readonly name: OptimizerName;
  /** Of SGD and RMSprop; 0 to below 1. */
  readonly momentum: number;
  /** Of SGD: Nesterov's momentum; not when absent. */
  readonly nesterov?: boolean;
  /**
   * Decoupled (Loshchilov and Hutter 2019, algorithm 2): a step shrinks what decays by the rate times this. LAMB has it
   * within its step.
   */
  readonly weightDecay: number;
  /** Of RMSprop: the share of the old mean square that is kept; 0.9, as Keras has it, when absent. */
  readonly rho?: number;
  /** Of Adam, RMSprop and LAMB; {@link epsilons} when absent. */
  readonly epsilon?: number;
  /**
   * Of Adam: whether epsilon is added to the root of the second moment as it is kept (`raw`: TensorFlow and Keras) or
   * after its bias correction (`corrected`: PyTorch, and Kingma and Ba's algorithm 1). `raw` when absent.
   */
  readonly epsilonRule?: 'raw' | 'corrected';
  /** By parameter path. One that is not there has the rate as it is, and decays if it has more than one dimension. */
  readonly groups?: ReadonlyMap<string, Treatment>;
}

/** Kingma and Ba 2015, algorithm 1; You et al. 2020 have the same. */
const ADAM = { beta1: 0.9, beta2: 0.999 };
/** Chen et al. 2023, algorithm 2. */
const LION = { beta1: 0.9, beta2: 0.99 };
/** keras.optimizers.RMSprop's default, and Hinton's. PyTorch has 0.99. */
const RHO = 0.9;
/** Defaults of keras.optimizers.Adam and RMSprop; that of timm's LAMB, and of its authors' code. */
const epsilons = { adam: 1e-7, adamw: 1e-7, rmsprop: 1e-7, lamb: 1e-6, sgd: 0, lion: 0 };

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

const plain = (variable: Variable): Treatment => ({ lrScale: 1, decays: variable.shape.length > 1 });

/** What one variable's update is given. */
interface Update {
  readonly updates: Updates;
  readonly target: Variable;
  readonly slot: (name: string) => Variable;
  readonly gradient: tf.Tensor;
  /** Of this variable. */
  readonly lr: number;
  readonly group: Treatment;
  /** From 1. */
  readonly step: number;
  readonly options: Required<Omit<OptimizerOptions, 'groups'>>;
}

interface Rule {
  slots(options: OptimizerOptions): readonly string[];
  update(given: Update): void;
}

const adam: Rule = {
  slots: () => ['m', 'v'],
  update: ({ updates, target, slot, gradient, lr, step, options: { epsilon, epsilonRule } }) => {
    // Adding e * sqrt(1 - beta2^t) to the raw root is adding e to the corrected one.
    const correction = epsilonRule === 'raw' ? 1 : Math.sqrt(1 - ADAM.beta2 ** step);
    updates.adam(target, slot('m'), slot('v'), gradient, { ...ADAM, epsilon: epsilon * correction, lr, step });
  },
};

const rules: Readonly<Record<OptimizerName, Rule>> = {
  adam,
  adamw: adam,
  sgd: {
    slots: ({ momentum }) => (momentum > 0 ? ['momentum'] : []),
    update: ({ updates, target, slot, gradient, lr, options: { momentum, nesterov } }) => {
      if (momentum > 0) updates.momentum(target, slot('momentum'), gradient, { lr, momentum, nesterov });
      else updates.descend(target, gradient, lr);
    },
  },
  rmsprop: {
    slots: () => ['square', 'momentum'], // TensorFlow's kernel has both, whatever the momentum is
    update: ({ updates, target, slot, gradient, lr, options: { rho, momentum, epsilon } }) =>
      updates.rmsprop(target, slot('square'), slot('momentum'), gradient, { lr, rho, momentum, epsilon }),
  },
  lion: {
    slots: () => ['m'],
    update: ({ updates, target, slot, gradient, lr }) => updates.lion(target, slot('m'), gradient, { ...LION, lr }),
  },
  lamb: {
    slots: () => ['m', 'v'],
    update: ({ updates, target, slot, gradient, lr, group, step, options: { epsilon, weightDecay } }) => {
      const decay = group.decays ? weightDecay : 0;
      const how = { ...ADAM, lr, epsilon, decay, adapts: group.decays, step };
      updates.lamb(target, slot('m'), slot('v'), gradient, how);
    },
  },
};

/** Makes an optimiser for variables by parameter path. */
export function createOptimizer(
  variables: ReadonlyMap<string, Variable>,
  updates: Updates,
  { groups, ...given }: OptimizerOptions,
): Optimizer {
  const { name, weightDecay } = given;
  const options = { nesterov: false, rho: RHO, epsilon: epsilons[name], epsilonRule: 'raw' as const, ...given };
  const rule = rules[name];
  const slots = new Map<string, Variable>();
  for (const [path, { shape }] of variables) {
    for (const slot of rule.slots(options)) {
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
      updates.together(() => {
        for (const [path, gradient] of gradients) {
          const target = variables.get(path)!;
          const group = groups?.get(path) ?? plain(target);
          const rate = lr * group.lrScale;
          const slot = (each: string): Variable => slots.get(`${path}/${each}`)!;
          if (weightDecay > 0 && group.decays && name !== 'lamb') updates.scale(target, 1 - rate * weightDecay);
          rule.update({ updates, target, slot, gradient, lr: rate, group, step: optimizer.steps, options });
        }
      });
    },
    dispose: () => {
      for (const slot of slots.values()) slot.dispose();
    },
  };
  return optimizer;
}
