/**
 * Networks that normalise their pixels themselves keep the mean and variance in the file, beside the weights. Pictures are
 * prepared as the publisher's were; a file that was trained on others is told.
 */
import type { TensorSource } from '../source.js';
import type { Adaptation } from './adaptations.js';
import type { Plan } from './plan.js';

/** Published means and deviations have three digits. */
const TOLERANCE = 1e-3;

/** What the file's own layer says against the preprocessing record; none where it agrees or has no such layer. */
export async function pixelsToldApart(tensors: TensorSource, { published, rows }: Plan): Promise<Adaptation[]> {
  const layer = published.reference?.pixels?.layer;
  if (layer === undefined) return [];
  const nameOf = (leaf: string): string | undefined =>
    rows.find(
      ({ verdict, tensor }) =>
        verdict === 'set_aside' && new RegExp(`(^|/)${layer}(_\\d+)?/${leaf}$`).test(tensor!.name),
    )?.tensor?.name;
  const names = { mean: nameOf('mean'), variance: nameOf('variance') };
  if (names.mean === undefined || names.variance === undefined) return [];
  const mean = await tensors.read(names.mean);
  const variance = await tensors.read(names.variance);
  const { mean: means, std } = published.preprocessing;
  const close = (values: Float32Array, expected: readonly number[]): boolean =>
    values.length === expected.length && expected.every((each, i) => Math.abs(values[i]! - each) <= TOLERANCE);
  // the published files of Keras' EfficientNets hold deviations as variances, and their network makes up for it
  const agrees =
    close(mean, means) &&
    (close(variance, std) ||
      close(
        variance,
        std.map((each) => each ** 2),
      ));
  if (agrees) return [];
  const shown = (values: Float32Array): string =>
    `[${[...values].map((each) => Number(each.toPrecision(4))).join(', ')}]`;
  return [
    {
      kind: 'other_pixels',
      tensors: [names.mean, names.variance],
      text:
        `${layer}: the file's mean ${shown(mean)} and variance ${shown(variance)} are not the published ones; ` +
        `pictures are normalised with mean [${means.join(', ')}] and deviation [${std.join(', ')}]`,
    },
  ];
}
