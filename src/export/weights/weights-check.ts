/** Exported weights, opened again as any published file is: every number has to come back. */
import type { Published } from '../../backbones/index.js';
import { listFaults, ToolkitError } from '../../errors.js';
import { type Layout, relay } from '../../weights/plan/dialects.js';
import { planWeights } from '../../weights/plan/plan.js';
import { openWeights } from '../../weights/source.js';
import type { FileOfWeights } from './weights-files.js';
import type { NetworkToWrite } from './weights-network.js';

/** What was compared. */
export interface WeightsCheck {
  /** Parameters that were read from the file again. */
  readonly parameters: number;
  /** Their numbers, of which each is bit for bit what the model has, but for those of {@link rounded}. */
  readonly numbers: number;
  /**
   * Numbers that are one step of float32 off, since the publisher's network multiplies by another constant and no float32
   * times it gives what the model has.
   */
  readonly rounded: number;
}

/**
 * Opens a written file with the reader of its format, plans it for the variant that it was written as, and compares
 * every parameter with the model's.
 * @throws EXPORT_DIFFERS with every parameter that is not found or has other numbers
 */
export async function checkWeights(
  path: string,
  network: NetworkToWrite,
  published: Published,
  planned: FileOfWeights,
): Promise<WeightsCheck> {
  const source = await openWeights(path);
  const faults: string[] = [];
  const check = { parameters: 0, numbers: 0, rounded: 0 };
  try {
    const found = planWeights(source, network.backbone, published);
    const rows = new Map(found.rows.flatMap((row) => (row.verdict === 'ok' ? [[row.parameter!.path, row]] : [])));
    const written = [...planned.tensors, ...planned.head].flatMap(({ name, parts }) =>
      parts.map((part) => ({ name, ...part })),
    );
    // pictures of another size or number of channels than published: such a parameter has another shape there
    const wanted = new Map(found.graph.parameters.map(({ path: each, shape }) => [each, shape.join()]));
    const names = new Map(source.tensors.map((tensor) => [tensor.name.replace(/:0$/, ''), tensor]));
    for (const { name, parameter, layout } of written) {
      const row = rows.get(parameter.path);
      const isPublished = wanted.get(parameter.path) === parameter.shape.join();
      const tensor = isPublished ? row?.tensor : names.get(name);
      if (tensor === undefined || (isPublished && row?.layout === undefined)) {
        faults.push(`${parameter.path} is not found as ${name}`);
        continue;
      }
      const numbers = relay(await source.read(tensor.name), isPublished ? row!.layout! : layout);
      const differing = compare(await network.read(parameter.path), numbers, layout);
      check.parameters++;
      check.numbers += numbers.length;
      if (differing === undefined) faults.push(`${parameter.path} has other numbers as ${name}`);
      else check.rounded += differing;
    }
  } finally {
    await source.close();
  }
  if (faults.length === 0) return check;
  throw new ToolkitError({
    code: 'EXPORT_DIFFERS',
    message: `${path}: what was written is not what the model has\n${listFaults(faults)}`,
    hint: 'nothing was kept; check the disk, and report this if it happens again',
  });
}

/** How many numbers are a step of float32 off, which only a factor excuses; undefined where any differs by more. */
function compare(wanted: Float32Array, found: Float32Array, { factor }: Layout): number | undefined {
  if (found.length !== wanted.length) return undefined;
  const [a, b] = [wanted, found].map((values) => new Int32Array(values.buffer, values.byteOffset, values.length));
  let steps = 0;
  for (let i = 0; i < wanted.length; i++) {
    if (a![i] === b![i]) continue;
    if (factor === undefined || Math.abs(a![i]! - b![i]!) > 1) return undefined;
    steps++;
  }
  return steps;
}
