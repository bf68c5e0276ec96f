/** What turns gradients into a better network, as a run's settings have it: optimiser, clipping, groups of batches, averages. */

import { clipperOf } from '../engine/global-norm.js';
import type { Graph } from '../engine/graph.js';
import type { Engine } from '../engine/tensorflow.js';
import { averaged, keepingWeights, startAverages } from './averages.js';
import { groupsOf } from './groups.js';
import { createOptimizer, type Optimizer } from './optimizers.js';
import { BALANCED } from './sampling.js';
import { defaultMomentum } from './settings/complete.js';
import type { FinetuneSettings } from './settings/settings.js';
import type { TrainableNetwork } from './trainable.js';
import { type Updater, updaterOf } from './updater.js';

export interface Optimising {
  /** Its slots are all that a checkpoint has to hold beside {@link Optimising.kept}. */
  readonly optimizer: Optimizer;
  readonly updater: Updater;
  /** The network as it is validated, and as its models are written: itself, or its averages. */
  readonly kept: Pick<TrainableNetwork, 'graph' | 'variables' | 'auxiliary' | 'logits' | 'read'>;
  dispose(): void;
}

export type OptimisingSettings = Pick<
  FinetuneSettings,
  'optimizer' | 'momentum' | 'nesterov' | 'accumulate' | 'clipNorm' | 'ema' | 'layerDecay'
>;

/** Makes ready what a run's settings ask for. A network that goes on after a stop has its averages in its variables. */
export function startOptimising(
  network: TrainableNetwork,
  { engine, graph }: { readonly engine: Engine; readonly graph: Graph },
  { optimizer: name, momentum, nesterov, accumulate, clipNorm, ema, layerDecay }: OptimisingSettings,
  weightDecay: number,
): Optimising {
  const optimizer = createOptimizer(network.trainable, network.updates, {
    name,
    momentum: momentum ?? defaultMomentum(name),
    nesterov: nesterov ?? false,
    weightDecay,
    groups: groupsOf(graph, layerDecay),
  });
  const clipper = clipNorm === undefined ? undefined : clipperOf(engine, clipNorm);
  const averages = ema === undefined ? undefined : startAverages(network.variables, network.updates, { decay: ema });
  const updater = updaterOf({ optimizer, accumulate, clipper, averages });
  return {
    optimizer: averages === undefined ? optimizer : keepingWeights(optimizer, network.variables),
    updater,
    kept: averages === undefined ? network : averaged(network, averages),
    dispose: () => {
      updater.dispose();
      averages?.dispose();
      clipper?.dispose();
      optimizer.dispose();
    },
  };
}

/** What a run's optimisation has beyond what every run has, for a model card. */
export function describeOptimising(settings: FinetuneSettings): Readonly<Record<string, string | number>> {
  const { optimizer, momentum = defaultMomentum(optimizer), nesterov, warmupEpochs, classWeights } = settings;
  const { clipNorm, accumulate, ema, focal, sampler } = settings;
  const told: Readonly<Record<string, string | number | undefined>> = {
    momentum: momentum > 0 && ['sgd', 'rmsprop'].includes(optimizer) ? momentum : undefined,
    'momentum by': nesterov === true ? 'Nesterov' : undefined,
    'warm-up': warmupEpochs > 0 ? `${warmupEpochs} epochs` : undefined,
    'gradients clipped at a norm of': clipNorm,
    'batches an update': accumulate === 1 ? undefined : accumulate,
    'averages of the weights': ema === undefined ? undefined : `of which an update keeps ${ema}`,
    'focal loss': focal === undefined ? undefined : `gamma ${focal}`,
    'class weights': classWeights === undefined || classWeights === BALANCED ? classWeights : 'of a file',
    sampler: sampler === 'shuffle' ? undefined : sampler,
  };
  const known = Object.entries(told).filter((entry): entry is [string, string | number] => entry[1] !== undefined);
  return Object.fromEntries(known);
}
