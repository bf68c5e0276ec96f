/**
 * Runs a Keras file where there is no Keras: stock layers of TensorFlow.js, made from the architecture and the weights
 * that the file holds, with none of this toolkit's operators.
 */
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FormatError } from '../../errors.js';
import { makeTemporaryFolder } from '../../weights/archive/temporary-folder.js';
import { openH5 } from '../../weights/keras/h5.js';
import type { TensorSource } from '../../weights/source.js';
import type { Runtime } from '../format.js';
import type { Constant, PlainNetwork } from '../lowering/operations.js';
import { planConstants } from '../quantize/quantize.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { writeShards } from '../tfjs/shards.js';
import { openStock } from '../tfjs/stock.js';

interface LayerInFile {
  readonly class_name: string;
  readonly config: Readonly<Record<string, unknown>> & { readonly name: string; readonly groups?: number };
}

interface ModelInFile {
  readonly config: { readonly layers: readonly LayerInFile[] };
}

/** @throws EXPORT_UNREADABLE, and what the reader of HDF5 throws */
export async function openKerasModel(file: string, record: ExportRecord): Promise<Runtime> {
  const folder = await makeTemporaryFolder();
  try {
    await writeLayersModel(folder.path, file);
    const stock = await openLayersModel(folder.path, record);
    const close = async (): Promise<void> => {
      await stock.close();
      await folder.remove();
    };
    return { ...stock, name: `layers of ${stock.name}, as ${basename(file)} tells them`, close };
  } catch (error) {
    await folder.remove();
    throw error;
  }
}

/** Stock layers of TensorFlow.js; where the model takes pixels, they are float32 like all its numbers. */
export async function openLayersModel(
  folder: string,
  { input, preprocessing }: Pick<ExportRecord, 'input' | 'preprocessing'>,
): Promise<Runtime> {
  const stock = await openStock(folder, 'layers', { input: 'normalised', preprocessing });
  if (input === 'normalised') return stock;
  const run: Runtime['run'] = (x) =>
    stock.run({ shape: x.shape, data: Float32Array.from(pixelsOf(x, { preprocessing })) });
  return { ...stock, run };
}

/** Copies a whole-model file of Keras into what `tf.loadLayersModel` reads. */
async function writeLayersModel(folder: string, file: string): Promise<void> {
  const source = await openH5(file);
  try {
    const model = modelIn(source);
    const grouped = new Map(
      model.config.layers.flatMap(({ config: { name, groups = 1 } }) => (groups > 1 ? [[name, groups] as const] : [])),
    );
    const constants = source.tensors.map(({ name, shape }): Constant => {
      const groups = grouped.get(name.slice(0, name.lastIndexOf('/')));
      const constant = { name, type: 'float32', use: { kind: 'structure' } } as const;
      if (groups === undefined || shape.length !== 4) return { ...constant, shape, read: () => source.read(name) };
      const whole = shape.map((length, axis) => (axis === 2 ? length * groups : length));
      return { ...constant, shape: whole, read: async () => ungrouped(await source.read(name), shape, groups) };
    });
    const network: Pick<PlainNetwork, 'constants'> = { constants };
    const group = await writeShards(folder, await planConstants(network, 'none', new Map()));
    const modelTopology = { ...model, config: { ...model.config, layers: model.config.layers.map(withoutGroups) } };
    const json = { format: 'layers-model', modelTopology: { model_config: modelTopology }, weightsManifest: [group] };
    await writeFile(join(folder, 'model.json'), JSON.stringify(json));
  } finally {
    await source.close();
  }
}

function modelIn({ path, metadata }: TensorSource): ModelInFile {
  if (metadata.model_config !== undefined) return JSON.parse(metadata.model_config) as ModelInFile;
  throw new FormatError({
    code: 'EXPORT_UNREADABLE',
    message: `${path}: there is no architecture in it, expected the attribute model_config`,
    hint: 'the file may be damaged: export the model again',
  });
}

/** TensorFlow.js knows no groups, and takes no notice of the word. */
function withoutGroups({ config, ...layer }: LayerInFile): LayerInFile {
  const { groups: _, ...rest } = config;
  return { ...layer, config: rest as LayerInFile['config'] };
}

/** A kernel `[h, w, in / groups, out]` with zeros where a group does not look: `[h, w, in, out]`. */
function ungrouped(values: Float32Array, shape: readonly number[], groups: number): Float32Array {
  const [height, width, inputs, outputs] = shape as readonly [number, number, number, number];
  const whole = new Float32Array(values.length * groups);
  const perGroup = outputs / groups;
  for (let place = 0; place < height * width; place++) {
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        const input = Math.floor(o / perGroup) * inputs + i;
        whole[(place * inputs * groups + input) * outputs + o] = values[(place * inputs + i) * outputs + o]!;
      }
    }
  }
  return whole;
}
