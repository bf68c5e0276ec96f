/**
 * TensorFlow.js graph models as files: `model.json`, which holds the topology and lists the weights, and its shards.
 * @see https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts, ModelJSON and WeightsManifestEntry
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { FormatError, listFaults } from '../errors.js';
import { fileError, readJsonFile } from '../files.js';
import { elementsOf, toFloat32 } from './float-formats.js';
import { checkTensor, checkTensorCount } from './limits.js';

/** The topology of the largest published MobileNet has 0.3 MB. */
const MOST_JSON_BYTES = 2 ** 26;

/** The graph of MobileNet v2 has 200 operations and constants. */
const MOST_NODES = 20_000;

const quantizationSchema = z.object({
  dtype: z.enum(['uint8', 'uint16', 'float16']),
  scale: z.number().optional(),
  min: z.number().optional(),
});

const specSchema = z.object({
  name: z.string(),
  shape: z.array(z.number().int().nonnegative()),
  dtype: z.enum(['float32', 'int32', 'bool']),
  quantization: quantizationSchema.optional(),
});

const nodeSchema = z.object({
  name: z.string(),
  op: z.string(),
  input: z.array(z.string()).default([]),
  attr: z.record(z.string(), z.unknown()).default({}),
});

const modelSchema = z.object({
  format: z.literal('graph-model'),
  modelTopology: z.object({ node: z.array(nodeSchema).max(MOST_NODES) }),
  weightsManifest: z.array(z.object({ paths: z.array(z.string()), weights: z.array(specSchema) })),
});

/** A constant of the graph: how it is stored. */
export type WeightSpec = z.infer<typeof specSchema>;

/** One operation of the graph, as TensorFlow's GraphDef has it. */
export type GraphNode = z.infer<typeof nodeSchema>;

/** A graph model, read whole. */
export interface GraphModel {
  readonly path: string;
  readonly nodes: readonly GraphNode[];
  readonly specs: readonly WeightSpec[];
  /** The bytes of all constants, one after the other in the order of `specs`. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** `model.json` as it is. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** Whether a folder or file is a `model.json` of TensorFlow.js, and which file that is. */
export async function findGraphModel(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined);
  const file = info?.isDirectory() ? join(path, 'model.json') : path;
  if (!file.endsWith('.json')) return undefined;
  const json = await readJsonFile(file).catch(() => undefined);
  return typeof json === 'object' && json !== null && 'modelTopology' in json ? file : undefined;
}

/**
 * Reads a graph model and all its weights.
 * @throws GRAPH_MODEL_INVALID, SHARD_PATH, SHARD_LENGTH, FILE_NOT_READ, LIMIT_EXCEEDED
 */
export async function readGraphModel(file: string): Promise<GraphModel> {
  const { size } = await stat(file).catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', file, 'cannot be read', error);
  });
  if (size > MOST_JSON_BYTES) {
    throw invalid(file, `${size} bytes of JSON; expected ${MOST_JSON_BYTES} at most`);
  }
  const json = await readJsonFile(file);
  const parsed = modelSchema.safeParse(json);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole file)'}: ${issue.message}`);
    throw invalid(file, `not a graph model\n${listFaults(faults)}`);
  }
  const { modelTopology, weightsManifest } = parsed.data;
  const specs = weightsManifest.flatMap(({ weights }) => weights);
  checkTensorCount(file, specs.length);
  for (const { name, dtype, shape } of specs) checkTensor(file, name, dtype, shape);
  const groups = await Promise.all(weightsManifest.map((group) => readGroup(file, group)));
  return {
    path: file,
    nodes: modelTopology.node,
    specs,
    data: new Uint8Array(Buffer.concat(groups)),
    json: json as Record<string, unknown>,
  };
}

async function readGroup(file: string, { paths, weights }: { paths: string[]; weights: WeightSpec[] }) {
  const outside = paths.filter((path) => path !== basename(path) || path === '..');
  if (outside.length > 0) {
    throw new FormatError({
      code: 'SHARD_PATH',
      message: `${file}: weights in ${outside.join(', ')}; expected file names beside model.json`,
      hint: 'download the model again: shards lie beside its model.json',
    });
  }
  const wanted = weights.reduce((sum, spec) => sum + bytesIn(spec), 0);
  const files = paths.map((path) => join(dirname(file), path));
  const sizes = await Promise.all(
    files.map(async (path) => {
      const info = await stat(path).catch((error: unknown) => {
        throw fileError('FILE_NOT_READ', path, `the shard that ${basename(file)} names cannot be read`, error);
      });
      return info.size;
    }),
  );
  const found = sizes.reduce((sum, size) => sum + size, 0);
  if (found !== wanted) {
    throw new FormatError({
      code: 'SHARD_LENGTH',
      message: `${file}: its weights take ${wanted} bytes, and ${paths.join(', ')} have ${found}`,
      hint: 'a download was cut off, or the shards are those of another model: fetch them again',
    });
  }
  return Buffer.concat(await Promise.all(files.map((path) => readFile(path))));
}

const BYTES = { float32: 4, int32: 4, bool: 1, uint8: 1, uint16: 2, float16: 2 } as const;

const bytesIn = ({ shape, dtype, quantization }: WeightSpec): number =>
  elementsOf(shape) * BYTES[quantization?.dtype ?? dtype];

/** The constants by name, each with a function that gives its numbers as float32. */
export function constantsOf({ specs, data }: GraphModel): Map<string, { shape: number[]; read(): Float32Array }> {
  const constants = new Map<string, { shape: number[]; read(): Float32Array }>();
  let offset = 0;
  for (const spec of specs) {
    const bytes = data.subarray(offset, offset + bytesIn(spec));
    offset += bytes.length;
    constants.set(spec.name, { shape: spec.shape, read: () => numbersOf(bytes, spec) });
  }
  return constants;
}

/** Stored numbers as tfjs-core's decodeWeights makes them: `stored * scale + min`. */
function numbersOf(bytes: Uint8Array, { dtype, quantization }: WeightSpec): Float32Array {
  const stored = toFloat32(bytes, quantization?.dtype ?? dtype);
  if (quantization === undefined || quantization.dtype === 'float16') return stored;
  const { scale = 1, min = 0 } = quantization;
  return stored.map((value) => value * scale + min);
}

function invalid(file: string, what: string): FormatError {
  return new FormatError({
    code: 'GRAPH_MODEL_INVALID',
    message: `${file}: ${what}`,
    hint: 'give the model.json of a TensorFlow.js graph model, beside its .bin files',
  });
}
