/** In which order an epoch shows the pictures, and which of them. */
import { rng } from '../rng.js';

/** `shuffle`: every picture once, in random order; `balanced`: as many of every class, drawn with replacement. */
export const samplers = ['shuffle', 'balanced'] as const;
export type Sampler = (typeof samplers)[number];

/** What stands for as much of every class: of a sampler, and of class weights. */
export const BALANCED = 'balanced';

/** What an epoch's order is drawn from. */
export interface OrderOptions {
  readonly seed: number;
  /** `shuffle` when absent. */
  readonly sampler?: Sampler | undefined;
}

/**
 * Positions of the pictures that an epoch shows, as many as there are. `balanced` draws each of them from a class that is
 * drawn first, all with the same chance: torch.utils.data.WeightedRandomSampler with a weight of 1 over the pictures of
 * its class. A picture of a small class comes more than once, in the same view.
 * @param epoch from 1
 */
export function orderOf(
  samples: readonly { readonly label: number }[],
  { seed, sampler = 'shuffle' }: OrderOptions,
  epoch: number,
): number[] {
  const random = rng(seed).split(`epoch ${epoch}`).split('order');
  if (sampler === 'shuffle') return random.shuffle(samples.map((_, position) => position));
  const classes = new Map<number, number[]>();
  for (const [position, { label }] of samples.entries()) {
    const members = classes.get(label) ?? [];
    members.push(position);
    classes.set(label, members);
  }
  const members = [...classes].sort(([a], [b]) => a - b).map(([, positions]) => positions);
  return samples.map(() => {
    const drawn = members[random.integer(members.length)]!;
    return drawn[random.integer(drawn.length)]!;
  });
}
