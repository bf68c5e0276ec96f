/**
 * A model folder: `model.json`, `weights.safetensors` and a `README.md` for people. It is self-contained: prediction, evaluation and export need
 * nothing else, and read the same preprocessing record that training used.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { type Channels, channelCounts } from '../augment/image.js';
import { channelsFor, type Preprocessing, preprocessingSchema } from '../augment/preprocessing.js';
import { buildBackbone, findBackbone, findPublished } from '../backbones/index.js';
import type { Graph } from '../engine/graph.js';
import type { ReadParameter } from '../engine/network.js';
import { FormatError, listFaults, ToolkitError, UsageError, WeightsError } from '../errors.js';
import { readJsonFile, recoverFolder, replaceFolderAtomic, writeFileAtomic } from '../files.js';
import { type Head, withHead } from '../heads/heads.js';
import { modelCard } from './model-card.js';
import { openSafetensors, writeSafetensors } from './safetensors.js';

/** Version of the folder's format: a reader refuses a later one. */
export const MODEL_FORMAT_VERSION = 1;

export interface ModelRecord {
  readonly formatVersion: typeof MODEL_FORMAT_VERSION;
  readonly backbone: string;
  readonly source: string;
  readonly inputSize: { readonly height: number; readonly width: number };
  /** Of the pictures: 1 grey, 3 RGB, 4 RGBA; 3 when absent, as in folders of versions that knew no other. */
  readonly channels?: Channels;
  readonly head: Head;
  /** In the order of the logits. */
  readonly classes: readonly string[];
  readonly preprocessing: Preprocessing;
  /** Where the weights started from, and under which licence they were published. */
  readonly weights: { readonly origin: string; readonly license: string };
  /** What it was trained on: tells training pictures from others when the same folder is evaluated. */
  readonly data: { readonly fingerprint: string; readonly valSplit: number; readonly seed: number };
  /** How it was trained; absent where it was not trained here. */
  readonly training?: TrainingRecord;
  /** Version of this toolkit that wrote it. */
  readonly toolkit: string;
}

export interface TrainingRecord {
  readonly trainPictures: number;
  readonly valPictures: number;
  /** Settings by their names. */
  readonly recipe: Readonly<Record<string, string | number | boolean>>;
  /** At the end of the epoch that the weights are of. */
  readonly reached?: {
    readonly epoch: number;
    readonly trainLoss: number;
    /** 0 to 1. */
    readonly trainAccuracy: number;
    /** null where there are no validation pictures. */
    readonly valLoss: number | null;
    readonly valAccuracy: number | null;
  };
}

const positiveInteger = z.number().int().positive();
const size = z.object({ height: positiveInteger, width: positiveInteger });
const channels = z.literal(channelCounts);

/** How a head is kept in a record. */
export const headSchema = z.object({ hidden: z.array(positiveInteger), dropout: z.number().min(0).lt(1) });

const trainingSchema: z.ZodType<TrainingRecord> = z.object({
  trainPictures: z.number().int().min(0),
  valPictures: z.number().int().min(0),
  recipe: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  reached: z
    .object({
      epoch: positiveInteger,
      trainLoss: z.number(),
      trainAccuracy: z.number(),
      valLoss: z.number().nullable(),
      valAccuracy: z.number().nullable(),
    })
    .exactOptional(),
});

/** What a record of a model and that of its export both hold. */
export const sharedFields = {
  backbone: z.string(),
  source: z.string(),
  inputSize: size,
  head: headSchema,
  classes: z.array(z.string()).min(2),
  preprocessing: preprocessingSchema,
  weights: z.object({ origin: z.string(), license: z.string() }),
  data: z.object({ fingerprint: z.string(), valSplit: z.number().min(0).lt(1), seed: z.number() }),
  training: trainingSchema.exactOptional(),
  toolkit: z.string(),
};

const recordSchema: z.ZodType<ModelRecord> = z
  .object({
    formatVersion: z.literal(MODEL_FORMAT_VERSION),
    ...sharedFields,
    channels: channels.exactOptional(),
  })
  .refine((record) => (record.channels ?? 3) === channelsFor(record.preprocessing), {
    message: 'as many as preprocessing has means',
    path: ['channels'],
  });

const RECORD = 'model.json';
/** The record of an exported folder, in which `model.json` is something else. */
export const EXPORT_RECORD = 'export.json';
const WEIGHTS = 'weights.safetensors';
const README = 'README.md';

/** The network of a record: backbone and head, ending in the tap `logits`. */
export function graphOf(
  record: Pick<ModelRecord, 'backbone' | 'source' | 'inputSize' | 'channels' | 'head' | 'classes'>,
): Graph {
  const published = findPublished(findBackbone(record.backbone), record.source);
  return withHead(
    buildBackbone(published, { size: record.inputSize, channels: record.channels ?? 3 }),
    record.head,
    record.classes.length,
  );
}

/**
 * Writes a model folder, whole or not at all, in the place of one that is there.
 * @param read gives the numbers of every parameter of the graph
 * @param more writes what else belongs into the folder
 */
export async function saveModelFolder(
  folder: string,
  record: ModelRecord,
  read: ReadParameter,
  more: (folder: string) => Promise<void> = async () => {},
): Promise<void> {
  const { parameters } = graphOf(record);
  await replaceFolderAtomic(folder, async (fresh) => {
    await writeFileAtomic(join(fresh, RECORD), recordText(record));
    const entries = parameters.map(({ path, shape }) => ({ name: path, shape, read: () => read(path) }));
    await writeFileAtomic(join(fresh, README), modelCard(record));
    await writeSafetensors(join(fresh, WEIGHTS), entries, { format: 'tl', backbone: record.backbone });
    await more(fresh);
  });
}

/** In the order of the schema, in which a record is that was read: writing it again gives the same bytes. */
function recordText(record: ModelRecord): string {
  const { data = record } = recordSchema.safeParse(JSON.parse(JSON.stringify(record)));
  return `${JSON.stringify(data, null, 2)}\n`;
}

export interface OpenedModel {
  readonly folder: string;
  readonly record: ModelRecord;
  readonly graph: Graph;
  readonly read: ReadParameter;
  close(): Promise<void>;
}

/**
 * Opens a model folder, or the `best/` of a run folder.
 * @throws MODEL_NOT_FOUND, MODEL_IS_EXPORT, MODEL_INVALID, WEIGHTS_MISMATCH
 */
export async function openModelFolder(path: string): Promise<OpenedModel> {
  if (existsSync(join(path, EXPORT_RECORD))) {
    throw new UsageError({
      code: 'MODEL_IS_EXPORT',
      message: `${path} holds an exported model, expected a model folder or a run folder`,
      hint: 'give the folder that it was exported from; predict and evaluate take exported folders too',
    });
  }
  const places = [path, join(path, 'best')];
  for (const place of places) await recoverFolder(place);
  const folder = places.find((each) => existsSync(join(each, RECORD)));
  if (folder === undefined) {
    throw new UsageError({
      code: 'MODEL_NOT_FOUND',
      message: `${path}: no model here; expected a folder with ${RECORD}, or a run folder with best/${RECORD}`,
      hint: 'give the folder that `tl finetune` printed',
    });
  }
  const record = parseRecord(join(folder, RECORD), await readJsonFile(join(folder, RECORD)));
  const graph = graphIn(join(folder, RECORD), record);
  const file = join(folder, WEIGHTS);
  const source = await openSafetensors(file);
  const found = new Map(source.tensors.map((tensor) => [tensor.name, tensor.shape.join(', ')]));
  const faults = graph.parameters.flatMap(({ path: name, shape }) => {
    const there = found.get(name);
    if (there === undefined) return [`absent: ${name} [${shape.join(', ')}]`];
    return there === shape.join(', ') ? [] : [`wrong shape: ${name} is [${there}], expected [${shape.join(', ')}]`];
  });
  if (faults.length > 0) {
    await source.close();
    throw new WeightsError({
      code: 'WEIGHTS_MISMATCH',
      message: `${file} does not fit ${RECORD} beside it\n${listFaults(faults)}`,
      hint: 'take both files from the same run',
    });
  }
  return { folder, record, graph, read: (name) => source.read(name), close: () => source.close() };
}

/** The network of a record that was read: what is wrong with it is wrong with its file. */
function graphIn(file: string, record: ModelRecord): Graph {
  try {
    return graphOf(record);
  } catch (error) {
    if (!(error instanceof ToolkitError)) throw error;
    const { code, message, hint } = error;
    throw new FormatError({
      code,
      message: `${file}: ${message}`,
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    });
  }
}

/** What the record beside a weights file says of its network. */
export type RecordBeside = Pick<ModelRecord, 'source'> & Partial<Pick<ModelRecord, 'inputSize' | 'channels'>>;

const besideSchema: z.ZodType<RecordBeside> = z.object({
  source: z.string(),
  inputSize: size.exactOptional(),
  channels: channels.exactOptional(),
});

/** The record of the model folder that a weights file lies in; undefined where it lies elsewhere. */
export async function recordBeside(file: string): Promise<RecordBeside | undefined> {
  const json = await readJsonFile(join(dirname(file), RECORD)).catch(() => undefined);
  return besideSchema.safeParse(json).data;
}

function parseRecord(file: string, json: unknown): ModelRecord {
  const result = recordSchema.safeParse(json);
  if (result.success) return result.data;
  throw new FormatError({
    code: 'MODEL_INVALID',
    message: `${file} is not a model record of format version ${MODEL_FORMAT_VERSION}\n${listFaults(
      result.error.issues.map((issue) => `${issue.path.join('.') || '(whole file)'}: ${issue.message}`),
    )}`,
    hint: 'it may be damaged, or written by a newer version of tl',
  });
}
