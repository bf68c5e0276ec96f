/**
 * TensorFlow's SavedModel: `saved_model.pb` with its weights as constants, and `assets/labels.txt`. Python, TensorFlow
 * Serving, TensorFlow Lite's converter and tfjs-node load it.
 */
import { join } from 'node:path';
import { savedModelAround } from '../../engine/graph-messages.js';
import { SERVE } from '../../engine/saved-model.js';
import { openSavedModel } from '../../engine/session.js';
import type { Engine } from '../../engine/tensorflow.js';
import { messageOf, ToolkitError } from '../../errors.js';
import { writeFileAtomic, writeStreamAtomic } from '../../files.js';
import { version } from '../../version.js';
import { labelLines } from '../companions.js';
import type { ExportableModel, ExportFormat, Runtime, WriteOptions, Written } from '../format.js';
import { lowerGraph } from '../lowering/lower.js';
import { channelMoments } from '../quantize/moments.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { constantNodes } from './constants.js';
import { assets, graphPieces, LABELS_FILE, signaturesOf } from './graph.js';
import { lengthOf, writePieces } from './pieces.js';
import { savedModelUsage } from './usage.js';

export const savedModel: ExportFormat = {
  title: 'TensorFlow SavedModel',
  quantizations: ['none', 'float16', 'uint8', 'int8'],
  takesPixels: true,
  calibrates: false,
  write,
  open,
  usage: savedModelUsage,
};

/** A message of protocol buffers is at most this long, bytes. @see https://protobuf.dev/programming-guides/proto-limits */
const MOST_BYTES = 2 ** 31 - 1;

/** @throws EXPORT_TOO_LARGE, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function write(
  folder: string,
  model: ExportableModel,
  { quantize, withPreprocessing }: Pick<WriteOptions, 'quantize' | 'withPreprocessing'>,
): Promise<Written> {
  const { preprocessing, classes } = model.record;
  const pixels = withPreprocessing ? ({ type: 'uint8', preprocessing } as const) : undefined;
  // TensorFlow itself joins a convolution with its bias and activation as it loads a graph, so these stay plain.
  const network = lowerGraph(model.graph, model.read, { depthwisePadding: 'operation', pixels });
  const moments = quantize === 'none' ? new Map() : await channelMoments(model.graph, model.read);
  const constants = await constantNodes(network.constants, quantize, moments);
  const graph = graphPieces(network, constants.pieces, classes);
  const signatures = signaturesOf(network, classes.length);
  const about = { tag: SERVE, writer: `tl-toolkit ${version}`, signatures, assets };
  const [before, after] = savedModelAround(about, lengthOf(graph));
  const pieces = [before, ...graph, after];
  if (lengthOf(pieces) > MOST_BYTES) throw tooLarge(lengthOf(pieces));
  await writeStreamAtomic(join(folder, 'saved_model.pb'), (file) => writePieces(file, pieces));
  await writeFileAtomic(join(folder, 'assets', LABELS_FILE), labelLines(classes));
  return { weightBytes: constants.weightBytes };
}

function tooLarge(bytes: number): ToolkitError {
  return new ToolkitError({
    code: 'EXPORT_TOO_LARGE',
    message: `saved_model.pb would have ${bytes} bytes, expected at most ${MOST_BYTES}, the limit of protocol buffers`,
    hint: 'export with --quantize float16 or int8, or to onnx, which keeps large weights in a file of their own',
  });
}

/** Pictures that a session takes at once: some hundred MB in the widest layers. */
const AT_ONCE = 16;

/** @throws EXPORT_NO_RUNTIME on an engine that is not TensorFlow, EXPORT_UNREADABLE */
async function open(folder: string, record: ExportRecord, engine: Engine): Promise<Runtime> {
  const session = await attempt(folder, () => openSavedModel(engine, folder));
  if (session === undefined) {
    throw new ToolkitError({
      code: 'EXPORT_NO_RUNTIME',
      message: `${folder}: a SavedModel is run by TensorFlow, and the loaded engine is ${engine.name}`,
      hint: 'run `tl setup`, and leave --engine out or give --engine tensorflow',
    });
  }
  return {
    name: `TensorFlow ${engine.version} SavedModel`,
    run: async ({ shape, data }) => {
      const [pictures, ...picture] = shape as [number, ...number[]];
      const size = picture.reduce((a, b) => a * b);
      let probabilities: Float32Array | undefined;
      for (let start = 0; start < pictures; start += AT_ONCE) {
        const count = Math.min(AT_ONCE, pictures - start);
        const part = { shape: [count, ...picture], data: data.subarray(start * size, (start + count) * size) };
        const input = record.input === 'pixels' ? { ...part, data: pixelsOf(part, record) } : part;
        const rows = await attempt(folder, () => session.run('input:0', input, 'probabilities:0'));
        probabilities ??= new Float32Array((rows.length / count) * pictures);
        probabilities.set(rows, (rows.length / count) * start);
      }
      return probabilities!;
    },
    close: async () => session.close(),
  };
}

/** @throws EXPORT_UNREADABLE */
async function attempt<T>(folder: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new ToolkitError({
      code: 'EXPORT_UNREADABLE',
      message: `${folder}: TensorFlow fails on this SavedModel: ${messageOf(cause)}`,
      hint: 'the files may be damaged: export the model again; if it was just written, please report it',
      cause,
    });
  }
}
