/**
 * Reads the reference fixtures of test/golden/fixtures and makes the deterministic weights they were computed with.
 * The Python that writes them, and the exact formats: tools/golden/README.md.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';

/** Folder of the committed fixtures, with a trailing separator. */
export const fixturesFolder = fileURLToPath(new URL('../golden/fixtures/', import.meta.url));

/** A tensor made by {@link generateTensor}: published name, published shape, center, scale. */
export type GoldenRow = readonly [name: string, shape: readonly number[], center: number, scale: number];

/** A reference tensor of which every `stride`-th element of its C-order flattening is kept. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly stride: number;
  /** Largest absolute value of the whole tensor. */
  readonly max: number;
  readonly values: Float32Array;
}

export interface ForwardCase {
  /** [N, H, W, 3]; the batch is `inputBatch(inputShape)`. */
  readonly inputShape: readonly [number, number, number, number];
  /** Canonical tap -> NHWC tensor, sampled, in network order. */
  readonly taps: ReadonlyMap<string, GoldenTensor>;
  /** [N, C], every element. */
  readonly preLogits: GoldenTensor;
  /** [N, 1000], every element, before any softmax. */
  readonly logits: GoldenTensor;
}

export interface ForwardGolden {
  readonly backbone: string;
  readonly source: string;
  /** Which implementation computed it. */
  readonly reference: string;
  readonly tensors: readonly GoldenRow[];
  readonly cases: readonly ForwardCase[];
}

/** One training step, and ten with Adam, of the whole network with a linear head called `head`. */
export interface TrainGolden {
  readonly backbone: string;
  readonly source: string;
  readonly reference: string;
  /** Rows of the backbone without its classifier, then of the head (`head/kernel` [C, classes] or `head.weight` [classes, C]). */
  readonly tensors: readonly GoldenRow[];
  readonly inputShape: readonly [number, number, number, number];
  readonly classes: number;
  readonly labels: readonly number[];
  readonly labelSmoothing: number;
  /** Last layer of each auxiliary classifier -> share of its loss in the whole. */
  readonly auxiliary?: Readonly<Record<string, number>>;
  /** Mean label-smoothed cross-entropy of the first step; auxiliary losses are in it. */
  readonly loss: number;
  /** Published name -> gradient of `loss`, in the published layout, sampled. */
  readonly gradients: ReadonlyMap<string, GoldenTensor>;
  /** Published name of each moving mean and variance -> its value after the first step. */
  readonly statistics: ReadonlyMap<string, GoldenTensor>;
  readonly adam: { readonly lr: number; readonly beta1: number; readonly beta2: number; readonly epsilon: number };
  /** Losses of ten steps on the same batch, each before its update; `losses[0]` is `loss`. */
  readonly losses: readonly number[];
}

/** FNV-1a, 32 bits, over UTF-8 (Fowler, Noll, Vo). */
export function fnv1a32(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/**
 * The tensor of that name, C order: element i is `center + scale * r` with r in [-1, 1) from murmur3's finaliser of
 * `fnv1a32(name) + i * 0x9E3779B9`. The same as `tensor` of tools/golden/generator.py, bit for bit.
 */
export function generateTensor(name: string, shape: readonly number[], center = 0, scale = 1): Float32Array {
  const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
  let key = fnv1a32(name);
  for (let i = 0; i < values.length; i++) {
    let x = key;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    x = (x ^ (x >>> 16)) >>> 0;
    values[i] = center + scale * (x / 2 ** 31 - 1);
    key = (key + 0x9e3779b9) >>> 0;
  }
  return values;
}

/** The image batch of a fixture, [N, H, W, 3], in [-1, 1). */
export function inputBatch(shape: readonly number[]): Float32Array {
  return generateTensor('input', shape);
}

/** The fixture's weights as an open weights file, so that planning and binding run as they do on a real one. */
export function generatedSource(tensors: readonly GoldenRow[], format: TensorSource['format']): TensorSource {
  const rows = new Map(tensors.map((row) => [row[0], row]));
  return {
    format,
    path: `generated.${format}`,
    tensors: tensors.map(([name, shape]): TensorInfo => ({ name, dtype: 'float32', shape })),
    metadata: {},
    read: async (name) => {
      const row = rows.get(name);
      if (row === undefined) throw new Error(`no generated tensor ${name}`);
      return generateTensor(...row);
    },
    close: async () => {},
  };
}

/** Every committed forward fixture. */
export function listForwardGoldens(): { backbone: string; source: string }[] {
  return listGoldens(/^(\w+?(?:_\d\.\d+)?)\.(\w+)\.json$/);
}

/** Every committed training fixture. */
export function listTrainGoldens(): { backbone: string; source: string }[] {
  return listGoldens(/^(\w+?(?:_\d\.\d+)?)\.(\w+)\.train\.json$/);
}

function listGoldens(pattern: RegExp): { backbone: string; source: string }[] {
  return readdirSync(fixturesFolder)
    .sort()
    .flatMap((file) => {
      const found = pattern.exec(file);
      return found === null ? [] : [{ backbone: found[1]!, source: found[2]! }];
    });
}

interface StoredTensor {
  shape: number[];
  stride: number;
  max: number;
  values: string;
}

export function readForwardGolden(backbone: string, source: string): ForwardGolden {
  const stored = readFixture(`${backbone}.${source}.json`) as {
    backbone: string;
    source: string;
    reference: string;
    tensors: GoldenRow[];
    cases: {
      inputShape: [number, number, number, number];
      taps: Record<string, StoredTensor>;
      pre_logits: StoredTensor;
      logits: StoredTensor;
    }[];
  };
  const cases = stored.cases.map(({ inputShape, taps, pre_logits, logits }) => ({
    inputShape,
    taps: decodeAll(taps),
    preLogits: decode(pre_logits),
    logits: decode(logits),
  }));
  return { ...stored, cases };
}

export function readTrainGolden(backbone: string, source: string): TrainGolden {
  const stored = readFixture(`${backbone}.${source}.train.json`) as Omit<TrainGolden, 'gradients' | 'statistics'> & {
    gradients: Record<string, StoredTensor>;
    statistics: Record<string, StoredTensor>;
  };
  return { ...stored, gradients: decodeAll(stored.gradients), statistics: decodeAll(stored.statistics) };
}

/** Little-endian float32 in base64, the form of every number in the fixtures. */
export function decodeFloats(base64: string): Float32Array {
  const bytes = Buffer.from(base64, 'base64');
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function decode({ shape, stride, max, values }: StoredTensor): GoldenTensor {
  return { shape, stride, max, values: decodeFloats(values) };
}

function decodeAll(stored: Record<string, StoredTensor>): Map<string, GoldenTensor> {
  return new Map(Object.entries(stored).map(([name, tensor]) => [name, decode(tensor)]));
}

function readFixture(file: string): unknown {
  return JSON.parse(readFileSync(`${fixturesFolder}${file}`, 'utf8'));
}

/**
 * Worst difference of a full tensor from its reference, relative to the reference's largest absolute value.
 * Infinity where the element counts differ or a value is not a number.
 */
export function worstDifference(golden: GoldenTensor, actual: ArrayLike<number>): number {
  if (actual.length !== golden.shape.reduce((product, n) => product * n, 1)) return Infinity;
  let worst = 0;
  for (let k = 0; k < golden.values.length; k++) {
    const difference = Math.abs(actual[k * golden.stride]! - golden.values[k]!);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
  }
  return golden.max === 0 ? worst : worst / golden.max;
}

const npyReaders = {
  '|u1': (bytes: ArrayBuffer) => new Uint8Array(bytes),
  '<f4': (bytes: ArrayBuffer) => new Float32Array(bytes),
  '<i8': (bytes: ArrayBuffer) => new BigInt64Array(bytes),
};

export interface Npy {
  readonly shape: readonly number[];
  readonly data: Uint8Array | Float32Array | BigInt64Array;
}

/** A `.npy` of the fixtures: C order; uint8, float32 or int64. @see numpy.lib.format, versions 1.0 and 2.0 */
export function readNpy(path: string): Npy {
  const bytes = readFileSync(path);
  const wide = bytes[6]! >= 2; // version 2 has a 4-byte header length
  const start = wide ? 12 : 10;
  const end = start + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.toString('latin1', start, end);
  const found = /'descr': '([^']+)'.*'fortran_order': False.*'shape': \(([^)]*)\)/.exec(header);
  const reader = npyReaders[(found?.[1] ?? '') as keyof typeof npyReaders];
  if (found === null || reader === undefined) throw new Error(`${path}: cannot read ${header}`);
  const shape = (found[2]!.match(/\d+/g) ?? []).map(Number);
  return { shape, data: reader(bytes.buffer.slice(bytes.byteOffset + end, bytes.byteOffset + bytes.length)) };
}

/** A small real file of test/golden/fixtures/files, and what a reader has to find in it. */
export interface FileFixture {
  /** Full path. */
  readonly path: string;
  readonly file: string;
  readonly about: string;
  readonly bytes: number;
  readonly sha256: string;
  /** A file that would run code if its pickle were executed: a reader has to refuse it. */
  readonly hostile?: boolean;
  readonly tensors: readonly FileTensor[];
}

export interface FileTensor {
  /** Published name: of a Keras h5 the weight's name without `:0`, of a torch file without `module.` and wrappers. */
  readonly name: string;
  /** Keras h5 only: the group that holds it, and the path of its dataset below `/` or `/model_weights`. */
  readonly layer?: string;
  readonly path?: string;
  /** Number type in the file. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Its numbers, converted to float32, C order. */
  readonly values: Float32Array;
}

/** The files that one writer wrote. */
export function readFileFixtures(
  writer: 'keras2' | 'keras3' | 'tensorflow' | 'tfjs' | 'torch' | 'numpy',
): readonly FileFixture[] {
  const { files } = readFixture(`files/${writer}.json`) as {
    files: (Omit<FileFixture, 'path' | 'tensors'> & { tensors: (Omit<FileTensor, 'values'> & { values: string })[] })[];
  };
  return files.map((fixture) => ({
    ...fixture,
    path: `${fixturesFolder}files/${fixture.file}`,
    tensors: fixture.tensors.map((tensor) => ({ ...tensor, values: decodeFloats(tensor.values) })),
  }));
}

/** One resized picture of test/golden/fixtures/resize. */
export interface ResizeCase {
  /** PNG file, and the same pixels [H, W, 3] uint8 as `.npy`. */
  readonly image: string;
  readonly pixels: string;
  /** Size asked for. */
  readonly width: number;
  readonly height: number;
  readonly method: 'pillow-bilinear' | 'pillow-bicubic' | 'tf-bilinear' | 'tf1-bilinear';
  /** Pillow's results are uint8, TensorFlow's float32 in 0..255. */
  readonly dtype: 'uint8' | 'float32';
  /** [height, width, 3] as `.npy`. */
  readonly file: string;
}

/** The resize cases; files lie in `${fixturesFolder}resize/`. */
export function readResizeCases(): readonly ResizeCase[] {
  return (readFixture('resize/index.json') as { cases: ResizeCase[] }).cases;
}
