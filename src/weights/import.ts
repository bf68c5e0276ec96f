/** `tl import`: a published file becomes weights of the local store, under our own names and in our own layout. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileError, sha256File } from '../files.js';
import type { Verdict } from './plan.js';
import { openPublishedFile, type PublishedFile, type Wanted } from './published-file.js';
import type { WeightsFormat } from './source.js';
import { type StoreRecord, storeWeights } from './store.js';

/** Settings of {@link importWeights}. */
export interface ImportOptions extends Wanted {
  /** Plan and check the names and shapes only; write nothing. */
  readonly dryRun?: boolean | undefined;
  /** Stops between two parameters; the store is then as it was. */
  readonly signal?: AbortSignal | undefined;
}

/** One tensor of the file, or one parameter without any. */
export interface ImportRow {
  readonly verdict: Verdict;
  readonly parameter: string | null;
  readonly tensor: string | null;
  readonly dtype: string | null;
  /** As in the file, or as the parameter needs it where the file has none. */
  readonly shape: readonly number[];
}

/** What was done. */
export interface ImportReport {
  readonly backbone: string;
  readonly source: string;
  /** The source of which this one is a variant, as `keras` is for `keras_notop`; null where it is none. */
  readonly variantOf: string | null;
  readonly format: WeightsFormat;
  /** Of the classifier; null where the file has none. */
  readonly classes: number | null;
  readonly file: StoreRecord['file'];
  readonly origin: string;
  readonly license: string;
  /** Parameters of the network, in numbers. */
  readonly parameters: number;
  readonly rows: readonly ImportRow[];
  /** Rows of each verdict. */
  readonly totals: Readonly<Partial<Record<Verdict, number>>>;
  readonly adaptations: readonly string[];
  readonly ignored: readonly string[];
  /** Other sources of this network whose files have the same names and shapes; none where one was asked for by name. */
  readonly alike: readonly string[];
  /** Where the weights lie now; null after a dry run. */
  readonly folder: string | null;
  readonly seconds: number;
}

/**
 * Converts a published weights file and keeps it in the local store, in the place of what was there for the same
 * backbone and source.
 * @throws WEIGHTS_MISMATCH with every fault, NOT_RECOGNISED, IGNORED_KERNEL, NOT_FINITE, FormatError, FILE_NOT_WRITTEN
 */
export async function importWeights(file: string, options: ImportOptions = {}): Promise<ImportReport> {
  const began = performance.now();
  const opened = await openPublishedFile(file, options);
  try {
    const proof = options.dryRun === true ? [] : await proofOf(opened);
    const adapted = { ...opened, adaptations: [...opened.adaptations, ...proof] };
    const record = await recordOf(opened.tensors.path, adapted);
    const folder = options.dryRun === true ? null : await store(record, opened, options);
    return {
      ...reportOf(opened, record),
      folder,
      seconds: (performance.now() - began) / 1000,
    };
  } finally {
    await opened.close();
  }
}

/** What a network that the file carries says of the imported one. */
async function proofOf({ tensors, plan, read }: PublishedFile): Promise<string[]> {
  if (tensors.verify === undefined) return [];
  const { forwardInBatches } = await import('../engine/forward.js');
  const { loadEngine } = await import('../engine/tensorflow.js');
  const engine = await loadEngine();
  const embed = async (data: Float32Array): Promise<Float32Array> => {
    const input = { shape: [1, ...plan.graph.input.shape], data };
    return (await forwardInBatches(plan.graph, read, engine, { input, taps: ['pre_logits'] })).pre_logits!.data;
  };
  return [await tensors.verify(embed)];
}

async function recordOf(
  file: string,
  { plan, classes, tensors, adaptations, ignored }: PublishedFile,
): Promise<StoreRecord> {
  const { size } = await stat(file).catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', file, 'cannot be read', error);
  });
  return {
    formatVersion: 1,
    backbone: plan.backbone.name,
    source: plan.published.source,
    classes: classes ?? null,
    file: { name: basename(file), size, sha256: await sha256File(file) },
    format: tensors.format,
    date: new Date().toISOString(),
    origin: plan.published.origin,
    license: plan.published.license,
    adaptations,
    ignored,
  };
}

async function store(record: StoreRecord, opened: PublishedFile, { signal }: ImportOptions): Promise<string> {
  const { folder } = await storeWeights(record, opened.parameters, (path) => {
    signal?.throwIfAborted();
    return opened.read(path);
  });
  return folder;
}

function reportOf(
  { plan, tensors, parameters, alike }: PublishedFile,
  record: StoreRecord,
): Omit<ImportReport, 'folder' | 'seconds'> {
  const rows = plan.rows.map(
    ({ verdict, parameter, tensor }): ImportRow => ({
      verdict,
      parameter: parameter?.path ?? null,
      tensor: tensor?.name ?? null,
      dtype: tensor?.dtype ?? null,
      shape: tensor?.shape ?? parameter!.shape,
    }),
  );
  const totals: Partial<Record<Verdict, number>> = {};
  for (const { verdict } of rows) totals[verdict] = (totals[verdict] ?? 0) + 1;
  const { backbone, source, classes, file, origin, license, adaptations, ignored } = record;
  return {
    backbone,
    source,
    variantOf: plan.published.variantOf ?? null,
    format: tensors.format,
    classes,
    file,
    origin,
    license,
    parameters: parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    rows,
    totals,
    adaptations,
    ignored,
    alike,
  };
}
