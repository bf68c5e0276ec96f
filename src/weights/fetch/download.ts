/**
 * Downloads a publisher's file: goes on where an earlier try or run was cut off, tries again what may pass, and hands
 * over the file only when it is whole and, as far as anybody states checksums, the right one.
 */
import { createReadStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Download } from '../../backbones/index.js';
import { toolkitHome } from '../../engine/setup/home.js';
import { withLock } from '../../engine/setup/lock.js';
import { ToolkitError, WeightsError } from '../../errors.js';
import { fileError } from '../../files.js';
import { type Environment, fileName, hubAddress, mirrored, onHub, publishersAddress, shown } from './address.js';
import { type Connection, connect, proxiesOf, type TimeLimits } from './connection.js';
import { FetchFault } from './fault.js';
import { type Listeners, type Origin, startGrowing } from './growing.js';
import { findOnHub } from './hub.js';
import { openPart, type Part, type Place, placeOf, removeDownload, sizeOfWhole } from './part.js';
import { type Patience, withRetries } from './retry.js';
import { checkSize, type Statement, startDigest, statementsOf, wrongFile } from './verify.js';

/** Time limits in milliseconds, and how often to try. */
export type Timing = TimeLimits & Patience;

/**
 * Half a minute without a byte is a dropped connection, however slow the line; six tries with waits that double from 1 s
 * outlast the restart of a router or a server.
 */
const patient: Timing = {
  connectMs: 15_000,
  answerMs: 60_000,
  silenceMs: 30_000,
  tries: 6,
  firstWaitMs: 1000,
  longestWaitMs: 60_000,
};

/** Settings of {@link withFile}. */
export interface DownloadOptions extends Listeners {
  readonly signal?: AbortSignal | undefined;
  /** Mirrors, proxies and tokens; by default the environment of this process. */
  readonly env?: Environment | undefined;
  readonly timing?: Partial<Timing> | undefined;
  /** How else to come by the weights, for errors: `tl import FILE --backbone resnet50 --source keras`. */
  readonly byHand: string;
}

/** A file that is whole. */
export interface Downloaded {
  readonly file: string;
  /** Where it was fetched from, without passwords. */
  readonly from: string;
  readonly bytes: number;
  /** Bytes that were there before this run. */
  readonly already: number;
  /** Checksums that agree, and who states each; none where nobody states any. */
  readonly checked: readonly Statement[];
  /** Removes the file. */
  remove(): Promise<void>;
}

/**
 * Downloads a file and hands it to `use`. Two processes that want the same file take turns. The file stays until
 * somebody removes it, so that whoever comes after a failed `use` need not download it again.
 * @throws DOWNLOAD_FAILED, DOWNLOAD_WRONG, DOWNLOAD_STOPPED, DISK_FULL, MIRROR_INVALID, HF_TOKEN_INVALID, FILE_NOT_WRITTEN
 */
export async function withFile<T>(
  download: Download,
  options: DownloadOptions,
  use: (downloaded: Downloaded) => Promise<T>,
): Promise<T> {
  const { signal, onNotice } = options;
  const downloads = downloadsFolder();
  const place = placeOf(downloads, publishersAddress(download), fileName(download));
  await mkdir(downloads, { recursive: true }).catch((error: unknown) => {
    throw fileError('FILE_NOT_WRITTEN', downloads, 'no folder for downloads can be made', error);
  });
  const onWait = (): void => onNotice?.('another process fetches this file: waiting for it');
  return await withLock(place.lock, async () => use(await fetchFile(download, place, options)), { onWait, signal });
}

/** Where downloads lie until they are imported, and what is cut off lies until it is fetched again. */
export const downloadsFolder = (): string => join(toolkitHome(), 'downloads');

/** Where a download is asked for, for people. @throws MIRROR_INVALID */
export function addressShown(download: Download, env: Environment = process.env): string {
  if (download.url !== undefined) return shown(mirrored(download.url, env).url);
  return shown(onHub(hubAddress(env), download.hub));
}

async function fetchFile(download: Download, place: Place, options: DownloadOptions): Promise<Downloaded> {
  const { env = process.env, signal, onNotice } = options;
  const timing = { ...patient, ...options.timing };
  const from = addressShown(download, env);
  const url = publishersAddress(download);
  const done = (what: Pick<Downloaded, 'bytes' | 'already' | 'checked'>): Downloaded => ({
    file: place.file,
    from,
    ...what,
    remove: () => removeDownload(place),
  });
  let connection: Connection | undefined;
  let part: Part | undefined;
  const retrying = <R>(attempt: () => Promise<R>): Promise<R> =>
    withRetries(attempt, {
      ...timing,
      signal,
      progress: () => part?.size() ?? 0,
      onRetry: ({ message }, waitMs) => {
        if (waitMs > 0) onNotice?.(`${message}: trying again in ${(waitMs / 1000).toFixed(1)} s`);
      },
    });
  try {
    const opened = connect(timing, env);
    connection = opened;
    const origin = await retrying(() => originOf(download, opened, env, signal));
    const whole = await wholeFile(place, origin, from);
    if (whole !== undefined) return done({ bytes: whole, already: whole, checked: origin.statements });
    part = await openPart(place);
    const growing = startGrowing({ origin, place, part, url, from }, options);
    do await retrying(() => growing.attempt(opened, signal));
    while (!(await growing.finish()));
    return done({ bytes: part.size(), already: growing.already(), checked: growing.statements() });
  } catch (error) {
    if (part?.size() === 0) await removeDownload(place);
    if (signal?.aborted === true) throw stopped(from, part);
    if (error instanceof FetchFault) throw failed(from, error, { part, download, env, byHand: options.byHand });
    throw error;
  } finally {
    await part?.close();
    await connection?.close();
  }
}

async function originOf(
  download: Download,
  connection: Connection,
  env: Environment,
  signal: AbortSignal | undefined,
): Promise<Origin> {
  const statements = statementsOf(download);
  if (download.url !== undefined) return { address: mirrored(download.url, env), known: download, statements };
  const { address, bytes, sha256 } = await findOnHub(hubAddress(env), download.hub, connection, signal);
  const byHub =
    sha256 === undefined ? [] : [{ kind: 'sha256', digits: sha256, by: 'the hub', beforehand: true } as const];
  return { address, known: { bytes, ...download }, statements: [...statements, ...byHub], sha256 };
}

/**
 * The size of a whole file that an earlier run has left, where it still is what is wanted. A file of which nobody states a
 * checksum may have been replaced since, and is fetched again.
 */
async function wholeFile(place: Place, { known, statements }: Origin, from: string): Promise<number | undefined> {
  const size = await sizeOfWhole(place);
  if (size === undefined) return undefined;
  try {
    if (statements.length === 0) throw wrongFile(from, 'nobody states a checksum');
    checkSize(size, known, from);
    const digest = startDigest(statements);
    for await (const bytes of createReadStream(place.file, { highWaterMark: 1 << 20 })) digest.update(bytes as Buffer);
    digest.check(statements, from);
    return size;
  } catch {
    await removeDownload(place);
    return undefined;
  }
}

/** Ctrl-C. */
function stopped(from: string, part: Part | undefined): ToolkitError {
  const kept = part?.size() ?? 0;
  return new ToolkitError({
    code: 'DOWNLOAD_STOPPED',
    message: `${from}: the download was stopped; ${keptWords(part)}`,
    hint: kept > 0 ? 'the same command goes on from there' : 'the same command starts again',
  });
}

const keptWords = (part: Part | undefined): string => {
  const { length } = part?.record() ?? {};
  const kept = part?.size() ?? 0;
  if (kept === 0) return 'nothing has arrived';
  return `${kept} bytes${length === undefined ? '' : ` of ${length}`} have arrived and are kept`;
};

interface Circumstances {
  readonly part: Part | undefined;
  readonly download: Download;
  readonly env: Environment;
  readonly byHand: string;
}

function failed(from: string, fault: FetchFault, { part, download, env, byHand }: Circumstances): WeightsError {
  const { httpProxy, httpsProxy } = proxiesOf(env);
  const proxy = httpsProxy || httpProxy;
  const through = proxy ? ` (the environment names the proxy ${shown(proxy)})` : '';
  const kept = (part?.size() ?? 0) > 0 ? `; ${keptWords(part)}, and the same command goes on from there` : '';
  const { status } = fault;
  const denied = status === 401 || status === 403 || status === 407;
  const ways = [
    ...(status === undefined ? ['check the connection; behind a proxy, set HTTPS_PROXY'] : []),
    ...(status === 407 ? ['give the proxy its name and password: HTTPS_PROXY=http://name:password@host:port'] : []),
    ...(denied && download.hub !== undefined ? ['where the hub wants to know you, set HF_TOKEN'] : []),
    download.hub === undefined
      ? 'name a mirror: TL_MIRROR=https://mirror.example/path answers for https://<host>/<path> at <mirror>/<host>/<path>'
      : 'name another hub: HF_ENDPOINT=https://hub.example',
    `fetch it in some other way, and run: ${byHand}\n  ${publishersAddress(download)}`,
  ];
  return new WeightsError({
    code: 'DOWNLOAD_FAILED',
    message: `${from} cannot be fetched: ${fault.message}${through}${kept}`,
    hint: ways.join('; or\n'),
    cause: fault,
  });
}
