/**
 * Tar archives and gzip files as streams: every byte is read once, in order, and nothing but a few blocks is in memory.
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, ustar and pax interchange formats
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Header, Parser, type ReadEntry } from 'tar';
import { FormatError, messageOf, ToolkitError } from '../../errors.js';
import { fileError, sha256File } from '../../files.js';
import { DAMAGED_HINT, MAX_DEFLATE_RATIO, quote } from '../limits.js';
import type { MemberHeader } from './archive-names.js';

/** The unit of tar: a header, and what every content is filled up to. */
const BLOCK_BYTES = 512;

/**
 * Extended headers hold a name and times, macOS' also attributes of a few kB; node-tar's own limit is the same. A longer
 * one is refused.
 */
const MAX_EXTENDED_HEADER_BYTES = 2 ** 20;

/** One read of the file, and one piece of what is unpacked. */
const PIECE_BYTES = 2 ** 18;

/** Takes the members of an archive as they come. */
export interface MemberSink {
  /**
   * @param size in bytes
   * @returns where its content goes; undefined where it is passed over
   */
  file(header: MemberHeader, size: number): MemberContent | undefined;
  folder(header: MemberHeader): void;
  /** Told of every byte that is unpacked, whether it is kept or not. */
  passed(bytes: number): void;
}

/** Takes the content of one member. */
export interface MemberContent {
  write(piece: Uint8Array): void;
  end(): void;
}

export interface StreamedArchive {
  readonly path: string;
  /** In bytes, of the archive. */
  readonly size: number;
  readonly gzip: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Whether these bytes begin a tar archive of any kind: there is no magic number in the oldest, but a sum of the header. */
export function isTarHeader(head: Buffer): boolean {
  if (head.length < BLOCK_BYTES) return false;
  try {
    const { cksumValid, path } = new Header(head.subarray(0, BLOCK_BYTES));
    return cksumValid && path !== undefined && path !== '';
  } catch {
    return false; // a number that no header has
  }
}

/**
 * Reads a tar archive, or the one file of a gzip that holds no tar, from beginning to end.
 * @param single what the one file of a gzip is called
 * @returns the archive's SHA-256
 * @throws ARCHIVE_DAMAGED, FILE_TRUNCATED, FILE_EMPTY, FILE_NOT_READ, and what `sink` throws
 */
export async function readStreamed(archive: StreamedArchive, single: string, sink: MemberSink): Promise<string> {
  const { path, size, gzip } = archive;
  const hash = createHash('sha256');
  let hashed = 0;
  const file = async function* (): AsyncGenerator<Buffer> {
    try {
      for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES })) {
        archive.signal?.throwIfAborted();
        hash.update(piece as Buffer);
        hashed += (piece as Buffer).length;
        yield piece as Buffer;
      }
    } catch (error) {
      throw archive.signal?.aborted ? error : fileError('FILE_NOT_READ', path, 'cannot be read', error);
    }
  };
  const pieces = counted(gzip ? gunzipped(path, file()) : file(), sink);
  try {
    const head = await firstBlock(pieces);
    if (head.length === 0) throw damaged(path, 'FILE_EMPTY', 'the file inside is empty');
    if (isTarHeader(head)) await readTar(archive, follow(head, pieces), sink);
    else await readSingle(single, follow(head, pieces), sink);
  } finally {
    await pieces.return(undefined); // closes the file where the reading ended before it did
  }
  // gzip ignores what follows the packed data, and may leave it unread
  return hashed === size ? hash.digest('hex') : await sha256File(path);
}

/** Unpacks gzip, whose own crc32 and length are compared at its end. */
async function* gunzipped(path: string, packed: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES });
  pipeline(Readable.from(packed, { objectMode: false, highWaterMark: PIECE_BYTES }), gunzip, () => {}); // fails below
  try {
    for await (const piece of gunzip) yield piece as Buffer;
  } catch (error) {
    if (error instanceof ToolkitError || !(error instanceof Error && 'code' in error)) throw error;
    // zlib's Z_BUF_ERROR at the end of the input: more was expected
    if (error.code === 'Z_BUF_ERROR') throw damaged(path, 'FILE_TRUNCATED', 'the gzip data end too early', error);
    if (String(error.code).startsWith('Z_')) throw damaged(path, 'ARCHIVE_DAMAGED', `gzip: ${error.message}`, error);
    throw error;
  }
}

async function* counted(pieces: AsyncIterable<Buffer>, sink: MemberSink): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    sink.passed(piece.length);
    yield piece;
  }
}

/** Enough to tell a tar, fewer where there are fewer. */
async function firstBlock(pieces: AsyncGenerator<Buffer>): Promise<Buffer> {
  let head = Buffer.alloc(0);
  while (head.length < BLOCK_BYTES) {
    const { done, value } = await pieces.next();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  return head;
}

async function* follow(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield head;
  yield* rest;
}

async function readSingle(name: string, pieces: AsyncIterable<Buffer>, sink: MemberSink): Promise<void> {
  const content = sink.file({ name }, 0);
  for await (const piece of pieces) content?.write(piece);
  content?.end();
}

/** What is neither file nor folder, by node-tar's names of the types. */
const SPECIAL: Readonly<Record<string, string>> = {
  Link: 'a hard link',
  SymbolicLink: 'a symbolic link',
  CharacterDevice: 'a device',
  BlockDevice: 'a device',
  FIFO: 'a pipe',
  SparseFile: 'a sparse file of GNU tar',
  ContinuationFile: 'the rest of a file that began on another volume',
  GNUDumpDir: 'a folder of an incremental backup',
};

/** node-tar's own parser, whose events all come while it is given a piece: members flow straight into the sink. */
async function readTar(archive: StreamedArchive, pieces: AsyncIterable<Buffer>, sink: MemberSink): Promise<void> {
  const { path, size, gzip } = archive;
  const most = gzip ? size * MAX_DEFLATE_RATIO : size;
  let failure: unknown;
  let open: string | undefined;
  /** Two blocks of zeros end an archive; old tools wrote one. */
  let zeroBlock = false;
  let ended = false;
  const parser = new Parser({
    strict: true, // a checksum that does not agree, or an end too early, is an error
    maxMetaEntrySize: MAX_EXTENDED_HEADER_BYTES,
    brotli: false,
    zstd: false,
  });
  const guarded =
    <Given extends unknown[]>(step: (...given: Given) => void) =>
    (...given: Given): void => {
      try {
        if (failure === undefined) step(...given);
      } catch (error) {
        failure = error;
      }
    };
  parser.on('error', (error: unknown) => {
    failure ??= tarFailure(path, open, error);
  });
  parser.on('nullBlock', () => {
    zeroBlock = true;
  });
  parser.on('eof', () => {
    ended = true;
  });
  parser.on(
    'meta',
    guarded((text: string) => refuseSparse(path, text)),
  );
  parser.on(
    'ignoredEntry',
    guarded((entry: ReadEntry) => refuseIgnored(path, entry)),
  );
  parser.on('entry', (entry: ReadEntry) => {
    zeroBlock = false;
    guarded(() => {
      const header = { name: entry.path, special: SPECIAL[entry.type] };
      if (header.special === undefined && entry.type === 'Directory') {
        sink.folder(header);
        return;
      }
      if (entry.size > most) {
        throw damaged(
          path,
          'FILE_TRUNCATED',
          `${quote(entry.path)} is declared as ${entry.size} bytes in an archive of ${size}`,
        );
      }
      const content = sink.file(header, entry.size);
      open = entry.path;
      let done = 0;
      entry.on(
        'data',
        guarded((piece: Buffer) => {
          done += piece.length;
          content?.write(piece);
        }),
      );
      entry.on(
        'end',
        guarded(() => {
          open = undefined;
          if (done === entry.size) content?.end(); // else the parser says that it was cut off
        }),
      );
    })();
    entry.resume();
  });
  for await (const piece of pieces) {
    if (!ended) parser.write(piece); // what follows the end belongs to no member, and the parser would keep it
    if (failure !== undefined) throw failure;
  }
  parser.end();
  if (failure !== undefined) throw failure;
  if (!ended && !zeroBlock)
    throw damaged(path, 'FILE_TRUNCATED', 'the archive has no end: two blocks of zeros were expected');
}

/** Sparse files of GNU tar in pax headers look like ordinary ones, whose content is a map and the pieces beside holes. */
function refuseSparse(path: string, extended: string): void {
  if (!/(^|\n)\d+ GNU\.sparse\./.test(extended)) return;
  const name = /(^|\n)\d+ GNU\.sparse\.name=([^\n]*)/.exec(extended)?.[2] ?? 'a member';
  throw unsupported(path, `${quote(name)} is a sparse file of GNU tar`);
}

/** Of node-tar: types that it passes over, and extended headers above its limit. */
function refuseIgnored(path: string, { type, meta, size, path: name }: ReadEntry): void {
  if (meta) throw damaged(path, 'ARCHIVE_DAMAGED', `an extended header of ${size} bytes`);
  throw unsupported(path, `${quote(name)} is ${SPECIAL[type] ?? `of the type ${type}`}`);
}

function tarFailure(path: string, open: string | undefined, error: unknown): FormatError {
  const message = messageOf(error).replace(/^TAR_\w+: /, '');
  if (!/^Truncated input/.test(message)) return damaged(path, 'ARCHIVE_DAMAGED', `tar: ${message}`, error);
  return damaged(path, 'FILE_TRUNCATED', `the archive ends in the middle of ${quote(open ?? 'a member')}`, error);
}

function unsupported(path: string, what: string): FormatError {
  return new FormatError({
    code: 'ARCHIVE_UNSUPPORTED',
    message: `${path}: ${what}; expected ordinary files`,
    hint: 'unpack the archive with the tool that made it, and give the weights file',
  });
}

function damaged(path: string, code: string, what: string, cause?: unknown): FormatError {
  return new FormatError({ code, message: `${path}: ${what}`, hint: DAMAGED_HINT, cause });
}
