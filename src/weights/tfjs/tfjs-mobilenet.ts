/**
 * The MobileNets of TensorFlow.js, through the package that publishes them, `@tensorflow-models/mobilenet`: what
 * Teachable Machine stands on. The package fetches and runs Google's graph models, in which batch norms are folded into
 * scales and offsets; their numbers become parameters of ours, and the package's own embedding proves each import.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { loadEngine } from '../../engine/tensorflow.js';
import { FormatError, messageOf, WeightsError } from '../../errors.js';
import { rng } from '../../rng.js';
import type { GraphModel } from './tfjs-graph.js';

/** Versions and width multipliers that the package knows. @see its README, "MobileNetVersion" and "MobileNetAlpha" */
export interface PackagedMobilenet {
  readonly version: 1 | 2;
  readonly alpha: number;
}

type Package = typeof import('@tensorflow-models/mobilenet');
type ModelUrl = NonNullable<Parameters<Package['load']>[0]>['modelUrl'];
type Loaded = Awaited<ReturnType<Package['load']>>;

const SIDE = 224; // IMAGE_SIZE of the package
/** What TensorFlow Hub's image modules take; the package assumes -1 to 1 when it is given a model. */
const INPUT_RANGE: [number, number] = [0, 1];

/** Largest difference from the package's embedding, as a share of its largest value. */
const TOLERANCE = 1e-4;

/**
 * Compares our embedding of a random picture with the package's own.
 * @param embed pixels [1, 224, 224, 3] in -1 to 1 -> `pre_logits`
 * @throws WEIGHTS_DIFFER, GRAPH_MODEL_INVALID
 */
export async function verify(
  model: GraphModel,
  version: 1 | 2,
  embed: (pixels: Float32Array) => Promise<Float32Array>,
): Promise<string> {
  const random = rng('a picture to compare embeddings on');
  const bytes = Float32Array.from({ length: SIDE * SIDE * 3 }, () => random.integer(256));
  const ours = await embed(bytes.map((value) => value / 127.5 - 1));
  const theirs = await packagedEmbedding(model, version, bytes);
  const largest = theirs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const worst = theirs.reduce((most, value, i) => Math.max(most, Math.abs(value - ours[i]!)), 0) / largest;
  if (theirs.length === ours.length && worst <= TOLERANCE) {
    return `its embedding equals that of @tensorflow-models/mobilenet to ${worst.toExponential(0)} of its largest value`;
  }
  throw new WeightsError({
    code: 'WEIGHTS_DIFFER',
    message: `${model.path}: with these weights the embedding differs by ${worst} from the package's; expected ${TOLERANCE}`,
    hint: 'the graph is not one of the published MobileNets; import weights of another source',
  });
}

/** What the package computes for pixels 0..255. @throws GRAPH_MODEL_INVALID */
async function packagedEmbedding(model: GraphModel, version: 1 | 2, bytes: Float32Array): Promise<Float32Array> {
  try {
    const packaged = await load({ version, alpha: 1 }, model);
    const picture = tf.tensor4d(bytes, [1, SIDE, SIDE, 3]);
    const embedding = packaged.infer(picture, true);
    const values = (await embedding.data()) as Float32Array;
    tf.dispose([picture, embedding]);
    return values;
  } catch (error) {
    throw new FormatError({
      code: 'GRAPH_MODEL_INVALID',
      message: `${model.path}: @tensorflow-models/mobilenet cannot run this graph: ${messageOf(error)}`,
      hint: 'download the model again; it must be one that the package publishes',
      cause: error,
    });
  }
}

/** Loads a graph model, or by default the published one from its publisher, into the package. */
async function load({ version, alpha }: PackagedMobilenet, model?: GraphModel): Promise<Loaded> {
  const mobilenet = await import('@tensorflow-models/mobilenet');
  const alphaWanted = alpha as NonNullable<Parameters<Package['load']>[0]>['alpha'] & {};
  if (model === undefined) return mobilenet.load({ version, alpha: alphaWanted });
  const { modelTopology, signature, weightsManifest } = model.json;
  const stored = await model.weights.readStored();
  const handler = {
    load: async () => ({
      format: 'graph-model',
      modelTopology: modelTopology as object,
      weightSpecs: (weightsManifest as { weights: object[] }[]).flatMap(({ weights }) => weights),
      weightData: new Uint8Array(stored).buffer,
      ...(signature === undefined ? {} : { signature: signature as object }),
    }),
  };
  return mobilenet.load({ version, alpha: alphaWanted, modelUrl: handler as ModelUrl & {}, inputRange: INPUT_RANGE });
}

/** What the package keeps of a graph model. */
interface Artifacts {
  readonly modelTopology: object;
  readonly weightSpecs: object[];
  readonly weightData: ArrayBuffer | ArrayBuffer[];
}

/**
 * Lets the package download a model, and hands it over as a `model.json` with one shard in a folder that is removed
 * afterwards.
 * @throws DOWNLOAD_FAILED
 */
export async function withDownload<T>(which: PackagedMobilenet, use: (file: string) => Promise<T>): Promise<T> {
  await loadEngine();
  const loaded = await load(which).catch((error: unknown) => {
    throw new WeightsError({
      code: 'DOWNLOAD_FAILED',
      message: `@tensorflow-models/mobilenet cannot fetch MobileNet v${which.version} ${which.alpha}: ${messageOf(error)}`,
      hint: 'check the connection; or download the graph model with a browser and run: tl import FOLDER --source tfjs',
      cause: error,
    });
  });
  const folder = await mkdtemp(join(tmpdir(), 'tl-mobilenet-'));
  try {
    // The package's own field is private; it is the GraphModel of tfjs-converter.
    const { model } = loaded as unknown as { model: { save(to: object): Promise<unknown> } };
    await model.save({
      save: async ({ modelTopology, weightSpecs, weightData }: Artifacts) => {
        const shards = Array.isArray(weightData) ? weightData : [weightData];
        await writeFile(join(folder, 'group1-shard1of1.bin'), Buffer.concat(shards.map((each) => Buffer.from(each))));
        const weightsManifest = [{ paths: ['group1-shard1of1.bin'], weights: weightSpecs }];
        await writeFile(
          join(folder, 'model.json'),
          JSON.stringify({ format: 'graph-model', modelTopology, weightsManifest }),
        );
        return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } };
      },
    });
    return await use(join(folder, 'model.json'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
