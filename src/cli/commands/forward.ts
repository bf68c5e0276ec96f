/** `tl forward`: a raw tensor through a network, without preprocessing, to compare it with other implementations. */
import type { Published } from '../../backbones/index.js';
import type { Graph, Parameter } from '../../engine/graph.js';
import type { ReadParameter } from '../../engine/network.js';
import { DataError, UsageError } from '../../errors.js';
import type { Adapted } from '../../weights/adapt.js';
import type { NpyArray } from '../../weights/numpy/npy.js';
import { type ComputeOptions, engineOptions, list, wholeNumber, withCompute } from '../options.js';
import type { Host } from '../program.js';
import { dimensions, duration, fields } from '../table.js';

interface ForwardOptions extends ComputeOptions {
  readonly model?: string;
  readonly backbone?: string;
  readonly source?: string;
  readonly weights: string;
  readonly input: string;
  readonly output: string;
  readonly tap?: string[];
  readonly batchSize?: number;
}

/** A network whose numbers can be read. */
interface Subject {
  readonly name: string;
  readonly source: string;
  readonly graph: Graph;
  readonly read: ReadParameter;
  /** What is done to the numbers so that they fit the tensor, in sentences. */
  readonly adaptations: Adapted['adaptations'];
  close(): Promise<void>;
}

export function forwardCommand(host: Host): void {
  withCompute(host.command('forward', 'run a raw float32 [N,H,W,C] tensor through a network, without preprocessing'))
    .option('--model <dir>', 'a model folder or a run folder')
    .option('--backbone <name>', 'a network of `tl backbones`, instead of --model')
    .option('--source <source>', 'which published variant (default: that of the weights)')
    .option('--weights <weights>', 'auto (imported weights) or a file', 'auto')
    .requiredOption('--input <file.npy>', 'the tensor')
    .requiredOption('--output <file.npz>', 'where pre_logits, logits and the taps go')
    .option('--tap <names>', 'intermediates that are written too, with commas between them', list)
    .option('--batch-size <n>', 'pictures at once (default: as many as 32 of 224x224 have pixels)', wholeNumber(1))
    .action((options: ForwardOptions, command) =>
      host.run(
        command,
        async ({ out, signal }) => {
          const began = performance.now();
          const engineWanted = engineOptions(options);
          const { readNpy } = await import('../../weights/numpy/npy.js');
          const { writeNpz } = await import('../../weights/numpy/npz.js');
          const { loadEngine } = await import('../../engine/tensorflow.js');
          const input = await readNpy(options.input);
          checkInput(options.input, input);
          const subject = await openSubject(options, input);
          try {
            for (const { text } of subject.adaptations) out.info(`weights adapted: ${text}`);
            const taps = tapsFor(subject.graph, options.tap ?? []);
            const engine = await loadEngine(engineWanted);
            out.info(`engine: ${engine.description}`);
            const { forwardInBatches } = await import('../../engine/forward.js');
            const arrays = await forwardInBatches(subject.graph, subject.read, engine, {
              input,
              taps,
              batchSize: options.batchSize,
              precision: options.precision,
              signal,
            });
            await writeNpz(options.output, arrays);
            const shapes = Object.fromEntries(Object.entries(arrays).map(([name, { shape }]) => [name, shape]));
            const seconds = (performance.now() - began) / 1000;
            const { name, source, adaptations } = subject;
            out.result({ output: options.output, backbone: name, source, adaptations, arrays: shapes, seconds }, () =>
              fields([
                ['network', `${name} from ${source}`],
                ...Object.entries(shapes).map(([tap, shape]) => [tap, dimensions(shape)] as const),
                ['written to', options.output],
                ['time', duration(seconds)],
              ]),
            );
          } finally {
            await subject.close();
          }
        },
        { graceful: true },
      ),
    );
}

function checkInput(path: string, { shape, data }: NpyArray): void {
  const fault = (message: string) =>
    new DataError({
      code: 'INPUT_SHAPE',
      message: `${path}: ${message}`,
      hint: 'save it from Python with numpy.save("x.npy", x.astype("float32")), x of shape [N, H, W, C]',
    });
  const written = `[${shape.join(', ')}]`;
  if (shape.length !== 4) throw fault(`expected four dimensions [N, H, W, C], received ${written}`);
  if (![1, 3, 4].includes(shape[3]!)) {
    const first = [1, 3, 4].includes(shape[1]!)
      ? '; the channels seem to come first: transpose it with x.transpose(0, 2, 3, 1)'
      : '';
    throw fault(`expected 1, 3 or 4 channels in the last dimension, received ${written}${first}`);
  }
  if (shape.includes(0)) throw fault(`expected at least one picture of at least one pixel, received ${written}`);
  const bad = data.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw fault(`expected finite numbers, received ${data[bad]} at position ${bad}`);
}

async function openSubject(
  { model, backbone, source, weights, tap = [] }: ForwardOptions,
  input: NpyArray,
): Promise<Subject> {
  const [, height, width, channels] = input.shape as readonly [number, number, number, number];
  const size = { height, width };
  if ((model === undefined) === (backbone === undefined)) {
    throw new UsageError({
      code: 'NO_NETWORK',
      message: model === undefined ? 'no network was named' : 'both --model and --backbone were given',
      hint: 'give --model DIR, or --backbone NAME with --weights',
    });
  }
  const { adaptWeights } = await import('../../weights/adapt.js');
  if (model !== undefined) {
    const { graphOf, openModelFolder } = await import('../../weights/model-folder.js');
    const { record, graph: own, read, close } = await openModelFolder(model);
    return closingOnFault(close, () => {
      checkChannels(input, own);
      const graph = graphOf({ ...record, inputSize: size });
      const adapted = adaptWeights(graph, own.parameters, read);
      return { name: record.backbone, source: record.source, graph, ...adapted, close };
    });
  }
  if (weights === 'none') {
    throw new UsageError({
      code: 'NO_WEIGHTS',
      message: '--weights none: the output of a random network means nothing',
      hint: 'give a weights file, or `auto` for imported weights',
    });
  }
  const { resolveWeights } = await import('../../weights/resolve.js');
  const { buildBackbone } = await import('../../backbones/index.js');
  const resolved = await resolveWeights({ backbone: backbone!, source, weights });
  const { withHead } = await import('../../heads/heads.js');
  const { published, classes, head, parameters, close } = resolved;
  return closingOnFault(close, () => {
    const representation = parameters.some(({ path }) => path.startsWith('representation.'));
    const auxiliary = auxiliaryFor(published, parameters, tap);
    const bare = buildBackbone(published, { size, channels, classes, representation, auxiliary });
    const graph = head === undefined ? bare : withHead(bare, head, head.classes);
    const adapted = adaptWeights(graph, [...parameters, ...(head?.parameters ?? [])], resolved.read!);
    return { name: resolved.backbone.name, source: published.source, graph, ...adapted, close };
  });
}

/** Classes of the auxiliary classifiers where one of their taps is asked for and the weights have them. */
function auxiliaryFor(
  { auxiliary = [] }: Published,
  parameters: readonly Parameter[],
  taps: readonly string[],
): number | undefined {
  const asked = auxiliary.find(({ name }) => taps.includes(`${name}.logits`));
  return parameters.find(({ path }) => path === `${asked?.name}.logits.bias`)?.shape[0];
}

async function closingOnFault<T>(close: () => Promise<void>, make: () => T): Promise<T> {
  try {
    return make();
  } catch (error) {
    await close();
    throw error;
  }
}

/** A trained model takes the pictures that it was trained on; published weights are adapted. */
function checkChannels({ shape }: NpyArray, { input }: Graph): void {
  if (shape[3] === input.shape[2]) return;
  throw new DataError({
    code: 'INPUT_SHAPE',
    message: `expected [N, H, W, ${input.shape[2]}] for this model, received [${shape.join(', ')}]`,
    hint: 'give a tensor of its channels, or a backbone with --weights, which is adapted to 1, 3 or 4 channels',
  });
}

/** `pre_logits`, `logits` where there is a classifier, and what the user asked for. */
function tapsFor(graph: Graph, wanted: readonly string[]): string[] {
  const always = ['pre_logits', 'logits'].filter((name) => graph.taps.has(name));
  const unknown = wanted.filter((name) => !graph.taps.has(name));
  if (unknown.length > 0) {
    throw new UsageError({
      code: 'UNKNOWN_TAP',
      message: `this network has no tap called ${unknown.map((name) => `"${name}"`).join(', ')}`,
      hint: `its taps are: ${[...graph.taps.keys()].join(', ')}`,
    });
  }
  return [...new Set([...always, ...wanted])];
}
