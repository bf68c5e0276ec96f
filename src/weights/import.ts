/** `tl import`: a published file becomes weights of the local store, under our own names and in our own layout. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { ToolkitError, UsageError } from '../errors.js';
import { fileError, sha256File } from '../files.js';
import { elementsOf } from './float-formats.js';
import { type ImportReport, reportOf } from './import-report.js';
import { saveImportedModel } from './imported-model.js';
import type { Adaptation } from './plan/adaptations.js';
import { pixelsToldApart } from './plan/file-pixels.js';
import {
  completed,
  openPublishedFile,
  type PlannedFile,
  type PublishedFile,
  planFile,
  type Wanted,
} from './published-file.js';
import { type FilePrint, type StoreRecord, storeWeights } from './store.js';

export type { ImportReport, ImportRow, ImportVerdict } from './import-report.js';

/** Settings of {@link importWeights}. */
export interface ImportOptions extends Wanted {
  /** Plan and check the names and shapes only; write nothing. */
  readonly dryRun?: boolean | undefined;
  /** Write a model folder, which predicts the file's own classes, in the place of an entry of the local store. */
  readonly out?: string | undefined;
  /** With `out`: a JSON file of the classes' names, `{"0": "daisy", ...}`; by default they are called by their numbers. */
  readonly classIndices?: string | undefined;
  /** With `out`: put the folder in the place of one that is there. */
  readonly overwrite?: boolean | undefined;
  /** Stops between two parameters; the store is then as it was. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Converts a published weights file and keeps it in the local store, in the place of what was there for the same
 * backbone and source.
 * @throws WEIGHTS_MISMATCH with every fault, NOT_RECOGNISED, IGNORED_KERNEL, NO_BACKGROUND, NAME_MAP, NOT_FINITE,
 * NO_CLASSIFIER, OUT_EXISTS, CLASS_INDICES, CLASS_INDICES_UNUSED, FormatError, FILE_NOT_WRITTEN
 */
export async function importWeights(file: string, options: ImportOptions = {}): Promise<ImportReport> {
  const began = performance.now();
  if (options.out === undefined && options.classIndices !== undefined) {
    throw new UsageError({
      code: 'CLASS_INDICES_UNUSED',
      message: '--class-indices names the classes of a model folder, and the local store has none',
      hint: 'say with --out where the model folder goes',
    });
  }
  const opened = await openPublishedFile(file, options);
  const stop = new AbortController();
  try {
    const proof = options.dryRun === true ? [] : await proofOf(opened);
    const adaptations = [...opened.adaptations, ...(await pixelsToldApart(opened.tensors, opened.plan)), ...proof];
    const record = recordOf(opened, { ...opened, adaptations }, stop.signal); // hashes while the numbers are written
    record.catch(() => undefined); // it is waited for below, unless something else fails first
    const folder = options.dryRun === true ? null : await keep(record, opened, options);
    return finished(opened, { ...opened, adaptations }, await record, folder, began);
  } finally {
    stop.abort();
    await opened.close();
  }
}

/** What an import would do, and why it would fail. */
export interface ImportPlan {
  readonly report: ImportReport;
  /** What {@link importWeights} would throw; undefined where it would not. */
  readonly fault: ToolkitError | undefined;
}

/**
 * Plans an import and writes nothing: of a file that does not fit, too, the report has a row for each parameter and
 * tensor.
 * @throws what has no plan: NOT_RECOGNISED, NAME_MAP, IGNORE_MATCHES_NOTHING, FormatError
 */
export async function planImport(file: string, options: Wanted = {}): Promise<ImportPlan> {
  const began = performance.now();
  const planned = await planFile(file, options);
  try {
    const { opened, fault } = attempt(planned);
    const part = opened ?? {
      parameters: [],
      adaptations: [],
      ignored: [],
      classes: planned.plan.classes,
      head: planned.plan.head,
    };
    const record = await recordOf(planned, part);
    return { report: finished(planned, part, record, null, began), fault };
  } finally {
    await planned.close();
  }
}

function attempt(planned: PlannedFile): { opened?: PublishedFile; fault?: ToolkitError } {
  try {
    return { opened: completed(planned) };
  } catch (error) {
    if (error instanceof ToolkitError) return { fault: error };
    throw error;
  }
}

/** What a report tells of a file beside its plan. */
type Loaded = Pick<PublishedFile, 'parameters' | 'adaptations' | 'ignored' | 'classes' | 'head'>;

function finished(
  { plan, tensors, alike }: PlannedFile | PublishedFile,
  { parameters, adaptations }: Loaded,
  record: StoreRecord,
  folder: string | null,
  began: number,
): ImportReport {
  const numbers = parameters.reduce((sum, { shape }) => sum + elementsOf(shape), 0);
  const report = reportOf(plan, tensors, { numbers, record, adaptations, alike });
  return { ...report, folder, seconds: (performance.now() - began) / 1000 };
}

/** What a network that the file carries says of the imported one. */
async function proofOf({ tensors, plan, read }: PublishedFile): Promise<Adaptation[]> {
  if (tensors.verify === undefined) return [];
  const { forwardInBatches } = await import('../engine/forward.js');
  const { loadEngine } = await import('../engine/tensorflow.js');
  const engine = await loadEngine();
  const embed = async (data: Float32Array): Promise<Float32Array> => {
    const input = { shape: [1, ...plan.graph.input.shape], data };
    return (await forwardInBatches(plan.graph, read, engine, { input, taps: ['pre_logits'] })).pre_logits!.data;
  };
  return [{ kind: 'proven', tensors: [], text: await tensors.verify(embed) }];
}

async function recordOf(
  { plan, tensors }: PlannedFile | PublishedFile,
  { classes, head, adaptations, ignored }: Loaded,
  signal?: AbortSignal,
): Promise<StoreRecord> {
  const { path, archive } = tensors;
  const file = await fingerprintOf(path, archive?.sha256, signal);
  const parts: FilePrint[] = [];
  // those of an archive are in its own sum
  for (const part of archive === undefined ? (tensors.parts ?? []) : []) {
    parts.push(await fingerprintOf(part, undefined, signal));
  }
  return {
    formatVersion: 1,
    backbone: plan.backbone.name,
    source: plan.published.source,
    classes: classes ?? null,
    ...(head === undefined ? {} : { head: { hidden: head.hidden, dropout: head.dropout, classes: head.classes } }),
    file: {
      ...file,
      ...(archive === undefined ? {} : { member: archive.name }),
      ...(parts.length === 0 ? {} : { parts }),
    },
    format: tensors.format,
    date: new Date().toISOString(),
    origin: plan.published.origin,
    license: plan.published.license,
    adaptations: adaptations.map(({ text }) => text),
    ignored,
  };
}

async function fingerprintOf(path: string, known: string | undefined, signal?: AbortSignal): Promise<FilePrint> {
  const { size } = await stat(path).catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', path, 'cannot be read', error);
  });
  return { name: basename(path), size, sha256: known ?? (await sha256File(path, signal)) };
}

/** Writes the weights where they are wanted. @returns the folder */
async function keep(record: Promise<StoreRecord>, opened: PublishedFile, options: ImportOptions): Promise<string> {
  const { signal, out } = options;
  const { plan, parameters } = opened;
  if (out === undefined) {
    const place = { backbone: plan.backbone.name, source: plan.published.source };
    const pieces = (path: string) => {
      signal?.throwIfAborted();
      return opened.pieces(path);
    };
    return (await storeWeights(place, parameters, pieces, () => record)).folder;
  }
  const read = (path: string) => {
    signal?.throwIfAborted();
    return opened.read(path);
  };
  await saveImportedModel({ ...opened, read }, await record, { ...options, out });
  return out;
}
