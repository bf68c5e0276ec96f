import { z } from 'zod';
import type { Channels } from '../augment/image.js';
import { withChannels } from '../augment/preprocessing.js';
import type { Parameter } from '../engine/graph.js';
import { FormatError, listFaults, WeightsError } from '../errors.js';
import { readJsonFile, refuseExisting } from '../files.js';
import { version } from '../version.js';
import { type ModelRecord, saveModelFolder } from './model-folder.js';
import type { PublishedFile } from './published-file.js';
import type { StoreRecord } from './store.js';

export interface ImportedModelOptions {
  /** The new folder. */
  readonly out: string;
  /** A JSON file of the classes' names; by default they are called by their numbers. */
  readonly classIndices?: string | undefined;
  /** Put the folder in the place of one that is there. */
  readonly overwrite?: boolean | undefined;
}

/**
 * Writes a model folder of a file's backbone and its head, or its classifier as a linear head.
 * @throws NO_CLASSIFIER, REPRESENTATION_LAYER, OUT_EXISTS, CLASS_INDICES, FILE_NOT_WRITTEN, or what reading throws
 */
export async function saveImportedModel(
  opened: PublishedFile,
  stored: StoreRecord,
  { out, classIndices, overwrite = false }: ImportedModelOptions,
): Promise<void> {
  const { plan, head, classes, parameters, read, tensors } = opened;
  const count = head?.classes ?? classes;
  if (count === undefined || count < 2) {
    const there = count === undefined ? 'neither a classifier nor a head' : 'a classifier of one class';
    throw new WeightsError({
      code: 'NO_CLASSIFIER',
      message: `${tensors.path} has ${there}; a model folder predicts one of several classes`,
      hint: 'import it into the local store (leave --out away), and train a head with `tl finetune`',
    });
  }
  if (parameters.some(({ path }) => path.startsWith('representation.'))) {
    throw new WeightsError({
      code: 'REPRESENTATION_LAYER',
      message: `${tensors.path} has a tanh layer between its backbone and its classifier, which a model folder has no place for`,
      hint: 'import it into the local store (leave --out away); `tl forward` computes its logits',
    });
  }
  refuseExisting(out, overwrite);
  const channels = plan.graph.input.shape[2] as Channels;
  const said = tensors.classifier?.classes.length === count ? tensors.classifier : undefined;
  const record: ModelRecord = {
    formatVersion: 1,
    backbone: plan.backbone.name,
    source: plan.published.source,
    inputSize: said?.inputSize ?? inputSizeOf(opened),
    channels,
    head: head === undefined ? { hidden: [], dropout: 0 } : { hidden: head.hidden, dropout: head.dropout },
    classes:
      classIndices === undefined ? (said?.classes ?? numbered(count)) : await readClassIndices(classIndices, count),
    preprocessing: withChannels(said?.preprocessing ?? plan.published.preprocessing, channels),
    weights: { origin: `${stored.file.name} (sha256 ${stored.file.sha256})`, license: stored.license },
    data: { fingerprint: '', valSplit: 0, seed: 0 }, // of no data set that is known here
    toolkit: version,
  };
  await saveModelFolder(out, record, (path) =>
    read(head === undefined ? path.replace(/^head\.logits\./, 'classifier.') : path),
  );
}

/** That of the planned network; where the file has a position embedding, that of its grid. */
function inputSizeOf({ plan, parameters }: PublishedFile): ModelRecord['inputSize'] {
  const [height, width] = plan.graph.input.shape as readonly [number, number];
  const gridOf = (from: readonly Parameter[]) => from.find(({ places }) => places !== undefined)?.places?.grid;
  const [planned, own] = [gridOf(plan.graph.parameters), gridOf(parameters)];
  if (planned === undefined || own === undefined) return { height, width };
  return { height: (height / planned[0]) * own[0], width: (width / planned[1]) * own[1] };
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));

/** `{"0": "daisy"}`, `{"daisy": 0}` as Keras' generators have it, or a list of names. */
const namesSchema = z.union([
  z.array(z.string()).transform((names) => names.map((name, i) => [i, name] as const)),
  z.record(z.string().regex(/^\d+$/), z.string()).transform((names) => {
    return Object.entries(names).map(([index, name]) => [Number(index), name] as const);
  }),
  z.record(z.string(), z.number().int().min(0)).transform((indices) => {
    return Object.entries(indices).map(([name, index]) => [index, name] as const);
  }),
]);

/**
 * The names of classes in the order of the logits.
 * @throws CLASS_INDICES with every index that is missing or too many
 */
export async function readClassIndices(path: string, count: number): Promise<string[]> {
  const fault = (faults: readonly string[]) =>
    new FormatError({
      code: 'CLASS_INDICES',
      message: `${path}: expected the names of ${count} classes\n${listFaults(faults)}`,
      hint: 'write {"0": "daisy", "1": "tulip", ...}, an index for each logit',
    });
  const parsed = namesSchema.safeParse(await readJsonFile(path));
  if (!parsed.success) throw fault(['it is no object of indices and names, and no list of names']);
  const names = new Map<number, string>();
  const faults: string[] = [];
  for (const [index, name] of parsed.data) {
    if (index >= count) faults.push(`index ${index} ("${name}") is beyond the last class, ${count - 1}`);
    else if (names.has(index)) faults.push(`index ${index} has two names, "${names.get(index)}" and "${name}"`);
    else names.set(index, name);
  }
  for (let i = 0; i < count; i++) if (!names.has(i)) faults.push(`index ${i} has no name`);
  if (faults.length > 0) throw fault(faults);
  return numbered(count).map((index) => names.get(Number(index))!);
}
