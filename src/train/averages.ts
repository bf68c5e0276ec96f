/** Moving averages of what is trained, by which a network is validated and kept. */
import type { Updates, Variable } from '../engine/variables.js';
import type { Optimizer } from './optimizers.js';
import { numbersOf, type TrainableNetwork } from './trainable.js';

export interface AverageOptions {
  /** Share of the old average that an update keeps, above 0 and below 1. */
  readonly decay: number;
  /** Whether the first updates keep less, so that the starting numbers are soon forgotten; they do when absent. */
  readonly warmUp?: boolean;
}

export interface Averages {
  /** By the path of the variable that each follows. */
  readonly variables: ReadonlyMap<string, Variable>;
  /** Moves every average towards its variable. @param updates that the optimiser has done, from 1 */
  update(updates: number): void;
  dispose(): void;
}

/**
 * The share that is kept at an update, `min(decay, (1 + t) / (10 + t))` of t updates: that of
 * tf.train.ExponentialMovingAverage with `num_updates`.
 */
export const decayOf = ({ decay, warmUp = true }: AverageOptions, updates: number): number =>
  warmUp ? Math.min(decay, (1 + updates) / (10 + updates)) : decay;

/**
 * Averages of variables, moving statistics as well, which begin with what the variables are now: `average = decay *
 * average + (1 - decay) * variable`. So are timm's ModelEmaV2 and TensorFlow's; Keras' `use_ema` begins with the weights
 * after the first update, and leaves moving statistics out.
 */
export function startAverages(
  followed: ReadonlyMap<string, Variable>,
  updates: Updates,
  options: AverageOptions,
): Averages {
  const variables = new Map<string, Variable>();
  for (const [path, variable] of followed) {
    const value = variable.read();
    variables.set(path, updates.variable(variable.shape, value));
    value.dispose();
  }
  return {
    variables,
    update: (count) => {
      const share = 1 - decayOf(options, count);
      updates.together(() => {
        for (const [path, average] of variables) updates.average(average, followed.get(path)!, share);
      });
    },
    dispose: () => {
      for (const average of variables.values()) average.dispose();
    },
  };
}

/** The same network with the averages in the place of what they follow: for looking at, not for training. */
export function averaged(
  network: TrainableNetwork,
  { variables }: Averages,
): Pick<TrainableNetwork, 'graph' | 'variables' | 'auxiliary' | 'logits' | 'read'> {
  return {
    graph: network.graph,
    variables,
    auxiliary: network.auxiliary,
    logits: (x) => network.logits(x, variables),
    read: async (path) => {
      const average = variables.get(path);
      return average === undefined ? network.read(path) : numbersOf(average);
    },
  };
}

/**
 * The same optimiser, whose checkpoint has the weights themselves as slots too: the model folder beside it has their
 * averages.
 */
export function keepingWeights(optimizer: Optimizer, variables: ReadonlyMap<string, Variable>): Optimizer {
  const weights = [...variables].map(([path, variable]) => [`${path}/weight`, variable] as const);
  return {
    apply: optimizer.apply,
    get steps() {
      return optimizer.steps;
    },
    set steps(count) {
      optimizer.steps = count;
    },
    slots: new Map([...optimizer.slots, ...weights]),
    dispose: optimizer.dispose,
  };
}
