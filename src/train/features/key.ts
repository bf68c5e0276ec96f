/** What a kept row is a function of, as a name: the frozen part of the network, what is done to pictures, the picture. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { pictureName } from '../../augment/augment.js';
import type { ImageSize } from '../../augment/image.js';
import type { Preprocessing } from '../../augment/preprocessing.js';
import { type AugmentRecipe, recipeName } from '../../augment/recipe.js';
import { cutAt, type Graph } from '../../engine/graph.js';
import type { ReadParameter } from '../../engine/network.js';
import type { Precision } from '../../engine/precision.js';
import type { Engine } from '../../engine/tensorflow.js';
import { bytesOf } from '../../weights/float-formats.js';
import type { RowPrecision } from './places.js';

/** A SHA-256, 64 hexadecimal digits. */
export type Print = string;

const print = (...parts: readonly (string | Uint8Array)[]): Print => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

/** Reads parameters as before, and takes the print of each on the way: nothing is read twice for its sake. */
export interface PrintingReader {
  readonly read: ReadParameter;
  /** Of the numbers of parameters; those that nobody asked for yet are read now. */
  printOf(paths: readonly string[]): Promise<Print>;
}

export function printingReader(read: ReadParameter): PrintingReader {
  const prints = new Map<string, Print>();
  const printed = async (path: string): Promise<Float32Array> => {
    const numbers = await read(path);
    if (!prints.has(path)) prints.set(path, print(bytesOf(numbers)));
    return numbers;
  };
  return {
    read: printed,
    printOf: async (paths) => {
      for (const path of paths) if (!prints.has(path)) await printed(path);
      return print(...paths.map((path) => `${path} ${prints.get(path)}\n`));
    },
  };
}

/** What decides the frozen part's output for a picture, besides the picture. */
export interface FrozenPart {
  readonly graph: Graph;
  /** The tap that ends it. */
  readonly cut: string;
  readonly engine: Pick<Engine, 'name' | 'version' | 'device'>;
  /** Of the computation. */
  readonly precision: Precision;
  readonly preprocessing: Preprocessing;
  readonly size: ImageSize;
  /** Of the rows. */
  readonly rowPrecision: RowPrecision;
  /** Of this toolkit: another one may add in another order. */
  readonly toolkit: string;
}

/** The name of everything that two pictures' rows have in common; the numbers of the weights count, not their file. */
export async function frozenPrint(part: FrozenPart, reader: PrintingReader): Promise<Print> {
  const { graph, cut, engine, ...rest } = part;
  const { before } = cutAt(graph, cut, 'logits');
  const structure = before.map(({ path, operation, inputs, shape }) => [
    path,
    operation,
    inputs.map((input) => input.path),
    shape,
  ]);
  const weights = await reader.printOf(before.flatMap(({ parameters }) => parameters.map(({ path }) => path)));
  const { name, version, device } = engine;
  return print(JSON.stringify([{ name, version, device }, rest, structure, weights]));
}

/** Files read at a time: Node has four threads for that (UV_THREADPOOL_SIZE). */
const READ_AT_ONCE = 4;

/**
 * The contents of files, by path. They are read whole every time: a name made of size and time would be fooled by a
 * copy that keeps both, and reading 1,000 pictures of 60 kB takes 0.1 s.
 * @returns nothing for a file that cannot be read, which whoever decodes it will say
 */
export async function contentPrints(paths: readonly string[]): Promise<Map<string, Print>> {
  const prints = new Map<string, Print>();
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < paths.length) {
      const path = paths[next++]!;
      const bytes = await readFile(path).catch(() => undefined);
      if (bytes !== undefined) prints.set(path, print(bytes));
    }
  };
  await Promise.all(Array.from({ length: READ_AT_ONCE }, worker));
  return prints;
}

/** How a picture is shown to the frozen part. */
export type RowView =
  | { readonly kind: 'plain' | 'mirrored' }
  /** As epoch `epoch` of an uncached run shows it. */
  | { readonly kind: 'augmented'; readonly augment: AugmentRecipe; readonly seed: number; readonly epoch: number };

/** The name of one picture's row below its {@link frozenPrint}: 44 characters. */
export function rowId(content: Print, view: RowView, path: string): string {
  const words =
    view.kind === 'augmented'
      ? [recipeName(view.augment), view.seed, view.epoch, pictureName(path)].join(' ')
      : view.kind;
  return createHash('sha256').update(`${content} ${words}`).digest('base64');
}
