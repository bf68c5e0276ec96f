/**
 * Models of TensorFlow.js: a `model.json` of layers or of a graph, and the files of weights beside it. Their tensors
 * keep the names they have there; MobileNets of slim, whose graphs are known, get slim's.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { FormatError, listFaults } from '../../errors.js';
import { readJsonFile } from '../../files.js';
import { parseKerasConfig } from '../keras/keras-config.js';
import { kerasConstants } from '../keras/keras-constants.js';
import { keras3Names } from '../keras/keras3-names.js';
import { TensorTable } from '../limits.js';
import type { Classifier, SetAside, TensorInfo, TensorSource } from '../source.js';
import { teachableMachineBeside } from './teachable-machine.js';
import { zeroBiases } from './tfjs-biases.js';
import { type Computed, foldedConvolutions, type GraphModel, topologySchema } from './tfjs-graph.js';
import { type FindShard, type ManifestWeights, manifestSchema, openManifest } from './tfjs-manifest.js';
import { slimGraph } from './tfjs-slim.js';

/** What a folder's model is called, by converters of today and of before version 1. */
const NAMES = ['model.json', 'weights_manifest.json'];

/** A variable of a layer by its number, as Keras 3's own layout has it. */
const NUMBERED = /(^|\/)vars\/\d+$/;

const modelSchema = z.object({
  format: z.string().nullish(),
  generatedBy: z.string().nullish(),
  convertedBy: z.string().nullish(),
  modelTopology: z.record(z.string(), z.unknown()).nullish(),
  weightsManifest: manifestSchema,
});

type Model = z.infer<typeof modelSchema>;

/** The model of TensorFlow.js in a folder: its file, and what is in it. */
export async function findTfjsModel(
  folder: string,
): Promise<{ readonly file: string; readonly json: unknown } | undefined> {
  for (const name of NAMES) {
    const file = join(folder, name);
    const json = await readJsonFile(file).catch(() => undefined);
    if (isTfjsModel(json)) return { file, json };
  }
  return undefined;
}

/** Whether JSON is a model of TensorFlow.js, or the manifest of one. */
export const isTfjsModel = (json: unknown): boolean =>
  typeof json === 'object' &&
  json !== null &&
  (Array.isArray(json) ? json.some(isGroup) : 'modelTopology' in json || 'weightsManifest' in json);

const isGroup = (group: unknown): boolean =>
  typeof group === 'object' && group !== null && 'paths' in group && 'weights' in group;

/**
 * Opens a model by what is in its JSON file; no weights are read.
 * @param findShard where its files of weights are, if not beside `file`
 * @throws TFJS_MODEL, TFJS_NO_WEIGHTS, TFJS_MANIFEST, SHARD_PATH, SHARD_LENGTH, DTYPE_UNSUPPORTED, FILE_NOT_READ
 */
export async function tfjsSource(file: string, json: unknown, findShard?: FindShard): Promise<TensorSource> {
  const model = parse(file, json);
  const weights = await openManifest(file, model.weightsManifest, findShard);
  const graph = topologySchema.safeParse(model.modelTopology);
  if (model.format === 'graph-model' && !graph.success) {
    throw invalid(file, z.prettifyError(graph.error), 'its modelTopology is no graph');
  }
  if (graph.success && model.format !== 'layers-model') {
    const { node: nodes } = graph.data;
    return graphSource(
      { path: file, nodes, weights, json: json as Record<string, unknown> },
      metadataOf(model, weights),
    );
  }
  const metadata = metadataOf(model, weights);
  if (Array.isArray(json)) return asTheyAre('tfjs-graph', file, weights, constantsAside(weights), metadata); // of a graph
  const numbered = weights.tensors.some(({ name }) => NUMBERED.test(name));
  if (numbered) return keras3Source(file, weights, metadata);
  return withoutBiases(
    asTheyAre('tfjs-layers', file, weights, weights.setAside, metadata),
    await teachableMachineBeside(file),
  );
}

/** The model with a bias of zeros for each dense layer that has none. */
function withoutBiases(source: TensorSource, classifier: Classifier | undefined): TensorSource {
  const { path, metadata, tensors } = source;
  const zeros = new Map(zeroBiases(path, metadata.model_config, tensors).map((bias) => [bias.name, bias]));
  return {
    ...source,
    ...(classifier === undefined ? {} : { classifier }),
    ...(zeros.size === 0
      ? {}
      : {
          tensors: [...tensors, ...zeros.values()],
          metadata: { ...metadata, zeroBiases: [...zeros.keys()].join(', ') },
          read: async (name) => {
            const bias = zeros.get(name);
            return bias === undefined ? await source.read(name) : new Float32Array(bias.shape[0]!);
          },
        }),
  };
}

function asTheyAre(
  format: 'tfjs-layers' | 'tfjs-graph',
  path: string,
  { tensors, read }: ManifestWeights,
  setAside: readonly SetAside[],
  metadata: Readonly<Record<string, string>>,
): TensorSource {
  return { format, path, tensors, metadata, setAside, read, close: async () => undefined };
}

/** Layers converted from a `.keras` archive keep the paths of its file of weights; the configuration names them. */
function keras3Source(
  path: string,
  weights: ManifestWeights,
  metadata: Readonly<Record<string, string>>,
): TensorSource {
  const { model_config: text, keras_version: version } = metadata;
  const found = keras3Names({
    path,
    datasets: weights.tensors.map(({ name }) => name),
    groups: [...new Set(weights.tensors.map(({ name }) => name.slice(0, Math.max(0, name.lastIndexOf('/')))))],
    names: new Map(),
    config: text === undefined ? undefined : parseKerasConfig(path, text),
    majorVersion: version === undefined ? undefined : Number.parseInt(version, 10),
  });
  const infos = new Map(weights.tensors.map((info) => [info.name, info]));
  const stored = new Map(found.tensors);
  return {
    format: 'tfjs-layers',
    path,
    tensors: found.tensors.map(([name, inFile]) => ({ ...infos.get(inFile)!, name })),
    metadata: found.counted ? { layers: 'counted', ...metadata } : metadata,
    setAside: [...weights.setAside, ...found.setAside],
    read: (name) => weights.read(stored.get(name) ?? name),
    close: async () => undefined,
  };
}

function parse(file: string, json: unknown): Model {
  const parsed = modelSchema.safeParse(Array.isArray(json) ? { weightsManifest: json } : json);
  if (parsed.success) return parsed.data;
  if (typeof json === 'object' && json !== null && !('weightsManifest' in json)) {
    throw new FormatError({
      code: 'TFJS_NO_WEIGHTS',
      message: `${file}: it describes a network and names no weights; expected "weightsManifest" beside "modelTopology"`,
      hint: 'save the whole model: await model.save("file://folder"), or convert it with tensorflowjs_converter',
    });
  }
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole file)'}: ${issue.message}`);
  throw invalid(file, listFaults(faults), 'it is no model of TensorFlow.js');
}

function invalid(file: string, faults: string, what: string): FormatError {
  return new FormatError({
    code: 'TFJS_MODEL',
    message: `${file}: ${what}\n${faults}`,
    hint: 'the file is damaged or was edited: fetch or convert the model again',
  });
}

/**
 * A graph's tensors by their own names, those that were variables of Keras layers by theirs; of a MobileNet of slim, its
 * convolutions by slim's, with the batch norms that were folded into them.
 */
function graphSource(model: GraphModel, metadata: Readonly<Record<string, string>>): TensorSource {
  const { path, weights } = model;
  const convolutions = foldedConvolutions(model);
  const folded = new Set(convolutions.flatMap(({ constants }) => constants));
  const layers = kerasConstants(weights.tensors.map(({ name }) => name));
  const nameOf = (name: string): string => layers.get(name) ?? name;
  const rest = weights.tensors.filter(({ name }) => !folded.has(name)).map(({ name }) => nameOf(name));
  const slim = slimGraph(convolutions, rest);
  const table = new TensorTable<TensorInfo & Pick<Computed, 'read'>>(path);
  for (const [name, { shape, read }] of slim?.tensors ?? []) table.add({ name, dtype: 'float32', shape, read });
  for (const info of weights.tensors) {
    if (slim !== undefined && folded.has(info.name)) continue;
    const own = nameOf(info.name);
    table.add({ ...info, name: slim?.renamed.get(own) ?? own, read: () => weights.read(info.name) });
  }
  return {
    format: 'tfjs-graph',
    path,
    tensors: table.infos(),
    metadata: {
      ...(slim === undefined ? {} : { version: String(slim.version) }),
      ...(layers.size === 0 ? {} : { naming: 'layers' }),
      ...metadata,
    },
    setAside: constantsAside(weights),
    read: async (name) => await table.get(name).read(),
    ...(slim?.unproven === true
      ? {
          verify: async (embed) => {
            const { verify } = await import('./tfjs-mobilenet.js'); // which loads tfjs
            return await verify(model, slim.version, embed);
          },
        }
      : {}),
    close: async () => undefined,
  };
}

/** Axes, shapes and factors of a graph are constants like its weights. */
function constantsAside({ tensors, setAside }: ManifestWeights): SetAside[] {
  const constants = tensors.filter(({ dtype, shape }) => dtype !== 'float32' || shape.length === 0);
  return [...setAside, ...constants.map(({ name }) => ({ name, reason: 'a constant of the graph' }))];
}

function metadataOf({ generatedBy, convertedBy, modelTopology }: Model, { quantized }: ManifestWeights) {
  const { keras_version, backend, class_name, config } = modelTopology ?? {};
  // the converter keeps what Keras wrote, TensorFlow.js itself writes the model alone
  const own = class_name === undefined ? undefined : { class_name, config };
  const model = modelTopology?.model_config ?? own;
  const said = { generatedBy, convertedBy, keras_version, backend };
  return {
    ...Object.fromEntries(Object.entries(said).filter((pair): pair is [string, string] => typeof pair[1] === 'string')),
    ...(model === undefined ? {} : { model_config: JSON.stringify(model) }),
    ...(quantized.length === 0 ? {} : { quantized: quantized.join(', ') }),
  };
}
