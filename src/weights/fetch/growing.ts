/** A part that grows to a whole file: one request after another, each from where the one before was cut off. */
import type { KnownOfFile } from '../../backbones/index.js';
import { type Address, shown } from './address.js';
import { type Answer, type Connection, discard } from './connection.js';
import { FetchFault, networkFault, statusFault } from './fault.js';
import { checkSpace, type Part, type PartRecord, type Place, removeDownload } from './part.js';
import { checkSize, type Digest, googleStatements, type Statement, startDigest, wrongFile } from './verify.js';

/** Where a file comes from, and what is known of it before it is asked for. */
export interface Origin {
  readonly address: Address;
  readonly known: KnownOfFile;
  readonly statements: readonly Statement[];
  /** What a hub states, by which it is the same file as before. */
  readonly sha256?: string | undefined;
}

/** What is being downloaded, when the server has answered. */
export interface DownloadStart {
  readonly file: string;
  /** Where it comes from, without passwords. */
  readonly from: string;
  /** Of the whole file; undefined where the server does not say. */
  readonly bytes: number | undefined;
  /** Of those, what an earlier run has left. */
  readonly already: number;
}

export interface DownloadProgress {
  readonly done: number;
  /** Undefined where the server does not say. */
  readonly total: number | undefined;
}

/** Who wants to know. */
export interface Listeners {
  readonly onStart?: ((start: DownloadStart) => void) | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** A line for people: it waits, tries again, or starts again. */
  readonly onNotice?: ((line: string) => void) | undefined;
}

/** What {@link startGrowing} works on. */
export interface Growth {
  readonly origin: Origin;
  readonly place: Place;
  readonly part: Part;
  /** The publisher's address. */
  readonly url: string;
  /** For people. */
  readonly from: string;
}

export interface Growing {
  /**
   * One request, up to its end.
   * @throws FetchFault when it is cut off; DOWNLOAD_WRONG, DISK_FULL, FILE_NOT_WRITTEN
   */
  attempt(connection: Connection, signal: AbortSignal | undefined): Promise<void>;
  /**
   * Compares the checksums of what is there, and makes it the whole file.
   * @returns false where it is another file and an earlier run began it: then it is emptied, for another attempt
   * @throws DOWNLOAD_WRONG where this run began it: then it is removed
   */
  finish(): Promise<boolean>;
  /** Bytes that an earlier run has left and this one has used. */
  already(): number;
  /** Everything that anybody has stated. */
  statements(): readonly Statement[];
}

/** What the answers say of the whole file. */
interface Told {
  readonly length: number | undefined;
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

export function startGrowing(
  { origin, place, part, url, from }: Growth,
  { onStart, onProgress, onNotice }: Listeners,
): Growing {
  let statements = origin.statements;
  let digest: Digest | undefined;
  let already = part.size();
  let begun = false;

  /** Empties the part, of which nothing can be used. */
  const restart = async (why: string): Promise<FetchFault> => {
    onNotice?.(`${why}: starting again`);
    already = 0;
    digest = undefined;
    await part.begin({ url });
    return new FetchFault(why, { again: true, afterMs: 0 });
  };

  /** Digests of what is there; an earlier run's are gone with it. */
  const digestOfPart = async (): Promise<Digest> => {
    const fresh = startDigest(statements);
    if (part.size() > 0) for await (const bytes of part.read()) fresh.update(bytes);
    return fresh;
  };

  const begin = async (answer: Answer, told: Told): Promise<void> => {
    if (part.size() > 0) onNotice?.('the server sends the whole file: starting again');
    already = 0;
    digest = undefined;
    await part.begin({ url, ...told, sha256: origin.sha256 });
    state(answer);
  };

  /** Google's storage states checksums of the whole file beside any part of it. */
  const state = ({ all }: Answer): void => {
    statements = [...origin.statements, ...googleStatements(all('x-goog-hash'))];
  };

  const receive = async (answer: Answer, length: number | undefined): Promise<void> => {
    digest ??= await digestOfPart();
    if (!begun) onStart?.({ file: place.file, from, bytes: length, already });
    begun = true;
    try {
      for await (const chunk of answer.body) {
        const bytes = chunk as Buffer;
        if (length !== undefined && part.size() + bytes.length > length) {
          throw wrongFile(from, `expected ${length} bytes, received more`);
        }
        await part.append(bytes);
        digest.update(bytes);
        onProgress?.({ done: part.size(), total: length });
      }
    } catch (error) {
      throw networkFault(error) ?? error;
    } finally {
      discard(answer);
    }
    if (length !== undefined && part.size() < length) {
      throw new FetchFault('the connection was dropped', { again: true });
    }
  };

  return {
    async attempt(connection, signal) {
      const record = part.record();
      if (part.size() > 0 && !belongs(record, url, origin.sha256)) throw await restart('the file has changed');
      if (record?.length !== undefined && part.size() > record.length) {
        throw await restart('what is there is longer than the file');
      }
      if (part.size() > 0 && part.size() === record?.length) return; // ended between its last byte and its check
      const validator = part.size() === 0 ? undefined : validatorOf(record, origin.statements);
      if (part.size() > 0 && validator === undefined) throw await restart('nothing tells whether the file has changed');
      const headers = part.size() === 0 ? {} : { range: `bytes=${part.size()}-`, ...validator };
      const answer = await connection.get(origin.address, headers, signal);
      const { status, header } = answer;
      if (status === 416) {
        discard(answer);
        const whole = Number(/^bytes \*\/(\d+)$/.exec(header('content-range') ?? '')?.[1]);
        if (whole === part.size() && whole > 0) return; // nothing is missing: its length was not known
        throw await restart('the server has no more of the file');
      }
      if (status !== 200 && status !== 206) {
        discard(answer);
        throw statusFault(status, { retryAfter: header('retry-after') });
      }
      refusePage(answer, from);
      const length = status === 200 ? lengthOf(answer) : await restLength(answer, restart);
      const told = { length, etag: header('etag'), lastModified: header('last-modified') };
      try {
        if (status === 206 && changed(record, told)) throw await restart('the file has changed');
        if (length !== undefined) {
          checkSize(length, origin.known, from);
          await checkSpace(place, length - (status === 200 ? 0 : part.size()), length);
        }
        if (status === 200) await begin(answer, told);
        else state(answer);
      } catch (error) {
        discard(answer);
        throw error;
      }
      await receive(answer, length);
    },
    async finish() {
      try {
        checkSize(part.size(), origin.known, from);
        digest ??= await digestOfPart();
        digest.check(statements, from);
      } catch (error) {
        if (already > 0) {
          await restart('what an earlier run has left is damaged');
          return false;
        }
        await removeDownload(place);
        throw error;
      }
      await part.finish();
      return true;
    },
    already: () => already,
    statements: () => statements,
  };

  async function restLength(answer: Answer, again: typeof restart): Promise<number | undefined> {
    const [, start, whole] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header('content-range') ?? '') ?? [];
    if (start !== undefined && Number(start) === part.size() && part.size() > 0) {
      return whole === '*' ? undefined : Number(whole);
    }
    discard(answer);
    if (part.size() > 0) throw await again('the server sends another part than the one that is missing');
    throw new FetchFault('the server sends a part of the file that nobody has asked for', { again: false });
  }
}

/** Whether a part is of this file, as far as that can be told before the server is asked. */
const belongs = (record: PartRecord | undefined, url: string, sha256: string | undefined): boolean =>
  record !== undefined && record.url === url && record.sha256 === sha256;

/**
 * What makes the server send the rest of the same file only. A weak ETag must not be used so (RFC 9110, section 13.1.5).
 * Without any, a checksum that was stated beforehand tells files apart in the end.
 */
function validatorOf(record: PartRecord | undefined, statements: readonly Statement[]): object | undefined {
  const { etag, lastModified } = record ?? {};
  if (etag?.startsWith('"') === true) return { 'if-range': etag };
  if (lastModified !== undefined) return { 'if-range': lastModified };
  return statements.some(({ beforehand }) => beforehand) ? {} : undefined;
}

/** Whether an answer speaks of another file than the part is of: some servers know nothing of If-Range. */
function changed(record: PartRecord | undefined, told: Told): boolean {
  const differs = (key: keyof Told): boolean =>
    record?.[key] !== undefined && told[key] !== undefined && record[key] !== told[key];
  return differs('length') || differs('etag') || (told.etag === undefined && differs('lastModified'));
}

function lengthOf({ header }: Answer): number | undefined {
  const length = header('content-length');
  return length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined;
}

/** A log-in page, a notice of a proxy, an error that calls itself a success. */
function refusePage(answer: Answer, from: string): void {
  const type = answer.header('content-type') ?? '';
  if (!/^(text\/html|application\/xhtml\+xml)\b/i.test(type)) return;
  discard(answer);
  throw wrongFile(from, `expected a file of weights, received a web page (${type}) from ${shown(answer.url)}`);
}
