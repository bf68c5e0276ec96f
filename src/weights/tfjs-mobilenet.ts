/**
 * The MobileNets of TensorFlow.js, through the package that publishes them, `@tensorflow-models/mobilenet`: what
 * Teachable Machine stands on. The package fetches and runs Google's graph models, in which batch norms are folded into
 * scales and offsets; their numbers become parameters of ours, and the package's own embedding proves each import.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { loadEngine } from '../engine/tensorflow.js';
import { FormatError, messageOf, WeightsError } from '../errors.js';
import { rng } from '../rng.js';
import { elementsOf } from './float-formats.js';
import type { TensorSource } from './source.js';
import { constantsOf, type GraphModel, type GraphNode, readGraphModel } from './tfjs-graph.js';

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

/** By the count of convolutions, the classifier's with them: the names that slim gives them, in order. */
const layerNames: Readonly<Record<number, { version: 1 | 2; names: readonly string[] }>> = {
  28: {
    version: 1,
    names: [
      'MobilenetV1/Conv2d_0',
      ...thirteen().flatMap((i) => [`MobilenetV1/Conv2d_${i}_depthwise`, `MobilenetV1/Conv2d_${i}_pointwise`]),
      'MobilenetV1/Logits/Conv2d_1c_1x1',
    ],
  },
  53: {
    version: 2,
    names: [
      'MobilenetV2/Conv',
      ...['depthwise', 'project'].map((unit) => `MobilenetV2/expanded_conv/${unit}`),
      ...Array.from({ length: 16 }, (_, i) =>
        ['expand', 'depthwise', 'project'].map((unit) => `MobilenetV2/expanded_conv_${i + 1}/${unit}`),
      ).flat(),
      'MobilenetV2/Conv_1',
      'MobilenetV2/Logits/Conv2d_1c_1x1',
    ],
  },
};

function thirteen(): number[] {
  return Array.from({ length: 13 }, (_, i) => i + 1);
}

/**
 * Opens a graph model of the package: `<layer>/weights` or `depthwise_weights`, and `<layer>/biases`, by slim's names.
 * @throws GRAPH_MODEL_INVALID, SHARD_LENGTH, FILE_NOT_READ
 */
export async function openTfjsMobilenet(file: string): Promise<TensorSource> {
  const model = await readGraphModel(file);
  const layers = foldedConvolutions(model);
  const known = layerNames[layers.length];
  if (known === undefined) {
    throw new FormatError({
      code: 'GRAPH_MODEL_INVALID',
      message: `${file}: a graph of ${layers.length} convolutions; expected 28 (MobileNet v1) or 53 (MobileNet v2)`,
      hint: 'graph models are read of the MobileNets of @tensorflow-models/mobilenet only',
    });
  }
  const tensors = new Map<string, { shape: readonly number[]; read: () => Float32Array }>();
  layers.forEach((layer, i) => {
    const name = known.names[i]!;
    tensors.set(`${name}/${layer.depthwise ? 'depthwise_weights' : 'weights'}`, layer.kernel);
    tensors.set(`${name}/biases`, layer.bias);
  });
  const quantized = model.specs.some(({ quantization }) => quantization !== undefined);
  return {
    format: 'tfjs-graph',
    path: file,
    tensors: [...tensors].map(([name, { shape }]) => ({ name, dtype: 'float32', shape })),
    metadata: { version: String(known.version), ...(quantized ? { quantized: 'yes' } : {}) },
    read: async (name) => tensors.get(name)!.read(),
    verify: (embed) => verify(model, known.version, embed),
    close: async () => {},
  };
}

interface Folded {
  readonly depthwise: boolean;
  readonly kernel: { readonly shape: readonly number[]; read(): Float32Array };
  readonly bias: { readonly shape: readonly number[]; read(): Float32Array };
}

/** The convolutions in order, with the scales and offsets that follow each of them. */
function foldedConvolutions(model: GraphModel): Folded[] {
  const constants = constantsOf(model);
  const nodes = new Map(model.nodes.map((node) => [node.name, node]));
  const consumers = new Map<string, GraphNode[]>();
  for (const node of model.nodes) {
    for (const input of node.input) {
      const name = plainName(input);
      consumers.set(name, [...(consumers.get(name) ?? []), node]);
    }
  }
  /** A constant, perhaps behind the identity that reads a variable. */
  const constantOf = (input: string | undefined) => {
    let name = input === undefined ? '' : plainName(input);
    while (nodes.get(name)?.op === 'Identity') name = plainName(nodes.get(name)!.input[0] ?? '');
    return constants.get(name);
  };
  return inOrder(model.nodes, nodes)
    .filter(({ op }) => /Conv2[dD]/.test(op))
    .map((node) => {
      const kernel = constantOf(node.input[1]);
      if (kernel === undefined || kernel.shape.length !== 4) {
        throw new FormatError({
          code: 'GRAPH_MODEL_INVALID',
          message: `${model.path}: ${node.name} has no kernel among the weights`,
          hint: 'download the model again',
        });
      }
      const depthwise = node.op.includes('epthwise');
      const length = elementsOf(kernel.shape.slice(depthwise ? -2 : -1));
      const steps = stepsAfter(node, consumers, constantOf);
      const affine = () => {
        const [scale, bias] = [new Float64Array(length).fill(1), new Float64Array(length)];
        for (const step of steps) {
          const values = step.read();
          for (let i = 0; i < length; i++) {
            const value = values[values.length === 1 ? 0 : i]!;
            bias[i] = step.kind === 'multiply' ? bias[i]! * value : bias[i]! + value;
            if (step.kind === 'multiply') scale[i] = scale[i]! * value;
          }
        }
        return { scale, bias };
      };
      return {
        depthwise,
        kernel: {
          shape: kernel.shape,
          read: () => {
            const { scale } = affine();
            return kernel.read().map((value, i) => value * scale[i % length]!);
          },
        },
        bias: { shape: [length], read: () => Float32Array.from(affine().bias) },
      };
    });
}

/** Without the output's number and the mark of a control input. */
const plainName = (input: string): string => input.replace(/^\^/, '').replace(/:\d+$/, '');

/** Operations so that inputs come first. */
function inOrder(all: readonly GraphNode[], nodes: ReadonlyMap<string, GraphNode>): GraphNode[] {
  const done = new Set<GraphNode>();
  for (const start of all) {
    const stack = [start];
    while (stack.length > 0) {
      const node = stack.at(-1)!;
      const waiting = node.input.flatMap((input) => {
        const before = nodes.get(plainName(input));
        return before === undefined || done.has(before) || stack.includes(before) ? [] : [before];
      });
      if (waiting.length === 0) done.add(stack.pop()!);
      else stack.push(waiting[0]!);
    }
  }
  return [...done];
}

interface AffineStep {
  readonly kind: 'multiply' | 'add';
  read(): Float32Array;
}

/** The constants that are multiplied with and added to a convolution's result before anything else happens to it. */
function stepsAfter(
  conv: GraphNode,
  consumers: ReadonlyMap<string, readonly GraphNode[]>,
  constantOf: (input: string | undefined) => { read(): Float32Array } | undefined,
): AffineStep[] {
  const steps: AffineStep[] = [];
  const fused = conv.op.includes('Fused') ? constantOf(conv.input[2]) : undefined;
  if (fused !== undefined) steps.push({ kind: 'add', read: fused.read });
  for (let at = conv; steps.length < MOST_STEPS; ) {
    const [next, ...others] = consumers.get(at.name) ?? [];
    if (next === undefined || others.length > 0) return steps;
    const kind = { Mul: 'multiply', Add: 'add', AddV2: 'add', BiasAdd: 'add' }[next.op] as
      | AffineStep['kind']
      | undefined;
    const other = next.input.find((input) => plainName(input) !== at.name);
    const constant = constantOf(other);
    if (kind === undefined || constant === undefined) return steps;
    steps.push({ kind, read: constant.read });
    at = next;
  }
  return steps;
}

/** A scale and an offset, each perhaps written twice. */
const MOST_STEPS = 4;

/** Largest difference from the package's embedding, as a share of its largest value. */
const TOLERANCE = 1e-4;

/** Compares our embedding of a random picture with the package's own. @throws WEIGHTS_DIFFER */
async function verify(
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
  const { modelTopology, signature } = model.json;
  const handler = {
    load: async () => ({
      format: 'graph-model',
      modelTopology: modelTopology as object,
      weightSpecs: [...model.specs],
      weightData: model.data.buffer,
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
