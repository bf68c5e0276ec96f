/** Tiny generated pictures, a network with starting numbers, and runs on them: what the tests of training share. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect } from 'vitest';
import { buildBackbone, findBackbone, findPublished } from '../../../src/backbones/index.js';
import { enginesDir } from '../../../src/engine/setup/home.js';
import { rng } from '../../../src/rng.js';
import { finetune } from '../../../src/train/finetune.js';
import { parseHistory } from '../../../src/train/history.js';
import {
  type FinetuneOptions,
  type FinetuneResult,
  type HistoryRow,
  type Reporter,
  silent,
} from '../../../src/train/options.js';
import { openSafetensors, writeSafetensors } from '../../../src/weights/safetensors.js';
import { parameterNumbers } from '../../engine/support/parameters.js';
import { setHome } from '../../support/home.js';

export { silent };

const root = mkdtempSync(join(tmpdir(), 'tl-train-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

// Runs keep the frozen part's output in TL_HOME: each file of tests starts without any.
mkdirSync(join(root, 'home'));
symlinkSync(enginesDir(), join(root, 'home', 'engine'));
setHome(join(root, 'home'));

/** A path in a folder that is gone when the tests of this file are done. */
export const temporary = (...parts: string[]): string => join(root, ...parts);

/** What the classes look like: a colour, and stripes of a width. */
const looks = [
  { name: 'brick', colour: [190, 80, 50], stripe: 7 },
  { name: 'moss', colour: [70, 150, 60], stripe: 3 },
  { name: 'sky', colour: [90, 130, 210], stripe: 11 },
] as const;

export const classNames = looks.map(({ name }) => name);

/** One picture of a class: its colour with noise and slanted stripes, so that its mirror image is another picture. */
export async function writePicture(path: string, label: number, seed: string): Promise<void> {
  const random = rng('pictures').split(seed);
  const { colour, stripe } = looks[label]!;
  const [width, height] = [40 + random.integer(30), 35 + random.integer(30)]; // odd and even, wide and tall
  const data = new Uint8Array(width * height * 3);
  const phase = random.integer(20);
  for (let i = 0; i < data.length; i++) {
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    const light = (x + 2 * y + phase) % (2 * stripe) < stripe ? 30 : -30;
    data[i] = Math.max(0, Math.min(255, colour[i % 3]! + light + 25 * random.normal()));
  }
  await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(path);
}

/** A new data folder: `train/<class>/*` and `val/<class>/*`, so many pictures a class. */
export async function pictureFolder(name: string, train = 6, val = 3): Promise<string> {
  const folder = temporary(name);
  for (const [split, count] of Object.entries({ train, val })) {
    for (const [label, className] of classNames.entries()) {
      if (count === 0) continue;
      mkdirSync(join(folder, split, className), { recursive: true });
      for (let i = 0; i < count; i++) {
        await writePicture(join(folder, split, className, `${split}-${i}.png`), label, `${split} ${label} ${i}`);
      }
    }
  }
  return folder;
}

/** A weights file under canonical names whose norms hide nothing, as pretrained ones do. */
export async function startingWeights(backbone: string, source: string): Promise<string> {
  const graph = buildBackbone(findPublished(findBackbone(backbone), source), { size: { height: 64, width: 64 } });
  const file = temporary(`${backbone}.${source}.safetensors`);
  await writeSafetensors(
    file,
    graph.parameters.map((parameter) => ({
      name: parameter.path,
      shape: parameter.shape,
      read: () => parameterNumbers(parameter),
    })),
    { format: 'tl', backbone, source }, // as the local store writes it
  );
  return file;
}

/** Options of a small run: mobilenet_v1_0.25 at 64x64, from scratch, three epochs. */
export function options(changes: Partial<FinetuneOptions> & { readonly data: string }): FinetuneOptions {
  return {
    backbone: 'mobilenet_v1_0.25',
    source: 'keras',
    weights: 'none',
    inputSize: 64,
    epochs: 3,
    batchSize: 4,
    augment: 'none',
    engine: { engine: 'tensorflow' },
    ...changes,
  };
}

let runs = 0;

/** Trains into a new folder. */
export async function train(
  changes: Partial<FinetuneOptions> & { readonly data: string },
  reporter: Partial<Reporter> = {},
): Promise<FinetuneResult> {
  return await finetune(options({ out: temporary(`run-${runs++}`), ...changes }), { ...silent, ...reporter });
}

/** Every tensor of a model folder: name -> its bytes in hexadecimal, so that a difference in one bit is one. */
export async function weightsOf(modelFolder: string): Promise<Map<string, string>> {
  return await tensorsOf(join(modelFolder, 'weights.safetensors'));
}

export async function tensorsOf(file: string): Promise<Map<string, string>> {
  const source = await openSafetensors(file);
  const all = new Map<string, string>();
  for (const { name } of source.tensors) {
    const { buffer, byteOffset, byteLength } = await source.read(name);
    all.set(name, Buffer.from(buffer, byteOffset, byteLength).toString('hex'));
  }
  await source.close();
  return all;
}

export function historyOf(runFolder: string): HistoryRow[] {
  const file = join(runFolder, 'history.csv');
  return parseHistory(readFileSync(file, 'utf8'), file);
}

/** A history without what the clock decides. */
export const numbersOf = (history: readonly HistoryRow[]): Omit<HistoryRow, 'seconds' | 'imagesPerSecond'>[] =>
  history.map(({ seconds: _, imagesPerSecond: __, ...rest }) => rest);

export interface Traces {
  readonly history: ReturnType<typeof numbersOf>;
  readonly best: Map<string, string>;
  readonly last: Map<string, string>;
  readonly optimizer: Map<string, string>;
  readonly checkpoint: string;
}

/** Everything that a run leaves behind in numbers. */
export async function traces(runFolder: string): Promise<Traces> {
  return {
    history: numbersOf(historyOf(runFolder)),
    best: await weightsOf(join(runFolder, 'best')),
    last: await weightsOf(join(runFolder, 'last')),
    optimizer: await tensorsOf(join(runFolder, 'last', 'optimizer.safetensors')),
    checkpoint: readFileSync(join(runFolder, 'last', 'checkpoint.json'), 'utf8'),
  };
}

/** The same of a new run. */
export async function tracesOf(changes: Partial<FinetuneOptions> & { readonly data: string }): Promise<Traces> {
  return await traces((await train(changes)).runFolder);
}

/** Names of the tensors that differ: two maps of long strings are no message. */
export function expectEqual(a: Traces, b: Traces): void {
  expect(a.history).toEqual(b.history);
  for (const part of ['best', 'last', 'optimizer'] as const) {
    expect([...a[part].keys()]).toEqual([...b[part].keys()]);
    expect(
      [...a[part]].filter(([name, bytes]) => b[part].get(name) !== bytes).map(([name]) => `${part}: ${name}`),
    ).toEqual([]);
  }
  expect(a.checkpoint).toBe(b.checkpoint);
}
