/** A run in phases: each trains more of the network than the one before it. */
import { type Graph, tapOf } from '../engine/graph.js';
import { UsageError } from '../errors.js';
import type { FinetuneSettings } from './settings/settings.js';
import { cutBefore } from './strategy.js';

/** Epochs of a run in which the same part of the network is trained. */
export interface Phase {
  /** Its first epoch, from 1. */
  readonly first: number;
  /** Its last epoch. */
  readonly last: number;
  /** The tap that ends the frozen part. */
  readonly cut: string | undefined;
  /** The highest learning rate. */
  readonly lr: number;
  /** The epochs over which the learning rate's schedule runs: this phase alone, or the whole run. */
  readonly schedule: { readonly first: number; readonly last: number };
}

/** What the rate is divided by where a second stage has none of its own: as `defaultLr` has it for a head and for more. */
const UNFREEZE_DIVIDES = 10;

/**
 * The phases of a run.
 *
 * - Two stages: the head alone, then what `cut` leaves, at a lower rate and with a schedule of its own. Keras' guide to
 *   transfer learning, https://keras.io/guides/transfer_learning/; fastai's `fine_tune`.
 * - Gradual: the head alone, then one more stage of the network after every `gradual` epochs, the last stages first; one
 *   schedule over all. Howard and Ruder 2018, section 3.3, https://arxiv.org/abs/1801.06146
 *
 * A phase begins with the model that the one before it ended with, and with an optimiser that remembers nothing.
 * @param cut what is frozen at the end
 * @param lr the highest rate, of the first phase
 * @throws BAD_OPTION where the epochs do not suffice
 */
export function phasesOf(
  { epochs, twoStage, unfreezeLr, gradual }: FinetuneSettings,
  graph: Graph,
  { cut, lr }: { readonly cut: string | undefined; readonly lr: number },
): readonly Phase[] {
  const whole = { first: 1, last: epochs };
  if (twoStage !== undefined) {
    const [head, rest] = [
      { first: 1, last: twoStage },
      { first: twoStage + 1, last: epochs },
    ];
    return [
      { ...head, cut: HEAD_ONLY, lr, schedule: head },
      { ...rest, cut, lr: unfreezeLr ?? lr / UNFREEZE_DIVIDES, schedule: rest },
    ];
  }
  if (gradual === undefined) return [{ ...whole, cut, lr, schedule: whole }];
  const steps = unfreezing(graph, cut);
  const needed = (steps.length - 1) * gradual + 1;
  if (epochs < needed) {
    throw new UsageError({
      code: 'BAD_OPTION',
      message:
        `--gradual ${gradual}: this network is unfrozen in ${steps.length - 1} steps, which takes ${needed} epochs at ` +
        `the least; the run has ${epochs}`,
      hint: `give --epochs ${needed} or more, fewer epochs to --gradual, or freeze more with --freeze`,
    });
  }
  return steps.map((each, i) => ({
    first: i * gradual + 1,
    last: i === steps.length - 1 ? epochs : (i + 1) * gradual,
    cut: each,
    lr,
    schedule: whole,
  }));
}

/** All that comes before the head is frozen. */
const HEAD_ONLY = 'pre_logits';

/** Cuts from that before the head back to `end`, one before each stage. */
function unfreezing(graph: Graph, end: string | undefined): (string | undefined)[] {
  const idOf = (tap: string | undefined): number => (tap === undefined ? -1 : tapOf(graph, tap).id);
  const before = stagesOf(graph).flatMap(([first]) => cutBefore(graph, first!) ?? []);
  const between = [...new Set(before)].filter((tap) => idOf(tap) > idOf(end) && idOf(tap) < idOf(HEAD_ONLY));
  return [HEAD_ONLY, ...between.sort((a, b) => idOf(b) - idOf(a)), end];
}

/** Parts that a network is unfrozen in where all of its blocks are alike. */
const QUARTERS = 4;

/**
 * The blocks of a network, by stage: as their names have it, else by the size of what they give, as the papers of
 * networks without named stages count them (Sandler et al. 2018, table 2); quarters of a transformer's, whose blocks all
 * give the same.
 */
function stagesOf(graph: Graph): string[][] {
  const stages = new Map<string, string[]>();
  for (const block of graph.blocks) {
    const dot = block.lastIndexOf('.');
    const last = graph.nodes.findLast(({ path }) => path.startsWith(`${block}.`))!;
    const stage = dot < 0 ? `of ${last.shape.slice(0, -1)}` : block.slice(0, dot);
    stages.set(stage, [...(stages.get(stage) ?? []), block]);
  }
  if (stages.size > 1) return [...stages.values()];
  const length = Math.ceil(graph.blocks.length / QUARTERS);
  return Array.from({ length: QUARTERS }, (_, i) => graph.blocks.slice(i * length, (i + 1) * length)).filter(
    (blocks) => blocks.length > 0,
  );
}

/**
 * Whether a run ends before its last epoch: so many epochs of its last phase had no better model.
 * @param best the epoch of the best model so far
 */
export function endsEarly(
  { patience }: Pick<FinetuneSettings, 'patience'>,
  last: Phase,
  { epoch, best }: { readonly epoch: number; readonly best: number },
): boolean {
  return patience !== undefined && epoch - Math.max(best, last.first - 1) >= patience;
}
